"""COCO 2017: its archives are brought and unpacked into the folder that `coco2017` names."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from detectors import Release, WeightsError
from harness.config import places
from harness.config.data import COCO2017, DataError
from harness.records.progress import OnProgress, ignore
from harness.released import download
from harness.released.transfer import size_of
from harness.released.unpacking import unpack

SITE = "http://images.cocodataset.org"
ELSEWHERE = "name another folder with --to"
ANNOTATIONS, FOLDER = "annotations", "archives"
SPLITS = ("val", "train")  # the small one first


class Archive(NamedTuple):
    """A file that holds a part of the data set."""

    release: Release
    size: int  # bytes
    growth: float  # what is in it takes so many times its size, at most


ARCHIVES = {
    ANNOTATIONS: Archive(
        Release(
            f"{SITE}/annotations/annotations_trainval2017.zip",
            "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
        ),
        252_907_541,
        4.0,
    ),
    "val": Archive(
        Release(
            f"{SITE}/zips/val2017.zip",
            "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
        ),
        815_585_330,
        1.0,
    ),
    "train": Archive(
        Release(
            f"{SITE}/zips/train2017.zip",
            "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
        ),
        19_336_861_798,
        1.0,
    ),
}
"""Sizes and hashes: tensorflow/datasets@333639b tensorflow_datasets/url_checksums/coco.txt. How
much they grow is assumed, for the plan of the disk: photographs are as large in an archive, texts
shrink to a quarter. What an archive says of itself is looked at before it is unpacked."""


class Part(NamedTuple):
    """What is taken from one archive."""

    archive: Archive
    folder: str  # in the archive and in the data set
    files: tuple[str, ...] = ()  # of that folder; none for all of them

    @property
    def name(self) -> str:
        """Name the archive's file."""
        return PurePosixPath(urlsplit(self.archive.release.url).path).name

    @property
    def unpacked(self) -> float:
        """Return how many bytes it takes at most, as far as that is known before."""
        return self.archive.size * self.archive.growth

    def file(self, to: Path) -> Path:
        """Return where the archive lies, or will."""
        return to / FOLDER / self.name

    def is_here(self, to: Path) -> bool:
        """Say whether it is unpacked."""
        place = to / self.folder
        if self.files:
            return all((place / name).is_file() for name in self.files)
        return _holds_something(place)


def lacking(to: Path, splits: Sequence[str]) -> list[Part]:
    """Return the parts of some splits that a folder lacks, the smallest first.

    Args:
        to: the folder; it may hold splits under any names that a data set may have.
        splits: `train`, `val` or both.
    """
    known = places.splits(to)
    files = tuple(f"instances_{split}2017.json" for split in splits if split not in known)
    found = [Part(ARCHIVES[ANNOTATIONS], ANNOTATIONS, files)] if files else []
    for split in (split for split in SPLITS if split in splits):
        photographs = places.image_folder(to, split)
        if photographs is None or not _holds_something(photographs):
            found.append(Part(ARCHIVES[split], f"{split}2017"))
    return found


def check_room(to: Path, parts: Sequence[Part]) -> None:
    """Refuse before a byte is fetched what the disk has no room for.

    Each archive lies beside what was unpacked from it for a while, then it is removed.

    Raises:
        DataError: it has none.
    """
    kept = most = 0.0
    for part in parts:
        file = part.file(to)
        here = max(size_of(path) for path in (file, download.partial_of(file)))
        most = max(most, kept + max(part.archive.size - here, 0) + part.unpacked)
        kept += part.unpacked
    above = next(folder for folder in (to, *to.absolute().parents) if folder.exists())
    free = shutil.disk_usage(above).free
    if most > free:
        raise DataError(
            f"{COCO2017}: takes {most / 1e9:.1f} GB in {to} until its archives are unpacked,"
            f" {free / 1e9:.1f} GB are free; free some, or {ELSEWHERE}"
        )


def bring(part: Part, to: Path, on_progress: OnProgress = ignore) -> bool:
    """Fetch an archive unless it is here, and unpack it; one process at a time does.

    An archive that was fetched is removed then; one that somebody put there stays.

    Args:
        part: of the data set.
        to: the folder of the data set.
        on_progress: phases of `download.fetch`, and `unpack`, in bytes.

    Returns:
        Whether the archive stays.

    Raises:
        DataError: it cannot be had, is another file, is damaged, or has no room.
    """
    file = part.file(to)
    with (
        _refused_as_data(),
        download.written(file, ELSEWHERE),
        download.alone(file.with_suffix(""), on_progress),
    ):
        stays = file.is_file()
        if not part.is_here(to):
            download.get(part.archive.release, file, on_progress, elsewhere=ELSEWHERE)
            unpack(file, part.folder, part.files, to, on_progress)
            if not stays:
                file.unlink()
        return stays


@contextmanager
def _refused_as_data() -> Iterator[None]:
    try:
        yield
    except WeightsError as error:
        raise DataError(str(error)) from error


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and next(folder.iterdir(), None) is not None
