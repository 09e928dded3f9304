"""RTMDet computes what the reference computes: outputs, detections, losses and gradients."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

import detectors
from detectors.interface import DenseOutputs, Detections, Target
from detectors.rtmdet.detector import RTMDet
from detectors.rtmdet.weights import rename
from tests import lanes
from tests.detectors import golden
from tests.golden.golden_inputs import align_detections, train_targets

STRIDES = (8, 16, 32)


class Run(NamedTuple):
    name: str
    shape: str
    size: tuple[int, int]
    backbone: list[Tensor]
    neck: list[Tensor]
    outputs: DenseOutputs
    detections: list[Detections]

    @property
    def tolerance(self) -> golden.Tolerance:
        return golden.TOLERANCES[self.name]

    def expected(self, key: str) -> np.ndarray:
        return golden.arrays(f"{self.name}.npz")[f"{self.shape}_{key}"]


RECTANGLES = [(name, "rect") for name in golden.TOLERANCES if name.startswith("rtmdet")]
BOTH = [(name, shape) for name, _ in RECTANGLES for shape in ("rect", "square")]
QUICK = [(name, shape) for name, shape in BOTH if name in ("rtmdet_tiny", "rtmdet_m")]
"""One of each way to decode; other sizes are in the slow lane."""


@lru_cache(maxsize=1)  # both shapes of a model follow each other
def built(name: str) -> RTMDet:
    model = detectors.create(name, weights=golden.upstream_weights(name)).eval()
    golden.upstream_weights.cache_clear()  # the large ones would stay in memory
    return model


@pytest.fixture(scope="module", params=lanes.split(BOTH, QUICK), ids="-".join)
def run(request: pytest.FixtureRequest) -> Run:
    name, shape = request.param
    model = built(name)
    images = golden.image(golden.read_json("rtmdet.json")[name]["inputs"][shape])
    size = (images.shape[2], images.shape[3])
    with torch.inference_mode():
        backbone = model.backbone(images)
        neck = model.neck(backbone)
        outputs = model.head(neck)
        detections = model.postprocess(outputs, torch.tensor([size] * len(images)))
    return Run(name, shape, size, backbone, neck, outputs, detections)


@pytest.mark.parametrize("run", lanes.split(RECTANGLES, QUICK), ids="-".join, indirect=True)
@pytest.mark.parametrize("stage", ["backbone", "neck"])
def test_features(run: Run, stage: str) -> None:
    for level, features in enumerate(getattr(run, stage)):
        key = f"{stage}{level}"
        assert tuple(features.shape) == tuple(run.expected(f"{key}_shape"))
        sample = features.flatten()[run.expected(f"{key}_idx")].numpy()
        np.testing.assert_allclose(sample, run.expected(f"{key}_val"), atol=run.tolerance.logits)
        ours = (features.double().mean().item(), features.double().std(correction=0).item())
        np.testing.assert_allclose(ours, run.expected(f"{key}_stat"), atol=run.tolerance.logits)


def test_logits_and_boxes(run: Run) -> None:
    logits, boxes = run.tolerance
    ours = run.outputs.logits[:, run.expected("idx")].numpy()
    np.testing.assert_allclose(ours, run.expected("logits"), rtol=0, atol=logits)
    ours = run.outputs.boxes[:, run.expected("box_idx")].numpy()
    np.testing.assert_allclose(ours, run.expected("boxes"), rtol=0, atol=boxes)


def test_statistics_over_all_positions(run: Run) -> None:
    counts = [run.size[0] // stride * (run.size[1] // stride) for stride in STRIDES]
    for kind, tolerance in zip(("logits", "boxes"), run.tolerance, strict=True):
        for level, part in enumerate(getattr(run.outputs, kind).split(counts, dim=1)):
            rows = part.flatten(0, 1).double().numpy()
            ours = np.stack((rows.mean(axis=0), rows.std(axis=0)))
            np.testing.assert_allclose(
                ours, run.expected(f"{kind}_stat")[level], rtol=1e-5, atol=tolerance
            )


def test_final_detections(run: Run) -> None:
    ours = tuple(part.numpy() for part in run.detections[0])
    theirs = tuple(run.expected(f"det_{part}") for part in ("boxes", "scores", "labels"))
    assert len(ours[0]) == len(theirs[0]) == 300
    order = align_detections(theirs, ours)
    np.testing.assert_array_equal(ours[2][order], theirs[2])
    np.testing.assert_allclose(ours[1][order], theirs[1], rtol=0, atol=run.tolerance.logits)
    np.testing.assert_allclose(ours[0][order], theirs[0], rtol=0, atol=run.tolerance.boxes)


STEP = golden.TOLERANCES["rtmdet_tiny"]


class Step(NamedTuple):
    key: str  # in the golden file
    model: RTMDet
    outputs: DenseOutputs
    targets: list[Target]
    losses: dict[str, Tensor]

    def expected(self, key: str) -> np.ndarray:
        return golden.arrays("rtmdet_train.npz")[f"{self.key}.{key}"]


@pytest.fixture(
    scope="module", params=["two.eval", "two.train", "with_empty.eval", "with_empty.train"]
)
def step(request: pytest.FixtureRequest) -> Step:
    """One backward pass of the tiny model, with BatchNorm on either statistics."""
    objects, mode = request.param.split(".")
    model = detectors.create("rtmdet_tiny", weights=golden.upstream_weights("rtmdet_tiny"))
    model.train(mode == "train")
    outputs: list[DenseOutputs] = []
    model.head.register_forward_hook(lambda *args: outputs.append(args[-1]))
    targets = [
        Target(*map(torch.from_numpy, (item["boxes"], item["labels"])))
        for item in train_targets(objects)
    ]
    losses = model.losses(golden.image(golden.read_json("rtmdet_train.json")["input"]), targets)
    sum(losses.values()).backward()
    return Step(request.param, model, outputs[0], targets, losses)


def test_training_outputs(step: Step) -> None:
    index = step.expected("idx")
    logits, boxes = step.outputs.logits.detach(), step.outputs.boxes.detach()
    np.testing.assert_allclose(logits[:, index].numpy(), step.expected("logits"), atol=STEP.logits)
    np.testing.assert_allclose(boxes[:, index].numpy(), step.expected("boxes"), atol=STEP.boxes)


def test_assignment(step: Step) -> None:
    found = step.model.criterion.assigner(*(part.detach() for part in step.outputs), step.targets)
    for image, assignment in enumerate(found):
        expected = step.expected("gt_inds")[image]
        np.testing.assert_array_equal(assignment.gt_index.numpy() + 1, expected)
        chosen = expected > 0
        np.testing.assert_allclose(
            assignment.quality.numpy()[chosen],
            step.expected("max_overlaps")[image][chosen],
            rtol=1e-4,
        )


def test_losses(step: Step) -> None:
    pairs = {"loss_cls": "loss_cls", "loss_giou": "loss_bbox"}
    assert step.losses.keys() == pairs.keys()
    for ours, theirs in pairs.items():
        assert step.losses[ours].item() == pytest.approx(
            step.expected(theirs).sum(), rel=golden.LOSSES
        )
    total = sum(value.item() for value in step.losses.values())
    assert total == pytest.approx(step.expected("total"), rel=golden.LOSSES)


def test_gradient_norms(step: Step) -> None:
    norms = golden.read_json("rtmdet_train.json")[f"{step.key}.grad_norm"]
    expected = {rename(key): norm for key, norm in norms.items()}
    ours = {key: p.grad.norm().item() for key, p in step.model.named_parameters()}
    assert ours == pytest.approx(expected, rel=golden.GRADIENTS["rtmdet"], abs=1e-4)


def test_running_statistics_after_the_step(step: Step) -> None:
    if step.key.endswith("eval"):
        before = golden.upstream_weights("rtmdet_tiny")["backbone.stem.0.bn.running_mean"]
        assert torch.equal(step.model.backbone.stem[0].norm.running_mean, before)
        return
    norms = ("backbone.stem.0.bn", "neck.out_convs.2.bn", "bbox_head.cls_convs.1.0.bn")
    state = step.model.state_dict()
    for key in (f"{norm}.running_{moment}" for norm in norms for moment in ("mean", "var")):
        np.testing.assert_allclose(
            state[rename(key)].numpy(), step.expected(key), **golden.STATISTICS
        )
