"""Which images a study trains and evaluates on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import Field, PositiveInt, field_validator, model_validator

from harness.config.settings import Settings

SHAPES = "shapes"
COCO2017 = "coco2017"
SHORTEST = 5  # pixels of an object of `shapes`, so that its class can be seen


class DataError(ValueError):
    """A data set that cannot be used as it is."""


class ShapesConfig(Settings):
    """The scenes that are rendered on the spot when `data` is `shapes`."""

    train_images: PositiveInt = 800
    """Scenes to train on."""
    val_images: PositiveInt = 200
    """Scenes to evaluate on; none of them is a training scene."""
    size: int = Field(default=128, ge=64, le=2048)
    """Height and width of a scene, pixels."""
    seed: int = Field(default=0, ge=0)
    """Chooses the scenes; the same seed gives the same bytes."""
    classes: int = Field(default=4, ge=1, le=6)
    """The first so many of triangle, star, ellipse, ring, cross, zigzag."""
    objects: tuple[PositiveInt, PositiveInt] = (4, 8)
    """Fewest and most objects a scene."""
    sides: tuple[float, float] = (0.15, 0.45)
    """Shortest and longest side of an object against the scene's, drawn evenly in the logarithm."""
    clutter: float = Field(default=0.3, ge=0, le=1)
    """How busy the background is: 0 is a smooth gradient."""
    hidden: float = Field(default=0.2, ge=0, lt=1)
    """Largest share of an object that others or the border may hide."""
    noise: float = Field(default=6.0, ge=0)
    """Standard deviation of the sensor noise, of 255."""

    @model_validator(mode="after")
    def _possible(self) -> ShapesConfig:
        if self.objects[0] > self.objects[1]:
            raise ValueError(f"objects: expected [fewest, most], got {list(self.objects)}")
        if not SHORTEST <= self.sides[0] * self.size <= self.sides[1] * self.size <= self.size:
            raise ValueError(
                f"sides: expected [shortest, longest], at most 1 and at least {SHORTEST} of"
                f" {self.size} pixels, got {list(self.sides)}"
            )
        return self


class DataConfig(Settings):
    """The data set and how much of it is used."""

    source: str = SHAPES
    """`shapes` (rendered on the spot), `coco2017`, or a folder in COCO layout."""
    max_train_images: PositiveInt | None = None
    """Train on so many images, spread evenly over the split; null for all."""
    max_val_images: PositiveInt | None = None
    """Evaluate on so many images, spread evenly over the split; null for all."""
    filter_empty: bool = True
    """Train without images that have no usable box or a side below 32 pixels, as RTMDet does."""
    where: dict[str, str | int | float | bool] = {}
    """Use only images whose entries in the annotation file have these fields with these values,
    as in {coco_split: val2017}; of all splits. Empty for all images."""
    shapes: ShapesConfig = ShapesConfig()
    """The scenes of `shapes`."""

    @field_validator("where", mode="before")
    @classmethod
    def _fields_with_values(cls, where: Any) -> Any:
        if isinstance(where, Mapping):
            for field, value in where.items():
                if not isinstance(field, str) or not isinstance(value, str | int | float | bool):
                    raise ValueError(
                        "expected fields with a text, a number, true or false each, as in"
                        " {coco_split: val2017}"
                    )
        return where

    def __hash__(self) -> int:
        """Hash the values; `where` has no hash of its own."""
        return hash(self.model_dump_json())


def cache_dir() -> Path:
    """Return the folder for what can be made again: $DETBENCH_CACHE or the user's cache folder."""
    named = os.environ.get("DETBENCH_CACHE")
    if named:
        return Path(named)
    try:
        return Path(platformdirs.user_cache_dir("detbench"))
    except RuntimeError as error:  # neither $HOME nor an entry in the system's list of users
        raise DataError(
            "this user has no home folder to keep pictures in; name a folder in $DETBENCH_CACHE"
        ) from error


def coco2017_place() -> Path:
    """Return where COCO 2017 lies, or will: $DETBENCH_COCO or ./data/coco."""
    return Path(os.environ.get("DETBENCH_COCO") or Path("data", "coco"))


def coco2017_folder() -> Path:
    """Return where COCO 2017 lies.

    Raises:
        DataError: there is no such folder.
    """
    folder = coco2017_place()
    if not folder.is_dir():
        named = os.environ.get("DETBENCH_COCO")
        where = f"$DETBENCH_COCO names {folder}, which" if named else f"{folder}"
        raise DataError(
            f"{COCO2017}: {where} is no folder; get it with `detbench data get {COCO2017}`, set"
            " DETBENCH_COCO to the folder that holds annotations/, train2017/ and val2017/, or name"
            " another data set with --data"
        )
    return folder
