"""The chart of a report as a PNG, which has the same bytes for the same figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from worker_cpu.reports.formats import short_money

_SIZE_INCHES: Final = (8.0, 3.6)
_DOTS_PER_INCH: Final = 150
_INK: Final = "#1f2937"
_MUTED: Final = "#6b7280"
_GRID: Final = "#e5e7eb"
_BAR: Final = "#1d4ed8"
_MAX_LABELS: Final = 16


@dataclass(frozen=True)
class Bar:
    """One column of the chart, in reais."""

    label: str
    value: float


def draw_bars(title: str, bars: Sequence[Bar], target: Path) -> None:
    """Draw revenue as columns."""
    figure, axes = _blank(title)
    axes.bar(range(len(bars)), [bar.value for bar in bars], color=_BAR, width=0.72, zorder=2)
    step = -(-len(bars) // _MAX_LABELS)
    places = range(0, len(bars), step)
    axes.set_xticks(places, [bars[place].label for place in places])
    axes.set_xlim(-0.7, max(len(bars), 6) - 0.3)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_money(value)))
    axes.yaxis.grid(visible=True, color=_GRID, zorder=0)
    _save(figure, target)


def draw_message(title: str, message: str, target: Path) -> None:
    """Draw the frame of a chart and, instead of columns, why there are none."""
    figure, axes = _blank(title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, message, ha="center", va="center", color=_MUTED, transform=axes.transAxes)
    _save(figure, target)


def _blank(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", color=_INK, fontsize=12, fontweight="bold", pad=12)
    axes.tick_params(length=0, colors=_MUTED, labelsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    return figure, axes


def _save(figure: Figure, target: Path) -> None:
    # Otherwise matplotlib writes its version into the file.
    figure.savefig(target, format="png", metadata={"Software": None})
