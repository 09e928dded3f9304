"""The studies that come with the package, found by name without importing anything heavy."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from harness.config.yaml_source import StudyError

FOLDER = Path(__file__).parents[2] / "studies"
NOT_STUDIES = ("papers", "recipes")


def names() -> list[str]:
    """Return the names of the studies that come with the package."""
    files = (file.relative_to(FOLDER) for file in FOLDER.rglob("*.yaml"))
    return sorted(
        file.with_suffix("").as_posix() for file in files if file.parts[0] not in NOT_STUDIES
    )


def find(name: str) -> Path:
    """Return the file of a study.

    Args:
        name: a file, or a name such as `rtmdet/expand_ratio`.

    Raises:
        StudyError: there is none.
    """
    path, shipped = Path(name), FOLDER / f"{name}.yaml"
    if os.path.isfile(path):
        return path
    if os.path.isfile(shipped):
        return shipped
    nearest = difflib.get_close_matches(name, names(), n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ";"
    raise StudyError(f"no study {name!r}{hint} There is {', '.join(names())}, or name a file.")
