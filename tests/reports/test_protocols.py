"""Rows that were measured differently share no table unless told to, and are marked then."""

from pathlib import Path

import pytest

from reports import display, protocols, site, tables
from reports.protocols import MixedProtocols
from tests.reports.conftest import Make

LATENCY = {"latency": {"batch_size": 1, "precision": "fp32"}, "input.size": [64, 96]}
HALF = {"latency": {"batch_size": 1, "precision": "fp16"}, "input.size": [64, 96]}


def test_rows_of_one_protocol_need_no_mark(make: Make) -> None:
    records = [make("a"), make("b", seed=1)]
    protocols.refuse(records)
    assert "protocol" not in [column.key for column in display.trial_table(records).columns]
    assert {row["protocol"] for row in tables.trial_rows(records)} == {"A"}


def test_unlike_rows_are_refused_in_a_line_that_names_what_differs(make: Make) -> None:
    records = [make("a", protocol=LATENCY), make("b", protocol=HALF, protocol_hash="p2")]
    with pytest.raises(MixedProtocols, match=r"2 protocols.* latency\.precision; .*--mixed"):
        protocols.refuse(records)


def test_what_a_study_sweeps_may_differ(make: Make) -> None:
    swept = {"latency.precision": "fp16"}
    records = [
        make("a", protocol=LATENCY),
        make("b", protocol=HALF, protocol_hash="p2", overrides=swept),
    ]
    protocols.refuse(records)
    unlike = {**HALF, "evaluator": "another"}
    other = make("c", protocol=unlike, protocol_hash="p3", overrides=swept)
    with pytest.raises(MixedProtocols, match="2 protocols, which differ in evaluator;"):
        protocols.refuse([*records, other])


@pytest.mark.parametrize(
    ("changed", "overrides"),
    [
        ({"input.size": [32, 32]}, {"detector.input.size": [32, 32]}),
        ({"data": "f2"}, {"data.shapes.train_images": 10}),
    ],
)
def test_knobs_of_detector_and_data_are_known_by_their_own_names(
    make: Make, changed: dict[str, object], overrides: dict[str, object]
) -> None:
    first = make("a", protocol=LATENCY)
    other = {"protocol": {**LATENCY, **changed}, "protocol_hash": "p2"}
    protocols.refuse([first, make("b", **other, overrides=overrides)])
    with pytest.raises(MixedProtocols, match=next(iter(changed))):
        protocols.refuse([first, make("b", **other)])


def test_other_detectors_bring_inputs_of_their_own(make: Make) -> None:
    other = {"protocol": {**LATENCY, "input.resize": "stretch"}, "protocol_hash": "p2"}
    protocols.refuse([make("a", protocol=LATENCY), make("b", **other, detector="other")])


def test_hashes_that_nothing_explains_are_refused(make: Make) -> None:
    with pytest.raises(MixedProtocols, match="unknown parts"):
        protocols.refuse([make("a"), make("b", protocol_hash="p2")])


def test_a_page_refuses_and_marks_once_it_is_told_to(make: Make, tmp_path: Path) -> None:
    records = [make("a", protocol=LATENCY), make("b", protocol=HALF, protocol_hash="p2")]
    with pytest.raises(MixedProtocols):
        site.write(records, tmp_path, title="mixed")
    assert list(tmp_path.iterdir()) == []
    page = site.write(records, tmp_path, title="mixed", mixed=True).read_text(encoding="utf-8")
    assert "a letter marks the rows of each" in page
    table = display.trial_table(records)
    place = [column.key for column in table.columns].index("protocol")
    assert [row[place].text for row in table.rows] == ["A", "B"]
    other = [cell for cell in table.rows[1] if "another protocol" in cell.hint]
    assert {cell.text for cell in other} == {"0.0"}


def test_a_page_of_a_swept_threshold_compares_its_rows_without_a_warning(
    make: Make, tmp_path: Path
) -> None:
    """The study asks for it: no letter, no note on differences, no warning; the effect is told."""
    path, rows = "detector.postprocess.iou_threshold", []
    for place, (seed, iou) in enumerate((s, i) for s in (0, 1, 2) for i in (0.5, 0.8)):
        protocol = {**LATENCY, "postprocess.iou_threshold": iou}
        changes = {"seed": seed, "overrides": {path: iou}, "protocol": protocol}
        metrics = {"mAP": 0.6 - 0.1 * (iou > 0.5) + 0.001 * (place % 3)}
        rows.append(make(f"t{place}", protocol_hash=f"p{iou}", metrics=metrics, **changes))
    page = site.write(rows, tmp_path, title="thresholds").read_text(encoding="utf-8")
    assert "protocols share this page" not in page
    assert "another protocol" not in page
    table = display.trial_table(rows)
    assert "protocol" not in [column.key for column in table.columns]
    assert {row["mAP_delta"] is None for row in tables.trial_rows(rows)[1:]} == {False}
    (_, other) = tables.variant_rows(rows)
    assert other["mAP_delta_high"] < -9
    assert "Effects on mAP" in page


def test_unlike_trials_are_no_seeds_of_one_variant(make: Make) -> None:
    alike = [make("a"), make("b", seed=1)]
    assert [len(group) for group in tables.variants(alike)] == [2]
    unlike = [make("a"), make("b", seed=1, protocol_hash="p2", protocol=HALF)]
    assert [len(group) for group in tables.variants(unlike)] == [1, 1]
