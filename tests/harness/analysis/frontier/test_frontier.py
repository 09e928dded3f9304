"""One pass of the network is enough for every setting; times are taken in turns."""

import json
import math
import random
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detectors.interface import DenseOutputs, Detections, Detector
from detectors.postprocess import NMSConfig, TopKConfig
from harness import data
from harness.analysis import frontier
from harness.analysis.frontier import FrontierConfig, FrontierError, Ready, plan, time_settings
from harness.analysis.frontier.accuracy import accuracies, with_knobs
from harness.analysis.frontier.cache import Cached, CacheError, Needed, _keep, cache
from harness.analysis.frontier.timing import undisturbed
from harness.cli import frontier as frontier_command
from harness.config.knobs import KnobError
from harness.config.latency import LatencyConfig
from harness.data import DataSet, Split, to_original
from harness.machine.conditions import Taint
from harness.measure.accuracy.evaluate import evaluate, score
from harness.measure.inputs import Inputs
from harness.measure.latency import Subject
from harness.measure.latency.timer import Span
from harness.records.latencies import ROUGH
from tests.harness.detecting import SIDE, scenes
from tests.toy import ToyConfig

SIZE = torch.tensor([SIDE, SIDE])
CLASSES, STRAY = 4, 200


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture(scope="module")
def shapes() -> DataSet:
    sizes = data.ShapesConfig(train_images=2, val_images=6, size=64)
    return data.load(data.DataConfig(source="shapes", shapes=sizes))


def having(stage: nn.Module) -> Detector:
    detector = Detector()
    detector.postprocess = stage
    return detector


def test_the_default_grid_holds_a_hundred_settings_and_rtdetrs_table() -> None:
    tried = plan(having(NMSConfig().build()), {})
    assert len(tried.settings) >= 100
    pairs = {(item["iou_threshold"], item["score_threshold"]) for item in tried.settings}
    assert {(iou, 0.001) for iou in (0.5, 0.6, 0.8)} <= pairs
    assert {(0.7, threshold) for threshold in (0.001, 0.01, 0.05)} <= pairs
    configured = tried.settings[tried.configured]
    assert all(getattr(NMSConfig(), name) == value for name, value in configured.items())


def test_a_detector_without_suppression_has_settings_of_its_own() -> None:
    tried = plan(having(TopKConfig().build()), {})
    assert set(tried.axes) == {"score_threshold", "max_detections"}
    assert len(tried.settings) >= 100
    assert tried.settings[tried.configured] == {"score_threshold": 0.0, "max_detections": 300}
    assert "no NMS" in frontier.caveats(tried, trained=True)["settings"]
    assert frontier.caveats(plan(having(NMSConfig().build()), {}), trained=True) == {}


def test_axes_can_be_replaced_and_added() -> None:
    stage = NMSConfig(iou_threshold=0.33).build()
    changes = {"iou_threshold": [0.4, 0.5], "class_agnostic": [False, True], "score_threshold": 0.1}
    tried = plan(having(stage), {**changes, "max_candidates": [9], "seconds": 3.0})
    assert tried.axes["score_threshold"] == [0.1]
    assert len(tried.settings) == 2 * 2 * 2 + 1  # and the configured one
    assert tried.configured == 8
    assert tried.settings[8]["iou_threshold"] == 0.33
    assert tried.config.seconds == 3.0


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"iou_treshold": [0.5]}, "did you mean frontier.iou_threshold"),
        ({"iou_threshold": []}, "different values"),
        ({"iou_threshold": [0.5, 0.5]}, "different values"),
        ({"iou_threshold": ["much"]}, "expected float, got 'much'"),
        ({"iou_threshold": [0.5, 1.5]}, "frontier.iou_threshold"),
        ({"seconds": "long"}, "frontier.seconds"),
    ],
)
def test_wrong_axes_are_refused(changes: dict[str, Any], part: str) -> None:
    with pytest.raises((FrontierError, KnobError), match=part):
        plan(having(NMSConfig().build()), changes)


def test_a_detector_without_suppression_has_no_iou_threshold() -> None:
    with pytest.raises(FrontierError, match="no such knob"):
        plan(having(TopKConfig().build()), {"iou_threshold": [0.5]})
    with pytest.raises(FrontierError, match="no knob to try"):
        plan(having(nn.Identity()), {})


