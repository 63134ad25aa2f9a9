"""Everything that is measured, in the order of the document."""

from typing import Final

from benchmarks.measure import Measure
from benchmarks.measures import batches, submission_latency, submissions, waiting

MEASURES: Final[tuple[Measure, ...]] = (
    submissions.MEASURE,
    submission_latency.MEASURE,
    batches.MEASURE,
    waiting.MEASURE,
)
