"""A folder in COCO layout becomes a split; whatever is wrong with it is said in one line."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config.data import DataConfig, DataError
from harness.config.knobs import nearest
from harness.config.places import Source, locate
from harness.data.cache import parsed
from harness.data.dataset import Annotations, Category, Image, Split, to_corners

GZIP = b"\x1f\x8b"  # how a file begins that gzip packed
SMALLEST_SIDE = 32  # of a training image; RTMDet's filter
MOST_VALUES = 5  # of a field of the annotations, that a line names
SMALLEST_BOX = 1.0  # shortest side of a box to train on, pixels; below it is degenerate


def read_split(folder: Path, name: str, config: DataConfig, *, training: bool = False) -> Split:
    """Read one split of a data set.

    Args:
        folder: a folder in COCO layout.
        name: such as `train` or `val`.
        config: what to leave out.
        training: whether it is to be trained on, which leaves other images out than an evaluation.

    Raises:
        DataError: something is wrong with the folder or the annotation file.
    """
    source = locate(folder, name)
    file, split = source.annotation_file, read_annotations(name, source)
    if config.where:
        split = take(split, matching(file, config.where))
    check_present(source, split.images)
    chosen = np.arange(len(split))
    if training and config.filter_empty:
        chosen = worth_training_on(split)
        if not len(chosen):
            raise DataError(
                f"{file}: no image has a usable box and sides of at least"
                f" {SMALLEST_SIDE} pixels; annotate some, or set data.filter_empty=false"
            )
    limit = config.max_train_images if training else config.max_val_images
    return take(split, spread(chosen, limit))


def read_annotations(name: str, source: Source) -> Split:
    """Read a split with all its images, which need not be there.

    Raises:
        DataError: something is wrong with the annotation file.
    """
    file, folder = source
    return parsed(name, file, folder, lambda: build_split(name, source, read_document(file)))


def read_json(file: Path) -> Any:
    """Read a file of JSON, also one packed with gzip.

    Raises:
        DataError: it is not JSON.
    """
    try:
        content = file.read_bytes()
        return json.loads(gzip.decompress(content) if content[:2] == GZIP else content)
    except (ValueError, RecursionError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: not JSON ({error}); export it again") from error


def read_document(file: Path) -> dict[str, Any]:
    """Read an annotation file.

    Raises:
        DataError: it is not JSON, or lacks one of the three lists.
    """
    parsed = read_json(file)
    document: dict[str, Any] = parsed if isinstance(parsed, dict) else {}
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            raise DataError(
                f"{file}: no list {key!r}; COCO's format is an object with images, annotations"
                " and categories"
            )
    return document


def build_split(name: str, source: Source, document: dict[str, Any]) -> Split:
    """Turn an annotation file into a split with all its images.

    Raises:
        DataError: an entry lacks a field, refers to nothing, or has another one's id.
    """
    file = source.annotation_file
    categories, images = _categories(file, document), _images(file, document)
    if not images:
        raise DataError(f"{file}: the split {name!r} is empty; it needs at least one image")
    annotations = _annotations(file, document["annotations"], images, categories)
    return Split(name, file, source.image_folder, categories, images, annotations)


def check_present(source: Source, images: Sequence[Image]) -> None:
    """Refuse a split that names images which are not there.

    Raises:
        DataError: naming the first, counting the rest.
    """
    missing = absent(source, images)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{source.image_folder / missing[0]}{more}: named in {source.annotation_file.name} but"
            f" absent; add the file{'s' if more else ''} or remove the entr{'ies' if more else 'y'}"
        )


def absent(source: Source, images: Iterable[Image]) -> list[str]:
    """Return the file names of images that are not there."""
    folder = source.image_folder
    with os.scandir(folder) as entries:
        present = {entry.name for entry in entries}
    return [
        image.file_name
        for image in images
        if image.file_name not in present and not (folder / image.file_name).is_file()
    ]


def matching(file: Path, where: Mapping[str, Any]) -> NDArray[np.int64]:
    """Return the images whose entries in an annotation file have some fields, ascending.

    Args:
        file: of the annotations, whose images are those of the split, in that order.
        where: field to value.

    Raises:
        DataError: no image has a field, or none is left.
    """
    rows = read_document(file)["images"]
    for field in where:
        known = dict.fromkeys(key for row in rows for key in row)
        if field not in known:
            raise DataError(
                f"{file}: data.where: no image has a field {field!r}{nearest(field, [*known])}"
                f" There is {', '.join(known)}."
            )
    fits = [all(_is(row.get(field), value) for field, value in where.items()) for row in rows]
    if not any(fits):
        wanted = ", ".join(f"{field}: {value}" for field, value in where.items())
        there = _found(rows, where)
        raise DataError(f"{file}: data.where: no image is left with {wanted}; {there}")
    return np.flatnonzero(fits)


def _is(found: Any, wanted: Any) -> bool:
    """Say whether a field has a value; 1 is not true, and not "1"."""
    numbers = (int, float)
    alike = type(found) is type(wanted) or (type(found) in numbers and type(wanted) in numbers)
    return alike and bool(found == wanted)


def _found(rows: Sequence[Mapping[str, Any]], where: Mapping[str, Any]) -> str:
    """Say which values there are of each field."""
    told = []
    for field in where:
        values = list(dict.fromkeys(json.dumps(row.get(field)) for row in rows))
        more = f" and {len(values) - MOST_VALUES} more" if len(values) > MOST_VALUES else ""
        told.append(f"{field} is {', '.join(values[:MOST_VALUES])}{more}")
    return "; ".join(told)


def worth_training_on(split: Split) -> NDArray[np.int64]:
    """Return the images with a usable box and no side too short, ascending."""
    table = split.annotations
    boxes = np.bincount(table.image_of_row()[table.usable], minlength=len(split))
    sides = np.array([min(image.height, image.width) for image in split.images])
    return np.flatnonzero((boxes > 0) & (sides >= SMALLEST_SIDE))


def spread(indices: NDArray[np.int64], limit: int | None) -> NDArray[np.int64]:
    """Choose at most `limit` of some images, evenly, as files are often sorted by class."""
    if limit is None or limit >= len(indices):
        return indices
    return indices[np.arange(limit) * len(indices) // limit]


def take(split: Split, indices: NDArray[np.int64]) -> Split:
    """Return a split with only these images, ascending."""
    if len(indices) == len(split):
        return split
    return replace(
        split,
        images=tuple(split.images[index] for index in indices),
        annotations=split.annotations.select(indices),
        left_out=len(split) - len(indices),
    )


def _categories(file: Path, document: dict[str, Any]) -> tuple[Category, ...]:
    rows = document["categories"]
    if not rows:
        raise DataError(f"{file}: 'categories' is empty; list every class with its id and name")
    ids = _integers(file, "categories", "id", rows).tolist()
    names = _column(file, "categories", "name", rows)
    _unique(file, "categories", ids)
    found = sorted(Category(key, str(name)) for key, name in zip(ids, names, strict=True))
    first: dict[str, int] = {}
    for key, name in found:
        if first.setdefault(name, key) != key:
            raise DataError(
                f"{file}: categories {first[name]} and {key} are both named {name!r}; give each a"
                " name of its own, or give their annotations one category_id"
            )
    return tuple(found)


def _images(file: Path, document: dict[str, Any]) -> tuple[Image, ...]:
    rows = document["images"]
    ids = _integers(file, "images", "id", rows).tolist()
    names = [str(name) for name in _column(file, "images", "file_name", rows)]
    heights = _integers(file, "images", "height", rows).tolist()
    widths = _integers(file, "images", "width", rows).tolist()
    _unique(file, "images", ids)
    return tuple(map(Image, ids, names, heights, widths))


def _annotations(
    file: Path, rows: list[Any], images: tuple[Image, ...], categories: tuple[Category, ...]
) -> Annotations:
    ids = _integers(file, "annotations", "id", rows)
    _unique(file, "annotations", ids)
    image = _positions(
        file, ids, "image_id", _integers(file, "annotations", "image_id", rows),
        [item.id for item in images],
    )  # fmt: skip
    labels = _positions(
        file, ids, "category_id", _integers(file, "annotations", "category_id", rows),
        [item.id for item in categories],
    )  # fmt: skip
    boxes = _boxes(file, ids, rows)
    areas = _areas(file, ids, rows, boxes)
    crowd = np.array([bool(row.get("iscrowd", 0)) for row in rows], np.bool_)
    sizes = np.array([(item.height, item.width) for item in images], np.int64)[image]
    order = np.argsort(image, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(image, minlength=len(images)))])
    usable = ~crowd & ~degenerate(boxes, sizes)
    return Annotations(
        offsets, ids[order], labels[order], boxes[order], areas[order], crowd[order], usable[order]
    )


def degenerate(boxes: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which boxes are under a pixel wide or high once clipped to their images.

    Args:
        boxes: [A, 4] xywh, pixels.
        sizes: [A, 2] (h, w) of each box's image.
    """
    corners = to_corners(boxes, sizes)
    shortest: NDArray[np.float64] = (corners[:, 2:] - corners[:, :2]).min(axis=1, initial=np.inf)
    return shortest < SMALLEST_BOX


