"""Which photographs a user means by files, folders and patterns."""

from __future__ import annotations

import os
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

from harness.config.data import DataError

ENDINGS = (
    *(".avif", ".bmp", ".dib", ".gif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png"),
    *(".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
"""Of the files that are taken from a folder."""


def find(texts: Sequence[str]) -> list[Path]:
    """Return the files that are meant, each once, in the order of the texts.

    Args:
        texts: files, folders, of which the images directly inside are taken, by their endings, and
            patterns as `glob` knows them, which a shell did not replace.

    Raises:
        DataError: nothing is there.
    """
    found: dict[Path, Path] = {}
    for text in texts:
        for file in _files(text):
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _files(text: str) -> list[Path]:
    if not text:
        raise DataError("IMAGE is empty; name files, their folder, or a pattern in quotes")
    path = Path(os.path.expanduser(text))
    if os.path.isfile(path):
        return [path]
    if os.path.isdir(path):
        return _inside(path)
    if os.path.lexists(path):
        raise DataError(f"{text}: neither a file nor a folder; name images, or their folder")
    matches = sorted(filter(os.path.isfile, glob(str(path), recursive=True)))
    if not matches:
        what = "no file is named so" if has_magic(text) else "no such file or folder"
        raise DataError(f"{text}: {what}; name images, their folder, or a pattern in quotes")
    return [Path(match) for match in matches]


def _inside(folder: Path) -> list[Path]:
    """Return the images directly inside a folder, by name."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    files = [folder / name for name in names if Path(name).suffix.lower() in ENDINGS]
    files = [file for file in files if file.is_file() and not file.name.startswith(".")]
    if not files:
        raise DataError(
            f"{folder}: no images in this folder, by the endings of their names; folders inside it"
            f" are not searched, but '{folder}/**/*.jpg' is a pattern that does"
        )
    return files
