"""Two processes that share a batch train as one process does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detectors import weights
from harness import study
from harness.cli import train as trained
from harness.config.recipe import Recipe, RecipeError
from harness.measure.accuracy import detections
from harness.records import record
from harness.training import processes
from tests import lanes
from tests.harness.studies import figures
from tests.patience import HANG
from tests.toy import TOY

ROOT = Path(__file__).parents[3]
RECIPE = {
    "epochs": 3,
    "batch_size": 8,
    "accumulate": 2,
    "lr": 0.01,
    "warmup_steps": 2,
    "ema_decay": 0.9,
    "ema_ramp": 5,
    "clip_norm": 10,
    "validate_every": 1,
    "workers": 0,
    "augment": {"hsv": [5, 30, 30], "flip": 0.5},
}
SETS = [
    "data.shapes.train_images=19",
    "data.shapes.val_images=5",
    "data.shapes.size=64",
    "data.shapes.sides=[0.2, 0.6]",
    "detector.input.size=[64, 64]",
]


@pytest.mark.parametrize("frozen", lanes.split([[], ["backbone"]], [[]]))
def test_two_processes_have_the_curve_and_the_accuracy_of_one(
    tmp_path: Path, frozen: list[str]
) -> None:
    """The toy has no norms, whose statistics a CPU cannot share."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({**RECIPE, "frozen": frozen}), "utf-8")
    one, two = tmp_path / "one", tmp_path / "two"
    start = tmp_path / "start"
    weights.save(TOY.build(), start, "tests.toy:TOY", None)
    plan = study.single("tests.toy:TOY", str(recipe), "shapes", SETS, 3, str(start))
    assert trained.train(plan, one, "cpu", as_json=False) == 0
    options = ["--data", "shapes", "--recipe", recipe, "--seed", 3, "--out", two, "--json"]
    options += ["--weights", start]
    options += [word for change in SETS for word in ("--set", change)]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    launcher += ["--log-dir", str(tmp_path / "log")]
    command = ["-m", "harness.cli", "train", "tests.toy:TOY", *map(str, options)]
    done = subprocess.run(
        [sys.executable, *launcher, *command, "--device", "cpu"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        timeout=HANG,
        check=True,
    )
    first, second = record.read(one), record.read(two)
    assert json.loads(done.stdout)["metrics"] == second.metrics  # printed once
    scores = [sorted(item["score"] for item in detections.read(each)) for each in (one, two)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-4)
    # mAP depends on their order alone: two of nearly equal scores may change places
    assert figures(second) == pytest.approx(figures(first), abs=1e-3)
    assert len(first.curves) == len(second.curves) == 3
    for alone, shared in zip(first.curves, second.curves, strict=True):
        assert alone.keys() == shared.keys()
        for name in ("step", "lr", "loss", "loss_cls", "loss_bbox"):
            assert shared[name] == pytest.approx(alone[name], rel=1e-4)
    assert sorted(file.name for file in two.iterdir()) == sorted(
        file.name for file in one.iterdir()
    )
    given = weights.load(start, {"tests.toy:TOY"}).backbone.state_dict()
    for folder in (one, two):
        trained_to = weights.load(folder, {"tests.toy:TOY"}).backbone.state_dict()
        as_before = [torch.equal(trained_to[key], given[key]) for key in given]
        assert as_before == [bool(frozen)] * len(given)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend to be the second of two processes."""
    told = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("two")
def test_a_process_knows_its_place() -> None:
    assert (processes.count(), processes.rank(), processes.is_first()) == (2, 1, False)
    assert (processes.local("cuda:0"), processes.local("cpu")) == ("cuda:1", "cpu")


@pytest.mark.usefixtures("two")
def test_a_batch_that_cannot_be_dealt_evenly_is_refused() -> None:
    recipe = Recipe(epochs=1, batch_size=6, accumulate=2, lr=0.1)
    with pytest.raises(RecipeError, match="6 images in 2 micro-batches cannot be dealt to 2 pro"):
        processes.launch(torch.device("cpu"), recipe)


def test_alone_there_is_nothing_to_share() -> None:
    assert (processes.count(), processes.rank(), processes.local("cuda:0")) == (1, 0, "cuda:0")
    assert processes.gather("mine") == ["mine"]


def test_joined_norms_share_their_tensors_and_part_again() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4)))
    norm: Any = model[1][0]
    part = processes.join_norms(model)
    joined: Any = model[1][0]
    assert isinstance(joined, nn.SyncBatchNorm)
    assert joined.weight is norm.weight
    joined.running_mean.fill_(3.0)
    joined.num_batches_tracked.add_(2)
    model.eval()
    part()
    assert model[1][0] is norm
    assert (norm.running_mean.mean(), norm.num_batches_tracked, norm.training) == (3.0, 2, False)
