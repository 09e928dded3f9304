"""The gate: only a runtime that predicts what eager torch does in float32 has a latency."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from detectors.interface import Detections, Detector
from harness.config.runtime import RuntimeConfig
from harness.data import Split
from harness.measure.accuracy import evaluate
from harness.measure.inputs import Inputs
from harness.measure.runtimes import agreement
from harness.measure.runtimes.agreement import TOLERANCES
from harness.measure.runtimes.runtime import Runtime
from harness.measure.runtimes.torched import eager

MAP_TOLERANCE = 0.002  # difference of mAP on the same images that a runtime may make
IMAGES = 100  # of a split, from the first on, that mAP is compared on
UNTRAINED = "the detector is untrained, and equal mAP would say nothing"
NO_IMAGES = "no images with ground truth were given"


class Verdict(NamedTuple):
    """Whether a runtime's latency may be published."""

    passed: bool
    sentence: str
    figures: dict[str, float]
    absent: dict[str, str]  # figures that there are none of, and why


def gate(
    runtime: Runtime,
    detector: Detector,
    inputs: Sequence[Inputs],
    split: Split | None,
    *,
    device: str,
    trained: bool = True,
) -> Verdict:
    """Compare a runtime with eager torch in float32: its predictions, and its mAP.

    Args:
        runtime: prepared, for inputs of this shape.
        detector: the original.
        inputs: images that predictions are compared on; in float32, anywhere.
        split: its first images are those that mAP is compared on; None for none.
        device: where the runtime runs, as torch spells it.
        trained: whether the detector's mAP means anything.
    """
    reference = eager(detector, inputs, RuntimeConfig(), device)
    found = agreement.compare(_pairs(reference, runtime), TOLERANCES[runtime.config.precision])
    figures = {
        "compared": found.compared,
        "apart": found.apart,
        "logits_difference": found.logits,
        "boxes_difference": found.boxes,
        "logits_difference_median": found.typical_logits,
        "boxes_difference_median": found.typical_boxes,
    }
    if not found.holds:
        sentence = f"{_title(runtime)} predicts something else than eager fp32: {found}"
        return Verdict(False, sentence, figures, {"mAP_difference": "predictions differ already"})
    if split is None or not trained:
        reason = NO_IMAGES if split is None else UNTRAINED
        sentence = f"{_title(runtime)} predicts what eager fp32 does: {found}; no mAP: {reason}"
        return Verdict(True, sentence, figures, {"mAP_difference": reason})
    return _by_accuracy(reference, runtime, detector, split, device, figures)


def _by_accuracy(
    reference: Runtime,
    runtime: Runtime,
    detector: Detector,
    split: Split,
    device: str,
    figures: dict[str, float],
) -> Verdict:
    """Compare the mAP of two runtimes on the same images."""
    part = first(split, IMAGES)
    scores = []
    for each in (reference, runtime):
        stand_in: Any = _StandIn(each, detector)
        batch = len(each.inputs[0].images)
        result = evaluate.evaluate(stand_in, part, device=device, batch_size=batch, workers=0)
        scores.append(result.metrics.get("mAP"))
    before, after = scores
    if before is None or after is None:
        reason = "the images hold no objects"
        sentence = f"{_title(runtime)} predicts what eager fp32 does; no mAP: {reason}"
        return Verdict(True, sentence, figures, {"mAP_difference": reason})
    difference = after - before
    figures |= {"mAP": after, "mAP_reference": before, "mAP_difference": difference}
    passed = abs(difference) <= MAP_TOLERANCE
    verb = "agrees with" if passed else "differs from"
    sentence = (
        f"{_title(runtime)} {verb} eager fp32: mAP {after:.4f} against {before:.4f} on "
        f"{len(part)} images, {difference:+.4f}, where {MAP_TOLERANCE} is allowed"
    )
    return Verdict(passed, sentence, figures, {})


def _title(runtime: Runtime) -> str:
    return f"{runtime.config.runtime} {runtime.config.precision}"


def _pairs(reference: Runtime, other: Runtime) -> Iterator[tuple[Any, Any]]:
    """Yield the outputs of both for the same images; each is used before the next is made."""
    for ours, theirs in zip(reference.inputs, other.inputs, strict=True):
        with reference.active():
            expected = reference.network(ours.images)
        with other.active():
            found = other.network(theirs.images)
        yield expected, found


def first(split: Split, count: int) -> Split:
    """Return the first images of a split."""
    count = min(count, len(split))
    return dataclasses.replace(
        split,
        images=tuple(islice(split.images, count)),
        annotations=split.annotations.select(np.arange(count)),
    )


class _StandIn:
    """A runtime in the place of a detector that is evaluated."""

    def __init__(self, runtime: Runtime, detector: Detector) -> None:
        self.runtime = runtime
        self.config = detector.config

    def deploy(self) -> _StandIn:
        """Return itself: a runtime is deployed."""
        return self

    def to(self, device: str) -> _StandIn:
        """Return itself: a runtime has its place."""
        return self

    def detect(self, images: Tensor, sizes: Tensor) -> list[Detections]:
        """Find objects in images in float32, at most as many as the runtime was made for."""
        like, count = self.runtime.inputs[0].images, len(images)
        rows = torch.arange(len(like), device=images.device) % count
        layout = (
            torch.channels_last if self.runtime.config.channels_last else torch.contiguous_format
        )
        filled = images[rows].to(like.dtype).contiguous(memory_format=layout)
        with self.runtime.active():
            found = self.runtime.detect(filled, sizes[rows])[:count]
            return [Detections(*(part.clone() for part in each)) for each in found]
