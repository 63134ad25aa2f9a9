"""`.env.example` as a table: every setting with its default, and what is said of it."""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

_EXAMPLE = Path(__file__).parents[2] / ".env.example"
_LINE = re.compile(r"#(\w+)=(.*)\n")
_GROUP = re.compile(r"((?:# .*\n)*)((?:#[A-Z][A-Z0-9_]*=.*\n)+)")


class Entry(NamedTuple):
    name: str
    value: str
    """Empty for none."""
    comment: str
    """The lines above it; settings that stand together share them."""


def read_entries() -> list[Entry]:
    """Return the settings as they stand in the file, one after the other."""
    text = _EXAMPLE.read_text()
    rest = _GROUP.sub("", text).splitlines()
    assert all(line == "" or line.startswith("# ") for line in rest), "a line is no comment"
    return [
        Entry(name, value, comment)
        for comment, lines in _GROUP.findall(text)
        for name, value in _LINE.findall(lines)
    ]


@cache
def read_example() -> dict[str, Entry]:
    """Return the settings by their names."""
    return {entry.name: entry for entry in read_entries()}
