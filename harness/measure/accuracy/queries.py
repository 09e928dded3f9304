"""Query selection: how sure, and how well placed, the features are that become queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from detectors.interface import Detector, Outputs, SelectsQueries, Target
from harness.data import Split, Workers, loading_processes, normalize, val_loader
from harness.records.progress import OnProgress, Progress, ignore

SURE = 0.5  # a class score above it counts
PLACED = 0.5  # an overlap above it counts
NO_QUERIES = "the detector selects no features of its encoder to become queries"


class Queries(NamedTuple):
    """What a detector's selected features are worth."""

    metrics: dict[str, float]  # prop_cls, prop_both in [0, 1]
    details: dict[str, Any]  # the numbers that they are made of


class Counts(NamedTuple):
    """How many selected features there are, and how many of them are good."""

    selected: int
    sure: int  # with a class score above SURE
    both: int  # of these, with an overlap above PLACED

    def plus(self, other: Counts) -> Counts:
        """Return the counts of both."""
        return Counts(*(mine + more for mine, more in zip(self, other, strict=True)))


def measure(
    detector: Detector,
    split: Split,
    *,
    device: str,
    batch_size: int = 8,
    workers: Workers = "auto",
    on_progress: OnProgress = ignore,
) -> Queries | None:
    """Measure which shares of the selected features are sure, and sure and well placed.

    Args:
        detector: the original; it stays as it is.
        split: its objects, without crowd, are what boxes are compared with.
        device: `cpu`, `cuda` or `cuda:N`.
        batch_size: images at once; the results don't depend on it, but for rounding.
        workers: processes that load images, as in a recipe.
        on_progress: called after every batch, phase `queries`, counting images.

    Returns:
        None where the detector selects no queries.

    Source: RT-DETR, arXiv:2304.08069v3, sec. 5.3 and Table 4: "We compare the encoder features
    selected by the two query selection schemes on COCO val2017 and calculate the proportions of
    classification scores greater than 0.5 and both classification and IoU scores greater than 0.5,
    respectively." It prints 0.82 % and 0.67 % of all that are selected, 300 per image.
    Differs, perhaps: it does not say which object an IoU score is the overlap with; here it is the
    one that the box overlaps most, of any class.
    """
    deployed = detector.deploy().to(device)
    if not isinstance(deployed, SelectsQueries):
        return None
    config, found, done = detector.config.input, Counts(0, 0, 0), 0
    loading, together = loading_processes(workers, device), 1 if config.varies else batch_size
    for batch in val_loader(split, config, together, loading):
        with torch.no_grad():
            selected = deployed.selected(normalize(batch.images.to(device), config))
        found = found.plus(count(selected, batch.targets))
        done += len(batch.targets)
        on_progress(Progress("queries", done, len(split), {}))
    return Queries(shares(found), found._asdict())


def count(selected: Outputs, targets: Sequence[Target]) -> Counts:
    """Count the selected features of a batch.

    Args:
        selected: class logits and boxes of the features.
        targets: one per image.
    """
    from torchvision.ops import box_iou  # slow to import, and few studies ask for it

    sure = selected.scores().float().amax(-1) > SURE  # [B, Q]
    both = 0
    for boxes, kept, target in zip(selected.boxes, sure, targets, strict=True):
        if len(target.boxes):
            overlaps = box_iou(boxes[kept].float(), target.boxes.to(boxes.device))
            both += int((overlaps.amax(-1) > PLACED).sum())
    return Counts(sure.numel(), int(sure.sum()), both)


def shares(counts: Counts) -> dict[str, float]:
    """Return the metrics; none where nothing was selected."""
    if not counts.selected:
        return {}
    return {"prop_cls": counts.sure / counts.selected, "prop_both": counts.both / counts.selected}
