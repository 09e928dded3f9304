"""Every released file, as `detbench weights` lists and gets it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import NamedTuple

from detectors import RELEASES, Release, WeightsError
from harness.released import cache

USUAL = "coco"  # what is meant where a name says nothing of it


class Entry(NamedTuple):
    """One file that can be had."""

    name: str  # of the detector and of what it was trained on, such as rtdetr_r18/imagenet
    release: Release
    file: Path  # where it lies, or will


def entries() -> list[Entry]:
    """Return all there are, detector by detector."""
    detectors = dict.fromkeys(name for table in RELEASES.values() for name in table)
    return [
        Entry(f"{detector}/{source}", table[detector], cache.place(table[detector].url))
        for detector in detectors
        for source, table in RELEASES.items()
        if detector in table
    ]


def entry(name: str) -> Entry:
    """Return the file that goes by a name.

    Args:
        name: of a detector, alone for its weights of COCO or as DETECTOR/SOURCE.

    Raises:
        WeightsError: there is none.
    """
    known = {item.name: item for item in entries()}
    full = name if "/" in name else f"{name}/{USUAL}"
    if full in known:
        return known[full]
    mine = [other for other in known if other.partition("/")[0] == name.partition("/")[0]]
    nearest = mine or difflib.get_close_matches(full, known, n=1)
    hint = f"; there is {', '.join(nearest)}" if nearest else ""
    raise WeightsError(f"no released weights {full!r}{hint}; `detbench weights list` names all")
