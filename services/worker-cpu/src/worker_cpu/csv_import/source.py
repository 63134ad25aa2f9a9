"""The file to import: an upload as a local, uncompressed file; its encoding; its text as UTF-8."""

import codecs
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import charset_normalizer
from obstore.store import ObjectStore

from contracts.storage import upload_key
from twinlane_sdk.errors import RejectedError
from worker_cpu.progress import Progress
from worker_cpu.scratch import local_file

UTF_8: Final = "utf-8"

_GZIP_MAGIC: Final = b"\x1f\x8b"
_CHUNK_BYTES: Final = 256 * 1024
_GZIP_CHUNK_BYTES: Final = 4 * 1024 * 1024
_HEAD_BYTES: Final = 64 * 1024
_SAMPLE_BYTES: Final = 256 * 1024
_BOMS: Final = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SINGLE_BYTE: Final = ("cp1252", "cp850", "mac_roman")
"""The encodings of Western Windows, DOS and old Macs."""
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
_ZERO_SHARE: Final = 0.3
"""At least this share of the bytes at even (or odd) places is zero in Western UTF-16 text."""


def fetch_upload(
    storage: ObjectStore, file_id: str, scratch: Path, limit_bytes: int, progress: Progress
) -> Path:
    """Return the uploaded file as a local, uncompressed one; local storage is read in place.

    Raises:
        RejectedError: there is no such upload, its gzip is broken, or it is above `limit_bytes`.

    """

    def watch(done: int, size: int) -> None:
        progress(done, size, "bytes", "downloading")

    try:
        path = local_file(storage, upload_key(file_id), scratch / "upload", watch)
    except FileNotFoundError as exc:
        raise RejectedError(
            f"the uploaded file {file_id} is no longer stored: upload it again"
        ) from exc
    if _is_gzip(path):
        path = _decompressed(path, scratch / "decompressed", limit_bytes, progress)
    if path.stat().st_size > limit_bytes:
        raise _too_large(limit_bytes)
    return path


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == _GZIP_MAGIC


def _decompressed(source: Path, target: Path, limit_bytes: int, progress: Progress) -> Path:
    size = source.stat().st_size
    try:
        with source.open("rb") as packed, gzip.open(packed) as plain, target.open("wb") as file:
            for chunk in _bounded(iter(lambda: plain.read(_GZIP_CHUNK_BYTES), b""), limit_bytes):
                file.write(chunk)
                progress(packed.tell(), size, "bytes", "decompressing")
    except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
        raise RejectedError(f"the gzip file is broken: {exc}") from exc
    return target


def _bounded(chunks: Iterable[bytes], limit_bytes: int) -> Iterator[bytes]:
    """Pass on `chunks` up to a limit: a small gzip file may hold a very large one."""
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit_bytes:
            raise _too_large(limit_bytes)
        yield chunk


def _too_large(limit_bytes: int) -> RejectedError:
    return RejectedError(f"the file holds more than {limit_bytes:,} bytes: split it")


def detect_encoding(path: Path) -> str:
    """Return Python's name of the encoding of a text file; that of an empty one is UTF-8.

    A file of mostly valid UTF-8 is UTF-8, even when some lines are damaged.

    Raises:
        RejectedError: it is no text at all.

    """
    if declared := declared_encoding(path):
        return declared
    offset = _first_invalid(path)
    return UTF_8 if offset is None else _guess(_lines_at(path, offset))


def declared_encoding(path: Path) -> str | None:
    """Return the encoding that a file's first bytes show; None if it takes all bytes to know.

    Raises:
        RejectedError: it is no text at all.

    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    _reject_known_binary(head)
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    if wide := _utf16_without_bom(head):
        return wide
    _reject_control_characters(head)
    return None


def utf8_chunks(path: Path, encoding: str) -> Iterator[bytes]:
    """Yield the file's text as UTF-8; what is UTF-8 already is not checked."""
    with path.open("rb") as file:
        if encoding == "utf-8-sig":
            file.seek(len(codecs.BOM_UTF8))
        chunks = iter(lambda: file.read(_CHUNK_BYTES), b"")
        if encoding in (UTF_8, "utf-8-sig"):
            yield from chunks
            return
        decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        for chunk in chunks:
            yield decoder.decode(chunk).encode()
        yield decoder.decode(b"", final=True).encode()


def _reject_known_binary(head: bytes) -> None:
    for signature, what in _SIGNATURES:
        if head.startswith(signature):
            raise RejectedError(f"the file is {what}, not text: export it as CSV")


def _reject_control_characters(head: bytes) -> None:
    controls = len(head) - len(head.translate(None, delete=_CONTROL_CHARACTERS))
    if controls > _CONTROL_SHARE * len(head):
        raise RejectedError("the file is binary (NUL or control characters), not CSV text")


def _utf16_without_bom(head: bytes) -> str | None:
    even, odd = head[0::2].count(0), head[1::2].count(0)
    enough = _ZERO_SHARE * len(head) / 2
    if odd > enough and even * 10 < odd:
        return "utf-16-le"
    if even > enough and odd * 10 < even:
        return "utf-16-be"
    return None


def _first_invalid(path: Path) -> int | None:
    """Return the start of the first chunk that is not valid UTF-8, in bytes."""
    decoder = codecs.getincrementaldecoder(UTF_8)()
    with path.open("rb") as file:
        offset = 0
        while chunk := file.read(_CHUNK_BYTES):
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


def _guess(sample: bytes) -> str:
    decoded = sample.decode(UTF_8, errors="replace")
    damaged = decoded.count("\ufffd")
    valid = sum(not character.isascii() for character in decoded) - damaged
    if valid > damaged:
        return UTF_8
    best = charset_normalizer.from_bytes(sample, cp_isolation=list(_SINGLE_BYTE)).best()
    encoding = best.encoding if best else "cp1252"
    if encoding == "cp1252" and not _UNDEFINED_IN_CP1252.isdisjoint(sample):
        return "latin-1"
    return encoding
