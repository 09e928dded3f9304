"""Toy studies that take a second or two a trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from harness.records import OF_TRAINING, Record

TOY: dict[str, Any] = {
    "name": "toy",
    "question": "Does width matter?",
    "detector": "tests.toy:TOY",
    "data": "shapes",
    "set": {
        "data.shapes.train_images": 8,
        "data.shapes.val_images": 4,
        "data.shapes.size": 64,
        "data.shapes.classes": 6,
        "recipe.epochs": 2,
        "recipe.batch_size": 8,
        "recipe.workers": 0,
        "recipe.validate_every": 1,
        "latency.seconds": 0.2,
        "latency.warmup_seconds": 0.1,
        "latency.images": 2,
        "latency.threads": 1,
        "latency.together_seconds": 0,
    },
    "recipe": "smoke",
    "measure": ["complexity", "latency", "accuracy"],
    "sweep": {"detector.width": [4, 8]},
    "seeds": [0],
}
TOGETHER: dict[str, Any] = {**TOY["set"], "latency.together_seconds": 1.5}
"""What is set where a study's trials are to be timed together at its end; it takes seconds."""


def figures(result: Record) -> dict[str, float]:
    """Return the metrics that are the same each time that a trial is run: but its speed."""
    return {name: value for name, value in result.metrics.items() if name not in OF_TRAINING}


def write(folder: Path, **changes: Any) -> Path:
    """Write the toy study with some keys replaced; None takes a key out."""
    tree = {key: value for key, value in {**TOY, **changes}.items() if value is not None}
    file = folder / "toy.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return file
