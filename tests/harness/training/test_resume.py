"""A training that was killed goes on as if it had not been."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import harness.training.checkpoint
from detectors.interface import Detector, InputConfig
from harness.config.data import DataConfig
from harness.config.recipe import Recipe
from harness.data import DataSet, load
from harness.records.progress import Progress
from harness.training.checkpoint import FILE, FORMAT, read
from harness.training.train import CheckpointError, Training, train
from tests.patience import HANG
from tests.toy import ToyConfig

ROOT = Path(__file__).parents[3]
ALWAYS, NEVER = 1e-9, 1e9  # minutes between checkpoints


@pytest.mark.parametrize(
    ("detector", "workers", "minutes", "seed"),
    [
        ("toy", 0, NEVER, 0),
        pytest.param("toy", 2, ALWAYS, 1, marks=pytest.mark.slow),
        pytest.param("rtmdet", 0, ALWAYS, 2, marks=pytest.mark.slow),
        pytest.param("rtmdet", 2, NEVER, 3, marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_step_the_weights_are_equal_to_the_last_bit(
    tmp_path: Path, detector: str, workers: int, minutes: float, seed: int
) -> None:
    options = [detector, str(workers), str(minutes), str(seed), str(tmp_path)]
    subprocess.run(
        [sys.executable, "-m", "tests.harness.training.killed", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=HANG,
    )
    whole, killed = (torch.load(tmp_path / f"{name}.pt") for name in ("whole", "killed"))
    assert whole["curves"] == killed["curves"]
    assert whole["weights"].keys() == killed["weights"].keys()
    for name, tensor in whole["weights"].items():
        assert torch.equal(tensor, killed["weights"][name]), name


class Killed(BaseException):
    """Ends a training from within."""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETBENCH_CACHE", str(tmp_path_factory.mktemp("shapes")))
        scenes = {"train_images": 8, "val_images": 2, "size": 64, "sides": [0.2, 0.6]}
        return load(DataConfig.model_validate({"source": "shapes", "shapes": scenes}))


def toy() -> Detector:
    torch.manual_seed(0)
    return ToyConfig(input=InputConfig(size=(64, 64))).build()


def run(data: DataSet, folder: Path, *, fatal: int = 0, seed: int = 3, **changes: Any) -> Training:
    base = {"epochs": 2, "batch_size": 4, "lr": 0.01, "workers": 0, "ema_decay": 0.9}
    recipe = Recipe.model_validate({**base, **changes})

    def die(progress: Progress) -> None:
        if progress.done == fatal:
            raise Killed

    return train(toy(), data, recipe, seed=seed, device="cpu", on_progress=die, checkpoint=folder)


@pytest.fixture
def ended(shapes: DataSet, tmp_path: Path) -> Path:
    """Return the folder of a training that ended in its second epoch."""
    with pytest.raises(Killed):
        run(shapes, tmp_path, fatal=3)
    return tmp_path


def test_a_resumed_training_tells_so_and_counts_all_images(shapes: DataSet, ended: Path) -> None:
    details = run(shapes, ended).details
    assert details["resumed"] == 1
    assert run(shapes, ended.parent / "other").details["resumed"] == 0
    saved = torch.load(ended / FILE, weights_only=True)
    assert saved["clock"]["totals"]["images"] == 16


def test_a_checkpoint_holds_nothing_that_needs_pickle(ended: Path) -> None:
    assert torch.load(ended / FILE, weights_only=True)["epoch"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.02}, r"a training with recipe.lr 0.01, this one has 0.02; remove the folder"),
        ({"seed": 4}, r"a training with seed 3, this one has 4"),
    ],
)
def test_the_checkpoint_of_another_training_is_refused(
    shapes: DataSet, ended: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        run(shapes, ended, **changes)


def test_knobs_that_leave_the_result_alone_may_change(shapes: DataSet, ended: Path) -> None:
    assert run(shapes, ended, checkpoint_minutes=3, workers=1).details["resumed"] == 1


def test_a_damaged_checkpoint_is_as_good_as_none(shapes: DataSet, ended: Path) -> None:
    file = ended / FILE
    file.write_bytes(file.read_bytes()[:1000])
    details = run(shapes, ended).details
    assert details["resumed"] == 0
    assert details["deviations"] == ["began anew, since the checkpoint was damaged"]


def test_no_flipped_bit_is_resumed_from(ended: Path) -> None:
    """Each is noticed, or lies where it changes nothing, such as in the padding."""
    file, draw = ended / FILE, random.Random(0)
    whole, identity = file.read_bytes(), torch.load(file)["identity"]
    expected, noticed = read(ended, identity), 0
    assert expected is not None
    for _ in range(60):
        data = bytearray(whole)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        file.write_bytes(data)
        found = read(ended, identity)
        noticed += found is None
        assert found is None or same(found, expected)
    assert noticed > 10


def same(found: Any, expected: Any) -> bool:
    """Say whether two states are equal to the last bit."""
    if isinstance(expected, torch.Tensor):
        return torch.equal(found, expected)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[k], expected[k]) for k in found)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(same, found, expected))
    return bool(found == expected)


@pytest.mark.parametrize(
    "content", [[1], {}, {"format": FORMAT}, {"format": FORMAT, "identity": 5}]
)
def test_a_checkpoint_of_another_shape_is_as_good_as_none(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / FILE)
    assert read(tmp_path, {}) is None


def test_what_dies_while_it_writes_leaves_the_checkpoint_before(
    shapes: DataSet, ended: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (ended / FILE).read_bytes()

    def fail(state: Any, stream: Any) -> None:
        stream.write(b"half of it")
        raise Killed

    monkeypatch.setattr(harness.training.checkpoint.torch, "save", fail)
    with pytest.raises(Killed):
        run(shapes, ended)
    assert (ended / FILE).read_bytes() == before
    assert [file.name for file in ended.iterdir()] == [FILE]


def test_a_finished_training_is_validated_once_more_and_not_trained(
    shapes: DataSet, tmp_path: Path
) -> None:
    first = run(shapes, tmp_path)
    steps: list[Progress] = []
    seen: list[Detector] = []
    detector = toy()
    again = train(
        detector,
        shapes,
        Recipe(epochs=2, batch_size=4, lr=0.01, workers=0, ema_decay=0.9),
        seed=3,
        device="cpu",
        on_progress=steps.append,
        validate=lambda model: {"mAP": float(len(seen) or seen.append(model) or 1)},
        checkpoint=tmp_path,
    )
    assert [step.done for step in steps] == [4]  # the last of those taken before
    assert again.curves[-1]["mAP"] == 1
    assert again.curves[-1]["loss"] == first.curves[-1]["loss"]
