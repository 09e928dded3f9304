"""Scenes and detectors that are drawn, so that the true difference between two is known."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis.compare.runs import Run
from harness.config.data import ShapesConfig
from harness.data import Category, Image, Split
from harness.data.dataset import Annotations
from harness.records import Record

SIDE = 256
SCENES = ShapesConfig(train_images=2, val_images=12, size=64)
KNOBS = {f"data.shapes.{name}": getattr(SCENES, name) for name in ("train_images", "val_images")}
CONFIG = {"data.source": "shapes", "data.shapes.size": 64, **KNOBS}
"""What a record says of trials on `SCENES`."""


def scenes(rng: np.random.Generator, images: int, classes: int = 4) -> Split:
    """Draw images with one to six objects of 10 to 120 pixels."""
    counts = rng.integers(1, 7, images)
    total = int(counts.sum())
    sides = np.exp(rng.uniform(np.log(10), np.log(120), (total, 2)))
    boxes = np.concatenate([rng.uniform(0, SIDE - sides), sides], axis=1)
    table = Annotations(
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        ids=np.arange(1, total + 1),
        labels=rng.integers(0, classes, total),
        boxes=boxes,
        areas=sides.prod(axis=1),
        crowd=np.zeros(total, bool),
        usable=np.ones(total, bool),
    )
    return Split(
        "val",
        Path("instances_val.json"),
        Path("val"),
        tuple(Category(1 + index, f"class {index}") for index in range(classes)),
        tuple(Image(1 + index, f"{index}.jpg", SIDE, SIDE) for index in range(images)),
        table,
    )


def detect(rng: np.random.Generator, split: Split, recall: float = 0.8) -> list[dict[str, Any]]:
    """Find a share of the objects, not quite where they are, and some that are not there."""
    truth = split.ground_truth()["annotations"]
    results = []
    for item in truth:
        if rng.random() < recall:
            results.append(_result(item, _moved(rng, item["bbox"]), rng.beta(5, 2)))
        if rng.random() < 0.4:
            results.append(_result(item, rng.uniform(5, 120, 4), rng.beta(2, 4)))
    return results


def _moved(rng: np.random.Generator, box: list[float]) -> NDArray[np.float64]:
    return np.array(box) + rng.normal(0, 0.08, 4) * np.array([box[2], box[3], box[2], box[3]])


def _result(item: dict[str, Any], box: NDArray[np.float64], confidence: float) -> dict[str, Any]:
    place = {key: item[key] for key in ("image_id", "category_id")}
    return {**place, "bbox": np.abs(box).tolist(), "score": float(confidence)}


def run(detections: list[dict[str, Any]], seed: int = 0, **fields: Any) -> Run:
    """Return a finished trial that found this."""
    known = {
        "study": "drawn", "trial": f"{seed:012x}", "name": "baseline", "detector": "toy",
        "overrides": {}, "config": {}, "seed": seed, "state": "done", "protocol_hash": "p",
        "data": {"fingerprint": "f"}, "artifacts": {"detections": "detections.npz"},
    }  # fmt: skip
    return Run(Path(f"{seed:012x}"), Record.model_validate(known | fields), detections)