def predicted(split: Split, image: int, digits: int = 9) -> tuple[Tensor, Tensor]:
    """Draw scores [N, C] and boxes [N, 4]: near the objects of an image, and anywhere."""
    rng = np.random.default_rng(image)
    boxes, labels = split.objects(image)
    near = np.repeat(boxes, 8, axis=0) + rng.normal(0, 4, (8 * len(boxes), 4))
    corner = rng.uniform(-20, SIDE, (STRAY, 2))
    anywhere = np.concatenate([corner, corner + rng.uniform(1, 90, (STRAY, 2))], axis=1)
    scores = rng.beta(0.3, 6, (len(near) + STRAY, CLASSES))
    scores[np.arange(len(near)), np.repeat(labels, 8)] = rng.beta(3, 3, len(near))
    return torch.tensor(np.round(scores, digits)).float(), torch.tensor(
        np.concatenate([near, anywhere])
    ).float()


def whole(scores: Tensor, boxes: Tensor) -> DenseOutputs:
    """Return the outputs of which `Cached.outputs` keeps a part."""
    return DenseOutputs(scores[None], boxes[None], boxes[:, :2], boxes[:, 0])


class Whole(DenseOutputs):
    """Outputs whose logits are scores already."""

    def scores(self) -> Tensor:
        return self.logits


def same(a: Detections, b: Detections) -> bool:
    return all(map(torch.equal, a, b))


@pytest.mark.parametrize(
    ("stage", "limits"),
    [
        (NMSConfig().build(), {"max_candidates": [20, 150, 30000]}),
        (TopKConfig().build(), {"max_detections": [1, 30, 250]}),
    ],
)
def test_what_is_kept_is_all_that_any_setting_needs(
    stage: nn.Module, limits: dict[str, Any]
) -> None:
    split = scenes(np.random.default_rng(0), 3)
    tried = plan(having(stage), {**limits, "score_threshold": [0.01, 0.1, 0.5]})
    stages = [with_knobs(stage, setting) for setting in tried.settings]
    needed = frontier._needed(stages)
    for image in range(3):
        scores, boxes = predicted(split, image)
        kept = _keep(scores, boxes, needed, (image, SIZE, SIZE))
        assert len(kept.scores) < scores.numel()
        for each in stages:
            ours = each(kept.outputs(), SIZE[None])[0]
            theirs = each(Whole(*whole(scores, boxes)), SIZE[None])[0]
            assert same(ours, theirs)


def test_kept_pairs_are_the_best_with_their_ties() -> None:
    scores = torch.tensor([[0.9, 0.0], [0.2, 0.5], [0.5, 0.4], [0.0, 0.1]])
    boxes = torch.arange(16.0).reshape(4, 4)
    kept = _keep(scores, boxes, Needed(0.1, 2), (0, SIZE, SIZE))
    assert kept.scores.tolist() == pytest.approx([0.9, 0.5, 0.5])
    assert kept.boxes.tolist() == boxes[:3].tolist()
    assert kept.outputs().scores()[0].tolist() == [
        pytest.approx(row) for row in ([0.9, -1], [-1, 0.5], [0.5, -1])
    ]
    everything = _keep(scores, boxes, Needed(0.0, None), (0, SIZE, SIZE))
    assert len(everything.scores) == 8


def direct(stage: nn.Module, kept: list[Cached], split: Split) -> dict[str, float]:
    """Compute the accuracy of one stage without sharing anything."""
    results = []
    for item in kept:
        found = stage(item.outputs(), item.size[None])[0]
        boxes = to_original(found.boxes.double(), item.size, item.original_size)
        boxes[:, 2:] -= boxes[:, :2]
        for box, confidence, label in zip(boxes.float().tolist(), *found[1:], strict=True):
            category = split.label_to_category_id[int(label)]
            place = {"image_id": split.images[item.image].id, "category_id": category}
            results.append({**place, "bbox": box, "score": float(confidence)})
    return score(split.ground_truth(), results).metrics


@pytest.mark.parametrize("stage", [NMSConfig().build(), TopKConfig().build()])
def test_accuracies_equal_those_of_each_setting_alone(stage: nn.Module) -> None:
    digits = (
        3 if isinstance(stage.config, NMSConfig) else 9
    )  # some equal, where their order is told
    split = scenes(np.random.default_rng(1), 8)
    changes: dict[str, Any] = {"score_threshold": [0.001, 0.2, 0.5], "max_detections": [3, 100]}
    if isinstance(stage.config, NMSConfig):
        changes |= {"iou_threshold": [0.3, 0.8], "max_candidates": [40, 1000]}
    tried = plan(having(stage), changes)
    needed = frontier._needed([with_knobs(stage, setting) for setting in tried.settings])
    kept = []
    for image in range(8):
        scores, boxes = predicted(split, image, digits)  # input of twice the photograph's size
        kept.append(_keep(scores, 2 * boxes, needed, (image, 2 * SIZE, SIZE)))
    found = accuracies(stage, tried.settings, kept, split)
    for setting, metrics in zip(tried.settings, found, strict=True):
        alone = direct(with_knobs(stage, setting), kept, split)
        assert metrics == {name: alone[name] for name in ("mAP", "mAP_50", "mAP_75")}
    assert len({metrics["mAP"] for metrics in found}) > len(found) // 3


