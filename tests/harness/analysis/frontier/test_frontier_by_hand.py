"""What the frontier's figures are made of, worked out by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from detectors.postprocess import NMSConfig, TopKConfig
from harness.analysis import frontier
from harness.analysis.frontier import FrontierConfig, FrontierError, Plan, Ready, time_settings
from harness.analysis.frontier.accuracy import accuracies, with_knobs
from harness.analysis.frontier.cache import Needed, _keep, total_bytes
from harness.analysis.frontier.timing import Times
from harness.cli import frontier as command
from harness.config.latency import LatencyConfig
from harness.measure.inputs import Inputs
from harness.records.progress import Progress
from tests.harness.analysis.frontier.test_frontier import SIZE, FakeTimer, Stage, having, predicted
from tests.harness.detecting import scenes

SETTINGS: list[dict[str, Any]] = [{"iou_threshold": 0.5}, {"iou_threshold": 0.6}]
PLAN = Plan({"iou_threshold": [0.5, 0.6]}, SETTINGS, 1, FrontierConfig())


def summed_up(rounds: int, *, scores: Any = None, remark: str = "", trained: bool = True) -> Any:
    """Summarise rounds in which the network takes 10, 11, ... ms, and NMS 1, 2, ... ms or twice."""
    network = [10.0 + number for number in range(rounds)]
    nms = [1.0 + number for number in range(rounds)]
    twice = [2 * value for value in nms]
    times = Times(network, [nms, twice], [[7, 9], []], [[3, 5], [2, 8]], 1.5, [])
    kept = [_keep(torch.rand(4, 2), torch.rand(4, 4), Needed(0.0, None), (0, SIZE, SIZE))] * 3
    scores = scores or [{"mAP": 0.3, "mAP_50": 0.5}, {"mAP": 0.4, "mAP_50": 0.6}]
    return frontier._summarise(PLAN, scores, (times, {"remark": remark}), kept, trained)


def test_a_settings_latency_is_the_networks_and_its_own_end_by_end() -> None:
    found = summed_up(7)  # of 7 samples in order the interval is the whole range
    first, second = found.rows
    assert found.network == {"network_ms": 13.0, "network_low_ms": 10.0, "network_high_ms": 16.0}
    assert first.metrics == {
        **{"mAP": 0.3, "mAP_50": 0.5, "nms_ms": 4.0, "nms_low_ms": 1.0, "nms_high_ms": 7.0},
        **{"latency_ms": 17.0, "latency_low_ms": 11.0, "latency_high_ms": 23.0},
    }
    assert second.metrics["latency_ms"] == 13 + 8
    assert (first.configured, second.configured) == (False, True)
    assert (first.optimal, second.optimal) == (True, True)
    assert (first.counts["candidates"]["median"], first.counts["detections"]["median"]) == (8, 4)
    assert list(second.counts) == ["detections"]
    assert found.details["nms_seconds"] == pytest.approx((28 + 56) / 1000)
    assert (found.details["rounds"], found.details["images"]) == (7, 3)
    assert (found.absent, found.caveats) == ({}, {})


def test_the_slower_of_two_that_find_as_much_is_not_on_the_front() -> None:
    equal = [{"mAP": 0.3}, {"mAP": 0.3}]
    assert [row.optimal for row in summed_up(7, scores=equal).rows] == [True, False]


def test_few_rounds_have_no_interval_and_no_object_no_accuracy() -> None:
    found = summed_up(5, scores=[{}, {}], remark="a round was disturbed", trained=False)
    assert found.network == {"network_ms": 12.0}
    assert found.rows[0].metrics == {"nms_ms": 3.0, "latency_ms": 15.0}
    assert found.absent == {"mAP": "the validation split has no object"}
    assert found.caveats == {
        "nms_ms": frontier.UNTRAINED,
        "mAP": frontier.UNTRAINED,
        "conditions": "a round was disturbed",
    }


def test_another_runtime_is_refused() -> None:
    with pytest.raises(FrontierError, match="in runtime eager, not onnxruntime"):
        frontier.measure(
            Any, Any, PLAN, LatencyConfig(runtime="onnxruntime"), device="cpu"  # type: ignore[arg-type]
        )  # fmt: skip


def test_what_is_needed_is_what_the_least_strict_setting_looks_at() -> None:
    stages = [
        NMSConfig(score_threshold=threshold, max_candidates=most, max_detections=5).build()
        for threshold, most in ((0.1, 20), (0.05, 10))
    ]
    assert frontier._needed(stages) == Needed(0.05, 20)
    assert frontier._needed([TopKConfig(max_detections=n).build() for n in (7, 9)])[1] == 9
    own: Any = SimpleNamespace(config=SimpleNamespace(max_detections=4))  # it knows no threshold
    assert frontier._needed([own]) == Needed(0.0, 4)


def test_pairs_above_the_threshold_are_kept_up_to_the_limit() -> None:
    scores, boxes = torch.tensor([[0.25, 0.5], [0.75, 0.125]]), torch.arange(8.0).reshape(2, 4)

    def kept(threshold: float, limit: int | None) -> Any:
        return _keep(scores, boxes, Needed(threshold, limit), (3, SIZE, SIZE))

    assert kept(0.25, None).scores.tolist() == [0.5, 0.75]  # none at the threshold
    assert kept(0.0, 4).scores.tolist() == [0.25, 0.5, 0.75, 0.125]
    assert kept(0.0, 3).scores.tolist() == [0.25, 0.5, 0.75]
    one = kept(0.6, 1)
    assert (one.image, one.classes, one.labels.tolist(), one.rows.tolist()) == (3, 2, [0], [0])
    assert one.boxes.tolist() == [[4.0, 5.0, 6.0, 7.0]]
    assert one.bytes == 4 * 4 + 4 + 4 + 4  # a box, and its row, class and score, of four bytes each
    assert total_bytes([one, one]) == 2 * one.bytes


def ready(stages: int = 1) -> Ready:
    inputs = [Inputs(torch.zeros(1), SIZE[None])]
    return Ready(lambda images: images, [Stage(1)] * stages, [None] * stages, inputs)


def test_rounds_end_when_the_time_is_over_or_there_were_enough() -> None:
    steps: list[Progress] = []

    def timed(seconds: float, rounds: int) -> Times:
        config = FrontierConfig(seconds=seconds, rounds=rounds)
        timer: Any = FakeTimer()  # a call takes a millisecond, a round two
        return time_settings(ready(), config, timer, on_progress=steps.append)

    assert (len(timed(0.02, 50).network), timed(0.02, 50).seconds) == (10, pytest.approx(0.02))
    steps.clear()
    assert len(timed(99.0, 3).network) == 3
    assert [(step.phase, step.done, step.total) for step in steps] == [
        ("NMS", 1, 3),
        ("NMS", 2, 3),
        ("NMS", 3, 3),
    ]


def test_stages_that_tell_no_candidates_have_detections_all_the_same() -> None:
    timer: Any = FakeTimer()
    times = time_settings(ready(stages=2), FrontierConfig(rounds=6), timer)
    assert times.candidates == [[], []]
    assert times.detections == [[1], [1]]


def test_settings_that_differ_in_cuts_alone_share_their_suppression() -> None:
    split = scenes(np.random.default_rng(2), 2)
    kept = [_keep(*predicted(split, i), Needed(0.05, None), (i, SIZE, SIZE)) for i in (0, 1)]
    settings = [
        {"iou_threshold": iou, "score_threshold": threshold, "max_detections": most}
        for iou, threshold, most in ((0.5, 0.05, 100), (0.6, 0.2, 100), (0.5, 0.3, 2))
    ]
    steps: list[Progress] = []
    accuracies(NMSConfig().build(), settings, kept, split, steps.append)
    assert [(step.phase, step.done, step.total) for step in steps] == [
        ("settings", 2, 3),
        ("settings", 3, 3),
    ]


def test_classes_that_the_split_lacks_count_for_nothing() -> None:
    split = scenes(np.random.default_rng(2), 2)
    kept, wider = [], []
    for image in (0, 1):
        scores, boxes = predicted(split, image)
        unknown = torch.full((len(scores), 2), 0.99)
        needed, place = Needed(0.05, None), (image, SIZE, SIZE)
        kept.append(_keep(scores, boxes, needed, place))
        wider.append(_keep(torch.cat([scores, unknown], dim=1), boxes, needed, place))
    stage, setting = NMSConfig(max_detections=10_000).build(), {"max_detections": 10_000}
    known = accuracies(stage, [setting], kept, split)
    assert known[0]["mAP"] > 0.1
    assert accuracies(stage, [setting], wider, split) == known


def test_a_stage_with_turned_knobs_is_one_of_inference() -> None:
    stage = with_knobs(NMSConfig().build().train(), {"iou_threshold": 0.25})
    assert stage.config == NMSConfig(iou_threshold=0.25)
    assert not stage.training


def test_axes_hold_their_values_and_a_single_one_is_a_list() -> None:
    tried = frontier.plan(having(NMSConfig().build()), {"iou_threshold": (0.7,), "rounds": 9})
    assert tried.axes["iou_threshold"] == [0.7]
    assert tried.config.rounds == 9
    assert len(tried.settings) == 6 * 1 * 2 * 2 + (tried.configured == 24)


def shown(**metrics: float) -> dict[str, Any]:
    setting = {"class_agnostic": True, "iou_threshold": 0.5, "max_candidates": 30000}
    counts = {"detections": {"median": 12.0, "images": 3.0}}
    row = frontier.Row(setting, False, False, {"nms_ms": 1.5, "latency_ms": 4.0, **metrics}, counts)
    return command._plain(row, "front")


def test_a_row_is_shown_with_what_there_is() -> None:
    assert shown(mAP=0.51236, nms_low_ms=1.25, nms_high_ms=1.75) == {
        **{"role": "front", "class_agnostic": "True", "iou_threshold": "0.5"},
        **{"max_candidates": "30000", "nms_ms": 1.5, "latency_ms": 4.0, "mAP": "0.5124"},
        **{"interval": "1.250 to 1.750", "detections": 12.0},
    }
    bare = shown()
    assert (bare["mAP"], bare["interval"]) == (None, None)


def test_rows_that_are_neither_extreme_nor_on_the_front_are_not_shown() -> None:
    def row(latency: float, accuracy: float | None, **flags: bool) -> frontier.Row:
        metrics = {"latency_ms": latency} | ({} if accuracy is None else {"mAP": accuracy})
        return frontier.Row({}, **{"configured": False, "optimal": False} | flags,
                            metrics=metrics, counts={})  # fmt: skip

    rows = [
        row(5.0, 0.2),
        row(4.0, None),
        row(9.0, 0.1),
        row(2.0, 0.3, optimal=True),
        row(1.0, 0.25, optimal=True, configured=True),
        row(3.0, 0.4, optimal=True),
    ]
    assert [(item.metrics["latency_ms"], role) for item, role in command.highlights(rows)] == [
        (1.0, "front, fastest, configured"),
        (2.0, "front"),
        (3.0, "front, best mAP"),
        (4.0, "least mAP"),
        (9.0, "slowest"),
    ]
