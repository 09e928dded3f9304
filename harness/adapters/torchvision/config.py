"""The config of a detector of torchvision, and which there are; needs no torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from detectors import Release
from detectors.config import KnobError, out_of_result
from detectors.contract import InputConfig
from harness.adapters.foreign import Foreign
from harness.adapters.ready_config import ReadyConfig
from harness.adapters.torchvision.suppression_config import InsideConfig, PartedNMSConfig

IMAGENET: dict[str, Any] = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
FROZEN_EPS = 1e-5  # of a norm that does not learn, unless the released weights have another
COCO_LABELS = 91  # of torchvision's weights of COCO: the ids of its classes, gaps included


class Architecture(NamedTuple):
    """What torchvision's function of a name builds, and how it wants its input."""

    family: str  # fcos, retinanet, ssd or two_stage
    input: InputConfig
    postprocess: PartedNMSConfig | ReadyConfig
    norm_eps: float | None = None  # of norms that are frozen; None where norms learn


def _shortest(shortest: int = 800, longest: int = 1333) -> InputConfig:
    size = (shortest, longest)
    return InputConfig(size=size, resize="shortest_edge", pad_value="mean", **IMAGENET)


def _square(side: int, mean: tuple[float, ...], std: float) -> InputConfig:
    red, green, blue = mean
    return InputConfig(
        size=(side, side), resize="stretch", mean=(red, green, blue), std=(std, std, std)
    )


_RETINANET = PartedNMSConfig(0.05, 0.5, 1000, 300)
_READY = ReadyConfig(max_detections=100)
ARCHITECTURES: dict[str, Architecture] = {
    "fcos_resnet50_fpn": Architecture(
        "fcos", _shortest(), PartedNMSConfig(0.2, 0.6, 1000, 100), FROZEN_EPS
    ),
    "retinanet_resnet50_fpn": Architecture("retinanet", _shortest(), _RETINANET, 0.0),
    "retinanet_resnet50_fpn_v2": Architecture("retinanet", _shortest(), _RETINANET),
    "fasterrcnn_resnet50_fpn": Architecture("two_stage", _shortest(), _READY, 0.0),
    "fasterrcnn_resnet50_fpn_v2": Architecture("two_stage", _shortest(), _READY),
    "fasterrcnn_mobilenet_v3_large_fpn": Architecture("two_stage", _shortest(), _READY, FROZEN_EPS),
    "fasterrcnn_mobilenet_v3_large_320_fpn": Architecture(
        "two_stage", _shortest(320, 640), _READY, FROZEN_EPS
    ),
    "ssdlite320_mobilenet_v3_large": Architecture(
        "ssd",
        _square(320, (127.5, 127.5, 127.5), 127.5),
        PartedNMSConfig(0.001, 0.55, 300, 300, limited_by="class"),
    ),
    "ssd300_vgg16": Architecture(
        "ssd",
        _square(300, (122.99925, 116.9991, 103.9992), 1.0),
        PartedNMSConfig(0.01, 0.45, 400, 200, limited_by="class"),
    ),
}
"""Thresholds and sizes are the defaults of torchvision 0.29, which a test compares.

Norms that are frozen have 0 for their epsilon in two of them, since their released weights were
trained so (torchvision's `overwrite_eps`)."""


@dataclass(frozen=True)
class TorchvisionConfig(Foreign):
    """A detector that torchvision builds."""

    makes: ClassVar[str] = "harness.adapters.torchvision.detector:TorchvisionDetector"
    kind: ClassVar[str] = "torchvision"
    brings_weights: ClassVar[bool] = False

    source: str = out_of_result("")
    """Torchvision's name of it."""
    model: str = "fcos_resnet50_fpn"
    """Torchvision's name of it."""
    num_classes: int = COCO_LABELS
    """Labels that it tells apart as torchvision counts them: 0 is the background."""
    classes: tuple[str, ...] = ()
    """Names by label; none where the weights tell them, or nothing does."""
    norm_eps: float | None = None
    """Added to the variance in norms that do not learn; null where norms learn."""
    inside: InsideConfig = InsideConfig()
    """What goes on inside a two-stage detector."""
    input: InputConfig = InputConfig()
    """Input tensor."""
    postprocess: PartedNMSConfig | ReadyConfig = PartedNMSConfig()
    """What follows the network."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if self.num_classes < 2:
            raise ValueError("num_classes must be at least 2: label 0 is the background")
        if self.classes and len(self.classes) != self.num_classes:
            raise ValueError(f"{len(self.classes)} names for {self.num_classes} labels")

    def notes(self) -> tuple[str, ...]:
        """Say what the operations of a two-stage detector depend on."""
        if self.family != "two_stage":
            return ()
        return (
            f"{self.name}: operations of its second stage follow the number of proposals, at most"
            f" {self.inside.proposals} of an image; published counts are of few",
        )

    @property
    def family(self) -> str:
        """How its outputs are read."""
        return ARCHITECTURES[self.model].family

    @property
    def releases(self) -> Mapping[str, Release]:
        """Released weights by what they were trained on."""
        from torchvision.models import get_model_weights  # imports torch

        found = get_model_weights(self.model)["COCO_V1"]
        digits = re.fullmatch(r".*-([0-9a-f]{8,64})\.pth", found.url)
        return {"coco": Release(found.url, None if digits is None else digits[1])}


def read(name: str) -> TorchvisionConfig:
    """Return the config of a detector by torchvision's name.

    Raises:
        KnobError: there is none.
    """
    if name not in ARCHITECTURES:
        nearest = difflib.get_close_matches(name, ARCHITECTURES, n=1)
        hint = f"did you mean {nearest[0]}? " if nearest else ""
        known = ", ".join(ARCHITECTURES)
        raise KnobError(f"torchvision:{name}: no such detector; {hint}There is {known}.")
    found = ARCHITECTURES[name]
    return TorchvisionConfig(
        name, name, norm_eps=found.norm_eps, input=found.input, postprocess=found.postprocess
    )
