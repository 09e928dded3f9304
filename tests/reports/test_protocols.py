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
    other = make("c", protocol={**HALF, "evaluator": "another"}, protocol_hash="p3")
    with pytest.raises(MixedProtocols, match="3 protocols, which differ in evaluator;"):
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


def test_unlike_trials_are_no_seeds_of_one_variant(make: Make) -> None:
    alike = [make("a"), make("b", seed=1)]
    assert [len(group) for group in tables.variants(alike)] == [2]
    unlike = [make("a"), make("b", seed=1, protocol_hash="p2", protocol=HALF)]
    assert [len(group) for group in tables.variants(unlike)] == [1, 1]


def test_many_protocols_have_names(make: Make) -> None:
    records = [make(str(number), protocol_hash=f"h{number}") for number in range(28)]
    names = list(protocols.letters(records).values())
    assert names[0] == "A"
    assert names[-1] == "P28"
