"""A search through the whole command: proposals, judgement, training, records, page."""

from pathlib import Path

import pytest

from harness.cli import main
from harness.records import record
from tests.harness.studies import TOY, write

SEARCH = {
    "space": {
        "detector.width": [4, 8, 64, 96],
        "detector.assigner.type": ["Nearest", "Inside"],
        "detector.assigner.topk": {
            **{"low": 2, "high": 4},
            "when": {"detector.assigner.type": "Nearest"},
        },
    },
    "objectives": {"mAP": "maximize", "macs": "minimize"},  # a latency may be rough here
    "constraints": {"params": "<= 5000"},
    "sampler": "random",
    "trials": 4,
    "reference": {"mAP": -0.1, "macs": 1e12},
}


def test_infeasible_variants_are_never_trained_and_the_page_shows_the_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fixed = {**TOY["set"], "recipe.epochs": 1}
    file = write(tmp_path, set=fixed, sweep=None, search=SEARCH)
    assert main(["run", str(file), "--device", "cpu", "--no-tracking"]) == 0
    records = record.read_all(tmp_path / "runs" / "toy")
    assert len({found.trial for found in records}) == len(records) == 4
    beyond = [found for found in records if found.overrides["detector.width"] > 8]
    assert 0 < len(beyond) < 4
    for found in records:
        assert (found.state == "pruned") == (found in beyond)
        assert ("train" in found.timings) == (found not in beyond)
        topk = "detector.assigner.topk" in found.overrides
        assert topk == (found.overrides["detector.assigner.type"] == "Nearest")
    assert all("params is" in (found.stopped or "") for found in beyond)
    page = (tmp_path / "runs" / "toy" / "report.html").read_text("utf-8")
    assert 'id="growth"' in page
    assert "Hypervolume" in page
