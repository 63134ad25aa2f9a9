"""Text of uploads in CSVs that people open in a spreadsheet, which runs some texts as formulas.

See https://owasp.org/www-community/attacks/CSV_Injection. Numbers that we write are not escaped.
"""

from typing import Final

_STARTS_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def escape_cell(text: str) -> str:
    """Return a text that no spreadsheet runs: with an apostrophe before what could be a formula.

    A text that looks like an escaped one gets a second apostrophe, so that `unescape_cell` finds
    the original of every text.
    """
    return f"'{text}" if _could_be_formula(text) else text


def unescape_cell(text: str) -> str:
    """Return the original of an escaped text."""
    return text[1:] if text.startswith("'") and _could_be_formula(text) else text


def _could_be_formula(text: str) -> bool:
    return text.lstrip("'").startswith(_STARTS_FORMULA)
