"""Data sets: read, checked, fingerprinted, and turned into batches."""

from pathlib import Path

from harness.config.data import (
    COCO2017,
    SHAPES,
    DataConfig,
    DataError,
    ShapesConfig,
    cache_dir,
    coco2017_folder,
)
from harness.data import fingerprint, shapes
from harness.data.batch import Batch
from harness.data.check import Finding, Report, check
from harness.data.classes import one_table
from harness.data.coco import read_split
from harness.data.dataset import Category, DataSet, Image, Split, describe
from harness.data.loader import TrainLoader, ValLoader, train_loader, val_loader
from harness.data.resize import normalize, to_original

__all__ = [
    "Batch",
    "Category",
    "DataConfig",
    "DataError",
    "DataSet",
    "Finding",
    "Image",
    "Report",
    "ShapesConfig",
    "Split",
    "TrainLoader",
    "ValLoader",
    "cache_dir",
    "check",
    "describe",
    "load",
    "normalize",
    "to_original",
    "train_loader",
    "val_loader",
]


def load(config: DataConfig) -> DataSet:
    """Read a data set; `shapes` is rendered on the first call.

    Raises:
        DataError: in one line, what is wrong with it and what to do.
    """
    name, folder = _resolve(config)
    train, val = (read_split(folder, split, config) for split in ("train", "val"))
    val = one_table(train, val)
    return DataSet(name, train, val, fingerprint.of([train, val]))


def _resolve(config: DataConfig) -> tuple[str, Path]:
    """Return the name of a data set and its folder."""
    if config.source == SHAPES:
        return SHAPES, shapes.folder(config.shapes)
    if config.source == COCO2017:
        return COCO2017, coco2017_folder()
    folder = Path(config.source).expanduser()
    return folder.resolve().name, folder
