"""One small detector of each family, for tests of what size has no part in."""

from typing import Any

SMALL: dict[str, dict[str, Any]] = {
    "tests.toy:TOY": {"input.size": (64, 64)},
    "rtmdet_tiny": {"backbone.width_mult": 0.125, "input.size": (64, 64)},
    "rtdetr_r18": {
        "backbone.width_mult": 0.125,
        "neck.hidden_dim": 32,
        "neck.num_blocks": 1,
        "head.hidden_dim": 32,
        "input.size": (64, 64),
    },
}
"""What is turned in each."""