def test_no_detections_are_no_accuracy() -> None:
    split = scenes(np.random.default_rng(1), 2)
    kept = [_keep(*predicted(split, i), Needed(0.0, None), (i, SIZE, SIZE)) for i in (0, 1)]
    found = accuracies(NMSConfig().build(), [{"score_threshold": 0.999}], kept, split)
    assert found == [{"mAP": 0.0, "mAP_50": 0.0, "mAP_75": 0.0}]


def test_too_much_memory_is_refused(shapes: DataSet) -> None:
    network = ToyConfig(num_classes=4).build().deploy()
    with pytest.raises(CacheError, match="raise the least score_threshold"):
        cache(network, shapes.val, Needed(0.001, None), 1000.0)


def test_memory_that_is_just_enough_is_enough(shapes: DataSet) -> None:
    network, needed = ToyConfig(num_classes=4).build().deploy(), Needed(0.0, 5)
    exact = sum(item.bytes for item in cache(network, shapes.val, needed, math.inf))
    assert len(cache(network, shapes.val, needed, exact)) == len(shapes.val)
    with pytest.raises(CacheError):
        cache(network, shapes.val, needed, exact - 1)


class FakeTimer:
    """Says that a step took what it was told, and notes the order of the steps."""

    def __init__(self) -> None:
        self.now, self.calls = 0, []

    def clock(self) -> int:
        return self.now

    def time(self, steps: Any, value: Any) -> tuple[Any, list[Span]]:
        (step,) = steps
        result = step(value)
        self.calls.append(result.name if isinstance(result, Found) else "network")
        self.now += 1_000_000
        return result, [Span(float(len(self.calls)), None)]


class Found(list):
    def __init__(self, name: int) -> None:
        super().__init__([SimpleNamespace(scores=[0] * name)])
        self.name = name


class Stage(nn.Module):
    def __init__(self, name: int) -> None:
        super().__init__()
        self.name = name

    def forward(self, outputs: Tensor, sizes: Tensor) -> Found:
        assert outputs.shape == (1,)
        return Found(self.name)

    def candidates(self, outputs: Tensor) -> Tensor:
        return outputs + self.name


def test_every_round_times_the_network_and_then_all_settings_in_a_new_order() -> None:
    timer = FakeTimer()
    inputs = [Inputs(torch.tensor([10 * index]), SIZE[None]) for index in range(3)]
    stages = [Stage(name) for name in range(5)]
    counters = [stage.candidates for stage in stages]
    ready = Ready(lambda images: images + 100, stages, counters, inputs)
    times = time_settings(ready, FrontierConfig(rounds=8, seconds=1e6), timer)  # type: ignore[arg-type]
    assert len(times.network) == 8
    rounds = [timer.calls[start : start + 6] for start in range(0, len(timer.calls), 6)]
    assert len(rounds) == 9  # the first is not counted
    assert all(order[0] == "network" for order in rounds)
    assert all(sorted(order[1:]) == list(range(5)) for order in rounds)
    assert len({tuple(order) for order in rounds[1:]}) > 4
    for name, samples in enumerate(times.nms):
        places = [order.index(name) for order in rounds[1:]]
        assert samples == [6 * (number + 1) + place + 1 for number, place in enumerate(places)]
    assert times.candidates[2] == [102, 112, 122]  # each image once
    assert times.detections[3] == [3, 3, 3]


def test_time_runs_out_after_the_fewest_rounds_for_an_interval() -> None:
    inputs = [Inputs(torch.zeros(1), SIZE[None])]
    ready = Ready(lambda images: images, [Stage(1)], [None], inputs)
    config = FrontierConfig(seconds=1e-9, rounds=50)
    assert len(time_settings(ready, config, FakeTimer()).network) == 6  # type: ignore[arg-type]


