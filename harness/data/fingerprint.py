"""A data set's fingerprint: the same bytes in the same splits, wherever the folder lies."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.config.data import cache_dir
from harness.data.dataset import Split
from harness.records import digest, write_whole

_CHUNK = 1 << 20


def of(splits: Sequence[Split]) -> str:
    """Hash annotation files, image bytes, and which images of which split are used."""
    return digest([_contents(split) for split in splits], length=16)


def digests(paths: Sequence[Path], cache: Path) -> list[str]:
    """Return the sha256 of each file, read only if its size or time differs from the cache's.

    Args:
        paths: files to hash.
        cache: a JSON file of earlier results, replaced when there is something to add.
    """
    known = _read(cache)
    stamps = [_stamp(path) for path in paths]
    fresh = [
        path
        for path, stamp in zip(paths, stamps, strict=True)
        if known.get(str(path), [])[:2] != stamp
    ]
    if fresh:
        with ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 4)) as pool:
            found = dict(zip(fresh, pool.map(file_digest, fresh), strict=True))
        for path, stamp in zip(paths, stamps, strict=True):
            if path in found:
                known[str(path)] = [*stamp, found[path]]
        with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_whole(cache, json.dumps(known))
    return [str(known[str(path)][2]) for path in paths]


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
    return [status.st_size, status.st_mtime_ns]


def _read(cache: Path) -> dict[str, list[int | str]]:
    try:
        known = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
