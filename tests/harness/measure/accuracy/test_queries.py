"""Shares of selected features equal those worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from detectors import CONFIGS
from detectors.config import override
from detectors.interface import Detector, QueryOutputs, SelectsQueries, Target
from harness.config.data import DataConfig
from harness.data import Split, load, normalize, val_loader
from harness.measure.accuracy import queries
from harness.measure.accuracy.queries import Counts, count, measure, shares
from harness.records.progress import Progress
from tests.toy import ToyConfig

SQUARE = [0.0, 0.0, 10.0, 10.0]


def logit(score: float) -> float:
    return math.log(score / (1 - score))


def selected(*features: tuple[float, list[float]]) -> QueryOutputs:
    """Return one image's features: the score of the second class, the first has less; a box."""
    logits = [[-9.0, logit(score)] for score, _ in features]
    return QueryOutputs(torch.tensor([logits]), torch.tensor([[box for _, box in features]]))


def objects(*boxes: list[float]) -> list[Target]:
    return [Target(torch.tensor(boxes).reshape(-1, 4), torch.zeros(len(boxes), dtype=torch.int64))]


def test_both_scores_have_to_be_above_a_half_and_not_at_it() -> None:
    found = selected(
        (0.9, [0.0, 0.0, 10.0, 10.0]),  # sure, and where the object is
        (0.9, [0.0, 0.0, 5.0, 10.0]),  # half of the object: an overlap of 0.5
        (0.9, [0.0, 0.0, 6.0, 10.0]),  # six tenths of it
        (0.9, [20.0, 20.0, 30.0, 30.0]),  # sure of nothing
        (0.5, [0.0, 0.0, 10.0, 10.0]),  # well placed, and not sure
        (0.1, [0.0, 0.0, 10.0, 10.0]),
        (0.2, [0.0, 0.0, 1.0, 1.0]),
        (0.3, [0.0, 0.0, 1.0, 1.0]),
    )
    assert count(found, objects(SQUARE)) == Counts(selected=8, sure=4, both=2)
    assert shares(Counts(8, 4, 2)) == {"prop_cls": 0.5, "prop_both": 0.25}


def test_a_box_counts_once_however_many_objects_it_lies_on() -> None:
    found = selected((0.9, SQUARE), (0.9, [100.0, 100.0, 110.0, 110.0]))
    near = [0.0, 0.0, 10.0, 9.0]
    assert count(found, objects([50.0, 50.0, 60.0, 60.0], near, SQUARE)) == Counts(2, 2, 1)


def test_an_image_without_objects_has_none_that_is_well_placed() -> None:
    assert count(selected((0.9, SQUARE), (0.1, SQUARE)), objects()) == Counts(2, 1, 0)


def test_of_no_features_there_is_no_share() -> None:
    assert shares(Counts(0, 0, 0)) == {}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    shapes = {"train_images": 2, "val_images": 5, "size": 128}
    return load(DataConfig.model_validate({"shapes": shapes})).val


@pytest.fixture(scope="module")
def rtdetr() -> Detector:
    """A small one, which is sure of some of its cells."""
    sizes = {"backbone.width_mult": 0.25, "neck.hidden_dim": 32, "head.hidden_dim": 32}
    config = override(
        CONFIGS["rtdetr_r18"],
        {**sizes, "head.num_queries": 40, "num_classes": 4, "input.size": [128, 128]},
    )
    torch.manual_seed(0)
    detector = config.build().eval()
    with torch.no_grad():
        detector.head.selection.score.bias.zero_()  # type: ignore[union-attr]
    return detector


def plain(selected: QueryOutputs, targets: list[Target]) -> Counts:
    """Count by loops over numbers."""
    total = sure = both = 0
    for logits, boxes, target in zip(*map(Tensor.tolist, selected), targets, strict=True):
        for scores, box in zip(logits, boxes, strict=True):
            total += 1
            if max(scores) > 0:
                sure += 1
                both += any(overlap(box, other) > 0.5 for other in target.boxes.tolist())
    return Counts(total, sure, both)


def overlap(box: list[float], other: list[float]) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    common = max(width, 0) * max(height, 0)
    areas = ((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return common / (sum(areas) - common)


def test_a_detector_that_selects_is_measured_on_every_image(
    split: Split, rtdetr: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "PLACED", 0.2)  # so that an untrained one reaches it, too
    steps = list[Progress]()
    found = measure(rtdetr, split, device="cpu", batch_size=2, workers=0, on_progress=steps.append)
    assert found is not None
    deployed, expected = rtdetr.deploy(), Counts(0, 0, 0)
    assert isinstance(deployed, SelectsQueries)
    with torch.no_grad():
        for batch in val_loader(split, rtdetr.config.input, 1, 0):
            chosen = deployed.selected(normalize(batch.images, rtdetr.config.input))
            expected = expected.plus(count(chosen, batch.targets))  # type: ignore[arg-type]
    assert found.details == expected._asdict()
    assert found.metrics == shares(expected)
    assert expected.selected == 5 * 40
    assert 0 < expected.both < expected.sure <= expected.selected
    assert [step[:3] for step in steps] == [("queries", done, 5) for done in (2, 4, 5)]


def test_counts_are_those_of_loops_over_numbers(split: Split, rtdetr: Detector) -> None:
    torch.manual_seed(1)
    for batch in val_loader(split, rtdetr.config.input, 5, 0):
        near = torch.cat([target.boxes for target in batch.targets])
        near = near[torch.randint(len(near), (5, 60))] + torch.randn(5, 60, 1) * 5
        found = QueryOutputs(torch.randn(5, 60, 4), near)
        counted = count(found, batch.targets)
        assert counted == plain(found, batch.targets)
        assert 0 < counted.both < counted.sure < counted.selected


def test_a_detector_that_selects_nothing_is_told_apart(split: Split) -> None:
    assert measure(ToyConfig(num_classes=4).build(), split, device="cpu", workers=0) is None
