"""What the command adds to a page: importances, precision, the published table that is cited."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import cli
from harness.analysis.reproduce import beside as reproducing
from harness.cli import findings
from harness.records import snapshot
from harness.records.precision import ARTIFACT, FILE
from harness.records.snapshot import Snapshot
from tests.harness.analysis.reproduce.published import table
from tests.harness.analysis.reproduce.test_beside import records as repeated
from tests.harness.analysis.test_importance import search
from tests.harness.studies import write
from tests.reports.test_precision import precise


def known(records: list, **more: object) -> Snapshot:
    trials = [record.trial for record in records]
    fields = {"version": "v", "trials": trials, "study": "study", "total": len(trials)}
    return Snapshot.model_validate(fields | more)


def test_a_search_gets_the_importance_of_its_knobs(tmp_path: Path) -> None:
    records = search(24)
    study = known(records, objectives={"mAP": "maximize"})
    found = findings.of(study, records, tmp_path, pytest.fail)
    assert found.importances is not None
    assert found.importances.found[0].shares[0].knob == "width"
    assert findings.of(known(records), records, tmp_path, pytest.fail).importances is None


def test_a_damaged_file_is_named_and_the_page_goes_on(tmp_path: Path) -> None:
    first, second = search(2)
    for record in (first, second):
        record.artifacts[ARTIFACT] = FILE
        precise().write(record.write(tmp_path / record.trial).parent)
    (tmp_path / second.trial / FILE).write_text("broken", "utf-8")
    said: list[str] = []
    found = findings.of(None, [first, second], tmp_path, said.append)
    assert list(found.precision) == [first.trial]
    assert len(said) == 1
    assert f"{second.trial}/{FILE}: damaged" in said[0]


def test_the_page_shows_what_the_study_cites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = table(write(tmp_path))
    monkeypatch.setattr(reproducing.tables, "tables", lambda: [made])
    monkeypatch.chdir(tmp_path)
    records = repeated()
    for record in records:
        record.artifacts[ARTIFACT] = FILE
        precise().write(record.write(Path("runs/toy") / record.trial).parent)
    snapshot.update(Path("runs/toy"), known(records, source=made.id, study="toy"))
    assert cli.main(["report", "runs/toy", "--out", "site"]) == 0
    text = Path("site/toy.html").read_text("utf-8")
    assert "Width of the hidden layer (toy/width)" in text
    for part in ("published-table", "published", "precision", "confusion"):
        assert f'id="{part}"' in text
    assert "not settled" not in text.partition("<h2>Published beside")[2].partition("<table")[0]
    assert capsys.readouterr().err == ""


def test_a_source_that_cannot_be_judged_costs_its_table_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = table(write(tmp_path, sweep={"detector.width": [4]}))
    monkeypatch.setattr(reproducing.tables, "tables", lambda: [made])
    said: list[str] = []
    records = repeated()
    found = findings.of(known(records, source=made.id), records, tmp_path, said.append)
    assert found.published is None
    assert said[0].startswith("toy/width is not shown: ")
