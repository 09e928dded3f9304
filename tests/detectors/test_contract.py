"""What every detector promises, whatever it is; a new family passes this file unchanged."""

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

import detectors
from detectors.config import Knob, KnobError, describe, flatten, override
from detectors.interface import (
    STAGES,
    DenseOutputs,
    Detector,
    DetectorConfig,
    QueryOutputs,
    Target,
    kind_of,
)

SIZE = (160, 192)  # a multiple of 32, with more than 300 locations at strides 8, 16 and 32
LOSS_NAME = re.compile(r"loss_(cls|bbox|giou)(_aux\d+|_enc|_dn\d+)?")


def smallest_per_family() -> list[str]:
    """Return the first name of each type of config; families are listed smallest first."""
    return list(
        {type(config): name for name, config in reversed(detectors.CONFIGS.items())}.values()
    )


NAMES = ["tests.toy:TOY", *smallest_per_family()]


SMALL = {
    "backbone.width_mult": 0.125,
    "neck.hidden_dim": 64,
    "neck.num_blocks": 1,
    "head.hidden_dim": 64,
    "head.num_queries": 50,
}
"""What makes a detector with such knobs small: what is promised does not depend on size."""


def small(name: str) -> DetectorConfig:
    """Return a config with as little of everything as its knobs allow."""
    config = detectors.resolve(name)
    known = {knob.path for knob in describe(config)}
    turned = {path: value for path, value in SMALL.items() if path in known}
    return override(config, {"input.size": SIZE, **turned})


def build(config: DetectorConfig, overrides: dict[str, Any] | None = None) -> Detector:
    torch.manual_seed(0)
    return detectors.create(config, overrides)


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def config(name: str) -> DetectorConfig:
    return small(name)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def targets() -> list[Target]:
    """Three objects and one."""
    boxes = torch.tensor(
        [[10.0, 12.0, 90.0, 70.0], [30.0, 40.0, 120.0, 150.0], [100.0, 5.0, 160.0, 60.0]]
    )
    labels = torch.tensor([0, 1, 0])
    return [Target(boxes, labels), Target(boxes[1:2] + 8, labels[1:2])]


