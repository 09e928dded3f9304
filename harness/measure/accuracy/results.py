"""Files of COCO results that anybody's detector made: read, and checked against a ground truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness.config.data import DataError
from harness.data import Split
from harness.data.coco import read_json
from harness.measure.accuracy.detections import KEYS

SHAPE = "a list of {image_id, category_id, bbox: [x, y, width, height], score}"


def read(file: Path, split: Split) -> list[dict[str, Any]]:
    """Read the boxes of a file of COCO results.

    Args:
        file: of JSON, also one packed with gzip.
        split: what they were found in.

    Returns:
        `image_id`, `category_id`, `bbox` xywh and `score` of each, in the file's order.

    Raises:
        DataError: in one line, what is wrong with the file, where first, and how often.
    """
    rows = read_json(file)
    if not isinstance(rows, list):
        kind = "an annotation file" if isinstance(rows, dict) and "annotations" in rows else "JSON"
        raise DataError(f"{file}: {kind}, and no results; COCO's results are {SHAPE}")
    if not rows:
        raise DataError(f"{file}: an empty list; there is nothing to score")
    for key in KEYS:
        _check(file, rows, partial(_has, key), f"has no {key!r}; COCO's results are {SHAPE}")
    words = "has a bbox that is not [x, y, width, height], four numbers, no side below 0"
    _check(file, rows, lambda row: _is_box(row["bbox"]), words, "bbox")
    _check(
        file, rows, lambda row: _is_number(row["score"]), "has a score that is no number", "score"
    )
    images = {image.id for image in split.images}
    for key, ids in (("image_id", images), ("category_id", set(split.label_to_category_id))):
        words = (
            f"has {key} {{}}, which none of the {len(ids)} in {split.annotation_file.name} has;"
            " name the data that it was made for"
        )
        _check(file, rows, partial(_knows, key, ids), words, key)
    return [{key: row[key] for key in KEYS} for row in rows]


def _check(
    file: Path, rows: Sequence[Any], fits: Callable[[Any], bool], words: str, key: str = ""
) -> None:
    """Refuse a file in which an entry does not fit, naming the first and counting the others."""
    wrong = [index for index, row in enumerate(rows) if not fits(row)]
    if not wrong:
        return
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    value = repr(rows[wrong[0]][key]) if key else ""
    said = words.format(value) if "{}" in words else words + (f": {value}" if value else "")
    raise DataError(f"{file}: entry {wrong[0]}{more} {said}")


def _has(key: str, row: Any) -> bool:
    return isinstance(row, dict) and key in row


def _knows(key: str, ids: Collection[int], row: Any) -> bool:
    return type(row[key]) is int and row[key] in ids


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(map(_is_number, value))
        and min(value[2:]) >= 0
    )
