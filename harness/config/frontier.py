"""How settings of NMS are timed against each other."""

from __future__ import annotations

from pydantic import PositiveFloat, PositiveInt

from harness.config.settings import Settings


class FrontierConfig(Settings):
    """How long settings are timed, and how much is kept."""

    seconds: PositiveFloat = 40.0
    """Time for all rounds; the one during which it runs out is the last."""
    rounds: PositiveInt = 96
    """Rounds after which the timing ends; each times every setting once."""
    gigabytes: PositiveFloat = 4.0
    """Most memory for outputs that are kept."""
