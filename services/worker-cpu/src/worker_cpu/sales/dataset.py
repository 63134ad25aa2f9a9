"""The stored sales: immutable monthly parts, and numbered snapshots that list those that count.

    datasets/sales_by_day/parts/{sha256}.parquet     the totals of one source and month
    datasets/sales_by_day/snapshots/{number}.json    source → month → part: the whole dataset

A snapshot is committed by creating the next number, which only one of several writers can; the
others read again and try the number after that. A reader takes the newest snapshot, and so sees an
import whole or not at all. Parts are named by their content: storing the same rows twice stores
nothing new. What only old snapshots mention is deleted after a grace period for their readers.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore
from pydantic import BaseModel, ConfigDict

from contracts.storage import DATASETS
from worker_cpu.scratch import local_file

PARTS: Final = f"{DATASETS}/sales_by_day/parts"
SNAPSHOTS: Final = f"{DATASETS}/sales_by_day/snapshots"
GRACE: Final = timedelta(hours=2)
"""Longer than any job may take: nothing is deleted that a running job reads or has uploaded."""
KEPT_SNAPSHOTS: Final = 20

logger = logging.getLogger(__name__)


class Part(BaseModel):
    """The totals of one source and month: a Parquet object that never changes."""

    model_config = ConfigDict(frozen=True)

    key: str
    rows: int
    """The sales that the totals sum up."""


class Snapshot(BaseModel):
    """The dataset at one moment."""

    model_config = ConfigDict(frozen=True)

    number: int = 0
    sources: dict[str, dict[str, Part]] = {}

    @property
    def months(self) -> list[str]:
        """The months that have rows, as YYYY-MM, oldest first."""
        return sorted({month for parts in self.sources.values() for month in parts})

    @property
    def keys(self) -> set[str]:
        """The keys of all parts."""
        return {part.key for parts in self.sources.values() for part in parts.values()}

    def parts_of(self, months: Iterable[str]) -> list[Part]:
        """Return the parts of some months, in the order of their sources' names."""
        wanted = set(months)
        return [
            part
            for _, parts in sorted(self.sources.items())
            for month, part in sorted(parts.items())
            if month in wanted
        ]

    def with_source(self, source: str, parts: Mapping[str, Part]) -> "Snapshot":
        """Return the next snapshot, in which `parts` are all that `source` brought."""
        others = {name: kept for name, kept in self.sources.items() if name != source}
        sources = others | ({source: dict(parts)} if parts else {})
        return Snapshot(number=self.number + 1, sources=sources)


@dataclass(frozen=True)
class MonthFile:
    """A local Parquet file with the totals of one month's `rows`, to be stored."""

    path: Path
    rows: int


class SalesDataset:
    """The stored sales, in a local folder or on S3."""

    def __init__(self, storage: ObjectStore) -> None:
        self._storage = storage

    def newest(self) -> Snapshot:
        """Return the dataset as it is now; an empty one if nothing was ever stored."""
        while numbers := [number for number, _ in self._snapshots()]:
            try:
                return self._read(max(numbers))
            except FileNotFoundError:
                continue  # pruned in the meantime, so there is a newer one
        return Snapshot()

    def replace(self, source: str, months: Mapping[str, MonthFile]) -> bool:
        """Make `months` all that `source` brought; return False if that was so already."""
        parts = {month: _part(file) for month, file in sorted(months.items())}
        if self.newest().sources.get(source, {}) == parts:
            return False
        # Stored again even if there already: a fresh date keeps them from being pruned.
        for month, part in parts.items():
            obstore.put(self._storage, part.key, months[month].path)
        changed = self._commit(source, parts)
        self._prune()
        return changed

    def fetch(self, part: Part, scratch: Path) -> Path:
        """Return a part as a local file: in place if the storage is local, else downloaded.

        Raises:
            FileNotFoundError: it was pruned, so the snapshot is older than GRACE.

        """
        path = scratch / Path(part.key).name
        return path if path.exists() else local_file(self._storage, part.key, path)

    def _commit(self, source: str, parts: Mapping[str, Part]) -> bool:
        while True:
            current = self.newest()
            if current.sources.get(source, {}) == parts:
                return False
            following = current.with_source(source, parts)
            content = following.model_dump_json().encode()
            try:
                obstore.put(self._storage, _snapshot_key(following.number), content, mode="create")
            except AlreadyExistsError:
                continue  # another import was faster: start from its snapshot
            return True

    def _snapshots(self) -> list[tuple[int, datetime]]:
        """Return number and age of each snapshot, oldest first."""
        listed = obstore.list(self._storage, SNAPSHOTS).collect()
        return sorted((int(Path(item["path"]).stem), item["last_modified"]) for item in listed)

    def _read(self, number: int) -> Snapshot:
        content = obstore.get(self._storage, _snapshot_key(number)).bytes()
        return Snapshot.model_validate_json(bytes(content))

    def _prune(self) -> None:
        """Delete old snapshots, many at a time, and the parts that no other snapshot mentions."""
        try:
            outdated = list(self._outdated())
            if len(outdated) >= KEPT_SNAPSHOTS:
                obstore.delete(self._storage, [_snapshot_key(number) for number in outdated])
                self._prune_parts()
        except (BaseError, OSError) as exc:
            logger.warning("old sales snapshots were not pruned, the next import will: %s", exc)

    def _outdated(self) -> Iterator[int]:
        snapshots = self._snapshots()
        limit = datetime.now(UTC) - GRACE
        for (number, _), (_, replaced_at) in pairwise(snapshots[: -KEPT_SNAPSHOTS + 1]):
            # Its last readers may have begun just before it was replaced.
            if replaced_at < limit:
                yield number

    def _prune_parts(self) -> None:
        kept: set[str] = set()
        for number, _ in self._snapshots():
            kept |= self._read(number).keys
        limit = datetime.now(UTC) - GRACE
        for page in obstore.list(self._storage, PARTS):
            # Parts of imports that are not committed yet are younger than the grace period.
            unused = [
                item["path"]
                for item in page
                if item["path"] not in kept and item["last_modified"] < limit
            ]
            if unused:
                obstore.delete(self._storage, unused)


def _snapshot_key(number: int) -> str:
    return f"{SNAPSHOTS}/{number:012d}.json"


def _part(file: MonthFile) -> Part:
    with file.path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return Part(key=f"{PARTS}/{digest}.parquet", rows=file.rows)
