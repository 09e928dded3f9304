"""Every named detector, and how a name becomes a config."""

from __future__ import annotations

import difflib
import importlib

from detectors.config import KnobError
from detectors.interface import DetectorConfig
from detectors.rtdetr import HGNETV2_L, HGNETV2_X, R18, R34, R50, R50_M, R101
from detectors.rtmdet import TINY, L, M, S, X

CONFIGS: dict[str, DetectorConfig] = {
    "rtmdet_tiny": TINY,
    "rtmdet_s": S,
    "rtmdet_m": M,
    "rtmdet_l": L,
    "rtmdet_x": X,
    "rtdetr_r18": R18,
    "rtdetr_r34": R34,
    "rtdetr_r50_m": R50_M,
    "rtdetr_r50": R50,
    "rtdetr_r101": R101,
    "rtdetr_hgnetv2_l": HGNETV2_L,
    "rtdetr_hgnetv2_x": HGNETV2_X,
}
"""Every named detector; families one after the other, smallest first."""


def names() -> list[str]:
    """Return the names of all detectors."""
    return list(CONFIGS)


def resolve(name: str) -> DetectorConfig:
    """Return the config that goes by a name.

    Args:
        name: one of `names()`, or `package.module:ATTRIBUTE` for a config kept elsewhere.

    Raises:
        KnobError: there is none of that name.
    """
    if name in CONFIGS:
        return CONFIGS[name]
    module, colon, attribute = name.partition(":")
    if colon:
        return _elsewhere(name, module, attribute)
    nearest = difflib.get_close_matches(name, CONFIGS, n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ";"
    raise KnobError(
        f"detector: no {name!r}{hint} Choose from {', '.join(CONFIGS)},"
        " or name a config of your own as package.module:ATTRIBUTE."
    )


def _elsewhere(name: str, module: str, attribute: str) -> DetectorConfig:
    try:
        config: DetectorConfig = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise KnobError(f"detector: cannot load {name!r}: {error}") from error
    if not hasattr(config, "build"):
        raise KnobError(f"detector: {name!r} is no detector config: it has no build()")
    return config
