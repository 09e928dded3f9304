"""The training loop, on the toy detector."""

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import harness.training.loop
from detectors.interface import Detector, InputConfig, Target
from harness.config.data import DataConfig
from harness.config.recipe import Recipe, RecipeError
from harness.data import Batch, DataSet, load
from harness.records.progress import Progress
from harness.training.ema import momentum
from harness.training.optimize import learning_rate
from harness.training.train import NotFiniteError, Training, train
from tests.toy import ToyConfig

CONFIG = ToyConfig(input=InputConfig(size=(64, 64)))


class FakeLoader:
    """Deals micro-batches of a fixed list of images, each with one object."""

    def __init__(self, images: int, micro_batch: int, boxes: Tensor) -> None:
        generator = torch.Generator().manual_seed(7)
        shape = (images, 3, 64, 64)
        self.images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        self.boxes = boxes
        self.parts = torch.arange(images).split(micro_batch)
        self.epochs: list[int] = []

    def __len__(self) -> int:
        return len(self.parts)

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        assert state == {}

    def stats(self) -> dict[str, Any]:
        return {"skipped": 0}

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        self.epochs.append(epoch)
        for indices in self.parts[start:]:
            targets = [Target(self.boxes[i : i + 1], i[None] % 6) for i in indices]
            sizes = torch.full((len(indices), 2), 64)
            yield Batch(self.images[indices], targets, sizes, sizes, indices)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace the loader; return a function that makes the data for `train`."""

    def make(images: int, micro_batch: int, boxes: Tensor | None = None) -> Any:
        boxes = (
            torch.tensor([[10.3, 12.7, 40.1, 44.9]]).repeat(images, 1) if boxes is None else boxes
        )
        loader = FakeLoader(images, micro_batch, boxes)
        monkeypatch.setattr(harness.training.loop, "train_loader", lambda *_: loader)
        split = SimpleNamespace(images=[SimpleNamespace(id=100 + i) for i in range(images)])
        return SimpleNamespace(train=split, loader=loader, fingerprint="fake")

    return make


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETBENCH_CACHE", str(tmp_path_factory.mktemp("shapes")))
        scenes = {
            "train_images": 16,
            "val_images": 4,
            "size": 64,
            "sides": [0.2, 0.6],
            "objects": [1, 2],
            "clutter": 0.0,
        }
        return load(DataConfig.model_validate({"source": "shapes", "shapes": scenes}))


def recipe(**changes: Any) -> Recipe:
    base = {"epochs": 1, "batch_size": 4, "lr": 0.01, "workers": 0, "ema_decay": None}
    return Recipe.model_validate({**base, **changes})


def toy() -> Detector:
    torch.manual_seed(0)
    return CONFIG.build()


def wide() -> Detector:
    """Make a toy that can learn a handful of images by heart."""
    torch.manual_seed(0)
    pixels = InputConfig(size=(64, 64), mean=(127.0,) * 3, std=(64.0,) * 3)
    return ToyConfig(width=32, input=pixels).build()


def run(data: Any, detector: Detector, **changes: Any) -> Training:
    return train(detector, data, recipe(**changes), seed=3, device="cpu")


def equal(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_it_learns_shapes(shapes: DataSet) -> None:
    curves = run(shapes, wide(), epochs=40, augment={"flip": 0.0}).curves
    assert curves[-1]["loss"] < 0.4 * curves[0]["loss"]


def test_one_seed_gives_equal_weights_and_another_does_not(shapes: DataSet) -> None:
    first, second, third = toy(), toy(), toy()
    for detector, seed in ((first, 1), (second, 1), (third, 2)):
        detector.backbone.append(nn.Dropout(0.5))
        train(detector, shapes, recipe(epochs=2), seed=seed, device="cpu")
    assert equal(first, second)
    assert not equal(first, third)


def test_the_rows_of_the_curves(fake: Any) -> None:
    data = fake(images=8, micro_batch=4)
    changes = {"epochs": 3, "warmup_steps": 4, "flat_until": 0.5}
    training = run(data, toy(), **changes)
    rows = training.curves
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 2), (2, 4), (3, 6)]
    assert [row["lr"] for row in rows] == [
        learning_rate(step, 6, recipe(**changes)) for step in (1, 3, 5)
    ]
    for row in rows:
        assert row["loss"] == pytest.approx(row["loss_cls"] + row["loss_bbox"])
        assert row["images_per_second"] > 0
    assert rows[0]["time"] < rows[2]["time"]
    assert training.seconds >= rows[2]["time"] - rows[0]["time"]
    assert data.loader.epochs == [0, 1, 2]


def test_the_mean_loss_is_that_of_the_batches(fake: Any) -> None:
    data, detector = fake(images=8, micro_batch=4), toy()
    batches = list(data.loader.epoch(0))
    losses = [
        sum(detector.losses(batch.images / 255, batch.targets).values()).item() for batch in batches
    ]
    row = run(data, detector, lr=1e-12).curves[0]
    assert row["loss"] == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_progress_at_every_step(fake: Any) -> None:
    events: list[Progress] = []
    data = fake(images=6, micro_batch=2)
    train(
        toy(),
        data,
        recipe(batch_size=2, epochs=2),
        seed=0,
        device="cpu",
        on_progress=events.append,
    )
    assert [(e.phase, e.done, e.total) for e in events] == [("train", i, 6) for i in range(1, 7)]
    assert set(events[0].values) == {
        "loss", "loss_cls", "loss_bbox", "lr", "eta_s", "images_per_second",
    }  # fmt: skip
    assert events[0].values["eta_s"] > 0
    assert events[-1].values["eta_s"] == 0


def test_accumulated_micro_batches_equal_one_large_batch(fake: Any) -> None:
    whole, parts = toy(), toy()
    run(fake(images=16, micro_batch=8), whole, batch_size=8)
    run(fake(images=16, micro_batch=2), parts, batch_size=8, accumulate=4)
    for large, small in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(large, small, rtol=1e-4, atol=1e-5)
    assert not equal(whole, toy())


@pytest.mark.parametrize(("images", "steps"), [(10, 2), (2, 1)])
def test_images_that_fill_no_step_are_left_out(fake: Any, images: int, steps: int) -> None:
    data = fake(images, micro_batch=2)  # five micro-batches, or the only one
    assert run(data, toy(), accumulate=2, epochs=2).curves[-1]["step"] == 2 * steps


class Step(NamedTuple):
    """What an optimiser step starts from."""

    norm: float  # of the gradient
    rates: list[float]  # of each group
    weight: Tensor  # the first of the first group


@pytest.fixture
def steps() -> Iterator[list[Step]]:
    """Watch every optimiser step."""
    seen: list[Step] = []

    def watch(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.get_total_norm([p.grad for p in parameters]).item()
        rates = [group["lr"] for group in optimizer.param_groups]
        seen.append(Step(norm, rates, parameters[0].detach().clone()))

    hook = register_optimizer_step_pre_hook(watch)
    yield seen
    hook.remove()


def test_the_gradient_is_clipped(fake: Any, steps: list[Step]) -> None:
    run(fake(images=4, micro_batch=4), toy(), clip_norm=0.01)
    run(fake(images=4, micro_batch=4), toy())
    assert steps[0].norm == pytest.approx(0.01, rel=1e-3)
    assert steps[1].norm > 0.1


def test_every_group_follows_the_schedule(fake: Any, steps: list[Step]) -> None:
    changes = {"epochs": 2, "warmup_steps": 2, "flat_until": 0.25}
    run(fake(images=16, micro_batch=4), toy(), **changes)
    expected = [learning_rate(step, 8, recipe(**changes)) for step in range(8)]
    assert [step.rates for step in steps] == [[rate, rate] for rate in expected]
    assert len(set(expected)) == 7  # the last step of the warm-up has the flat rate


def test_the_backbone_follows_with_its_share(fake: Any, steps: list[Step]) -> None:
    changes = {"epochs": 2, "warmup_steps": 2, "flat_until": 0.25}
    run(fake(images=16, micro_batch=4), toy(), backbone_lr=0.25, **changes)
    rates = [learning_rate(step, 8, recipe(**changes)) for step in range(8)]
    assert [set(step.rates) for step in steps] == [{rate / 4, rate} for rate in rates]


def test_what_is_kept_is_the_average_of_the_weights_after_each_step(
    fake: Any, steps: list[Step]
) -> None:
    data, detector = fake(images=8, micro_batch=4), toy()
    raw = toy()
    run(data, raw, epochs=2)
    weights = [step.weight for step in steps[1:]] + [raw.backbone[0].weight.detach()]
    run(data, detector, epochs=2, ema_decay=0.9, ema_ramp=5)
    average = weights[0]
    for update in range(1, 4):
        average = average.lerp(weights[update], momentum(update, 0.9, 5))
    torch.testing.assert_close(detector.backbone[0].weight.detach(), average)
    assert not torch.allclose(average, weights[-1], rtol=1e-3)


def test_a_loss_that_is_not_finite_is_named(fake: Any) -> None:
    boxes = torch.tensor([[10.0, 10.0, 40.0, 40.0]]).repeat(8, 1)
    boxes[6] = math.nan
    with pytest.raises(NotFiniteError) as caught:
        run(fake(images=8, micro_batch=2, boxes=boxes), toy(), accumulate=2, epochs=2)
    message = str(caught.value)
    assert message.startswith(
        "epoch 1, step 2: loss_bbox is nan on the training images with the ids 106, 107;"
    )
    assert "recipe.lr" in message


def test_weights_that_overflow_in_the_last_step_are_refused(fake: Any) -> None:
    with pytest.raises(NotFiniteError, match=r"weight is not finite after the last step"):
        run(fake(images=4, micro_batch=4), toy(), lr=1e39)


def test_the_moving_average_is_validated_and_kept(fake: Any) -> None:
    detector, seen = toy(), []

    def validate(candidate: Detector) -> dict[str, float]:
        assert not candidate.training
        seen.append(copy.deepcopy(candidate))
        return {"mAP": len(seen) / 10}

    changes = {"epochs": 5, "validate_every": 2, "ema_decay": 0.9, "ema_ramp": 5}
    data = fake(images=8, micro_batch=4)
    rows = train(detector, data, recipe(**changes), seed=3, device="cpu", validate=validate).curves
    assert [row.get("mAP") for row in rows] == [None, 0.1, None, 0.2, 0.3]
    assert equal(detector, seen[-1])
    assert not detector.training
    assert all(parameter.requires_grad for parameter in detector.parameters())


def test_validation_does_not_change_the_training(fake: Any) -> None:
    validated, alone = toy(), toy()
    for detector in (validated, alone):
        detector.backbone.append(nn.BatchNorm2d(CONFIG.width))
    data, settings = fake(images=8, micro_batch=4), recipe(epochs=3, validate_every=1)
    train(
        validated,
        data,
        settings,
        seed=3,
        device="cpu",
        validate=lambda detector: {"training": float(detector.training)},
    )
    train(alone, data, settings, seed=3, device="cpu")
    assert equal(validated, alone)


class Spy(nn.Module):
    """A criterion that keeps what it was given."""

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion
        self.given: list[tuple[Any, list[Target], bool]] = []

    def forward(self, outputs: Any, targets: list[Target]) -> Any:
        self.given.append((outputs, targets, torch.is_autocast_enabled("cpu")))
        return self.criterion(outputs, targets)


def test_bf16_leaves_targets_losses_and_weights_in_float32(fake: Any) -> None:
    detector = toy()
    spy = detector.criterion = Spy(detector.criterion)
    dtypes = set()
    detector.head.predict.register_forward_hook(lambda *args: dtypes.add(args[-1].dtype))
    run(fake(images=4, micro_batch=4), detector, precision="bf16")
    assert dtypes == {torch.bfloat16}
    outputs, targets, autocast = spy.given[0]
    assert not autocast
    assert outputs.logits.dtype == torch.float32
    assert torch.equal(targets[0].boxes, torch.tensor([[10.3, 12.7, 40.1, 44.9]]))
    assert {parameter.dtype for parameter in detector.parameters()} == {torch.float32}


def test_fp16_on_the_cpu_is_refused(fake: Any) -> None:
    with pytest.raises(RecipeError, match=r"recipe.precision: fp16 needs a GPU; use bf16 or fp32"):
        run(fake(images=4, micro_batch=4), toy(), precision="fp16")


def test_channels_last_changes_the_layout_and_not_the_result(fake: Any) -> None:
    plain, last = toy(), toy()
    run(fake(images=8, micro_batch=4), plain)
    run(fake(images=8, micro_batch=4), last, channels_last=True)
    weight = last.backbone[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not plain.backbone[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(weight, plain.backbone[0].weight, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_it_learns_on_a_gpu(shapes: DataSet, precision: str) -> None:
    detector, events = wide(), []
    changes = {"epochs": 40, "augment": {"flip": 0.0}, "channels_last": True, "clip_norm": 35}
    settings = recipe(**changes, precision=precision)
    rows = train(
        detector, shapes, settings, seed=0, device="cuda:0", on_progress=events.append
    ).curves
    assert rows[-1]["loss"] < 0.4 * rows[0]["loss"]
    assert next(detector.parameters()).device == torch.device("cuda:0")
    assert "loss" not in events[0].values
    assert "loss" in events[-1].values


@pytest.mark.parametrize(("rate", "told"), [(1e-12, 1), (0.01, 0)])
def test_a_training_that_learns_nothing_says_so_once(
    shapes: DataSet, rate: float, told: int
) -> None:
    events: list[Progress] = []
    how = recipe(epochs=9, lr=rate, augment={"flip": 0.0})
    found = train(wide(), shapes, how, seed=3, device="cpu", on_progress=events.append)
    notes = [(event.done, event.note) for event in events if event.note]
    assert len(notes) == told
    assert ("doubted" in found.details, "doubt" in found.details) == (told == 1, told == 1)
    for step, note in notes:
        assert step == 12, "after a third of the epochs"
        assert note.startswith("learns nothing so far: loss ")


def test_what_was_said_once_is_not_said_after_a_resume(shapes: DataSet, tmp_path: Path) -> None:
    notes: list[str] = []

    def listen(progress: Progress) -> None:
        notes.extend([progress.note] if progress.note else [])
        if progress.done == 24 and len(notes) == 1 and not progress.note:
            raise KeyboardInterrupt

    how = recipe(epochs=9, lr=1e-12, augment={"flip": 0.0})
    course: Any = {"seed": 3, "device": "cpu", "checkpoint": tmp_path, "on_progress": listen}
    with pytest.raises(KeyboardInterrupt):
        train(wide(), shapes, how, **course)
    course["on_progress"] = lambda progress: notes.extend(filter(None, [progress.note]))
    found = train(wide(), shapes, how, **course)
    assert found.details["resumed"] == 1
    assert notes == [f"learns nothing so far: {found.details['doubted']}"]
