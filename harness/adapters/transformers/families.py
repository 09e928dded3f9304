"""Which detectors of transformers are known, and how their outputs are read; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from detectors.contract import InputConfig

Scores = Literal["sigmoid", "softmax"]
IMAGENET: dict[str, Any] = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}


class Family(NamedTuple):
    """The classes of the library for one architecture, and what comes out of it."""

    name: str  # how its classes begin, such as RTDetr
    input: InputConfig  # as the library's own image processor has it unless told otherwise
    scores: Scores = "sigmoid"  # of `softmax` the last class is that there is no object
    detections: int = 300  # most of an image, as the library's own processor has it
    of_queries: bool = True  # whether that is the number of queries, or of `detection_tokens`
    masked: bool = False  # whether it is told what of an input is padding
    timm: bool = False  # whether its backbone is timm's unless told otherwise
    settings: Mapping[str, Any] = {}  # without which the library's own config makes no detector


def _shortest(**more: Any) -> InputConfig:
    return InputConfig(
        size=(800, 1333), resize="shortest_edge", interpolation="bilinear_antialias",
        pad_value="mean", pad_to=1, **IMAGENET, **more,
    )  # fmt: skip


def _square(side: int, **more: Any) -> InputConfig:
    return InputConfig(
        size=(side, side), resize="stretch", interpolation="bilinear_antialias", **more
    )


FAMILIES: dict[str, Family] = {
    "detr": Family("Detr", _shortest(), "softmax", 100, masked=True, timm=True),
    "conditional_detr": Family(
        "ConditionalDetr", _shortest(), "sigmoid", 100, of_queries=False, masked=True, timm=True
    ),
    "deformable_detr": Family(
        "DeformableDetr", _shortest(), "sigmoid", 100, of_queries=False, masked=True, timm=True
    ),
    "yolos": Family("Yolos", _shortest(), "softmax", 100),
    "rt_detr": Family("RTDetr", _square(640)),
    "rt_detr_v2": Family("RTDetrV2", _square(640)),
    "d_fine": Family("DFine", _square(640)),
    "deimv2": Family("Deimv2", _square(640)),
    "lw_detr": Family(
        "LwDetr",
        _square(640, **IMAGENET),
        "sigmoid",
        100,
        of_queries=False,
        settings={"projector_scale_factors": [1.0]},
    ),
    "rf_detr": Family("RfDetr", _square(560, **IMAGENET)),
}
"""By `model_type`. LW-DETR's and RF-DETR's inputs are those of their papers' models, since the
processor that the library names for them has another family's."""
