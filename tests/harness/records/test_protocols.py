"""Protocols: a swept knob is the study's question, and what nobody swept is a mixture."""

import pytest

from harness.records import Record, protocols
from harness.records.protocols import brought_along, letters, unexplained
from tests.reports.conftest import make_record

IOU = "detector.postprocess.iou_threshold"


def swept(trial: str, iou: float, **more: object) -> Record:
    """Make a trial of a study that sweeps a threshold, which is part of its protocol."""
    protocol = {"postprocess.iou_threshold": iou, "input.resize": "letterbox", **more}
    return make_record(trial, overrides={IOU: iou}, protocol=protocol, protocol_hash=repr(protocol))


def test_a_swept_threshold_is_no_mixture_and_needs_no_letter() -> None:
    records = [swept("a", 0.5), swept("b", 0.6), swept("c", 0.8)]
    assert unexplained(records) == []
    assert set(letters(records).values()) == {"A"}
    assert brought_along(records) == []  # the knob itself tells it


def test_anything_else_is_still_a_mixture_that_letters_tell_apart() -> None:
    """A resize policy that nobody swept, beside the threshold that the study sweeps."""
    other = swept("c", 0.8, **{"input.resize": "stretch"})
    records = [swept("a", 0.5), swept("b", 0.6), other]
    assert unexplained(records) == ["input.resize"]
    found = letters(records)
    assert [found[record.protocol_hash] for record in records] == ["A", "A", "B"]


def test_equal_settings_do_not_explain_unlike_protocols() -> None:
    """Two trials of one detector were resized otherwise, so a sweep of detectors is not why."""
    records = [swept("a", 0.5), swept("b", 0.5, **{"input.resize": "stretch"})]
    records.append(swept("c", 0.5, **{"input.resize": "stretch"}))
    records[2].detector = "other"
    assert unexplained(records) == ["input.resize"]
    assert unexplained(records[1:]) == []
    assert unexplained([records[0], records[2]]) == []
    assert brought_along([records[0], records[2]]) == ["input.resize"]


def test_a_group_of_knobs_explains_all_that_is_in_it() -> None:
    """As `detector.postprocess: {iou_threshold: ...}` is one axis."""
    records = [swept("a", 0.5), swept("b", 0.6)]
    for record, iou in zip(records, (0.5, 0.6), strict=True):
        record.overrides = {"detector.postprocess": {"iou_threshold": iou}}
    assert unexplained(records) == []


@pytest.mark.parametrize("count", [1, 28])
def test_protocols_that_nothing_explains_have_a_letter_each(count: int) -> None:
    records = [make_record(str(number), protocol_hash=f"h{number}") for number in range(count)]
    found = list(protocols.letters(records).values())
    assert len(set(found)) == count
    assert found[0] == "A"
    assert count == 1 or found[-2:] == ["P27", "P28"]
