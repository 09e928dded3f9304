"""A training that runs out of memory or into numbers that are none."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
import torch
from torch import Tensor, nn

import harness.training.loop
from detectors.interface import Detector, InputConfig, Target
from harness.config.recipe import Recipe
from harness.data import Batch
from harness.training import checkpoint
from harness.training.checkpoint import FILE, NOT_FINITE
from harness.training.memory import ran_out
from harness.training.train import NotFiniteError, Training, train
from tests.toy import ToyConfig

IMAGES, SIZE = 16, 64


class Loader:
    """Deals the same eight images twice an epoch, each with one object."""

    def __init__(self, boxes: Tensor) -> None:
        self.boxes = boxes
        shape = (IMAGES, 3, SIZE, SIZE)
        self.images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(7))

    def __len__(self) -> int:
        return 2

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for indices in torch.arange(IMAGES).split(IMAGES // 2)[start:]:
            targets = [Target(self.boxes[i : i + 1], i[None] % 6) for i in indices]
            sizes = torch.full((len(indices), 2), SIZE)
            yield Batch(self.images[indices].byte(), targets, sizes, sizes, indices)

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        pass

    def stats(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make data; the boxes of its loader may be changed."""
    loader = Loader(torch.tensor([[10.3, 12.7, 40.1, 44.9]]).repeat(IMAGES, 1))
    monkeypatch.setattr(harness.training.loop, "train_loader", lambda *_: loader)
    images = [SimpleNamespace(id=100 + i) for i in range(IMAGES)]
    return SimpleNamespace(train=SimpleNamespace(images=images), loader=loader, fingerprint="fake")


