"""Records with a text that does not fit its column's type, on their way to quarantine."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from worker_cpu.csv_import.column_types import Reading
from worker_cpu.csv_import.dialect import Dialect
from worker_cpu.csv_import.quarantine import QuarantineWriter
from worker_cpu.csv_import.screening import LINE_JUMP, Screened
from worker_cpu.database import identifier, quoted

_REASON_CHARACTERS: Final = 100


class Misfit(NamedTuple):
    """A text that does not fit."""

    number: int
    """That of the record, from 0, without the header."""
    column: str
    value: str
    """Empty if a value is missing that must be there."""


def misfit_conditions(readings: Mapping[str, Reading]) -> dict[str, str]:
    """Return the SQL condition of a misfit in each column that may have one."""
    conditions = {name: reading.fault(name) for name, reading in readings.items()}
    return {name: condition for name, condition in conditions.items() if condition}


def first_misfit(readings: Mapping[str, Reading]) -> str:
    """Return the SQL of a record's first [column, value] that does not fit, or of NULL."""
    cases = [
        f"WHEN {misfit} THEN [{quoted(name)}, left({identifier(name)}, {_REASON_CHARACTERS})]"
        for name, misfit in misfit_conditions(readings).items()
    ]
    return f"CASE {' '.join(cases)} END" if cases else "NULL::VARCHAR[]"


class MisfitReport:
    """Writes misfits to a quarantine file; they come in the order of the file."""

    def __init__(
        self,
        screened: Screened,
        dialect: Dialect,
        readings: Mapping[str, Reading],
        quarantine: QuarantineWriter,
    ) -> None:
        self._readings = readings
        self._quarantine = quarantine
        self._first_number = 1 if dialect.has_header else 0
        self._jumps = _line_jumps(screened.line_jumps)
        self._next_jump = next(self._jumps, None)
        self._offset = 1

    def add(self, misfit: Misfit, record: bytes) -> None:
        """Report a misfit, with the text of its record."""
        _, column, value = misfit
        reason = f"{value!r} is not of type {self._readings[column].type}" if value else "is empty"
        self._quarantine.add(self._line(misfit.number), column, reason, record)

    def _line(self, number: int) -> int:
        number += self._first_number
        while self._next_jump and self._next_jump[0] <= number:
            self._offset = self._next_jump[1] - self._next_jump[0]
            self._next_jump = next(self._jumps, None)
        return number + self._offset


def _line_jumps(path: Path) -> Iterator[tuple[int, int]]:
    with path.open("rb") as file:
        while entry := file.read(LINE_JUMP.size):
            number, line = LINE_JUMP.unpack(entry)
            yield number, line
