"""Splits that were parsed before, kept as arrays: a large annotation file takes long to read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config.data import cache_dir
from harness.data.dataset import Annotations, Category, Image, Split
from harness.data.fingerprint import digests
from harness.records import files

VERSION = 2  # counts up whenever the same file would be parsed into something else
SMALLEST = 1 << 22  # bytes of an annotation file that is worth it
_TABLES = "tables"


def parsed(name: str, file: Path, image_folder: Path, parse: Callable[[], Split]) -> Split:
    """Return a split as it was parsed from a file of the same bytes before, or parse it.

    Args:
        name: of the split.
        file: its annotation file.
        image_folder: where its images lie.
        parse: makes the split; what it refuses is refused again the next time.
    """
    if file.stat().st_size < SMALLEST:
        return parse()
    root = cache_dir()
    (key,) = digests([file.resolve()], root / "digests" / "annotations.json")
    kept = root / "annotations" / f"{key[:32]}-{VERSION}.npz"
    with contextlib.suppress(Exception):  # absent or damaged, in whatever way
        tables, annotations = _read(kept)
        categories = tuple(Category(*row) for row in tables["categories"])
        images = tuple(Image(*row) for row in tables["images"])
        return Split(name, file, image_folder, categories, images, annotations)
    split = parse()
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        _write(kept, split)
    return split


def _read(path: Path) -> tuple[dict[str, Any], Annotations]:
    with path.open("rb") as file, np.load(file) as arrays:
        columns: dict[str, NDArray[Any]] = {key: arrays[key] for key in arrays.files}
    return json.loads(columns.pop(_TABLES).tobytes()), Annotations(**columns)


def _write(path: Path, split: Split) -> None:
    """Write the file whole or not at all."""
    tables = {"categories": split.categories, "images": split.images}
    text = np.frombuffer(json.dumps(tables).encode(), np.uint8)
    columns: dict[str, Any] = {_TABLES: text, **vars(split.annotations)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as file:
        np.savez(file, **columns)
