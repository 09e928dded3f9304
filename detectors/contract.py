"""What of the contract needs no torch: what configs say, and how they find what they describe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pkgutil import resolve_name
from typing import Any, ClassVar, Literal, NamedTuple

from detectors.config import added_later

STAGES = ("backbone", "neck", "head", "postprocess")
PACKAGES = ("detectors", "harness")  # whose configs may have a `kind`
BACKGROUND = -1  # of a prediction that has to find nothing
IGNORED = -2  # of a prediction that no loss looks at


class WeightsError(ValueError):
    """Weights that cannot be read, or that do not fit the detector."""


class Tuning(NamedTuple):
    """How a published detector trains a backbone that starts from weights.

    A backbone's config may have one as `tuning`; knobs that are `auto` take its values then. The
    defaults are those of a backbone that starts from nothing: all of it learns.
    """

    freeze_norm: bool = False  # whether no norm learns
    frozen_stages: int = 0  # parts that don't learn, the stem first
    lr: float = 1.0  # share of the learning rate


@dataclass(frozen=True)
class InputConfig:
    """How a photograph becomes the tensor a detector expects."""

    size: tuple[int, int] = (640, 640)
    """Height and width of the input, pixels; multiples of the detector's `size_divisor`. Under
    `shortest_edge`: the shortest side, and what the longest is at most."""
    train_size: tuple[int, int] | None = None
    """Height and width in training, pixels, where they are not `size`; null where they are. Once it
    is set, `size` acts only at inference, and variants that differ in it share one training."""
    resize: Literal["letterbox", "stretch", "shortest_edge"] = "letterbox"
    """`letterbox` keeps the aspect ratio and pads right and bottom; `stretch` fills the input;
    `shortest_edge` keeps the aspect ratio, too, and the input is as large as the photograph then
    is, padded right and bottom to multiples of `pad_to`; a batch is as large as its largest."""
    interpolation: Literal["linear", "area", "bilinear_antialias", "cubic"] = added_later("linear")
    """How pixels are resized: `linear`, `area` and `cubic` as OpenCV does; `bilinear_antialias` as
    Pillow's BILINEAR does, which averages over more pixels where an image becomes smaller."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Subtracted from pixel values in 0..255, in the order of `channels`."""
    std: tuple[float, float, float] = (255.0, 255.0, 255.0)
    """Divides pixel values after the mean is subtracted, in the order of `channels`."""
    channels: Literal["rgb", "bgr"] = "rgb"
    """Order of the colour channels."""
    pad_value: int | Literal["mean"] = 114
    """Pixel value of the padding, before normalisation; `mean` is that of each channel, rounded."""
    pad_to: int = added_later(32)
    """Under `shortest_edge`, height and width of the input are multiples of it, pixels."""

    def __post_init__(self) -> None:
        """Refuse sizes that no photograph can have."""
        if self.pad_to < 1:
            raise ValueError(f"pad_to is {self.pad_to}; use 1 or more, pixels")
        if self.resize == "shortest_edge" and self.size[0] > self.size[1]:
            raise ValueError(
                f"size {self.size[0]}, {self.size[1]} of shortest_edge is the shortest side and"
                " what the longest is at most; put the smaller one first"
            )

    @property
    def varies(self) -> bool:
        """Whether the input is as large as its photograph makes it."""
        return self.resize == "shortest_edge"

    @property
    def largest(self) -> tuple[int, int]:
        """Height and width of the input; of `shortest_edge`, of the largest that lies flat."""
        return self.padded(self.size) if self.varies else self.size

    @property
    def padding(self) -> tuple[int, int, int]:
        """Pixel value of the padding in each of `channels`."""
        if self.pad_value != "mean":
            return (self.pad_value,) * 3
        red, green, blue = (min(max(round(value), 0), 255) for value in self.mean)
        return red, green, blue

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size of the input that holds an image of a size, under `shortest_edge`."""
        height, width = (-(-side // self.pad_to) * self.pad_to for side in size)
        return height, width

    def as_trained(self) -> InputConfig:
        """Return what the input looks like in training."""
        if self.train_size is None:
            return self
        return replace(self, size=self.train_size, train_size=None)

    def check_size(self, divisor: int) -> None:
        """Refuse a size that is no multiple of a detector's `size_divisor`.

        Raises:
            ValueError: names the nearest sizes that would do.
        """
        if self.varies and self.pad_to % divisor:
            raise ValueError(f"pad_to {self.pad_to} is no multiple of {divisor}; use {divisor}")
        sizes = () if self.varies else self.size
        for length in (*sizes, *(self.train_size or ())):
            if length < divisor or length % divisor:
                below = max(length // divisor, 1) * divisor
                raise ValueError(
                    f"input size {length} is no multiple of {divisor}; "
                    f"use {below} or {below + divisor}"
                )


class Built:
    """A config that names the class which is built from it, and so needs none of its imports.

    Models import torch, which takes seconds; what a study says is refused before that.
    """

    makes: ClassVar[str]  # module:class

    def build(self, *given: Any) -> Any:
        """Build it, with freshly initialised weights.

        Args:
            given: what it has to fit besides, such as the channels of its input.
        """
        return resolve_name(self.makes)(self, *given)


class Called:
    """A config that is called itself: it names the subclass of it that does the work."""

    makes: ClassVar[str]  # module:class

    def worker(self) -> Any:
        """Return the same as the subclass that does the work."""
        return resolve_name(self.makes)(**vars(self))

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Do what it is for; the subclass says how."""
        return self.worker()(*given, **named)


def kind_of(config: object) -> str:
    """Return what a detector's class is called in the hash of a result.

    Of this project that is the class's own `kind`, wherever it lies; of another, copies and classes
    that inherit from ours included, its module and name.
    """
    owner = type(config)
    if owner.__module__.partition(".")[0] in PACKAGES and "kind" in vars(owner):
        return str(vars(owner)["kind"])
    return f"{owner.__module__}.{owner.__qualname__}"
