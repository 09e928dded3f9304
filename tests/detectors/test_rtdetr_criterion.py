"""Matching and losses against the reference's, a plain loop, and values worked out by hand."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from detectors.matching import HungarianMatcher
from detectors.queries import Matches, Objects, Predictions
from detectors.rtdetr import criterion as module
from detectors.rtdetr.criterion import RTDETRCriterion, RTDETRCriterionConfig
from detectors.rtdetr.denoising import DenoisingConfig, make_noise
from detectors.rtdetr.queries import TrainingOutputs
from tests.detectors import golden
from tests.detectors.rtdetr_cases import (
    CLASSES,
    count_waits,
    golden_objects,
    golden_predictions,
    plain_cost,
    plain_losses,
    random_objects,
    random_outputs,
)
from tests.golden.golden_inputs import MATCHER_CASES

NAMES = ["loss_cls", "loss_bbox", "loss_giou"]


def criterion(**knobs: Any) -> RTDETRCriterion:
    return RTDETRCriterionConfig(**knobs).build(HungarianMatcher())


def triples(matches: Matches) -> set[tuple[int, ...]]:
    return set(zip(*(part.tolist() for part in matches), strict=True))


@pytest.mark.parametrize("name", MATCHER_CASES)
def test_matches_equal_golden_ones(name: str) -> None:
    """Rounding decides nothing here: any other assignment costs at least 6e-4 more."""
    objects = golden_objects(name)
    matches = HungarianMatcher()(golden_predictions([MATCHER_CASES[name]]), objects)
    stored = golden.arrays("rtdetr_train.npz")
    theirs = set()
    for image, before in enumerate(np.cumsum([0, *objects.counts[:-1]])):
        query, found = (stored[f"match.{name}.{image}.{key}"] for key in ("query", "gt"))
        theirs |= {(image, *pair) for pair in zip(query, found + before, strict=True)}
    assert triples(matches) == theirs
    assert len(theirs) == len(objects.labels)


def test_every_layer_and_image_is_matched_on_its_own() -> None:
    objects = random_objects(3, 0, 5)
    predictions = random_outputs(layers=4, images=3, queries=20).layers
    matches = HungarianMatcher()(predictions, objects)
    assert matches.image.tolist() == sorted(matches.image.tolist())
    expected = set()
    for layer, (image, first) in itertools.product(range(4), [(0, 0), (2, 3)]):
        part = slice(first, first + objects.counts[image])
        alone = Objects(objects.labels[part], objects.boxes[part], (part.stop - first,), (640, 640))
        one = Predictions(*(values[layer, image][None, None] for values in predictions))
        for _, query, found in triples(HungarianMatcher()(one, alone)):
            expected.add((layer * 3 + image, query, found + first))
    assert triples(matches) == expected
    assert len(matches.image) == 4 * 8


@pytest.mark.parametrize(("queries", "count"), [(6, 3), (3, 3), (3, 6)])
def test_no_other_pairing_is_cheaper(queries: int, count: int) -> None:
    objects = random_objects(count)
    predictions = random_outputs(layers=1, images=1, queries=queries).layers
    matches = HungarianMatcher()(predictions, objects)
    logits, boxes = (part[0, 0].detach() for part in predictions)
    cost = plain_cost(logits, boxes, objects.labels, objects.boxes)
    small = cost if queries <= count else cost.T
    rows = range(len(small))
    best = min(
        small[rows, list(columns)].sum().item()
        for columns in itertools.permutations(range(small.shape[1]), len(small))
    )
    assert len(matches.query) == min(queries, count)
    assert len(set(matches.query.tolist())) == len(set(matches.object.tolist())) == len(small)
    assert cost[matches.query, matches.object].sum().item() == pytest.approx(best, rel=1e-5)


def test_each_weight_and_the_focal_settings_matter() -> None:
    predictions = random_outputs(layers=2, images=2, queries=50).layers
    objects = random_objects(12, 9)
    default = triples(HungarianMatcher()(predictions, objects))
    for knobs in (
        {"cls_cost": 40.0},
        {"bbox_cost": 0.0},
        {"giou_cost": 40.0},
        {"cls_cost": 40.0, "alpha": 0.9},
        {"cls_cost": 40.0, "gamma": 0.0},
    ):
        found = triples(HungarianMatcher(**knobs)(predictions, objects))
        assert found != default, knobs
        default = found if knobs == {"cls_cost": 40.0} else default


def test_ties_are_broken_somehow() -> None:
    objects = random_objects(4, 2)
    same = Predictions(torch.zeros(2, 2, 10, CLASSES), torch.full((2, 2, 10, 4), 0.5))
    matches = HungarianMatcher()(same, objects)
    assert len(triples(matches)) == 12
    assert len(set(zip(matches.image.tolist(), matches.query.tolist(), strict=True))) == 12


@pytest.mark.parametrize("name", MATCHER_CASES)
def test_losses_equal_golden_ones(name: str) -> None:
    stored = golden.read_json("rtdetr_train.json")[f"criterion.{name}"]
    seeds, expected = stored["seeds"], stored["loss"]
    *aux, encoder = seeds["aux"]
    outputs = TrainingOutputs(
        golden_predictions([*aux, seeds["final"]]),
        golden_predictions([encoder]),
        golden_predictions(seeds["dn"], stored["dn_queries"]),
    )
    objects = golden_objects(name)
    losses = criterion()(outputs, objects, make_noise(objects, CLASSES, DenoisingConfig()))
    names = {key: key.replace("vfl", "cls").replace("_aux_2", "_enc") for key in expected}
    names = {key: ours.replace("aux_", "aux").replace("dn_", "dn") for key, ours in names.items()}
    assert sorted(losses) == sorted(names.values())
    for key, value in expected.items():
        assert losses[names[key]].item() == pytest.approx(value, rel=golden.SUMS), key


def leaves(outputs: TrainingOutputs) -> list[Tensor]:
    return [*outputs.layers, *outputs.encoder]


@pytest.mark.parametrize("counts", [(4, 7), (5, 0), (40, 2)])
def test_losses_and_gradients_equal_a_plain_loop(counts: tuple[int, ...]) -> None:
    outputs = random_outputs(layers=3, images=2, queries=30)
    objects = random_objects(*counts)
    ours, theirs = criterion()(outputs, objects, None), plain_losses(outputs, objects)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-6)
    found = torch.autograd.grad(sum(ours.values()), leaves(outputs))
    expected = torch.autograd.grad(sum(theirs.values()), leaves(outputs))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_losses_of_one_query_by_hand() -> None:
    boxes = torch.tensor([0.5, 0.5, 0.2, 0.2]).expand(1, 1, 1, 4)
    logits = torch.full((1, 1, 1, 2), 0.0)
    outputs = TrainingOutputs(Predictions(logits, boxes), Predictions(logits + 1, boxes), None)
    wanted = torch.tensor([[0.55, 0.5, 0.1, 0.2]])  # its right half
    objects = Objects(torch.tensor([1]), wanted, (1,), (100, 200))
    losses = criterion()(outputs, objects, None)
    # overlap 1/2, which is also the generalised one, and the weight of the object's class
    assert losses["loss_cls"].item() == pytest.approx(math.log(2) * (0.5 + 0.75 * 0.25))
    assert losses["loss_bbox"].item() == pytest.approx(5 * 0.15)
    assert losses["loss_giou"].item() == pytest.approx(2 * 0.5)
    score = 1 / (1 + math.exp(-1))
    entropy = -0.5 * math.log(score) - 0.5 * math.log(1 - score)
    wrong = 0.75 * score**2 * -math.log(1 - score)
    assert losses["loss_cls_enc"].item() == pytest.approx(0.5 * entropy + wrong)
    vanilla = criterion(query_selection="vanilla")(outputs, objects, None)
    assert vanilla["loss_cls_enc"].item() == pytest.approx(-math.log(score) + wrong)


def test_query_selection_changes_only_what_the_encoders_scores_learn() -> None:
    outputs, objects = random_outputs(2, 2, 20, denoising=24), random_objects(3, 2)
    noise = make_noise(objects, CLASSES, DenoisingConfig(num_queries=12))
    default = criterion()(outputs, objects, noise)
    vanilla = criterion(query_selection="vanilla")(outputs, objects, noise)
    assert [name for name in default if default[name] != vanilla[name]] == ["loss_cls_enc"]


def test_weights_scale_their_losses() -> None:
    outputs, objects = random_outputs(2, 2, 20, denoising=24), random_objects(3, 2)
    noise = make_noise(objects, CLASSES, DenoisingConfig(num_queries=12))
    default = criterion()(outputs, objects, noise)
    scaled = criterion(cls_weight=2.0, bbox_weight=0.0, giou_weight=1.0)(outputs, objects, noise)
    factors = {"loss_cls": 2, "loss_bbox": 0, "loss_giou": 0.5}
    for name, value in default.items():
        factor = factors["_".join(name.split("_")[:2])]
        assert scaled[name].item() == pytest.approx(factor * value.item())
    focal = criterion(alpha=0.1, gamma=1.0)(outputs, objects, noise)
    assert all((focal[name] != default[name]) == ("cls" in name) for name in default)


def test_losses_are_divided_by_the_objects_of_all_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outputs, objects = random_outputs(1, 2, 20, denoising=24), random_objects(3, 2)
    noise = make_noise(objects, CLASSES, DenoisingConfig(num_queries=12))
    alone = criterion()(outputs, objects, noise)
    monkeypatch.setattr(module, "average_over_processes", lambda count: count + 5)
    together = criterion()(outputs, objects, noise)
    for name, value in alone.items():
        assert together[name].item() == pytest.approx(value.item() / 2)


@pytest.mark.parametrize("counts", [(0, 0), (4, 0)])
def test_images_without_objects(counts: tuple[int, ...]) -> None:
    outputs = random_outputs(layers=2, images=2, queries=10)
    losses = criterion()(outputs, random_objects(*counts), None)
    assert sorted(losses) == sorted(n + s for n in NAMES for s in ("", "_aux0", "_enc"))
    assert all(value.isfinite() for value in losses.values())
    boxes = [losses[name] for name in losses if "cls" not in name]
    gradients = torch.autograd.grad(
        sum(boxes), [outputs.layers.boxes, outputs.encoder.boxes], retain_graph=True
    )
    assert all((each[:, 1] == 0).all() for each in gradients)
    assert all(value == 0 for value in boxes) == (counts == (0, 0))
    logits = torch.autograd.grad(sum(losses.values()), outputs.layers.logits)[0]
    assert (logits > 0)[:, 1].all()  # every score of the empty image is to fall


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", ["logits", "boxes"])
@pytest.mark.parametrize("where", [slice(None), 5])
def test_broken_predictions_show_in_the_loss(part: str, value: float, where: Any) -> None:
    outputs = random_outputs(layers=2, images=2, queries=10)
    with torch.no_grad():
        getattr(outputs.layers, part)[1, 0, where] = value
    losses = criterion()(outputs, random_objects(2, 3), None)
    assert not sum(losses.values()).isfinite()
    assert losses["loss_cls_aux0"].isfinite()


def test_low_precision_is_widened_first() -> None:
    outputs, objects = random_outputs(2, 1, 20), random_objects(6)
    low = TrainingOutputs(
        *(Predictions(*(x.detach().bfloat16() for x in part)) for part in outputs[:2]), None
    )
    wide = TrainingOutputs(*(Predictions(*(x.float() for x in part)) for part in low[:2]), None)
    with torch.autocast("cpu", torch.bfloat16):
        ours = criterion()(low, objects, None)
    theirs = criterion()(wide, objects, None)
    assert all(value.dtype == torch.float32 for value in ours.values())
    assert ours == theirs


def test_boxes_below_a_pixel_still_overlap() -> None:
    """As shares of the input, half a pixel's area would vanish below the smallest divisor."""
    tiny = torch.tensor([0.5, 0.5, 0.5 / 640, 0.5 / 640])
    predictions = Predictions(torch.zeros(1, 1, 1, CLASSES), tiny.expand(1, 1, 1, 4))
    objects = Objects(torch.tensor([0]), tiny[None], (1,), (640, 640))
    losses = criterion()(TrainingOutputs(predictions, predictions, None), objects, None)
    assert losses["loss_giou"].item() == pytest.approx(0, abs=1e-4)


