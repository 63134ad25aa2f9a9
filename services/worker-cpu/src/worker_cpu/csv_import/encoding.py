"""Which text encoding a file has, and the file as a stream of UTF-8."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import charset_normalizer

from contracts.errors import RejectedError

CHUNK_BYTES: Final = 256 * 1024
UTF_8: Final = "utf-8"

_HEAD_BYTES: Final = 64 * 1024
_SAMPLE_BYTES: Final = 256 * 1024
_BOMS: Final = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LEGACY: Final = ("cp1252", "cp850", "mac_roman")
"""What Western Windows, DOS and old Macs wrote."""
_UNDEFINED_IN_CP1252: Final = frozenset(b"\x81\x8d\x8f\x90\x9d")
_SIGNATURES: Final = (
    (b"PK\x03\x04", "an Excel workbook or a ZIP archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"%PDF", "a PDF"),
    (b"PAR1", "a Parquet file"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"BZh", "a bzip2 archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\xfd7zXZ", "an xz archive"),
)
_CONTROL_CHARACTERS: Final = bytes(set(range(32)) - set(b"\t\n\r\f\x1a"))
_CONTROL_SHARE: Final = 0.01
_WIDE_SHARE: Final = 0.3
"""Of the bytes at even (or odd) places, how many are zero in Western UTF-16 text, at least."""


def detect_encoding(path: Path) -> str:
    """Return Python's name of the encoding of a text file; that of an empty one is UTF-8.

    A file of mostly valid UTF-8 is UTF-8, even when some lines are damaged.

    Raises:
        RejectedError: it is no text at all.

    """
    if declared := declared_encoding(path):
        return declared
    offset = _first_suspect(path)
    return UTF_8 if offset is None else _judge(_lines_at(path, offset))


def declared_encoding(path: Path) -> str | None:
    """Return the encoding that a file's first bytes show; None if only all of them can tell.

    Raises:
        RejectedError: it is no text at all.

    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    _refuse_known_binary(head)
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    if wide := _wide_without_mark(head):
        return wide
    _refuse_control_characters(head)
    return None


def utf8_chunks(path: Path, encoding: str) -> Iterator[bytes]:
    """Yield the file's text as UTF-8; what is UTF-8 already passes unchecked."""
    with path.open("rb") as file:
        if encoding == "utf-8-sig":
            file.seek(len(codecs.BOM_UTF8))
        chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
        if encoding in (UTF_8, "utf-8-sig"):
            yield from chunks
            return
        decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        for chunk in chunks:
            yield decoder.decode(chunk).encode()
        yield decoder.decode(b"", final=True).encode()


def _refuse_known_binary(head: bytes) -> None:
    for signature, what in _SIGNATURES:
        if head.startswith(signature):
            raise RejectedError(f"the file is {what}, not text: export it as CSV")


def _refuse_control_characters(head: bytes) -> None:
    controls = len(head) - len(head.translate(None, delete=_CONTROL_CHARACTERS))
    if controls > _CONTROL_SHARE * len(head):
        raise RejectedError("the file is binary (NUL or control characters), not CSV text")


def _wide_without_mark(head: bytes) -> str | None:
    even, odd = head[0::2].count(0), head[1::2].count(0)
    enough = _WIDE_SHARE * len(head) / 2
    if odd > enough and even * 10 < odd:
        return "utf-16-le"
    if even > enough and odd * 10 < even:
        return "utf-16-be"
    return None


def _first_suspect(path: Path) -> int | None:
    """Return the start of the first chunk that is not valid UTF-8, in bytes."""
    decoder = codecs.getincrementaldecoder(UTF_8)()
    with path.open("rb") as file:
        offset = 0
        while chunk := file.read(CHUNK_BYTES):
            is_plain = chunk.isascii() and not decoder.getstate()[0]
            try:
                decoder.decode(b"" if is_plain else chunk)
            except UnicodeDecodeError as exc:
                return max(0, offset + exc.start - _SAMPLE_BYTES // 2)
            offset += len(chunk)
    return None


def _lines_at(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        sample = file.read(_SAMPLE_BYTES)
    return b"\n".join(line for line in sample.splitlines() if not line.isascii())


def _judge(sample: bytes) -> str:
    decoded = sample.decode(UTF_8, errors="replace")
    damaged = decoded.count("\ufffd")
    valid = sum(not character.isascii() for character in decoded) - damaged
    if valid > damaged:
        return UTF_8
    best = charset_normalizer.from_bytes(sample, cp_isolation=list(_LEGACY)).best()
    encoding = best.encoding if best else "cp1252"
    if encoding == "cp1252" and not _UNDEFINED_IN_CP1252.isdisjoint(sample):
        return "latin-1"
    return encoding
