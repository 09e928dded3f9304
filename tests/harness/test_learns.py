"""It learns: a wrong loss, assigner, box format or class table could not do this."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

import detectors
from harness import data, recipe
from harness.data.coco import take
from harness.evaluate import evaluate
from harness.train import train

SIDE = 256
STEPS = 240


@pytest.mark.slow
def test_a_tiny_rtmdet_fits_eight_photographs(shared: Path) -> None:
    """Eight photographs of at most six objects, none narrower than 20 pixels of the input."""
    photographs = data.load(data.DataConfig(source=str(shared / "data" / "coco_mini")))
    split = photographs.train
    eight = take(split, np.array([i for i in range(len(split)) if clear(split, i)][:8]))
    torch.manual_seed(0)
    detector = detectors.create(
        "rtmdet_tiny",
        {
            "backbone.width_mult": 0.25,
            "head.exp_on_reg": True,
            "input.size": [SIDE, SIDE],
            "num_classes": len(photographs.categories),
        },
    )
    settings = {"epochs": STEPS, "lr": 0.003, "workers": 0, "validate_every": STEPS}
    settings |= {"augment.flip": 0.0, "weight_decay": 0.0, "ema_decay": None}
    start = time.perf_counter()
    only = data.DataSet(photographs.name, eight, eight, photographs.fingerprint)
    train(detector, only, recipe.load("smoke", settings), seed=0, device="cpu")
    found = evaluate(detector, eight, device="cpu", workers=0).metrics
    print(f"mAP {found['mAP']:.3f} after {STEPS} steps, {time.perf_counter() - start:.0f} s")
    assert found["mAP"] >= 0.8


def clear(split: data.Split, index: int) -> bool:
    boxes, _ = split.objects(index)
    image = split.images[index]
    scale = SIDE / max(image.height, image.width)
    return 1 <= len(boxes) <= 6 and bool((boxes[:, 2:] - boxes[:, :2]).min() * scale >= 20)
