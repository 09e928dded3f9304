"""A chosen baseline, and where numbers come from: what pages hold of it."""

import pytest

from harness.analysis.compare import latency
from reports import baselines, provenance
from tests.reports.conftest import make_failed, make_record, together

KNOB = "detector.backbone.expand_ratio"


def test_ratios_between_any_two_are_those_of_compare() -> None:
    records = [
        together("first"),
        together("b", 1.1, overrides={KNOB: 1}),
        together("c", 0.8, overrides={KNOB: 2}),
    ]
    found = baselines.baselines(records)["ratios"]
    for i, a in enumerate(records):
        for j, b in enumerate(records):
            told = latency.compare_latency(a, b)
            wanted = None if a is b else [told.ratio, told.low, told.high]
            assert found[i][j] == (wanted if wanted is None else pytest.approx(wanted))
    assert found[1][2][0] == pytest.approx(0.8 / 1.1)


def test_what_compares_nothing_has_no_ratio() -> None:
    other = {"environment": {"device": "cuda:0"}}
    records = [together("first"), together("b", 1.1, **other), make_record("c"), make_failed()]
    found = baselines.baselines(records)
    assert found["ratios"] == [[None] * 4] * 4
    assert found["trials"][3]["mAP"] is None
    assert found["trials"][0]["mAP"] == 0.5


def test_a_single_trial_has_nothing_to_choose() -> None:
    assert baselines.baselines([make_record(), make_failed()]) == {}


def test_provenance_names_trial_command_code_versions_device_and_samples() -> None:
    record = make_record(
        "t9",
        environment={
            "command": ["detbench", "run", "a study"],
            "git": {"commit": "0123456789abcdef", "dirty": True},
            "packages": {"torch": "2.6", "other": "1"},
            "python": "3.12",
            "device": "cpu",
            "cpu": {"model": "A processor"},
        },
        code={"detector": {"a.py": "1", "b.py": "2"}},
        data={"name": "shapes", "val": {"images": 200}},
        protocol={"evaluator": "hotcoco"},
        details={"training": {"made_by": "study/t1"}},
    )
    found = provenance.provenance(record)
    assert dict(found["facts"]) == {
        "trial": "t9, of study study",
        "variant": "expand_ratio=0.25, seed 0",
        "command": "detbench run 'a study'",
        "code": "commit 0123456789ab, with local changes",
        "source files": "2 of detector",
        "versions": "Python 3.12, torch 2.6, other 1",
        "device": "A processor (cpu)",
        "data": "shapes (200 val)",
        "training": "that of study/t1",
        "protocol": "p1",
        "started": "1970-01-01 00:00 UTC",
        "finished": "1970-01-02 00:00 UTC",
    }
    assert found["samples"]["mAP"] == "200 val images, evaluated by hotcoco"
    assert found["samples"]["latency_ms"] == "4 samples"
    assert found["samples"]["params"] == "counted at 64 × 96 pixels"
