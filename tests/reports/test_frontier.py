"""Every setting is placed, coloured by each knob, and laid out."""

import base64
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from reports import frontier, recommended
from reports.points import METRICS
from tests.reports.conftest import make_record
from tests.reports.test_precision import precise

Result = dict[str, Any]


def made() -> Result:
    """Six settings: a higher threshold is faster, and finds less."""
    rows = []
    for score, iou in itertools.product([0.001, 0.1, 0.3], [0.5, 0.7]):
        time, accuracy = 1 / (score + 0.1), 0.5 - score + 0.1 * iou
        metrics = {"mAP": accuracy, "mAP_50": accuracy + 0.1, "mAP_75": accuracy - 0.1}
        for name, value in (("nms", time), ("latency", time + 20)):
            ends = {f"{name}_low_ms": value - 0.1, f"{name}_high_ms": value + 0.2}
            metrics |= {f"{name}_ms": value, **ends}
        rows.append(
            {
                "setting": {"score_threshold": score, "iou_threshold": iou, "max_detections": 100},
                "configured": (score, iou) == (0.001, 0.5),
                "optimal": iou == 0.7,
                "metrics": metrics,
                "counts": {
                    "candidates": {"median": 1000 - 10 * iou},
                    "detections": {"median": 9.0},
                },
            }
        )
    return {
        "model": "folder/rtmdet_x",
        "data": {"name": "bccd", "fingerprint": "f"},
        "environment": {"device": "cpu", "cpu": {"model": "A processor"}},
        "latency": {"precision": "fp32"},
        "rows": rows,
        "network": {"network_ms": 20.0, "network_low_ms": 19.0, "network_high_ms": 21.0},
        "details": {"rounds": 12, "nms_seconds": 3.0, "images": 72},
        "absent": {},
        "caveats": {},
        "recommended": None,
        "detections": None,
    }


def advised() -> Result:
    """Recommend the third setting of `made`."""
    counts = {"score": 0.1, "right": 6, "found": 12, "objects": 8}
    shares = {"precision": 0.5, "recall": 0.75, "f1": 0.6}
    found = precise(classes=["a", "<b>"]).model_dump(by_alias=True)
    own = {"place": 3, "sentence": "Take <this>.", "rule": "The fastest.", "boxes": 12}
    counted = {"as_set": counts | shares, "at_best_f1": {**counts, **shares, "score": 0.4321}}
    return made() | {
        "recommended": {**own, **counted, "precision": found},
        "detections": "some where/out.detections.json",
    }


@pytest.fixture
def result() -> Result:
    return made()


def test_the_front_is_marked_by_each_cost(result: Result) -> None:
    cost = frontier.COSTS["nms_ms"]
    tried = frontier.tried(result, cost)
    assert [item.dot.optimal for item in tried] == [False, True] * 3
    assert [item.configured for item in tried] == [True] + [False] * 5
    assert tried[0].dot.x.low == pytest.approx(tried[0].dot.x.value - 0.1)
    assert tried[0].dot.label == "score threshold 0.001, IoU threshold 0.5, max detections 100"
    whole = frontier.tried(result, frontier.COSTS["latency_ms"])
    assert whole[0].dot.x.value == pytest.approx(tried[0].dot.x.value + 20)


def test_each_knob_that_varies_has_a_view(result: Result) -> None:
    cost = frontier.COSTS["nms_ms"]
    figure = frontier.scatter(frontier.tried(result, cost), cost, METRICS["mAP"])
    views = figure.layout.meta["views"]
    assert [view["label"] for view in views] == [
        "score threshold in colour",
        "IoU threshold in colour",
    ]
    assert [view["traces"] for view in views] == [[0, 1, 2, 3, 4], [0, 1, 5, 6]]
    assert [trace.visible for trace in figure.data[2:]] == [True] * 3 + [False] * 2
    for view in views:
        assert sum(len(figure.data[index].x) for index in view["traces"][2:]) == 6
    assert "boxes before NMS: 995" in figure.data[2].hovertext[0]


def test_the_table_is_sorted_by_time_and_marks_what_matters(result: Result) -> None:
    table = frontier.table(result)
    assert [row[1].text for row in table.rows] == ["", "front", "", "front", "configured", "front"]
    labels = [column.label for column in table.columns]
    assert labels[:2] == ["#", "mark"]
    assert labels[2:5] == ["score threshold", "IoU threshold", "max detections"]
    first = dict(zip(labels, table.rows[0], strict=True))
    assert (first["mAP"].text, first["NMS"].text) == ("25.00", "2.50")
    assert (first["mAP"].small, first["NMS"].small) == ("", "2.40 to 2.70")
    assert first["end to end"].text == "22.50"
    assert first["before NMS"].text == "995"