def _column(file: Path, kind: str, key: str, rows: list[Any]) -> list[Any]:
    """Return one field of every entry."""
    try:
        return [row[key] for row in rows]
    except (KeyError, TypeError, IndexError):
        bad = next(i for i, row in enumerate(rows) if not isinstance(row, dict) or key not in row)
        raise DataError(f"{file}: {kind}[{bad}] has no {key!r}; add it") from None


def _integers(file: Path, kind: str, key: str, rows: list[Any]) -> NDArray[np.int64]:
    values = _column(file, kind, key, rows)
    for i, value in enumerate(values):
        if type(value) is not int or abs(value) >= 2**63:
            raise DataError(f"{file}: {kind}[{i}].{key} is {value!r}; it has to be an integer")
    return np.array(values, np.int64)


def _boxes(file: Path, ids: NDArray[np.int64], rows: list[Any]) -> NDArray[np.float64]:
    values = _column(file, "annotations", "bbox", rows)
    try:
        boxes = np.array(values, np.float64).reshape(len(rows), 4)
        bad = np.flatnonzero(~np.isfinite(boxes).all(axis=1))
    except (ValueError, TypeError):
        bad = np.array([i for i, value in enumerate(values) if not _is_box(value)])
    if len(bad):
        raise DataError(
            f"{file}: annotation {ids[bad[0]]} has the bbox {values[bad[0]]!r}; it has to be"
            " [x, y, width, height] in pixels"
        )
    return boxes


