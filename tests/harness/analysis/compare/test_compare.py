"""A real difference is found, one of chance is not, and unlike runs are not compared."""

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import stdtrit

from harness.analysis.compare import compare, differences, matches, runs
from harness.analysis.compare.differences import Measured
from harness.analysis.compare.latency import compare_latency
from harness.analysis.compare.matches import ERRORS
from harness.analysis.compare.runs import CompareError, Run
from harness.data import Image, Split
from harness.records import Record
from tests.harness.detecting import detect, run, scenes
from tests.harness.measure.accuracy import test_evaluate

NULLS = 40


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def copies(truth: dict[str, Any], found: list[dict[str, Any]], weights: Sequence[int]) -> Any:
    """Write every image out as often as its weight says, its copies side by side."""
    result: dict[str, Any] = {"images": [], "annotations": [], "categories": truth["categories"]}
    detections = []
    for image, weight in zip(truth["images"], weights, strict=True):
        for _ in range(weight):
            number = len(result["images"]) + 1
            result["images"].append({**image, "id": number})
            for item in truth["annotations"]:
                if item["image_id"] == image["id"]:
                    key = len(result["annotations"]) + 1
                    result["annotations"].append({**item, "id": key, "image_id": number})
            mine = (item for item in found if item["image_id"] == image["id"])
            detections += [{**item, "image_id": number} for item in mine]
    return result, detections


@pytest.mark.parametrize("seed", range(4))
def test_weighted_ap_is_that_of_a_set_with_copies(seed: int) -> None:
    split = scenes(rng(seed), 25, classes=3)
    truth = split.ground_truth()
    truth["annotations"][3]["iscrowd"] = 1
    found = detect(rng(seed), split)
    weights = rng(seed).multinomial(25, [1 / 25] * 25)
    reference = test_evaluate.oracle(*copies(truth, found, weights.tolist()))
    expected = reference.eval["precision"][..., -1].mean(axis=1).transpose(2, 0, 1)
    matched = matches.match(truth, found, (1, 10, 100))
    ours = matched.precision(weights.astype(float))
    np.testing.assert_allclose(np.nan_to_num(ours, nan=-1), expected, atol=1e-11)


@pytest.mark.parametrize("case", test_evaluate.CASES)
def test_whole_sets_have_the_evaluators_figures(shared: Path, case: str) -> None:
    folder = shared / "evaluator" / case
    truth = test_evaluate.read(folder / "gt.json")
    found = test_evaluate.read(folder / "detections.json")
    matched = matches.match(truth, found, (1, 10, 100))
    precision = matched.precision(np.ones(len(matched.image_ids)))
    scored = test_evaluate.score(truth, found)
    ours = [*matches.mean(precision.reshape(4, -1)), matches.mean(precision[0, 0])]
    theirs = [scored.metrics[name] for name in ("mAP", "mAP_s", "mAP_m", "mAP_l", "mAP_50")]
    assert ours == pytest.approx(theirs, abs=1e-11)
    counts = dict(zip(ERRORS, matched.errors.sum(axis=0).tolist(), strict=True))
    assert counts == scored.details["tide"]["counts"]


def test_ap_of_an_image_alone_is_that_of_a_set_of_one() -> None:
    split = scenes(rng(1), 12)
    truth, found = split.ground_truth(), detect(rng(2), split)
    alone = matches.match(truth, found, (100,)).precision_alone()
    for index, image in enumerate(truth["images"]):
        weights = [int(place == index) for place in range(12)]
        scored = test_evaluate.score(*copies(truth, found, weights))
        assert image["id"] == index + 1
        assert alone[index] == pytest.approx(scored.metrics["mAP"], abs=1e-11)


def test_identical_detections_differ_by_exactly_nothing() -> None:
    split = scenes(rng(), 40)
    found = detect(rng(1), split)
    result = compare([run(found)], [run(copy.deepcopy(found))], split, draws=50)
    assert result.verdict == "unknown: one seed"
    assert result.words.startswith("no significant difference between A's weights and B's: +0.0")
    everything = (result.accuracy, *result.figures, *result.classes, *result.errors)
    assert {item.difference for item in everything} == {0.0}
    assert {(item.low, item.high) for item in everything} <= {(0.0, 0.0), (None, None)}
    assert (result.accuracy.low, result.accuracy.high) == (0.0, 0.0)
    assert not any(item.told_apart for item in everything)
    assert {item.difference for item in result.costs} == {0.0}
    assert result.images == []


