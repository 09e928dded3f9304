"""RT-DETR computes what the references compute: queries, every layer, losses and gradients."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import box_convert

import detectors
from detectors.interface import Detections, Detector, QueryOutputs, Target
from detectors.queries import Matches, Objects, Predictions
from detectors.rtdetr.queries import Noise, TrainingOutputs
from detectors.rtdetr.weights import rename
from tests import lanes
from tests.detectors import golden
from tests.golden.golden_inputs import align_detections, align_rows, train_targets

SIZE = 640  # of the inputs, pixels
COCO_IDS = np.setdiff1d(np.arange(1, 91), (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
OFFICIAL = {
    "rtdetr_r18vd": "rtdetr_r18",
    "rtdetr_r34vd": "rtdetr_r34",
    "rtdetr_r50vd_m": "rtdetr_r50_m",
    "rtdetr_r50vd": "rtdetr_r50",
    "rtdetr_r101vd": "rtdetr_r101",
}
HUGGING_FACE = {
    "hf_r18": "rtdetr_r18",
    "hf_hgnet_l": "rtdetr_hgnetv2_l",
    "hf_hgnet_x": "rtdetr_hgnetv2_x",
}
QUICK = ("rtdetr_r18vd", "rtdetr_r50vd", "hf_r18", "hf_hgnet_l")
"""One of each kind of backbone and reference; other sizes of them are in the slow lane."""


class Run(NamedTuple):
    source: str
    model: Detector
    backbone: list[Tensor]
    neck: list[Tensor]
    scores: Tensor  # [B, N], of every token's best class, before sigmoid
    training: TrainingOutputs
    final: QueryOutputs
    detections: list[Detections]
    order: np.ndarray  # [B, Q], our queries in the reference's order

    @property
    def tolerance(self) -> golden.Tolerance:
        return golden.TOLERANCES[self.source]

    def expected(self, key: str) -> np.ndarray:
        return golden.arrays(f"{self.source}.npz")[key]

    def ordered(self, values: Tensor) -> np.ndarray:
        """Return values [..., B, Q, X] in the reference's order of queries."""
        index = torch.from_numpy(self.order)[..., None].expand(values.shape)
        return values.gather(-2, index).numpy()


def detector(source: str) -> Detector:
    name = (OFFICIAL | HUGGING_FACE)[source]
    return detectors.create(name, weights=golden.upstream_weights(source)).eval()


def leave_after(model: Detector, layer: int, features: list[Tensor]) -> QueryOutputs:
    """Predict with a head that leaves the decoder after one layer."""
    config = replace(model.config.head, layers_used=layer + 1)
    with torch.device("meta"):
        head = config.build(
            model.neck.out_channels, model.config.backbone.strides, model.config.num_classes
        )
    head.load_state_dict(model.head.state_dict(), assign=True)
    outputs: QueryOutputs = head.eval()(features)
    return outputs


@pytest.fixture(scope="module", params=lanes.split([*OFFICIAL, *HUGGING_FACE], QUICK))
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    source = request.param
    model = detector(source)
    images = golden.image(golden.spec(source)["input"])
    scores: list[Tensor] = []
    model.head.selection.score.register_forward_hook(lambda *args: scores.append(args[-1].amax(-1)))
    with torch.inference_mode():
        backbone = model.backbone(images)
        neck = model.neck(backbone)
        training = model.head.train_outputs(neck, None)
        final = model.head(neck)
        detections = model.postprocess(final, torch.tensor([[SIZE, SIZE]] * len(images)))
    order = reference_order(training.layers.boxes, golden.arrays(f"{source}.npz")["layer_boxes"])
    yield Run(source, model, backbone, neck, scores[0], training, final, detections, order)
    golden.upstream_weights.cache_clear()


def reference_order(ours: Tensor, theirs: np.ndarray) -> np.ndarray:
    """Align the queries of [L, B, Q, 4] boxes, whose scores may be too close to order them."""
    both = [
        boxes.transpose(1, 2, 0, 3).reshape(*boxes.shape[1:3], -1)
        for boxes in (theirs, ours.numpy())
    ]
    return np.stack([align_rows(*pair) for pair in zip(*both, strict=True)])


