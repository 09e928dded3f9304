"""How settings of NMS are timed against each other, and one is recommended."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from harness.config.settings import Settings


class FrontierConfig(Settings):
    """How long settings are timed, how much is kept, and what speed may cost."""

    seconds: PositiveFloat = 40.0
    """Time for all rounds; the one during which it runs out is the last."""
    rounds: PositiveInt = 96
    """Rounds after which the timing ends; each times every setting once."""
    gigabytes: PositiveFloat = 4.0
    """Most memory for outputs that are kept."""
    within: NonNegativeFloat = 0.1
    """Points of mAP, of 100, that the recommended setting may be below the best."""
