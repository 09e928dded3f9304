"""Finds the user's own code, so that it can be sent to machines that do not have it."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

EVERYWHERE = ("__main__", "detectors", "harness", "reports", "studies")
"""Which every machine has of its own."""


def loaded() -> list[str]:
    """List the files and folders of the top-level modules of the user's own that are imported.

    A module is the user's own if no installer put it where it lies, and if it is no part of
    detbench or of Python. A folder is a package with all that is in it.
    """
    standard = {Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib")}
    return sorted(
        str(place)
        for name in list(sys.modules)
        if "." not in name and name not in EVERYWHERE
        for place in _places(name)
        if standard.isdisjoint(place.parents) and not any(place.parent.glob("*.dist-info"))
    )


def _places(name: str) -> Iterator[Path]:
    """Yield where a top-level module lies; nothing if that is no Python source."""
    spec = getattr(sys.modules[name], "__spec__", None)
    if spec is None:
        return
    for folder in spec.submodule_search_locations or ():
        if Path(folder).is_dir():
            yield Path(folder).resolve()
    file = Path(spec.origin or "")
    if spec.submodule_search_locations is None and file.suffix == ".py" and file.is_file():
        yield file.resolve()