only_official = pytest.mark.parametrize("run", lanes.split(OFFICIAL, QUICK), indirect=True)


@only_official
@pytest.mark.parametrize(("stage", "key"), [("backbone", "backbone"), ("neck", "encoder")])
def test_features(run: Run, stage: str, key: str) -> None:
    for level, features in enumerate(getattr(run, stage)):
        assert tuple(features.shape) == tuple(run.expected(f"{key}{level}_shape"))
        sample = features.flatten()[run.expected(f"{key}{level}_idx")].numpy()
        np.testing.assert_allclose(
            sample, run.expected(f"{key}{level}_val"), atol=run.tolerance.logits
        )
        ours = (features.double().mean().item(), features.double().std(correction=0).item())
        np.testing.assert_allclose(
            ours, run.expected(f"{key}{level}_stat"), atol=run.tolerance.logits
        )


def test_selected_tokens(run: Run) -> None:
    expected = run.expected("topk_index")
    chosen = run.scores.topk(expected.shape[1]).indices
    np.testing.assert_array_equal(run.ordered(chosen[..., None])[..., 0], expected)
    if run.source in OFFICIAL:
        ours = run.scores.gather(1, torch.from_numpy(expected).long()).numpy()
        np.testing.assert_allclose(ours, run.expected("topk_score"), rtol=0, atol=golden.SCORES)


@only_official
def test_initial_boxes(run: Run) -> None:
    logits = run.ordered(run.training.encoder.logits[0])[:, run.expected("q_idx")]
    boxes = run.ordered(run.training.encoder.boxes[0])
    np.testing.assert_allclose(logits, run.expected("enc_topk_logits"), rtol=0, atol=golden.SCORES)
    np.testing.assert_allclose(
        boxes, run.expected("enc_topk_boxes"), rtol=0, atol=run.tolerance.boxes
    )


def assert_layer(run: Run, layer: int, outputs: Predictions) -> None:
    """Compare logits [B, Q, C] and boxes [B, Q, 4] cxcywh with those of one layer."""
    expected = {kind: run.expected(f"layer_{kind}") for kind in ("logits", "boxes")}
    logits = run.ordered(outputs.logits)[:, run.expected("q_idx")]
    boxes = run.ordered(outputs.boxes)
    later = len(expected["logits"]) - 1 - layer if "hgnet" in run.source else 0
    tolerance = [full / 2**later for full in run.tolerance]
    np.testing.assert_allclose(logits, expected["logits"][layer], rtol=0, atol=tolerance[0])
    np.testing.assert_allclose(boxes, expected["boxes"][layer], rtol=0, atol=tolerance[1])


def test_every_layer_in_training(run: Run) -> None:
    layers = run.training.layers
    assert len(layers.logits) == len(run.expected("layer_logits"))
    for layer, outputs in enumerate(zip(*layers, strict=True)):
        assert_layer(run, layer, Predictions(*outputs))


@pytest.mark.parametrize(
    "run", lanes.split([*OFFICIAL, *HUGGING_FACE], ("rtdetr_r18vd",)), indirect=True
)
@torch.inference_mode()
def test_every_early_exit(run: Run) -> None:
    for layer in range(len(run.training.layers.logits)):
        outputs = leave_after(run.model, layer, run.neck)
        boxes = box_convert(outputs.boxes, "xyxy", "cxcywh") / SIZE
        assert_layer(run, layer, Predictions(outputs.logits, boxes))


def test_final_outputs(run: Run) -> None:
    logits, boxes = run.ordered(run.final.logits), run.ordered(run.final.boxes)
    expected = run.expected("logits").reshape(-1, *logits.shape[1:])  # of the first image
    np.testing.assert_allclose(logits[:1], expected, rtol=0, atol=run.tolerance.logits)
    expected = box_convert(torch.from_numpy(run.expected("boxes")), "cxcywh", "xyxy").numpy()
    np.testing.assert_allclose(boxes / SIZE, expected, rtol=0, atol=run.tolerance.boxes)


