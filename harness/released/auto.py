"""Knobs whose value is `auto`: as published with weights, else as for a backbone that has none."""

from __future__ import annotations

from harness.config.knobs import Setup


def resolve_auto(setup: Setup, from_weights: bool) -> Setup:
    """Return a setup without a knob that is `auto`.

    Args:
        setup: what a trial is made of.
        from_weights: whether weights give the backbone, in whole; also true where nothing is
            trained, since there the published values are as good as any.
    """
    return setup
