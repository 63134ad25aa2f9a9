"""The soak's jobs: seeded, light, of every kind, each with what its end must be."""

import random
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from e2e.client import Json
from e2e.sales import Figures, figures_of, make_sales, to_csv

REGION: Final = "soak"
MONTHS: Final = ("2025-01", "2025-02", "2025-03")
BATCH_ITEMS: Final = 25
_SMALL_CSV: Final = b"a,b\n1,2\n3,4\nthis is bad\n"
_BINARY: Final = bytes(range(256)) * 20

Fits = Callable[[Json], bool]


@dataclass
class Work:
    """A job to submit, what its end must be, and what has become of it."""

    kind: str
    task: str
    args: Json
    fits: Fits
    delay: float | None = None
    upload: tuple[str, bytes] | None = None
    is_cancelled: bool = False
    key: str = ""
    job_id: str = ""

    def end_fits(self, job: Json) -> bool:
        """Return whether a terminal job is what it must be; a cancel may have come too late."""
        return bool((self.is_cancelled and job["state"] == "cancelled") or self.fits(job))


@dataclass
class Batch:
    """Many jobs that are submitted together."""

    items: list[Work]
    key: str = ""


Submittable = Work | Batch


def succeeds(fits: Fits) -> Fits:
    """Return a check of a job that must succeed, by its result."""
    return lambda job: bool(job["state"] == "succeeded" and fits(job["result"]))


def fails(code: str) -> Fits:
    return lambda job: bool(job["state"] == "failed" and job["error"]["code"] == code)