class Annotated:
    """A split of which only the annotation file is there."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        self.images = [Image(item["id"], item["file_name"], 0, 0) for item in content["images"]]

    def ground_truth(self) -> dict[str, Any]:
        return self.content


def test_a_loss_of_two_points_is_told_apart(shared: Path) -> None:
    folder = shared / "evaluator" / "coco549_real_gt_synthetic_dets"
    split: Any = Annotated(test_evaluate.read(folder / "gt.json"))
    found = test_evaluate.read(folder / "detections.json")
    draw = rng()
    fewer = [item for item in found if draw.random() > 0.097]
    result = compare([run(found)], [run(fewer)], split, draws=50)
    assert result.accuracy.difference == pytest.approx(-0.02, abs=0.002)
    assert result.accuracy.told_apart
    missed = next(item for item in result.errors if item.name == "Miss")
    assert missed.difference > 0
    assert missed.told_apart


def test_sides_may_change_places() -> None:
    split = scenes(rng(), 30)
    a, b = (run(detect(rng(seed), split, recall)) for seed, recall in ((1, 0.9), (2, 0.5)))
    there, back = compare([a], [b], split, draws=40), compare([b], [a], split, draws=40)
    assert there.verdict == back.verdict == "unknown: one seed"
    assert back.words.startswith("B's weights score higher than A's: +")
    assert back.accuracy.low == pytest.approx(-(there.accuracy.high or 0), abs=1e-12)
    assert there.words.startswith("B's weights score lower than A's: -")
    assert there.words.endswith("so this is about these weights, not about the detectors")


def sides(seed: int, recalls: Sequence[Sequence[float]], images: int) -> tuple[Any, Any, Split]:
    """Draw runs of both sides, one a recall."""
    draw = rng(seed)
    split = scenes(draw, images, classes=3)
    a, b = (
        [run(detect(draw, split, recall), number) for number, recall in enumerate(side)]
        for side in recalls
    )
    return a, b, split


@pytest.mark.parametrize("seeds", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_of_forty_comparisons_of_equals_at_most_four_are_told_apart(seeds: int) -> None:
    told = 0
    for number in range(NULLS):
        noise = rng(1000 + number).normal(0, 0.05, (2, seeds)) * (seeds > 1)
        a, b, split = sides(number, 0.75 + noise, images=30)
        told += compare(a, b, split, draws=50).accuracy.told_apart
    assert told <= NULLS // 10


def test_a_difference_within_the_noise_of_seeds_is_not_told_apart() -> None:
    a, b, split = sides(0, [(0.66, 0.82, 0.74), (0.80, 0.70, 0.86)], images=150)
    one = compare(a[:1], b[:1], split, draws=60)
    assert one.verdict == "unknown: one seed"  # and so nothing is called better or worse
    assert re.search(r"95 % interval over images .*\); with one seed the scatter is unk", one.words)
    assert not re.search("better|worse", one.words)
    assert one.notes == []
    every = compare(a, b, split, draws=60)
    assert every.accuracy.difference > 0.01
    assert every.verdict == "no significant difference"
    assert every.notes == []
    assert every.method["seeds"] == {"A": 3, "B": 3}
    assert every.method["interval"].endswith(" plus that over seeds")


def test_a_difference_beyond_the_noise_of_seeds_is_told_apart() -> None:
    a, b, split = sides(0, [(0.58, 0.62, 0.60), (0.80, 0.84, 0.82)], images=100)
    assert compare(a, b, split, draws=60).verdict == "better"
    half = compare(a, b[:1], split, draws=60)
    assert "single training" in half.notes[-1]


def test_sides_of_the_same_trainings_are_compared_training_by_training() -> None:
    a, b, split = sides(0, [(0.5, 0.7, 0.9), (0.6, 0.8, 1.0)], images=60)
    apart = compare(a, b, split, draws=60)
    assert not apart.method["same_trainings"]
    for side in (a, b):
        for number, one in enumerate(side):
            one.record.details["training"] = {"training": f"t{number}"}
    paired = compare(a, b[::-1], split, draws=60)
    assert paired.method["same_trainings"]
    assert "same trainings" in paired.notes[-1]
    assert paired.accuracy.difference == pytest.approx(apart.accuracy.difference)
    one = compare(a[:1], b[:1], split, draws=60)  # two thresholds on the same weights
    assert one.verdict == "unknown: one seed"
    assert "A and B with these weights: " in one.words
    widths = [(item.high or 0) - (item.low or 0) for item in (apart.accuracy, paired.accuracy)]
    assert widths[1] < widths[0] / 3


def test_what_moved_is_found() -> None:
    split = scenes(rng(), 60)
    found = detect(rng(1), split, recall=1.0)
    spoiled, chosen = [], split.images[7]
    for item in found:
        if item["category_id"] != 2 and item["image_id"] != chosen.id:
            spoiled.append(item)
    result = compare([run(found)], [run(spoiled)], split, draws=80)
    assert result.classes[0].name == "class 1"
    assert result.classes[0].told_apart
    assert [item.told_apart for item in result.classes[1:]] == [False] * 3
    assert chosen.file_name in [item.file_name for item in result.images]
    assert len(result.images) == 10
    gaps = [abs(item.difference) for item in result.images]
    assert gaps == sorted(gaps, reverse=True)


def test_few_images_give_no_interval() -> None:
    split = scenes(rng(), 4)
    a, b = (run(detect(rng(seed), split)) for seed in (1, 2))
    result = compare([a], [b], split, draws=20)
    assert (result.accuracy.low, result.accuracy.p) == (None, None)
    assert result.verdict == "unknown: one seed"
    assert "4 images with objects are too few" in result.words


def test_nothing_to_find_is_refused() -> None:
    truth = {**scenes(rng(), 2).ground_truth(), "annotations": []}
    for image in truth["images"]:
        image["file_name"] = "x"
    split: Any = Annotated(truth)
    with pytest.raises(CompareError, match="no object"):
        compare([run([])], [run([])], split, draws=2)


def test_a_record_that_contradicts_its_detections_is_named() -> None:
    split = scenes(rng(), 8)
    wrong = run(detect(rng(1), split), metrics={"mAP": 0.9})
    result = compare([wrong], [wrong], split, draws=5)
    assert re.search(r"says mAP 0\.9000, its detections give 0\.\d{4}", result.notes[0])


def measured(a: list[float], b: list[float], variance: float, images: int = 100) -> Measured:
    columns = (np.array(side)[:, None] for side in (a, b))
    return Measured(("mAP",), *columns, np.array([variance]), np.array([images]))


def test_variances_of_images_and_seeds_add_up() -> None:
    found = differences.compare(measured([0.1, 0.3], [0.5, 0.5, 0.8], 0.99 * 0.01))[0]
    parts = {99: 0.01, 1: 0.02 / 2, 2: 0.03 / 3}
    freedom = sum(parts.values()) ** 2 / sum(part**2 / key for key, part in parts.items())
    half = float(stdtrit(freedom, 0.975)) * sum(parts.values()) ** 0.5
    assert found.difference == pytest.approx(0.4)
    assert (found.low, found.high) == pytest.approx((0.4 - half, 0.4 + half))


def test_a_single_training_is_taken_to_vary_as_the_others() -> None:
    found = differences.compare(measured([0.1, 0.3], [0.6], 0.0))[0]
    half = float(stdtrit(1, 0.975)) * (0.02 * (1 / 2 + 1)) ** 0.5
    assert found.low == pytest.approx(0.4 - half)


def test_one_of_many_must_be_clearer_than_one_alone() -> None:
    assert differences.compare(measured([0.0], [0.021], 0.0001))[0].told_apart
    many = Measured(
        tuple("abcd"),
        np.zeros((1, 4)),
        np.array([[0.021, 0.05, 0.0, np.nan]]),
        np.full(4, 0.0001),
        np.full(4, 100),
    )
    found = differences.compare(many)
    assert [item.name for item in found] == ["a", "b", "c"]
    assert [item.told_apart for item in found] == [False, True, False]
    many.b[0, 0] = 0.0245
    assert [item.told_apart for item in differences.compare(many)] == [True, True, False]


def timed(trial: str, reference: str | None = None, **metrics: float) -> Record:
    details = {"reference": reference} if reference else {}
    return run(
        [],
        trial=trial,
        metrics={"latency_ms": 10.0, **metrics},
        details=details,
        environment={"device": "cpu", "host": "h"},
    ).record


RATIO = {"latency_ratio": 1.25, "latency_ratio_low": 1.2, "latency_ratio_high": 1.3}


def test_latency_is_compared_with_the_trial_it_was_timed_in_turns_with() -> None:
    first, second = timed("first"), timed("second", "first", **RATIO)
    found = compare_latency(first, second)
    assert (found.verdict, found.ratio, found.low, found.high) == ("slower", 1.25, 1.2, 1.3)
    assert (found.difference_ms, found.low_ms, found.high_ms) == pytest.approx((2.5, 2.0, 3.0))
    back = compare_latency(second, first)
    assert back.verdict == "faster"
    assert (back.ratio, back.low, back.high) == pytest.approx((1 / 1.25, 1 / 1.3, 1 / 1.2))


def test_latency_is_compared_through_a_third_trial() -> None:
    second = timed("second", "first", **RATIO)
    third = timed("third", "first", **RATIO)
    found = compare_latency(second, third)
    assert found.verdict == "no significant difference"
    assert found.ratio == pytest.approx(1.0)
    assert found.low is not None
    assert found.low < 1.2 / 1.25
    assert "no significant difference in latency: 1.000 times" in found.words


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (timed("a"), timed("b"), "not timed in turns"),
        (timed("a", "x", **RATIO), timed("b", "y", **RATIO), "not timed in turns"),
        (timed("a"), timed("b", "a"), "not timed in turns"),
        (run([]).record, timed("b"), "A has none \\(not measured\\)"),
    ],
)
def test_latency_that_was_not_taken_together_is_not_compared(
    a: Record, b: Record, message: str
) -> None:
    found = compare_latency(a, b)
    assert (found.verdict, found.ratio) == (None, None)
    assert re.search(message, found.words)


def test_latency_of_other_machines_is_not_compared() -> None:
    first, second = timed("first"), timed("second", "first", **RATIO)
    second.environment = {"device": "cpu", "host": "other"}
    assert compare_latency(first, second).verdict is None


def changed(first: Run, **fields: Any) -> Run:
    return first._replace(record=first.record.model_copy(update=fields))


def test_unlike_protocols_and_data_are_refused_unless_told_otherwise() -> None:
    first = run([], protocol={"input.size": [320, 320]})
    second = run([], protocol={"input.size": [640, 640]}, protocol_hash="q")
    with pytest.raises(CompareError, match=r"protocols \(input.size\); --mixed compares"):
        runs.check([first], [second], mixed=False)
    assert "different protocols (input.size)" in runs.check([first], [second], mixed=True)[0]
    third = changed(first, data={"fingerprint": "g"})
    with pytest.raises(CompareError, match="different data .fingerprints f and g"):
        runs.check([first], [third], mixed=False)
    known = changed(first, code={"detector": {"toy.py": "1"}})
    assert runs.check([known], [known], mixed=False) == []


def test_a_side_is_one_configuration_with_seeds() -> None:
    first, again = run([], seed=0), run([], seed=0)
    with pytest.raises(CompareError, match="side A has a seed twice"):
        runs.check([first, again], [first], mixed=True)
    other = run([], seed=1, config={"detector.width": 4})
    with pytest.raises(CompareError, match=r"side B is not one .* detector\.width differs"):
        runs.check([first], [first, other], mixed=True)
