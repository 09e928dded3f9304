"""A data set's fingerprint: the same bytes in the same splits, wherever the folder lies.

A file that was hashed is known again by its size, its times of content and of change, and its
inode. A program may set the first time back, as `rsync -t` and backups do, but not the second. On a
network share the last two may change by themselves: that costs time, and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.config.data import DataError, cache_dir
from harness.data.dataset import DataSet, OneSplit, Split
from harness.records import digest, write_whole

_CHUNK = 1 << 20
_CHANGED = 2  # place of the time of change in a stamp
SETTLED_NS = 2_000_000_000
"""Since a file's last change until it is remembered: a file system's clock may tick so seldom, and
what is written twice in one tick has one time."""


class DataChangedError(DataError):
    """A data set is not what it was when it was read."""


def of(splits: Sequence[Split]) -> str:
    """Hash annotation files, image bytes, and which images of which split are used."""
    return digest([_contents(split) for split in splits], length=16)


def check_unchanged(dataset: DataSet | OneSplit) -> None:
    """Refuse a data set whose files changed since it was read.

    Raises:
        DataChangedError: they did, or are gone.
    """
    try:
        found = of(dataset.splits)
    except OSError as error:
        found = f"none ({error.filename}: {error.strerror})"
    if found != dataset.fingerprint:
        raise DataChangedError(
            f"data set {dataset.name} changed while it was in use: its fingerprint was"
            f" {dataset.fingerprint} and is {found}; run again once nothing writes there"
        )


def digests(paths: Sequence[Path], cache: Path) -> list[str]:
    """Return the sha256 of each file, read only if it is not what the cache knows.

    Args:
        paths: files to hash.
        cache: a JSON file of earlier results, replaced when there is something to add.
    """
    known, now = _read(cache), time.time_ns()
    stamps = {path: _stamp(path) for path in paths}
    fresh = [path for path, stamp in stamps.items() if known.get(str(path), [])[:-1] != stamp]
    if fresh:
        with ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 4)) as pool:
            found = dict(zip(fresh, pool.map(file_digest, fresh), strict=True))
        known |= {str(path): [*stamps[path], found[path]] for path in fresh}
        passing = {str(path) for path in fresh if now - stamps[path][_CHANGED] < SETTLED_NS}
        lasting = {name: row for name, row in known.items() if name not in passing}
        with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_whole(cache, json.dumps(lasting))
    return [str(known[str(path)][-1]) for path in paths]


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    result = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            result.update(chunk)
    return result.hexdigest()


def _contents(split: Split) -> list[object]:
    annotation_file, folder = split.annotation_file.resolve(), split.image_folder.resolve()
    names = [image.file_name for image in split.images]
    key = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    paths = [annotation_file, *(folder / name for name in names)]
    first, *rest = digests(paths, cache_dir() / "digests" / f"{key}.json")
    return [split.name, first, [list(pair) for pair in zip(names, rest, strict=True)]]


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _read(cache: Path) -> dict[str, list[int | str]]:
    """Read what is known; stamps of another kind, such as older ones, are those of no file."""
    try:
        known = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {name: row for name, row in known.items() if isinstance(row, list)}