def test_one_copy_to_the_host_for_all_layers_and_images() -> None:
    outputs, objects = random_outputs(3, 2, 20, denoising=24), random_objects(3, 2)
    noise = make_noise(objects, CLASSES, DenoisingConfig(num_queries=12))
    with count_waits() as reads:
        losses = criterion()(outputs, objects, noise)
        sum(losses.values()).backward()
    assert reads == {"cpu": 1}


def test_the_count_sees_what_waits() -> None:
    values = torch.tensor([1.0, 0.0])
    with count_waits() as reads:
        values.cpu().tolist()
    assert reads == {"cpu": 1, "tolist": 1}
    for wait in (lambda: values[values > 0], lambda: bool(values[0] > 0), lambda: values.nonzero()):
        with pytest.raises(AssertionError), count_waits():
            wait()
    with pytest.raises(AssertionError, match="from the host"), count_waits():
        values[torch.tensor([0])] = 2


def to_gpu(value: Any) -> Any:
    """Return the tensor, or the NamedTuple with its tensors, on the GPU as leaves."""
    if isinstance(value, Tensor):
        return value.detach().cuda().requires_grad_(value.requires_grad)
    return type(value)(*map(to_gpu, value)) if hasattr(value, "_fields") else value


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_a_gpu_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = to_gpu(random_objects(3, 2, 0, 7))
    outputs = to_gpu(random_outputs(3, 4, 50, denoising=28))
    loss, copy, copied = criterion(), Tensor.cpu, []

    def allowed(tensor: Tensor) -> Tensor:
        copied.append(tensor.shape)
        torch.cuda.set_sync_debug_mode("default")
        found = copy(tensor)
        torch.cuda.set_sync_debug_mode("error")
        return found

    monkeypatch.setattr(Tensor, "cpu", allowed)
    torch.cuda.set_sync_debug_mode("error")
    try:
        noise = make_noise(objects, CLASSES, DenoisingConfig(num_queries=14))
        losses = loss(outputs, objects, noise)
        sum(losses.values()).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert copied == [(16, 7, 50)]
    assert len(losses) == 3 * (3 + 1 + 3)
    assert all(value.isfinite() for value in losses.values())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cls_cost": -1.0}, "cls_cost"),
        ({"cls_cost": 0.0, "bbox_cost": 0.0, "giou_cost": 0.0}, "nor all 0"),
        ({"alpha": 1.1}, "alpha"),
        ({"gamma": -0.5}, "gamma"),
    ],
)
def test_impossible_matchers_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HungarianMatcher(**wrong)


@pytest.mark.parametrize("name", ["cls_weight", "bbox_weight", "giou_weight", "alpha", "gamma"])
def test_impossible_weights_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        RTDETRCriterionConfig(**{name: -0.1})
