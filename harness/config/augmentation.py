"""Knobs of what happens to a training image."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, model_validator

from harness.config.settings import Settings


class Mosaic(Settings):
    """Four images on one canvas of twice the input's size.

    Source: RTMDet, arXiv:2212.07784, sec. 3.4, for the cache.
    """

    probability: float = Field(default=1.0, ge=0, le=1)
    """Share of images that get three partners."""
    cached: bool = True
    """Whether partners come from the images seen lately, instead of from the whole split."""
    cache_size: int = Field(default=40, ge=5)
    """Images seen lately among which partners are drawn; below five there would be no Mosaic."""
    eviction: Literal["random", "fifo"] = "random"
    """Which image leaves a full cache: any, or the oldest."""
    center: tuple[float, float] = (0.5, 1.5)
    """Range of the point where the four meet, against the input's size."""

    @model_validator(mode="after")
    def _center_on_canvas(self) -> Mosaic:
        if not 0 < self.center[0] <= self.center[1] < 2:
            raise ValueError(f"center: expected 0 < low <= high < 2, got {list(self.center)}")
        return self


class MixUp(Settings):
    """A second image, all other steps done, blended half and half.

    Source: RTMDet, arXiv:2212.07784, sec. 3.4, for the cache.
    """

    probability: float = Field(default=1.0, ge=0, le=1)
    """Share of images that get a partner."""
    cached: bool = True
    """Whether partners come from the images made lately, instead of being made anew."""
    cache_size: int = Field(default=20, ge=2)
    """Images made lately among which partners are drawn."""
    eviction: Literal["random", "fifo"] = "random"
    """Which image leaves a full cache: any, or the oldest."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability that the partner is mirrored."""


class ZoomOut(Settings):
    """A larger canvas with the image somewhere on it."""

    probability: float = Field(default=0.5, ge=0, le=1)
    """Share of images that it happens to."""
    largest: float = Field(default=4.0, ge=1)
    """Largest side of the canvas against the image's; drawn evenly from 1."""
    fill: int = Field(default=0, ge=0, le=255)
    """Value of the canvas, all channels."""


class IoUCrop(Settings):
    """A part of the image that overlaps with some object by at least a share drawn for it."""

    probability: float = Field(default=0.8, ge=0, le=1)
    """Share of images that it happens to; of these one in seven stays whole."""
    scale: tuple[float, float] = (0.3, 1.0)
    """Range of each side against the image's."""
    aspect: tuple[float, float] = (0.5, 2.0)
    """Range of the part's ratio of width to height."""


class Augment(Settings):
    """What happens to a training image, in this order; absent steps are null."""

    distort: float = Field(default=0.0, ge=0, le=1)
    """Probability of each photometric distortion: brightness, contrast, saturation, hue, order."""
    zoom_out: ZoomOut | None = None
    """Show the image small on a larger canvas."""
    iou_crop: IoUCrop | None = None
    """Show a part with an object."""
    mosaic: Mosaic | None = None
    """Put four images on a canvas of twice the input's size."""
    resize_range: tuple[PositiveFloat, PositiveFloat] | None = None
    """Random scale against the input's size, with Mosaic against twice that; then a random crop."""
    hsv: tuple[float, float, float] | None = None
    """Largest random shift of hue, saturation and value (of 180, 256, 256), each with p 0.5."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability of a horizontal flip."""
    mixup: MixUp | None = None
    """Blend in a second image."""
    multi_scale: tuple[PositiveFloat, ...] | None = None
    """Sizes against the input's, one drawn a batch, rounded to 32 pixels; nearest pixels."""

    @model_validator(mode="after")
    def _goes_together(self) -> Augment:
        low, high = self.resize_range or (1.0, 1.0)
        if low > high:
            raise ValueError(f"resize_range: expected [low, high], got {[low, high]}")
        if self.mosaic and not self.resize_range:
            raise ValueError("mosaic: needs resize_range, which cuts the input out of it")
        if self.resize_range and (self.zoom_out or self.iou_crop):
            raise ValueError("zoom_out, iou_crop: need the fit; set resize_range to null")
        if self.multi_scale == ():
            raise ValueError("multi_scale: expected at least one size; null for none")
        return self
