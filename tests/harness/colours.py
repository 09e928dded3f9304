"""A data set of coloured rectangles, and the detector that finds them, made by hand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import detectors
from detectors import weights
from detectors.interface import Detector

COLOURS = {"bolt": (220, 40, 40), "nut": (40, 220, 40), "washer": (40, 40, 220)}  # RGB
IDS = {"bolt": 1, "nut": 2, "washer": 3}
SIDE = 64


def write(
    folder: Path, ids: Mapping[str, int] = IDS, names: Mapping[str, str] | None = None
) -> Path:
    """Write both splits; pictures and boxes are the same whatever classes are called.

    Args:
        folder: is made.
        ids: of the colours above, of which some may be missing.
        names: what they are called in place of their own names.
    """
    for split, count in (("train", 4), ("val", 6)):
        rng = np.random.default_rng(count)
        (folder / split).mkdir(parents=True)
        boxes: list[dict[str, Any]] = []
        for image in range(count):
            picture = rng.integers(90, 140, (SIDE, SIDE, 3), np.uint8)
            for k, (name, colour) in enumerate(COLOURS.items()):
                x, y, w, h = 20 * k, *rng.integers(2, 30, 1), *rng.integers(15, 20 + 4 * k, 2)
                cv2.rectangle(picture, (x, y), (x + w, y + h), colour[::-1], -1)
                place = {"id": 3 * image + k + 1, "image_id": image + 1, "iscrowd": 0}
                box = {"bbox": [x, int(y), int(w), int(h)], "area": int(w * h)}
                if name in ids:
                    boxes.append({**place, **box, "category_id": ids[name]})
            cv2.imwrite(str(folder / split / f"{image}.png"), picture)
        sizes = {"height": SIDE, "width": SIDE}
        images = [{"id": 1 + k, "file_name": f"{k}.png", **sizes} for k in range(count)]
        classes = [{"id": key, "name": (names or {}).get(name, name)} for name, key in ids.items()]
        document = {"images": images, "annotations": boxes, "categories": classes}
        (folder / "annotations").mkdir(exist_ok=True)
        file = folder / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps(document), "utf-8")
    return folder


def finder(width: int = 4) -> Detector:
    """Make the toy detector that finds a rectangle of about 20 pixels where a colour is."""
    model = detectors.create("tests.toy:TOY", {"num_classes": 3, "width": width})
    state = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
    channels = range(3) if model.config.input.channels == "rgb" else range(3)[::-1]
    for k, channel in enumerate(channels):
        state["backbone.0.weight"][k] = -0.5 / 64
        state["backbone.0.weight"][k, channel] = 1 / 64
        state["head.predict.weight"][k, k] = 4.0
    state["head.predict.bias"][:3] = -4.0 + 0.1 * torch.arange(3)
    state["head.predict.bias"][3:] = float(np.log(10 / 8))
    model.load_state_dict(state)
    return model


def save(folder: Path, *, named: bool = True) -> Path:
    """Save that detector, with the names of its classes or, as older folders are, without."""
    return weights.save(finder(), folder, "tests.toy:TOY", list(COLOURS) if named else None)
