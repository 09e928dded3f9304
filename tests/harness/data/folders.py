"""Small data sets in COCO layout, written on the spot."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]


def box(key: int, image: int, bbox: list[float], category: int = 3, **more: Any) -> dict[str, Any]:
    return {"id": key, "image_id": image, "category_id": category, "bbox": bbox, **more}


def document(images: int = 3, first: int = 0) -> dict[str, Any]:
    """Return annotations with one dog an image; sizes differ."""
    return {
        "images": [
            {"id": first + k, "file_name": f"{first + k}.png", "height": 40 + k, "width": 60}
            for k in range(images)
        ],
        "annotations": [box(first + k + 1, first + k, [10, 5, 20, 10]) for k in range(images)],
        "categories": CATEGORIES,
    }


def write(
    folder: Path, train: dict[str, Any] | None = None, val: dict[str, Any] | None = None
) -> Path:
    """Write both splits, every image filled with noise of its own."""
    for name, content in (("train", train or document()), ("val", val or document(2, first=50))):
        write_annotations(folder, name, content)
        (folder / name).mkdir(exist_ok=True)
        for image in content["images"]:
            noise = np.random.default_rng(image["id"])
            pixels = noise.integers(0, 256, (image["height"], image["width"], 3), np.uint8)
            cv2.imwrite(str(folder / name / image["file_name"]), pixels)
    return folder


def write_annotations(folder: Path, name: str, content: Any) -> None:
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "annotations" / f"instances_{name}.json").write_text(json.dumps(content), "utf-8")


def jpeg_on_its_side(pixels: np.ndarray) -> bytes:
    """Encode with the camera's tag that says: turn by 90 degrees."""
    tag = (
        b"\xff\xe1\x00\x22Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01"
        b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    )
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    return data[:2] + tag + data[2:]
