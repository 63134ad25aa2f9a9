"""Everything that is measured, in the order of the document."""

from typing import Final

from benchmarks.measure import Measure
from benchmarks.measures import (
    aggregates,
    batches,
    csv_import,
    isolation,
    many_calls,
    parallel_calls,
    scaling,
    submission_latency,
    submissions,
    trivial_jobs,
    waiting,
)

MEASURES: Final[tuple[Measure, ...]] = (
    submissions.MEASURE,
    submission_latency.MEASURE,
    batches.MEASURE,
    waiting.MEASURE,
    parallel_calls.MEASURE,
    many_calls.MEASURE,
    trivial_jobs.MEASURE,
    csv_import.MEASURE,
    aggregates.MEASURE,
    isolation.MEASURE,
    scaling.MEASURE,
)
