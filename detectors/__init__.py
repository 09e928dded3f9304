"""Real-time object detectors behind one interface.

Configs, names and releases import no torch, which takes seconds; what needs it is imported when it
is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectors.config import override
from detectors.configs import CONFIGS, is_trusted, names, resolve
from detectors.contract import Tuning, WeightsError, kind_of
from detectors.release import Release
from detectors.releases import PARTS, RELEASES
from detectors.saved import CONFIG_FILE, WEIGHTS_FILE, saved_config, saved_name, weights_file

if TYPE_CHECKING:
    from torch import Tensor

    from detectors.folding import Convolution, folded_norms, restore_norms, unfold
    from detectors.interface import Detector, DetectorConfig
    from detectors.labels import ClassNames, class_names, count_classes

__all__ = [
    "CONFIGS",
    "CONFIG_FILE",
    "PARTS",
    "RELEASES",
    "WEIGHTS_FILE",
    "ClassNames",
    "Convolution",
    "Detector",
    "DetectorConfig",
    "Release",
    "Tuning",
    "WeightsError",
    "class_names",
    "count_classes",
    "create",
    "folded_norms",
    "is_trusted",
    "kind_of",
    "names",
    "resolve",
    "restore_norms",
    "saved_config",
    "saved_name",
    "unfold",
    "weights_file",
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
    from detectors.weights import fill  # imports torch

    config = resolve(detector) if isinstance(detector, str) else detector
    model = override(config, overrides or {}).build()
    if weights is not None:
        fill(model, weights)
    return model


def __getattr__(name: str) -> Any:
    """Return what imports torch, which is why it is imported only now."""
    if name in __all__:
        from detectors import folding, interface, labels  # import torch

        for module in (folding, interface, labels):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