@only_official
def test_logits_of_all_queries(run: Run) -> None:
    rows = run.final.logits.flatten(0, 1).double().numpy()
    mean, deviation = run.expected("logits_stat")
    np.testing.assert_allclose(rows.mean(axis=0), mean, rtol=0, atol=run.tolerance.logits)
    np.testing.assert_allclose(rows.std(axis=0), deviation, rtol=0, atol=run.tolerance.logits)


@only_official
def test_final_detections(run: Run) -> None:
    """The reference scales boxes to the photograph and does not clip them; ours are clipped.

    Its labels are the numbers that COCO gives to classes, with gaps.
    """
    width, height = run.expected("post_size_wh")
    ours = [part.numpy() for part in run.detections[0]]
    ours[0] = ours[0] * np.array([width, height, width, height]) / SIZE
    ours[2] = COCO_IDS[ours[2]]
    limits = np.array([width, height, width, height], dtype=np.float32)
    theirs = (
        run.expected("post_boxes").clip(0, limits),
        run.expected("post_scores"),
        run.expected("post_labels"),
    )
    order = align_detections(theirs, ours)
    np.testing.assert_array_equal(ours[2][order], theirs[2])
    np.testing.assert_allclose(ours[1][order], theirs[1], rtol=0, atol=run.tolerance.logits)
    np.testing.assert_allclose(ours[0][order], theirs[0], rtol=0, atol=run.tolerance.boxes * SIZE)


# Pairs of (layer * images + image, query, object) that the reference chose by rounding: in exact
# arithmetic the second is cheaper by 2e-6 of 1.1
TIES = {"two": {(0, 37, 0), (0, 210, 0)}, "with_empty": set()}


STEP = golden.TOLERANCES["rtdetr_r18vd"]


class Step(NamedTuple):
    key: str  # in the golden file
    model: Detector
    outputs: TrainingOutputs
    objects: Objects
    noise: Noise
    losses: dict[str, Tensor]
    order: np.ndarray  # [B, Q], our queries in the reference's order

    def expected(self, key: str) -> np.ndarray:
        return expected_in_training(self.key, key)


def expected_in_training(targets: str, key: str) -> np.ndarray:
    return golden.arrays("rtdetr_train.npz")[f"train.{targets}.{key}"]


@pytest.fixture(scope="module", params=["two", "with_empty"])
def step(request: pytest.FixtureRequest) -> Step:
    """One backward pass of the r18, with the reference's seed and its matches."""
    model = detectors.create("rtdetr_r18", weights=golden.upstream_weights("rtdetr_r18vd")).train()
    seen: list[Any] = []
    model.criterion.register_forward_pre_hook(lambda _, args: seen.extend(args))
    model.criterion.matcher = lambda predictions, objects: recorded_matches(
        request.param, order_of(request.param, seen[0]), objects.counts
    )
    known = golden.read_json("rtdetr_train.json")["input"]
    targets = [
        Target(*map(torch.from_numpy, (item["boxes"], item["labels"])))
        for item in train_targets(request.param, known["height"])
    ]
    torch.manual_seed(known["torch_seed"])
    losses = model.losses(golden.image(known), targets)
    sum(losses.values()).backward()
    outputs, objects, noise = seen
    order = order_of(request.param, outputs)
    return Step(request.param, model, outputs, objects, noise, losses, order)


def order_of(targets: str, outputs: TrainingOutputs) -> np.ndarray:
    return reference_order(
        outputs.layers.boxes[-1:].detach(), expected_in_training(targets, "boxes")[None]
    )