class Mean(nn.Module):
    """A loss that is a mean over images, and draws a random number for each."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[Tensor] = []

    def forward(self, outputs: Any, targets: list[Target]) -> dict[str, Tensor]:
        self.drawn.append(torch.rand(len(targets)))
        wanted = torch.stack([target.boxes[0] for target in targets])
        distance = (outputs.boxes.mean(1) - wanted).abs().mean()
        return {"loss_cls": outputs.logits.sigmoid().mean(), "loss_bbox": distance / 10}


class Scarce(nn.Module):
    """Fails on more than so many images; when training, counts what it saw."""

    def __init__(self, most: int, error: Callable[[], BaseException]) -> None:
        super().__init__()
        self.most, self.error = most, error
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        if len(images) > self.most:
            raise self.error()
        return images


def toy(most: int = IMAGES, error: Callable[[], BaseException] = MemoryError) -> Detector:
    torch.manual_seed(0)
    detector = ToyConfig(input=InputConfig(size=(SIZE, SIZE))).build()
    detector.backbone.insert(0, Scarce(most, error))
    detector.criterion = Mean()
    return detector


def run(data: Any, detector: Detector, folder: Path | None = None, **changes: Any) -> Training:
    base = {"epochs": 2, "batch_size": 8, "lr": 0.01, "workers": 0, "ema_decay": None}
    recipe = Recipe.model_validate({**base, **changes})
    return train(detector, data, recipe, seed=3, device="cpu", checkpoint=folder)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError,
        lambda: torch.OutOfMemoryError("CUDA out of memory"),
        lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
        lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9"),
    ],
)
def test_smaller_parts_make_the_same_steps(data: Any, error: Any) -> None:
    plain, scarce = toy(), toy(3, error)
    whole, parted = run(data, plain), run(data, scarce)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(scarce.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    assert parted.curves[-1]["loss"] == pytest.approx(whole.curves[-1]["loss"], rel=1e-4)
    assert [row["step"] for row in parted.curves] == [2, 4]
    assert whole.details["deviations"] == []
    (deviation,) = parted.details["deviations"]
    assert deviation.startswith(
        "from step 1 on, out of memory: micro-batches of 2 images instead of 8"
    )


def test_a_failed_attempt_leaves_no_trace_in_statistics(data: Any) -> None:
    plain, scarce = toy(), toy(4)
    run(data, plain)
    run(data, scarce)
    assert scarce.backbone[0].seen == plain.backbone[0].seen == 2 * IMAGES


def test_accumulated_batches_begin_anew_together(data: Any) -> None:
    plain, scarce = toy(), toy()
    run(data, plain, batch_size=16, accumulate=2)
    failures = iter([False, True])  # the second batch of the first step fails, once

    def fail(module: nn.Module, images: Any) -> None:
        if next(failures, False):
            raise MemoryError

    scarce.head.register_forward_pre_hook(fail)
    run(data, scarce, batch_size=16, accumulate=2)
    attempted, *drawn = scarce.criterion.drawn
    assert torch.equal(attempted[:4], drawn[0])
    assert torch.equal(torch.cat(drawn), torch.cat(plain.criterion.drawn))
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(scarce.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_one_image_that_is_too_much_ends_the_training(data: Any) -> None:
    with pytest.raises(MemoryError):
        run(data, toy(0))


def test_other_errors_pass() -> None:
    assert not ran_out(RuntimeError("shapes do not match"))
    assert not ran_out(KeyError("not enough memory"))


def test_parts_survive_a_resume(data: Any, tmp_path: Path) -> None:
    run(data, toy(3), tmp_path, epochs=1)
    saved = torch.load(tmp_path / FILE, weights_only=True)
    assert saved["parts"] == 4
    assert len(saved["deviations"]) == 1


def test_the_state_before_a_loss_that_is_not_finite_is_kept(data: Any, tmp_path: Path) -> None:
    good = data.loader.boxes[12].clone()
    run(data, before := toy(), epochs=1, warmup_steps=4)
    data.loader.boxes[12] = math.nan
    broken = toy()
    with pytest.raises(NotFiniteError) as caught:
        run(data, broken, tmp_path, epochs=1, warmup_steps=4)
    ids = ", ".join(str(100 + index) for index in range(8, 16))
    file = tmp_path / NOT_FINITE
    assert str(caught.value).startswith(
        f"epoch 1, step 2: loss_bbox is nan on the training images with the ids {ids}; "
        f"the state is in {file}; lower recipe.lr"
    )
    assert "\n" not in str(caught.value)
    # From that state, with the image mended, training comes out as if nothing had happened.
    file.rename(tmp_path / FILE)
    data.loader.boxes[12] = good
    resumed = toy()
    assert run(data, resumed, tmp_path, epochs=1, warmup_steps=4).details["resumed"] == 1
    for name, tensor in before.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor)


def test_details_tell_speed_memory_and_rate(data: Any) -> None:
    details = run(data, toy(), lr=0.01, lr_base_batch=16).details
    assert details["lr"] == 0.005
    assert details["images_per_second"] > 0
    assert 0 <= details["waiting_share"] <= 1
    assert 0 < details["device_share"] <= 1
    assert details["waiting_share"] + details["device_share"] == pytest.approx(1, abs=0.01)
    assert details["memory_bytes"] > 10**7
    assert (details["processes"], details["resumed"]) == (1, 0)


class Pruned(Exception):
    """What a judge raises."""


def test_what_validation_raises_passes_and_leaves_a_checkpoint(data: Any, tmp_path: Path) -> None:
    def judge(detector: Detector) -> dict[str, float]:
        raise Pruned("too slow")

    recipe = Recipe(epochs=2, batch_size=8, lr=0.01, workers=0, ema_decay=None, validate_every=1)
    with pytest.raises(Pruned, match="too slow"):
        train(toy(), data, recipe, seed=3, device="cpu", validate=judge, checkpoint=tmp_path)
    assert torch.load(tmp_path / FILE, weights_only=True)["position"] == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_checkpoint_without_room_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def whole(path: Path) -> Iterator[BinaryIO]:
        with open("/dev/full", "wb", buffering=0) as file:
            yield file

    monkeypatch.setattr(checkpoint.files, "whole", whole)
    with pytest.raises(OSError, match="No space left on device"):
        checkpoint.write({"model": torch.zeros(10_000)}, tmp_path / "checkpoint.pt")
