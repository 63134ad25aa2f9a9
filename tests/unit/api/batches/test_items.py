"""The items of a batch, however its body is cut into pieces."""

import json
from collections.abc import AsyncIterator

import pytest

from api.batches.items import NDJSON, read_items
from api.errors.types import ApiError, InvalidRequest, MalformedBody

JSON = "application/json"
ITEMS: list[object] = [
    {"task": 'ação\\"],[{\u2028', "args": [1, [2], {}], "delay": -1.5e3},
    17,
    1.25,
    -0.0,
    "x",
    None,
    True,
    [],
    {},
]
EVERY_CUT = pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def read(body: bytes, size: int = 64, content_type: str = JSON) -> list[object]:
    return [item async for item in read_items(pieces(body, size), content_type)]


@EVERY_CUT
@pytest.mark.parametrize("indent", [None, 1])
async def test_items_of_an_array_are_the_same_however_it_is_cut(
    size: int, indent: int | None
) -> None:
    body = json.dumps(ITEMS * 2, ensure_ascii=False, indent=indent).encode()
    assert await read(body, size) == ITEMS * 2


@EVERY_CUT
async def test_items_of_ndjson_are_the_same_however_it_is_cut(size: int) -> None:
    lines = [json.dumps(item, ensure_ascii=False) for item in ITEMS]
    body = "\r\n\n  \n".join(lines).encode()
    assert await read(body, size, NDJSON) == ITEMS


@pytest.mark.parametrize("body", [b"[]", b" [ ] \r\n"])
async def test_empty_array_has_no_items(body: bytes) -> None:
    assert await read(body) == []


async def test_item_comes_before_the_rest_of_its_array() -> None:
    sent: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        for piece in (b'[{"n": 1}, {"n"', b": 2}, ", b"3]"):
            sent.append(piece)
            yield piece

    items = read_items(body(), JSON)
    assert await anext(items) == {"n": 1}
    assert len(sent) == 1
    assert await anext(items) == {"n": 2}
    assert len(sent) == 2


@EVERY_CUT
@pytest.mark.parametrize(
    ("body", "character"),
    [
        (b'[{"a" 1}]', 6),
        (b"[{]", 2),
        (b"[1,]", 3),
        (b"[,1]", 1),
        (b"[", 1),
        (b"[1, 2", 5),
        (b"[1 2]", 3),
        (b"[1.]", 2),
        (b"[1] x", 4),
        (b"[1][2]", 3),
        (b"[tru]", 1),
    ],
)
async def test_array_that_is_no_json_is_a_problem_that_says_where(
    body: bytes, character: int, size: int
) -> None:
    with pytest.raises(MalformedBody, match=rf"at character {character}\. For NDJSON send"):
        await read(body, size)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing",
        b'{"task": 1}\n{"task": 2}',
        b"\xef\xbb\xbf[1]",
        b"\xff\xfe",
        b'["\xe9"]',
        b"[" * 100_000,
        b"[1, " + b"1" * 5_000 + b"]",
    ],
)
async def test_body_that_is_no_json_is_a_problem(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        await read(body)


@pytest.mark.parametrize(("body", "kind"), [(b"{}", "dict"), (b' "x"', "str"), (b"1", "int")])
async def test_body_that_is_no_array_is_a_problem_that_says_what_it_is(
    body: bytes, kind: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await read(body, 1)
    assert caught.value.members["errors"][0]["value"] == kind


async def test_line_that_is_no_json_is_a_problem_of_its_own() -> None:
    items = await read(b'1\n{"a"\n\xff\n' + b"[" * 100_000 + b"\n2", content_type=NDJSON)
    assert (items[0], items[-1]) == (1, 2)
    assert [isinstance(item, ApiError) for item in items] == [False, True, True, True, False]


async def test_long_item_in_thousands_of_pieces_is_read() -> None:
    """Were it read from its beginning with each of them, this would take minutes."""
    item = {"text": "y" * 4_000_000}
    assert await read(json.dumps([item, 1]).encode(), 1_000) == [item, 1]
