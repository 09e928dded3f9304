"""Train once undisturbed and once killed at random steps, and leave both results in files.

Every attempt is a process of its own, forked from one that has computed nothing.

    python -m tests.harness.training.killed DETECTOR WORKERS MINUTES SEED FOLDER
"""

import os
import random
import signal
import sys
from pathlib import Path

import lightning_fabric  # noqa: F401 (here once, not in every attempt)
import torch
from torch import nn

import detectors
from detectors.interface import Detector, InputConfig
from harness.config.data import DataConfig
from harness.config.recipe import Recipe
from harness.data import DataSet, load
from harness.records.progress import Progress
from harness.training.train import train
from tests.toy import ToyConfig

EPOCHS, STEPS = 3, 4  # of an epoch
SCENES = {"train_images": 17, "val_images": 2, "size": 64, "sides": [0.2, 0.6], "objects": [1, 2]}


def build(name: str) -> Detector:
    torch.manual_seed(0)
    if name == "toy":
        detector = ToyConfig(input=InputConfig(size=(64, 64))).build()
        detector.backbone.append(nn.Sequential(nn.BatchNorm2d(8), nn.Dropout(0.2)))
        return detector
    knobs = {"backbone.width_mult": 0.125, "input.size": [64, 64], "num_classes": 6}
    return detectors.create("rtmdet_tiny", knobs)


def recipe(workers: int, minutes: float) -> Recipe:
    return Recipe.model_validate(
        {
            "epochs": EPOCHS,
            "batch_size": 4,
            "accumulate": 2,
            "lr": 0.002,
            "warmup_steps": 3,
            "ema_decay": 0.9,
            "ema_ramp": 3,
            "workers": workers,
            "checkpoint_minutes": minutes,
            "augment": {"resize_range": [0.5, 2.0], "hsv": [5, 30, 30], "flip": 0.5},
        }
    )


def attempt(
    name: str, data: DataSet, how: Recipe, folder: Path, result: Path, fatal: int | None
) -> bool:
    """Train in a process of its own, which dies after a step; say whether it got through."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0

    def die(progress: Progress) -> None:
        if progress.done == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    detector = build(name)
    torch.manual_seed(1)  # what a resumed process has drawn before does not matter
    training = train(
        detector,
        data,
        how,
        seed=3,
        device="cpu",
        on_progress=die,
        validate=lambda model: {"mAP": float(next(model.parameters()).sum())},
        checkpoint=folder,
    )
    rows = [
        {key: row[key] for key in row if key not in ("time", "images_per_second")}
        for row in training.curves
    ]
    torch.save({"weights": detector.state_dict(), "curves": rows}, result)
    os._exit(0)


def main(name: str, workers: str, minutes: str, seed: str, out: str) -> None:
    how, folder = recipe(int(workers), float(minutes)), Path(out)
    data = load(DataConfig.model_validate({"source": "shapes", "shapes": SCENES}))
    assert attempt(name, data, how, folder / "whole", folder / "whole.pt", None)
    fatal = sorted(random.Random(int(seed)).sample(range(1, EPOCHS * STEPS + 1), 3))
    for step in fatal:
        assert not attempt(name, data, how, folder / "killed", folder / "killed.pt", step)
    assert attempt(name, data, how, folder / "killed", folder / "killed.pt", None)
    print(f"killed after steps {fatal}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