def test_rounds_that_others_disturbed_are_dropped_and_counted() -> None:
    inputs = [Inputs(torch.zeros(1), SIZE[None])]
    ready = Ready(lambda images: images, [Stage(1), Stage(2)], [None, None], inputs)
    times = time_settings(ready, FrontierConfig(rounds=8, seconds=1e6), FakeTimer())  # type: ignore[arg-type]
    assert all(stop - start == 3_000_000 for start, stop in times.windows)
    kept, told = undisturbed(times, [Taint(2, "others", "busy"), Taint(2, "steal", "taken")])
    assert kept.network == times.network[:2] + times.network[3:]
    assert kept.nms == [series[:2] + series[3:] for series in times.nms]
    assert (told["rounds"], told["dropped"]) == (8, 1)
    assert told["remark"] == "1 of 8 rounds disturbed (others 1, steal 1), dropped"
    every = [Taint(index, "others", "busy") for index in range(5)]
    kept, told = undisturbed(times, every)
    assert kept.network == times.network
    words = "5 of 8 rounds disturbed (others 5), most, so all kept"
    assert told["remark"] == f"{ROUGH}{words}"  # the times; the settings took turns all the same
    assert undisturbed(times, [])[1]["remark"] == ""


def test_the_configured_setting_scores_as_evaluated(shapes: DataSet) -> None:
    torch.manual_seed(1)
    detector = ToyConfig(num_classes=4).build()
    tried = plan(detector, {"seconds": 0.01, "score_threshold": [0.01, 0.05], "rounds": 6})
    found = frontier.measure(
        Subject(detector, trained=False),
        shapes.val,
        tried,
        LatencyConfig(images=2),
        device="cpu",
    )
    row = next(row for row in found.rows if row.configured)
    expected = evaluate(detector, shapes.val, device="cpu", workers=0).metrics
    assert {
        name: expected[name] for name in ("mAP", "mAP_50", "mAP_75")
    }.items() <= row.metrics.items()
    assert row.metrics["latency_ms"] == pytest.approx(
        row.metrics["nms_ms"] + found.network["network_ms"]
    )
    assert row.counts["candidates"]["images"] == 2
    assert any(row.optimal for row in found.rows)
    assert "untrained" in found.caveats["nms_ms"]
    assert found.details["cached_bytes"] > 0


QUICK = (
    *("data.shapes.train_images=2", "data.shapes.val_images=4", "data.shapes.size=64"),
    *("frontier.seconds=0.01", "frontier.rounds=6", "latency.images=2"),
)


def test_the_command_prints_json_and_writes_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = []

    def write(result: Any, out: Path) -> Path:
        pages.append(json.loads(json.dumps(result)))
        return out

    sets = [*QUICK, "frontier.iou_threshold=[0.5, 0.7]"]
    arguments = (["tests.toy:TOY"], "shapes", sets, None, "cpu")
    status = frontier_command.frontier(*arguments, out=tmp_path, write=write, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert status == 0
    assert printed == pages[0]
    assert printed["details"]["axes"]["iou_threshold"] == [0.5, 0.7]
    assert len(printed["rows"]) == 13  # and the configured one


def test_the_command_shows_the_front_and_the_extremes(capsys: pytest.CaptureFixture[str]) -> None:
    assert frontier_command.frontier(["tests.toy:TOY"], "shapes", QUICK, None, "cpu") == 0
    shown = capsys.readouterr().out
    for word in ("front", "configured", "slowest", "least mAP", "network alone", "untrained"):
        assert word in shown


def test_roles_are_found() -> None:
    def row(latency: float, accuracy: float, **flags: bool) -> frontier.Row:
        known = {"configured": False, "optimal": False} | flags
        return frontier.Row(
            {}, **known, metrics={"latency_ms": latency, "mAP": accuracy}, counts={}
        )

    rows = [
        row(3, 0.5, optimal=True),
        row(9, 0.1),
        row(1, 0.2, optimal=True),
        row(4, 0.3, configured=True),
    ]
    random.Random(0).shuffle(rows)
    roles = {item.metrics["latency_ms"]: role for item, role in frontier_command.highlights(rows)}
    assert roles == {
        1: "front, fastest",
        3: "front, best mAP",
        4: "configured",
        9: "slowest, least mAP",
    }


@pytest.mark.parametrize(
    ("models", "sets", "part"),
    [
        (["tests.toy:TOY"] * 2, [], "one MODEL"),
        (["tests.toy:TOY"], ["frontier.max_candidates=[5]"], "no such knob"),
        (["tests.toy:TOY"], ["detector.num_classes=9"], "9 classes"),
    ],
)
def test_what_cannot_be_measured_is_refused(models: list[str], sets: list[str], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        frontier_command.frontier(models, "shapes", [*QUICK, *sets], None, "cpu")