def recorded_matches(targets: str, order: np.ndarray, counts: tuple[int, ...]) -> Matches:
    """Return the reference's matches; it matches the last layer first, then the others."""
    layers = [1, 2, 0, 3]  # so that the layers come in order, then the encoder
    query, which = (
        expected_in_training(targets, key).reshape(4, -1)[layers]
        for key in ("match_query", "match_gt")
    )
    image = np.arange(len(counts)).repeat(counts)
    group = np.arange(len(layers))[:, None] * len(counts) + image
    which = which + np.cumsum((0, *counts))[image]
    parts = (group, order[image, query], which)
    return Matches(*(torch.from_numpy(part.flatten().astype(np.int64)) for part in parts))


def test_denoising_queries(step: Step) -> None:
    np.testing.assert_array_equal(step.noise.labels.numpy(), step.expected("dn.noised_labels"))
    boxes = step.expected("dn.noised_boxes_unact")
    np.testing.assert_allclose(step.noise.boxes.numpy(), boxes, rtol=1e-5, atol=1e-5)


def test_training_outputs(step: Step) -> None:
    logits, boxes = (part[-1].detach().numpy() for part in step.outputs.layers)
    rows = np.arange(len(step.order))[:, None]
    chosen = step.order[:, step.expected("q_idx")]
    np.testing.assert_allclose(
        logits[rows, chosen], step.expected("logits"), rtol=0, atol=STEP.logits
    )
    np.testing.assert_allclose(
        boxes[rows, step.order], step.expected("boxes"), rtol=0, atol=STEP.boxes
    )


def test_denoising_outputs(step: Step) -> None:
    logits, boxes = (part.detach().numpy() for part in step.outputs.denoising)
    chosen = step.expected("dn_q_idx")
    np.testing.assert_allclose(logits[:, :, chosen], step.expected("dn_logits"), atol=STEP.logits)
    np.testing.assert_allclose(boxes[:, :, chosen], step.expected("dn_boxes"), atol=STEP.boxes)


def test_matches(step: Step) -> None:
    parts = zip(step.outputs.layers, step.outputs.encoder, strict=True)
    predictions = Predictions(*(torch.cat(part) for part in parts))
    found = step.model.config.matcher(predictions, step.objects)
    recorded = recorded_matches(step.key, step.order, step.objects.counts)
    ours, theirs = ({*zip(*map(Tensor.tolist, pairs), strict=True)} for pairs in (found, recorded))
    ranks = step.order.argsort()
    differing = {
        (group, int(ranks[group % len(ranks), query]), which)
        for group, query, which in ours ^ theirs
    }
    assert len(ours) == len(theirs)
    assert differing <= TIES[step.key]


def test_losses(step: Step) -> None:
    theirs = golden.read_json("rtdetr_train.json")[f"train.{step.key}.loss"]
    assert len(theirs) == 21
    expected = {
        our_loss(name): pytest.approx(value, rel=golden.LOSSES) for name, value in theirs.items()
    }
    assert {name: value.item() for name, value in step.losses.items()} == expected


def our_loss(name: str) -> str:
    """Return our name of a loss; upstream's last auxiliary one is of the encoder."""
    name = name.replace("loss_vfl", "loss_cls").replace("_aux_2", "_enc")
    return name.replace("_aux_", "_aux").replace("_dn_", "_dn")


def test_gradient_norms(step: Step) -> None:
    norms = golden.read_json("rtdetr_train.json")[f"train.{step.key}.grad_norm"]
    expected = {rename(key): norm for key, norm in norms.items()}
    ours = {key: p.grad.norm().item() for key, p in step.model.named_parameters()}
    assert ours == pytest.approx(expected, rel=golden.GRADIENTS["rtdetr"], abs=1e-4)


def test_running_statistics_after_the_step(step: Step) -> None:
    state = step.model.state_dict()
    for norm in ("backbone.conv1.conv1_1.norm", "encoder.lateral_convs.0.norm"):
        for key in (f"{norm}.running_mean", f"{norm}.running_var"):
            np.testing.assert_allclose(
                state[rename(key)].numpy(), step.expected(key), **golden.STATISTICS
            )
