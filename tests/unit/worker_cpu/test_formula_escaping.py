import pytest

from worker_cpu.formula_escaping import escape_cell, unescape_cell


@pytest.mark.parametrize(
    "text",
    [
        "=HYPERLINK(A1)",
        "+1",
        "-1+cmd|' /C calc'!A0",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "'=1",
        "''=1",
    ],
)
def test_formula_is_escaped_with_an_apostrophe_and_unescaped_again(text: str) -> None:
    assert escape_cell(text) == f"'{text}"
    assert unescape_cell(f"'{text}") == text


@pytest.mark.parametrize("text", ["", "sul", "1,x=2", "'", "'80s", "d'oeste", "a-b", " =1"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert escape_cell(text) == text
    assert unescape_cell(text) == text