@dataclass
class Workload:
    """Makes jobs; the same for the same seed."""

    seed: int
    httpbin: str
    _chance: random.Random = field(init=False)
    _count: int = 0
    sales: list[bytes] = field(default_factory=list)
    """The sales files that were uploaded."""

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311 - to be repeated
        # Two runs of one seed must not find each other's jobs.
        self._run = uuid.uuid4().hex[:8]

    def make(self, count: int) -> list[Submittable]:
        """Return work for at least `count` jobs."""
        makers = [maker for maker, _ in self._mix()]
        weights = [weight for _, weight in self._mix()]
        made: list[Submittable] = []
        jobs = 0
        while jobs < count:
            (maker,) = self._chance.choices(makers, weights)
            work = maker()
            self._count += 1
            work.key = f"{self._run}-{self._count}"
            made.append(work)
            jobs += len(work.items) if isinstance(work, Batch) else 1
        return made

    def figures(self, month: str) -> Figures:
        """Return what the sales dataset must hold of a month."""
        every = [figures_of(content, REGION, month) for content in self.sales]
        by_product: defaultdict[str, Decimal] = defaultdict(Decimal)
        for figures in every:
            for product, revenue in figures.revenue_by_product.items():
                by_product[product] += revenue
        return Figures(
            rows=sum(figures.rows for figures in every),
            quantity=sum(figures.quantity for figures in every),
            revenue=sum((figures.revenue for figures in every), Decimal()),
            revenue_by_product=dict(by_product),
        )

    def _mix(self) -> Iterator[tuple[Callable[[], Submittable], float]]:
        """Yield what makes work, and how often of a thousand."""
        yield self._sum, 450
        yield self._fetch, 230
        yield self._missing, 40
        yield self._draw, 80
        yield self._redirect, 20
        yield self._fan_out, 30
        yield self._small_csv, 25
        yield self._binary_csv, 10
        yield self._sales_csv, 15
        yield self._sample, 8
        yield self._aggregate, 25
        yield self._report, 12
        yield self._delayed, 40
        yield self._cancelled, 30
        yield self._batch, 8
        yield self._unavailable, 2

    def _sum(self) -> Work:
        a, b = self._chance.randrange(10**12), self._chance.randrange(10**30)
        total = a + b
        return Work(
            "sum", "cpu.sum_numbers", {"a": a, "b": b}, succeeds(lambda r: r == {"total": total})
        )

    def _fetching(self, kind: str, path: str, fits: Fits) -> Work:
        return Work(kind, "io.fetch_url", {"url": f"{self.httpbin}{path}"}, fits)

    def _fetch(self) -> Work:
        return self._fetching("fetch", "/get", succeeds(lambda r: bool(r["status"] == 200)))

    def _missing(self) -> Work:
        fits = succeeds(lambda r: bool(r["status"] == 404))
        return self._fetching("fetch of a 404", "/status/404", fits)

    def _redirect(self) -> Work:
        return self._fetching("fetch that is rejected", "/redirect/20", fails("job-rejected"))

    def _unavailable(self) -> Work:
        return self._fetching("fetch of a 503", "/status/503", fails("attempts-exhausted"))

    def _draw(self) -> Work:
        drawn = succeeds(lambda r: bool(7 <= r["number"] <= 10))
        unlucky = fails("attempts-exhausted")  # sixteen low draws in a row are rare, and no fault
        return Work("draw", "io.draw_number", {}, lambda job: drawn(job) or unlucky(job))

    def _fan_out(self) -> Work:
        codes = [200, 404, 410]
        urls = [f"{self.httpbin}/status/{code}" for code in codes]

        def fits(result: Json) -> bool:
            return [response["status"] for response in result["responses"]] == codes

        return Work("fan-out", "io.fan_out", {"urls": urls}, succeeds(fits))

    def _csv(self, kind: str, content: bytes, fits: Fits) -> Work:
        name = f"{kind.replace(' ', '-')}-{self._run}-{self._count}.csv"
        args = {"filename": name}
        return Work(kind, "cpu.process_csv", args, fits, upload=(name, content))

    def _small_csv(self) -> Work:
        def fits(result: Json) -> bool:
            rows = (result["rows_in"], result["rows_clean"], result["rows_quarantined"])
            return rows == (3, 2, 1)

        return self._csv("csv", _SMALL_CSV, succeeds(fits))

    def _binary_csv(self) -> Work:
        return self._csv("csv that is none", _BINARY, fails("job-rejected"))

    def _sales_csv(self) -> Work:
        content = to_csv(make_sales(50, REGION, seed=self._chance.randrange(10**9)))
        self.sales.append(content)
        fits = succeeds(lambda r: bool(r["rows_clean"] == r["sales"]["rows"] == 50))
        return self._csv("sales csv", content, fits)

    def _sample(self) -> Work:
        rows = self._chance.randrange(100, 500)
        name = f"sample-{self._run}-{self._count}-2024.csv"
        fits = succeeds(lambda r: bool(r["generated"] and r["rows_clean"] == rows))
        return Work("csv sample", "cpu.process_csv", {"filename": name, "num_rows": rows}, fits)

    def _aggregate(self) -> Work:
        # Sales come in meanwhile: the figures themselves are compared at the end.
        args = {"region": REGION, "month": self._chance.choice(MONTHS)}
        fits = succeeds(lambda r: bool(r["figures"]["rows"] >= 0))
        return Work("aggregate", "cpu.aggregate_sales", args, fits)

    def _report(self) -> Work:
        email = f"soak-{self._run}-{self._count}@empresa.com"
        args = {"email": email, "region": REGION, "month": self._chance.choice(MONTHS)}
        fits = succeeds(lambda r: bool(r["email"] == email))
        return Work("report by mail", "io.send_report", args, fits)

    def _delayed(self) -> Work:
        work = self._sum()
        work.kind, work.delay = "delayed sum", self._chance.randrange(1, 20)
        return work

    def _cancelled(self) -> Work:
        maker = self._chance.choice([self._sum, self._draw, self._fetch, self._report])
        work = maker()
        work.kind, work.is_cancelled = "cancelled", True
        work.delay = self._chance.choice([None, None, 3, 15])
        return work

    def _batch(self) -> Batch:
        items = [self._chance.choice([self._sum, self._fetch])() for _ in range(BATCH_ITEMS)]
        for work in items:
            work.kind = "batch item"
        return Batch(items)