def _areas(
    file: Path, ids: NDArray[np.int64], rows: list[Any], boxes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the area of each object, the box's where the file does not say."""
    values = [row.get("area") for row in rows]
    for key, value in zip(ids, values, strict=True):
        if not isinstance(value, int | float | None):
            raise DataError(f"{file}: annotation {key} has the area {value!r}; give it a number")
    areas = np.array(values, np.float64)
    return np.where(np.isfinite(areas), areas, boxes[:, 2:].clip(min=0).prod(axis=1))


def _is_box(value: Any) -> bool:
    """Tell whether this is a list of four numbers."""
    if not isinstance(value, list) or len(value) != 4:
        return False
    return all(type(item) in (int, float) for item in value)


def _unique(file: Path, kind: str, ids: Sequence[int] | NDArray[np.int64]) -> None:
    values, counts = np.unique(np.asarray(ids), return_counts=True)
    if (counts > 1).any():
        first = values[counts > 1][0]
        raise DataError(f"{file}: {kind} has the id {first} more than once; make ids unique")


def _positions(
    file: Path, ids: NDArray[np.int64], key: str, values: NDArray[np.int64], known: list[int]
) -> NDArray[np.int64]:
    """Return where each value stands among the known ids."""
    array = np.array(known, np.int64)
    order = np.argsort(array)
    places = np.searchsorted(array, values, sorter=order).clip(max=len(array) - 1)
    positions: NDArray[np.int64] = order[places]
    wrong = np.flatnonzero(array[positions] != values)
    if len(wrong):
        table = {"image_id": "images", "category_id": "categories"}[key]
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise DataError(
            f"{file}: annotation {ids[wrong[0]]}{more} has the {key} {values[wrong[0]]}, which is"
            f" not in {table!r}; add it there or remove the annotation"
        )
    return positions
