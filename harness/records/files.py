"""Files that are there whole or not at all, with the rights that the user gives to new files."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes its place once the block ends without an error.

    A reader finds the old content or the new, never a part, also after the machine lost its power.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def own_folder(folder: Path) -> Path:
    """Make a folder that files are written into, unless it is there; take links and pipes out.

    What lies there may come from somebody else. A link would lead what is written elsewhere, and a
    pipe would be waited for.
    """
    if folder.is_symlink():
        folder.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    for item in list(folder.rglob("*")):
        if item.is_symlink() or not (item.is_file() or item.is_dir()):
            item.unlink()
    return folder
