"""Folders of saved detectors, foreign ones included."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from detectors import weights
from detectors.interface import Detector
from harness.adapters.names import resolve, with_foreign


def load(folder: Path, trusted: Collection[str] = ()) -> Detector:
    """Rebuild the detector in a folder, as `detectors.weights.load` does."""
    return weights.load(folder, with_foreign(folder, trusted), resolve)