@pytest.fixture(scope="module")
def trained(config: DetectorConfig, images: Tensor, targets: list[Target]) -> Detector:
    """A detector after a few steps, in eval mode; its normalisation has statistics of its own."""
    model = build(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        sum(model.losses(images, targets).values()).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture
def model(trained: Detector) -> Detector:
    return copy.deepcopy(trained)


def assert_same(ours: Any, theirs: Any, tolerance: float = 0.0) -> None:
    """Compare two NamedTuples of tensors.

    Without a tolerance bit by bit: for equal weights and inputs in one process.
    """
    assert type(ours) is type(theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def assert_close(ours: Any, theirs: Any, tolerance: float) -> None:
    """Compare outputs that rounding tells apart.

    Queries are chosen and ordered by scores that lie close together before training: they may come
    in another order, and two in a hundred may be others.
    """
    if not isinstance(ours, QueryOutputs):
        assert_same(ours, theirs, tolerance)
        return
    assert type(ours) is type(theirs)
    rows, others = (torch.cat(tuple(part), dim=-1).double() for part in (ours, theirs))
    for one, other in zip(rows, others, strict=True):
        apart = (one[:, None] - other).abs() / (1 + other.abs())
        distance = apart.amax(dim=-1).numpy()  # [Q, Q]
        pairs = distance[linear_sum_assignment(distance)]
        assert (pairs <= tolerance).mean() >= 0.98


def test_config_is_a_frozen_dataclass_that_describes_itself(config: DetectorConfig) -> None:
    assert is_dataclass(config)
    assert type(config).__dataclass_params__.frozen
    assert hash(config) is not None
    assert override(type(config)(), flatten(config)) == config
    assert override(config, json.loads(json.dumps(flatten(config)))) == config
    assert [knob.path for knob in describe(config) if not knob.doc] == []
    assert not any(length % config.size_divisor for length in config.input.size)


def test_four_stages_and_a_criterion(model: Detector, config: DetectorConfig) -> None:
    assert [stage for stage, _ in model.named_children()] == [*STAGES, "criterion"]
    assert model.config == config


def test_outputs(model: Detector, config: DetectorConfig, images: Tensor) -> None:
    with torch.no_grad():
        outputs = model(images)
    batch, count, classes = outputs.logits.shape
    assert (batch, classes) == (len(images), config.num_classes)
    assert outputs._fields[:2] == ("logits", "boxes")
    assert outputs.boxes.shape == (batch, count, 4)
    assert outputs.boxes.dtype == torch.float32
    scores = outputs.scores()
    assert scores.shape == outputs.logits.shape
    assert scores.min() >= 0
    assert scores.max() <= 1
    if isinstance(outputs, DenseOutputs):
        assert outputs.points.shape == (count, 2)
        assert outputs.strides.shape == (count,)
        assert (outputs.strides.diff() >= 0).all()


def test_outputs_have_one_type_in_training_and_after(model: Detector, images: Tensor) -> None:
    with torch.no_grad():
        assert type(model.train()(images)) is type(model.eval()(images))


def test_stages_compose_to_forward_and_detect(model: Detector, images: Tensor) -> None:
    sizes = torch.tensor([SIZE, SIZE])
    with torch.no_grad():
        outputs = model.head(model.neck(model.backbone(images)))
        assert_same(outputs, model(images))
        for ours, theirs in zip(
            model.postprocess(outputs, sizes), model.detect(images, sizes), strict=True
        ):
            assert_same(ours, theirs)


def test_detections_are_sorted_typed_and_clipped(model: Detector, images: Tensor) -> None:
    sizes = torch.tensor([SIZE, (100, 130)])
    found = model.detect(images, sizes)
    assert len(found) == 2
    for (height, width), detections in zip(sizes.tolist(), found, strict=True):
        boxes, scores, labels = detections
        assert len(scores) > 0, "an early detector must still find something above its threshold"
        assert boxes.shape == (len(scores), 4)
        assert (boxes.dtype, scores.dtype) == (torch.float32, torch.float32)
        assert labels.dtype == torch.int64
        assert (scores.diff() <= 0).all()
        assert (scores >= 0).all()
        assert (scores <= 1).all()
        assert (labels >= 0).all()
        assert (labels < model.config.num_classes).all()
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()
        assert not boxes.requires_grad


def test_candidates_are_counted_per_image(model: Detector, images: Tensor) -> None:
    if not hasattr(model.postprocess, "candidates"):
        pytest.skip("this detector has no suppression")
    with torch.no_grad():
        count = model.postprocess.candidates(model(images))
    assert count.shape == (2,)
    assert (count > 0).all()


def test_losses_reach_every_parameter(
    config: DetectorConfig, images: Tensor, targets: list[Target]
) -> None:
    model = build(config).train()
    losses = model.losses(images, targets)
    assert all(LOSS_NAME.fullmatch(key) for key in losses)
    assert all(value.isfinite() and value.shape == () for value in losses.values())
    sum(losses.values()).backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_a_batch_without_objects(config: DetectorConfig, images: Tensor) -> None:
    model = build(config).train()
    nothing = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    losses = model.losses(images, [nothing, nothing])
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_deploy_equals_the_original_and_leaves_it(model: Detector, images: Tensor) -> None:
    state = copy.deepcopy(model.state_dict())
    model.train()
    deployed = model.deploy()
    assert model.training
    assert model.criterion is not None
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
    assert all(p.requires_grad for p in model.parameters())
    assert not deployed.training
    assert not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in deployed.modules())
    assert not any(p.requires_grad for p in deployed.parameters())
    with torch.no_grad():
        assert_close(deployed(images), model.eval()(images), 1e-3)
    with pytest.raises(RuntimeError, match="no criterion"):
        deployed.losses(images, [])


def test_deploying_twice_changes_nothing(model: Detector, images: Tensor) -> None:
    once = model.deploy()
    with torch.no_grad():
        assert_same(once.deploy()(images), once(images))


def test_every_knob_can_be_turned(
    config: DetectorConfig, images: Tensor, targets: list[Target]
) -> None:
    for knob in describe(config):
        if knob.path != "input.size":
            model = turned(config, knob).train()
            losses = model.losses(images[:, :, :96, :128], targets)
            assert all(value.isfinite() for value in losses.values()), knob.path
            model.eval().detect(images[:1, :, :96, :128], torch.tensor([[96, 128]]))


def turned(config: DetectorConfig, knob: Knob) -> Detector:
    """Build with the first other value that the knob takes."""
    for value in other_values(knob):
        try:
            return build(config, {knob.path: value})
        except KnobError:
            continue
    raise AssertionError(f"{knob.path}: found no value beside {knob.value!r}")


def other_values(knob: Knob) -> Iterator[Any]:
    """Propose values beside a knob's own, by its type."""
    value = knob.value
    if value is None and knob.path == "input.train_size":
        yield (96, 128)
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value + 2, max(value // 2, 1))
    elif isinstance(value, float):
        yield from (value / 2, value + 0.5)
    elif isinstance(value, tuple):
        yield tuple(item + 1 for item in value)
    elif value is None:
        yield from (8, 0.5)
    else:
        yield from (option for option in knob.type.split(" | ") if option != value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_forward_can_be_exported(model: Detector, images: Tensor) -> None:
    deployed = model.deploy()
    program = torch.export.export(deployed, (images,))
    with torch.no_grad():
        for ours, theirs in zip(program.module()(images), deployed(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_weights_round_trip(name: str, model: Detector, images: Tensor, tmp_path: Path) -> None:
    folder = detectors.weights.save(model, tmp_path / "weights", name)
    loaded = detectors.weights.load(folder, trusted=(name,)).eval()
    assert loaded.config == model.config
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    created = detectors.create(model.config, weights=folder).eval()
    with torch.no_grad():
        assert_same(created(images), model(images))


def test_every_built_in_config_says_itself_what_kind_it_is() -> None:
    """The strings are in the hashes of results: a class that moves keeps its own."""
    kinds = {type(config): kind_of(config) for config in detectors.CONFIGS.values()}
    assert len(set(kinds.values())) == len(kinds)
    for config, kind in kinds.items():
        assert vars(config)["kind"] == kind
    assert {
        "detectors.rtmdet.detector.RTMDetConfig",
        "detectors.rtdetr.detector.RTDETRConfig",
    } <= set(kinds.values())


def test_a_class_that_moves_or_is_renamed_stays_of_its_kind() -> None:
    config = detectors.CONFIGS["rtmdet_tiny"]
    moved = type("Renamed", (), {**vars(type(config)), "__module__": "detectors.elsewhere"})
    assert kind_of(object.__new__(moved)) == kind_of(config)


def test_a_config_from_outside_is_known_by_its_module_and_class() -> None:
    """Also one that inherits from ours, is copied from it, or has a `kind` of another meaning."""

    class Own(type(detectors.CONFIGS["rtmdet_tiny"])):  # type: ignore[misc]
        pass

    class Copied:
        kind = "detectors.rtmdet.detector.RTMDetConfig"

    toy: Any = detectors.resolve("tests.toy:TOY")
    assert kind_of(toy) == "tests.toy.ToyConfig"
    for config in (Own(), Copied()):
        assert kind_of(config) == f"{__name__}.{type(config).__qualname__}"