def test_a_detector_without_suppression_has_fewer_parts(result: Result) -> None:
    for row in result["rows"]:
        del row["counts"]["candidates"], row["setting"]["iou_threshold"]
    assert [panel.key for panel in frontier.panels(result)] == [
        "mAP-nms_ms",
        "mAP-latency_ms",
        "thresholds",
    ]
    assert "before NMS" not in [column.label for column in frontier.table(result).columns]


def test_without_accuracy_there_is_a_table_and_no_figure(result: Result) -> None:
    result["absent"] = {"mAP": "the validation split has no object"}
    for row in result["rows"]:
        row["metrics"] = {key: row["metrics"][key] for key in ("nms_ms", "latency_ms")}
    text = frontier.render(result)
    assert "the validation split has no object" in text
    assert 'class="plot"' not in text


def test_the_page_is_whole_and_loads_nothing(result: Result, tmp_path: Path) -> None:
    result["caveats"] = {"nms_ms": "untrained <b>", "mAP": "untrained <b>"}
    file = frontier.write(result, tmp_path / "out")
    assert file == tmp_path / "out" / "index.html"
    text = file.read_text(encoding="utf-8")
    assert text.count("untrained &lt;b&gt;") == 1
    for key in ("mAP-nms_ms", "mAP-latency_ms", "thresholds", "grid"):
        found = re.search(rf'id="figure-{key}">(.*?)</script>', text)
        assert found is not None
        assert json.loads(found[1])["data"]
    head = text.partition("plotly.js v")[0]
    assert not re.search(r'(?:src|href)="(?!#|data:|https://arxiv\.org)', head)
    encoded = re.search(r'nms_frontier\.json" href="[^"]*base64,([^"]*)"', text)
    assert encoded is not None
    assert len(json.loads(base64.b64decode(encoded[1]))) == 6
    assert "20 ms (19 to 21)" in text
    page = frontier.write(result, tmp_path / "other.html")
    assert page == tmp_path / "other.html"


def test_the_recommended_setting_stands_first_and_is_marked() -> None:
    result = advised()
    cells = frontier.table(result).rows
    assert [row[1].text for row in cells].count("recommended, front") == 1
    assert sum(row["recommended"] for row in frontier.flat(result)) == 1
    cost = frontier.COSTS["nms_ms"]
    tried = frontier.tried(result, cost)
    figure = frontier.scatter(tried, cost, METRICS["mAP"])
    assert figure.data[2].name == "recommended"
    assert figure.data[2].x == (tried[3].dot.x.value,)
    assert [view["traces"][:3] for view in figure.layout.meta["views"]] == [[0, 1, 2]] * 2
    text = frontier.render(result)
    assert text.index("Take &lt;this&gt;.") < text.index('id="figure-mAP-nms_ms"')
    assert 'href="out.detections.json"' in text


def test_precision_and_recall_of_the_recommended_setting_are_laid_out() -> None:
    found = recommended.advice(advised())
    assert found is not None
    assert [[cell.text for cell in row] for row in found.table.rows] == [
        ["all that it finds", "0.100", "50.0", "75.0", "60.0", "6", "12", "8"],
        ["greatest F1", "0.432", "50.0", "75.0", "60.0", "6", "12", "8"],
    ]
    curves, confusion = recommended.panels(advised())
    views = [view["label"] for view in curves.figure.layout.meta["views"]]
    assert views[-1] == "each class, IoU 0.50"
    assert [trace.name for trace in curves.figure.data][-2:] == ["a", "&lt;b&gt;"]
    assert len(confusion.figure.data) == 1
    assert recommended.advice(made()) is None
    assert recommended.panels(made()) == []


def test_a_trial_is_titled_by_its_record_and_not_by_its_hash(tmp_path: Path) -> None:
    folder = tmp_path / "0123456789ab"
    make_record().write(folder)
    assert frontier.named(str(folder)) == "study: expand_ratio=0.25"
    assert frontier.named("rtmdet_s") == "rtmdet_s"
    (folder / "record.json").write_text("broken", "utf-8")
    assert frontier.named(str(folder)) == "0123456789ab"
