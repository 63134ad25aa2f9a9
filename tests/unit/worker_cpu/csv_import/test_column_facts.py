import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from unit.worker_cpu.csv_import.conversions import (
    as_csv,
    columns_of_fields,
)
from worker_cpu.csv_import.blocks import well_formed_block
from worker_cpu.csv_import.column_facts import ColumnFacts
from worker_cpu.csv_import.records import RecordShape

FACTS = {
    "filled": rb"(?s:.)+",
    "short": rb"(?s:.){0,9}",
    "whole": rb"(0|[1-9]\d{0,17})?",
    "iso_date": rb"([1-9]\d{3}-\d\d-\d\d)?",
    "cents": rb"(?=.{4,18}$)\d+\.\d\d",
    "visible": rb'[^\x00- "](?s:.)*',
}


@settings(max_examples=300)
@given(columns_of_fields(), st.builds(ColumnFacts, **dict.fromkeys(FACTS, st.booleans())))
@example([["0.50", "7.00"], ["x", "1"]], ColumnFacts(whole=False, iso_date=False))
def test_facts_say_what_every_field_of_the_column_is(
    columns: list[list[str]], known: ColumnFacts
) -> None:
    shape = RecordShape(",", tuple(map(str, range(len(columns)))))
    block = well_formed_block(as_csv(columns), shape, [known] * len(columns))
    if block is None:
        return  # parsed record by record, and with quotes nothing is proven
    for column, facts in zip(columns, block.facts, strict=True):
        fields = [field.encode() for field in column]
        found = {name: all_match(pattern, fields) for name, pattern in FACTS.items()}
        assert facts == known & ColumnFacts(**found)


def all_match(pattern: bytes, fields: list[bytes]) -> bool:
    return all(re.fullmatch(pattern, field) for field in fields)
