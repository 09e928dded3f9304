"""Knobs whose value is `auto`: as published with weights, else as for a backbone that has none."""

from __future__ import annotations

from typing import Any

from detectors import Tuning
from harness.config import knobs
from harness.config.knobs import Setup
from harness.config.recipe import AUTO

FREEZING = ("freeze_norm", "frozen_stages")


def resolve_auto(setup: Setup, from_weights: bool) -> Setup:
    """Return a setup without a knob that is `auto`, so that a trial's config says what is used.

    Args:
        setup: what a trial is made of.
        from_weights: whether weights give the backbone; also true where nothing is trained, since
            freezing changes nothing there.
    """
    backbone = getattr(setup.detector, "backbone", None)
    tuning = getattr(backbone, "tuning", Tuning()) if from_weights else Tuning()
    changes: dict[str, Any] = {
        f"detector.backbone.{name}": getattr(tuning, name)
        for name in FREEZING
        if getattr(backbone, name, None) == AUTO
    }
    if setup.recipe is not None and setup.recipe.backbone_lr == AUTO:
        changes["recipe.backbone_lr"] = tuning.lr
    return knobs.turn(setup, changes)
