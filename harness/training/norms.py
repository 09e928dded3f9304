"""Norms that came folded into convolutions: how they get statistics before a training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

import detectors
from detectors.interface import Detector
from harness.data import Split, normalize, val_loader

IMAGES, BATCH_SIZE = 256, 8  # looked at, spread over the split


def restore(detector: Detector, split: Split, device: torch.device) -> int:
    """Give folded norms statistics of training images, without augmentation.

    All processes of a training look at the same images, and so come to the same norms.

    Args:
        detector: on its device; what it computes in eval mode stays as it is.
        split: to be trained on.
        device: of the detector.

    Returns:
        How many norms were folded; most often none, and then no image is read.
    """
    if not detectors.folded_norms(detector):
        return 0
    chosen = np.unique(np.linspace(0, len(split) - 1, min(IMAGES, len(split))).round().astype(int))
    some = replace(
        split,
        images=tuple(split.images[index] for index in chosen),
        annotations=split.annotations.select(chosen),
    )
    input = detector.config.input
    batches = val_loader(some, input, BATCH_SIZE, workers=0)
    return detectors.restore_norms(
        detector, (normalize(batch.images.to(device), input) for batch in batches)
    )
