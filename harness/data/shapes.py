"""The data set `shapes`: scenes rendered from a seed, written once to the cache folder."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from filelock import FileLock

from harness.config.data import DataError, ShapesConfig, cache_dir
from harness.data.scenes import CLASSES, Scene, draw
from harness.records import digest, source

VERSION = 1  # counts up whenever the same config would draw something else
QUALITY = 90  # of the JPEG files


def folder(config: ShapesConfig) -> Path:
    """Return the folder of these scenes, rendered on the first call.

    It is in COCO layout. It appears whole or not at all; of several processes one renders and the
    others wait.

    Raises:
        DataError: the cache folder cannot be written.
    """
    root = cache_dir() / "shapes"
    drawn = {"version": VERSION, "quality": QUALITY, "code": _code(), **config.model_dump()}
    name = digest(drawn, length=16)
    target = root / name
    if target.is_dir():
        return target
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{name}.lock"):
            if not target.is_dir():
                _render(config, root / f".{name}.partial").rename(target)
    except OSError as error:
        raise DataError(
            f"{root}: cannot write the rendered scenes ({error}); set DETBENCH_CACHE to a folder"
            " with room"
        ) from error
    return target


def render(config: ShapesConfig, split: str, index: int) -> Scene:
    """Draw one scene; a function of the config, the split and the index alone."""
    stream = ("train", "val").index(split)
    return draw(config, np.random.default_rng([config.seed, stream, index]))


@cache
def _code() -> str:
    """Return the hash of what draws: changed code draws anew, and the bytes decide what follows."""
    here = Path(__file__)
    return source.fingerprint(here, here.with_name("scenes.py"))


def _render(config: ShapesConfig, target: Path) -> Path:
    """Write both splits into a folder, after removing what an interrupted call left there."""
    shutil.rmtree(target, ignore_errors=True)
    (target / "annotations").mkdir(parents=True)
    for split, count in (("train", config.train_images), ("val", config.val_images)):
        (target / split).mkdir()
        document = _write_split(config, split, count, target / split)
        file = target / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps(document), encoding="utf-8")
    return target


def _write_split(config: ShapesConfig, split: str, count: int, target: Path) -> dict[str, Any]:
    """Write the images of a split and return its annotations in COCO's format."""
    names = list(CLASSES)[: config.classes]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        scene = render(config, split, index)
        image_id, file_name = index + 1, f"{index:06d}.jpg"
        (target / file_name).write_bytes(_jpeg(scene))
        size = {"height": config.size, "width": config.size}
        images.append({"id": image_id, "file_name": file_name, **size})
        annotations += _objects(scene, image_id, len(annotations) + 1)
    return {
        "info": {"description": "shapes", "version": VERSION, "config": config.model_dump()},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(names)],
    }


def _objects(scene: Scene, image_id: int, first_id: int) -> list[dict[str, Any]]:
    """Return a scene's annotations in COCO's format."""
    rows = zip(scene.boxes.tolist(), scene.labels.tolist(), scene.areas.tolist(), strict=True)
    return [
        {
            "id": first_id + i,
            "image_id": image_id,
            "category_id": label + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": area,
            "iscrowd": 0,
        }
        for i, ((x1, y1, x2, y2), label, area) in enumerate(rows)
    ]


def _jpeg(scene: Scene) -> bytes:
    done, data = cv2.imencode(".jpg", scene.image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise DataError("OpenCV cannot write JPEG; install opencv-python-headless")
    return data.tobytes()
