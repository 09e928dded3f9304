"""What of a record's code, libraries and study is another's."""

from typing import Any

import pytest

from harness.records import Record, origins
from tests.reports.conftest import make_record as make


def configured(overrides: dict[str, Any], config: dict[str, Any], **changes: Any) -> Record:
    return make(overrides=overrides, config=config, **changes)


def test_a_stale_result_says_by_what() -> None:
    caveats = {"mAP": "few images", "code": "old; of other code: toy.py, boxes.py"}
    assert origins.stale(make(caveats=caveats)) == "toy.py, boxes.py"
    assert origins.stale(make(caveats={"mAP": "few images"})) is None


def test_files_of_one_trial_alone_are_no_change() -> None:
    first = make(code={"detector": {"a.py": "1", "b.py": "1"}})
    other = make(code={"detector": {"a.py": "1", "b.py": "2", "c.py": "1"}, "training": {"t": "1"}})
    assert origins.other_code([first, other]) == ["b.py"]
    assert origins.other_code([first, make()]) == []


@pytest.mark.parametrize(
    ("overrides", "path"),
    [
        ({"recipe": "long"}, "recipe.epochs"),
        ({"detector.assigner": {"type": "SimOTA"}}, "detector.assigner.topk"),
        ({"detector.assigner.type": "SimOTA"}, "detector.assigner.topk"),
        ({"detector.assigner.topk": 3}, "detector.assigner"),
        ({"data.source": "folder"}, "detector.num_classes"),
        ({"recipe.epochs": 2}, "recipe.epochs"),
    ],
)
def test_what_a_swept_knob_brings_along_is_no_edit(overrides: dict[str, Any], path: str) -> None:
    records = [configured({}, {path: 1}), configured(overrides, {path: 2})]
    assert origins.edited(records) == []
    assert origins.edited([configured({}, {path: 1}), configured({}, {path: 2})]) == [path]


def test_another_detector_has_knobs_of_its_own() -> None:
    first, other = ({"detector.width": 1, "recipe.lr": 1}, {"detector.width": 2, "recipe.lr": 2})
    records = [configured({}, first), configured({}, other, detector="other")]
    assert origins.edited(records) == ["recipe.lr"]
