"""The document's pictures, drawn with matplotlib's objects."""

from functools import singledispatch
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.measure import Bars, Curves, Plot
from benchmarks.samples import Sample, figure

_WIDTH_INCHES: Final = 8.0
_DOTS_PER_INCH: Final = 110
_INK: Final = "#1f2937"
_MUTED: Final = "#6b7280"
_GRID: Final = "#e5e7eb"
_OURS: Final = "#1d4ed8"
_THEIRS: Final = ("#94a3b8", "#d97706", "#059669", "#be185d", "#7c3aed", "#0f172a")
_SPREAD: Final = {"ecolor": _INK, "elinewidth": 1, "capsize": 3}


def draw(plot: Plot, folder: Path) -> Path:
    """Draw a picture into `folder` and return its file."""
    axes = _blank(plot)
    _fill(plot, axes)
    target = folder / f"{plot.name}.png"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = axes.get_figure()
    assert isinstance(drawn, Figure)
    # Without the version that draws: the same figures are the same bytes.
    drawn.savefig(target, metadata={"Software": None})
    return target


def _blank(plot: Plot) -> Axes:
    height = 1.0 + 0.42 * len(plot.samples) if isinstance(plot, Bars) else 3.8
    drawn = Figure(figsize=(_WIDTH_INCHES, height), dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.add_subplot()
    axes.set_title(plot.title, loc="left", color=_INK, fontsize=11, fontweight="bold")
    axes.tick_params(length=0, colors=_MUTED, labelsize=9)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.set_axisbelow(True)
    return axes


@singledispatch
def _fill(plot: Plot, axes: Axes) -> None:
    raise TypeError(f"nothing draws {plot!r} on {axes!r}")


@_fill.register
def _(plot: Bars, axes: Axes) -> None:
    samples = list(plot.samples.values())
    places = range(len(samples))
    axes.barh(
        places,
        [sample.median for sample in samples],
        xerr=_errors(samples),
        error_kw=_SPREAD,
        color=[_OURS, *[_THEIRS[0]] * (len(samples) - 1)],
        height=0.66,
    )
    axes.set_yticks(places, [_plain(side) for side in plot.samples], color=_INK)
    axes.invert_yaxis()
    axes.set_xscale("log" if plot.log else "linear")
    axes.set_xlabel(samples[0].unit, color=_MUTED, fontsize=9)
    axes.xaxis.grid(visible=True, color=_GRID)
    for place, sample in zip(places, samples, strict=True):
        axes.annotate(
            figure(sample.median),
            (sample.high, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=_INK,
            fontsize=9,
        )
    axes.margins(x=0.12)
    if plot.goal is not None:
        axes.axvline(plot.goal, color=_INK, linestyle="--", linewidth=1)


@_fill.register
def _(plot: Curves, axes: Axes) -> None:
    colours = (_OURS, *_THEIRS)
    for number, (side, points) in enumerate(plot.lines.items()):
        samples = [sample for _, sample in points]
        axes.errorbar(
            [x for x, _ in points],
            [sample.median for sample in samples],
            yerr=_errors(samples),
            label=_plain(side),
            color=colours[number % len(colours)],
            marker="o",
            capsize=3,
            elinewidth=1,
        )
        axes.set_ylabel(samples[0].unit, color=_MUTED, fontsize=9)
    axes.set_xscale("log" if plot.log_x else "linear")
    if not plot.log_x:
        axes.set_xticks(sorted({x for points in plot.lines.values() for x, _ in points}))
    axes.set_yscale("log" if plot.log_y else "linear")
    if not plot.log_y:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(plot.x_label, color=_MUTED, fontsize=9)
    axes.yaxis.grid(visible=True, color=_GRID)
    axes.legend(frameon=False, fontsize=9, labelcolor=_INK)


def _plain(markdown: str) -> str:
    return markdown.replace("`", "")


def _errors(samples: list[Sample]) -> list[list[float]]:
    return [
        [sample.median - sample.low for sample in samples],
        [sample.high - sample.median for sample in samples],
    ]
