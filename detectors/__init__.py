"""Real-time object detectors behind one interface."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from detectors.config import override
from detectors.configs import CONFIGS, is_trusted, names, resolve
from detectors.folding import Convolution, folded_norms, restore_norms, unfold
from detectors.interface import Detector, DetectorConfig
from detectors.labels import ClassNames, class_names, count_classes
from detectors.release import Release
from detectors.releases import PARTS, RELEASES
from detectors.weights import fill

__all__ = [
    "CONFIGS",
    "PARTS",
    "RELEASES",
    "ClassNames",
    "Convolution",
    "Release",
    "class_names",
    "count_classes",
    "create",
    "folded_norms",
    "is_trusted",
    "names",
    "resolve",
    "restore_norms",
    "unfold",
]


def create(
    detector: str | DetectorConfig,
    overrides: Mapping[str, Any] | None = None,
    weights: str | Path | Mapping[str, Tensor] | None = None,
) -> Detector:
    """Build a detector.

    Args:
        detector: a name that `resolve` knows, or a config.
        overrides: knobs to turn, dotted path to value.
        weights: a file or folder that `detectors.weights.read` knows, or a state dict; ours or
            upstream's, told apart by its keys. None leaves the weights freshly initialised.

    Raises:
        KnobError: an unknown name or knob, or a value that a knob cannot take.
        WeightsError: weights that cannot be read or do not fit.
    """
    config = resolve(detector) if isinstance(detector, str) else detector
    model = override(config, overrides or {}).build()
    if weights is not None:
        fill(model, weights)
    return model
