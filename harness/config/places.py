"""Where the files of a data set lie, found without reading any of them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from harness.config.data import COCO2017, SHAPES, DataError, coco2017_folder

LAYOUT = (
    "annotations/instances_train.json, annotations/instances_val.json, train/ and val/"
    " (each also with 2017 at the end of its name)"
)
ALONE = (".json", ".json.gz")
"""Endings of annotation files, where one stands for a data set."""
_ANNOTATIONS = re.compile(r"instances_(.+?)(2017)?\.json")


class Source(NamedTuple):
    """Where one split lies on disk."""

    annotation_file: Path
    image_folder: Path


def locate(folder: Path, split: str) -> Source:
    """Find the annotation file and the images of a split.

    Raises:
        DataError: the folder, the file or the image folder is missing.
    """
    file = annotation_file(folder, split)
    images = image_folder(folder, split)
    if images is None:
        raise DataError(f"{folder / split}: no such folder of images; a data set has {LAYOUT}")
    return Source(file, images)


def annotation_file(folder: Path, split: str) -> Path:
    """Find the annotation file of a split.

    Raises:
        DataError: the folder or the file is missing.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; a data set is a folder with {LAYOUT}")
    files = [folder / "annotations" / f"instances_{name}.json" for name in (split, f"{split}2017")]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        there = [name for name in splits(folder) if image_folder(folder, name)]
        if there:
            raise DataError(
                f"{files[0]}: no such file, so {folder} has no split {split!r}; it has"
                f" {', '.join(there)}. `evaluate`, `measure` and `predict` need but one, named with"
                " --split; a training needs train and val"
            )
        raise DataError(f"{files[0]}: no such file; a data set is a folder with {LAYOUT}")
    return file


def image_folder(folder: Path, split: str) -> Path | None:
    """Return the folder of a split's images; None where there is none."""
    paths = [folder / name for name in (split, f"{split}2017")]
    return next((path for path in paths if path.is_dir()), None)


def splits(folder: Path) -> list[str]:
    """Return the names of the splits that a folder has annotations of."""
    names = (file.name for file in (folder / "annotations").glob("*.json"))
    return sorted({match[1] for match in map(_ANNOTATIONS.fullmatch, names) if match})


def alone(name: str) -> Path:
    """Return an annotation file that stands for a data set, or one of results.

    Raises:
        DataError: there is no such file.
    """
    file = Path(os.path.expanduser(name))
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "no such file"
        raise DataError(f"{file}: {what}; name a JSON file, of annotations or of results")
    return file


def check_truth(name: str, split: str) -> None:
    """See that the annotations of a split are there; its images need not be.

    Args:
        name: of a data set, or an annotation file.
        split: such as `val`.

    Raises:
        DataError: a folder or a file is missing.
    """
    if name.endswith(ALONE):
        alone(name)
    elif name != SHAPES:
        annotation_file(folder(name), split)


def check(name: str, *wanted: str) -> None:
    """See that splits of a data set are there; scenes of `shapes` are made when they are needed.

    Args:
        name: of the data set, as a study has it.
        wanted: splits, such as `val`.

    Raises:
        DataError: a folder or a file is missing.
    """
    if name != SHAPES:
        for split in wanted:
            locate(folder(name), split)


def folder(name: str) -> Path:
    """Return the folder of a data set that is not made on the spot.

    Raises:
        DataError: it is COCO 2017, which is not here.
    """
    return coco2017_folder() if name == COCO2017 else Path(os.path.expanduser(name))
