"""Everything that is measured, in the order of the document."""

from typing import Final

from benchmarks.measure import Measure
from benchmarks.measures import submissions

MEASURES: Final[tuple[Measure, ...]] = (submissions.MEASURE,)
