"""Boxes and time along the thresholds of NMS: RT-DETR's figure 2, and its table 1 as a grid."""

import copy

import pytest

from reports import thresholds
from reports.points import Bound
from tests.reports.test_frontier import Result, made


@pytest.fixture
def result() -> Result:
    """Time is 1 / (score + 0.1), 0.05 more at IoU 0.7; a higher score leaves fewer boxes."""
    found = made()
    for row in found["rows"]:
        score, iou = row["setting"]["score_threshold"], row["setting"]["iou_threshold"]
        row["metrics"]["nms_ms"] += 0.05 * (iou == 0.7)
        row["counts"] = {
            "candidates": {"median": 1000 * (1 - score)},
            "detections": {"median": 100 * iou * (1 - score)},
        }
    return found


def test_boxes_and_time_are_followed_along_each_threshold(result: Result) -> None:
    enter, left, time, left_by_iou, time_by_iou = thresholds.ways(result)
    assert (enter.title, enter.knob) == ("boxes that enter NMS", "score_threshold")
    (line,) = enter.lines  # the IoU threshold makes no difference to what enters
    assert line == ("", ["0.001", "0.1", "0.3"], [Bound(999.0), Bound(900.0), Bound(700.0)])
    assert [each.name for each in left.lines] == ["IoU threshold 0.5", "IoU threshold 0.7"]
    assert [bound.value for bound in left.lines[1].values] == pytest.approx([69.93, 63, 49])
    assert time.lines[0].values[1] == pytest.approx(Bound(5.0, 4.9, 5.2))
    assert (left_by_iou.knob, time_by_iou.knob) == ("iou_threshold", "iou_threshold")
    assert [each.name for each in left_by_iou.lines] == [
        "score threshold 0.001",
        "score threshold 0.1",
        "score threshold 0.3",
    ]
    assert [bound.value for bound in left_by_iou.lines[2].values] == pytest.approx([35, 49])


def test_other_knobs_stay_as_configured(result: Result) -> None:
    extra = copy.deepcopy(result["rows"][0])
    extra["setting"]["max_detections"] = 300
    extra["counts"]["candidates"]["median"] = 1.0
    extra["configured"] = False
    result["rows"].append(extra)
    assert 1.0 not in [bound.value for bound in thresholds.ways(result)[0].lines[0].values]
    assert thresholds.note(result).startswith("At max detections 100. Medians")


def test_a_detector_without_suppression_has_no_boxes_that_enter(result: Result) -> None:
    for row in result["rows"]:
        del row["counts"]["candidates"], row["setting"]["iou_threshold"]
    found = thresholds.ways(result)
    assert [way.title for way in found] == ["boxes that are left", "NMS (ms)"]
    assert [line.name for line in found[1].lines] == [""]


def test_thresholds_that_do_not_vary_make_no_way(result: Result) -> None:
    result["rows"] = result["rows"][:1]
    assert thresholds.ways(result) == []


def test_the_figure_has_a_view_for_each_way(result: Result) -> None:
    figure = thresholds.ways_figure(thresholds.ways(result))
    views = figure.layout.meta["views"]
    assert [view["label"] for view in views][:2] == [
        "boxes that enter NMS by score threshold",
        "boxes that are left by score threshold",
    ]
    assert [view["traces"] for view in views] == [[0], [1, 2], [3, 4], [5, 6, 7], [8, 9, 10]]
    assert [trace.visible for trace in figure.data] == [True] + [False] * 10
    assert figure.layout.xaxis.ticktext == ("0.001", "0.1", "0.3")
    assert views[3]["layout"]["xaxis.ticktext"] == ["0.5", "0.7"]
    assert figure.data[3].error_y.array == pytest.approx((0.2, 0.2, 0.2))
    assert not figure.data[0].showlegend


def test_two_thresholds_make_a_table_like_rtdetrs(result: Result) -> None:
    extra = copy.deepcopy(result["rows"][0])
    extra["setting"]["max_detections"] = 300
    extra["configured"] = False
    result["rows"] = [*result["rows"][:-1], extra]
    grids, rest = thresholds.grid(result, "score_threshold", "iou_threshold")
    assert rest == "max detections 100"
    assert (grids["mAP"].xs, grids["mAP"].ys) == (["0.001", "0.1", "0.3"], ["0.5", "0.7"])
    assert grids["mAP"].means[0][0] == pytest.approx(54.9)
    assert grids["nms_ms"].means[1][2] is None  # not tried
    assert grids["nms_ms"].counts == [[1, 1, 1], [1, 1, 0]]
