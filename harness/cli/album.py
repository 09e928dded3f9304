"""The pictures that `detbench predict` writes, and what it says of each photograph."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2

from harness.cli.drawing import Box, Pixels, beside, colours, draw
from harness.data import Category
from harness.data.photographs import Chunk

PICTURES = "pictures"
QUALITY = 90  # of a picture's JPEG
LONGEST = 200  # bytes of a picture's name, without its ending

Results = Sequence[Mapping[str, Any]]  # COCO results


class Album:
    """Draws photographs one after another into a folder."""

    def __init__(
        self,
        folder: Path,
        titles: Sequence[str],
        categories: Sequence[Category],
        score: float | None,
    ) -> None:
        """Make a folder for pictures.

        Args:
            folder: holds nothing yet.
            titles: of the models, of which there are one or two.
            categories: all classes that may be found.
            score: boxes below are not drawn; None draws nothing.
        """
        self.titles, self.score = titles, score
        self.unreadable: list[str] = []
        self._folder, self._categories = folder, categories
        self._names = {item.id: item.name for item in categories}
        self._colours = dict(zip(self._names, colours(len(categories)), strict=True))
        self._images: list[dict[str, Any]] = []
        self._drawn = 0
        self._taken: set[str] = set()
        if score is not None:
            (folder / PICTURES).mkdir()

    def take(self, chunk: Chunk, found: Sequence[Results]) -> None:
        """Draw a few photographs, with what each model found there."""
        self.unreadable += chunk.unreadable
        for image, pixels in zip(chunk.split.images, chunk.split.pixels, strict=True):
            row: dict[str, Any] = image._asdict()
            if self.score is not None:
                own = [[item for item in rows if item["image_id"] == image.id] for rows in found]
                row["picture"] = f"{PICTURES}/{self._free_name(Path(image.file_name))}"
                self._write(self._folder / row["picture"], self._picture(pixels, own, self.score))
            self._images.append(row)

    def document(self) -> dict[str, Any]:
        """Return images and classes in COCO's format, for tools that need them to read results."""
        return {
            "info": {"models": list(self.titles), "unreadable": self.unreadable},
            "images": self._images,
            "annotations": [],
            "categories": [item._asdict() for item in self._categories],
        }

    def summary(self) -> dict[str, Any]:
        """Return how many photographs there were, and what else is to be said."""
        return {
            "images": len(self._images),
            "unreadable": self.unreadable,
            "classes": list(self._names.values()),
            "drawn": self._drawn,
        }

    def _picture(self, pixels: Pixels, found: Sequence[Results], score: float) -> Pixels:
        parts = []
        for rows in found:
            shown = [item for item in rows if item["score"] >= score]
            shown.sort(key=lambda item: -float(item["score"]))
            self._drawn += len(shown)
            parts.append(draw(pixels, [self._box(item) for item in shown]))
        if len(parts) == 1:
            return parts[0]
        return beside(parts[0], parts[1], (self.titles[0], self.titles[1]))

    def _box(self, item: Mapping[str, Any]) -> Box:
        key = item["category_id"]
        return Box(item["bbox"], f"{self._names[key]} {item['score']:.2f}", self._colours[key])

    def _free_name(self, file: Path) -> str:
        """Return a name that no other picture has, whatever the case of its letters."""
        stem = os.fsencode(file.stem)[:LONGEST].decode(errors="ignore") or "picture"
        names = (stem if k == 1 else f"{stem}-{k}" for k in range(1, len(self._taken) + 2))
        name = next(name for name in names if name.lower() not in self._taken)
        self._taken.add(name.lower())
        return f"{name}.jpg"

    @staticmethod
    def _write(path: Path, picture: Pixels) -> None:
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        path.write_bytes(data.tobytes())
