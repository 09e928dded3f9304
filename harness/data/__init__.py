"""Data sets: read, checked, fingerprinted, and turned into batches."""

from pathlib import Path

from harness.config import places
from harness.config.data import (
    COCO2017,
    SHAPES,
    DataConfig,
    DataError,
    ShapesConfig,
    cache_dir,
    coco2017_folder,
)
from harness.config.places import Source, annotation_file, splits
from harness.data import fingerprint, shapes
from harness.data.batch import Batch
from harness.data.check import Finding, Report, check
from harness.data.classes import one_table
from harness.data.coco import read_annotations, read_split
from harness.data.dataset import Category, DataSet, Image, OneSplit, Split, describe
from harness.data.loader import (
    TrainLoader,
    ValLoader,
    Workers,
    loading_processes,
    train_loader,
    val_loader,
)
from harness.data.resize import normalize, span, to_original
from harness.records import digest

__all__ = [
    "Batch",
    "Category",
    "DataConfig",
    "DataError",
    "DataSet",
    "Finding",
    "Image",
    "OneSplit",
    "Report",
    "ShapesConfig",
    "Split",
    "TrainLoader",
    "ValLoader",
    "Workers",
    "cache_dir",
    "check",
    "describe",
    "load",
    "load_split",
    "load_truth",
    "loading_processes",
    "normalize",
    "open_split",
    "span",
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
    train = read_split(folder, "train", config, training=True)
    val = one_table(train, read_split(folder, "val", config))
    return DataSet(name, train, val, fingerprint.of([train, val]))


def load_split(config: DataConfig, split: str = "val", *, in_order: bool = False) -> OneSplit:
    """Read one split of a data set, as an evaluation does; no other is opened or hashed.

    Arguments and errors are those of `open_split`.
    """
    name, found = open_split(config, split, in_order=in_order)
    return OneSplit(name, found, fingerprint.of([found]))


def open_split(
    config: DataConfig, split: str = "val", *, in_order: bool = False
) -> tuple[str, Split]:
    """Read one split of a data set without its images.

    Args:
        config: of the data set.
        split: such as `val` or `test`.
        in_order: whether the order of the classes matters: then it is that of the training split's
            annotations, where there are some.

    Returns:
        The data set's name, and the split.

    Raises:
        DataError: in one line, what is wrong with it and what to do.
    """
    name, folder = _resolve(config)
    found = read_split(folder, split, config)
    if in_order and split != "train" and "train" in splits(folder):
        source = Source(annotation_file(folder, "train"), folder / "train")
        found = one_table(read_annotations("train", source), found)
    return name, found


def load_truth(name: str, split: str = "val") -> OneSplit:
    """Read what is to be found in a split, and none of its images, which need not be there.

    Args:
        name: of a data set, or an annotation file, also one packed with gzip.
        split: such as `val`; of a file, what its only split is called.

    Returns:
        A split whose fingerprint is that of its ground truth alone.

    Raises:
        DataError: in one line, what is wrong with it and what to do.
    """
    if name.endswith(places.ALONE):
        file = places.alone(name)
        title, found = file.name.partition(".")[0], read_annotations(split, Source(file, file))
    else:
        title, folder = _resolve(DataConfig(source=name))
        file = annotation_file(folder, split)
        found = read_annotations(split, Source(file, folder / split))
    return OneSplit(title, found, digest(found.ground_truth(), length=16))


def _resolve(config: DataConfig) -> tuple[str, Path]:
    """Return the name of a data set and its folder."""
    if config.source == SHAPES:
        return SHAPES, shapes.folder(config.shapes)
    if config.source == COCO2017:
        return COCO2017, coco2017_folder()
    folder = places.folder(config.source)
    return folder.resolve().name, folder
