"""The table that a study cites, by the study's own records: its own, and a rehearsal's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.analysis.reproduce import beside as module
from harness.analysis.reproduce.beside import beside
from harness.analysis.reproduce.schema import Table
from harness.study.study import Given
from tests.harness.analysis.reproduce.published import SMALL, row, table, trained
from tests.harness.studies import write

APS = {4: [39.99, 40.0, 40.01], 8: [41.99, 42.0, 42.01]}


@pytest.fixture
def cited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """Make the table the only one that there is."""
    made = table(write(tmp_path))
    monkeypatch.setattr(module.tables, "tables", lambda: [made])
    return made


def records(**changes: Any) -> list[Any]:
    return [trained(w, s, ap, **changes) for w in (4, 8) for s, ap in enumerate(APS[w])]


def verdicts(found: dict[str, Any] | None) -> dict[tuple[str, str], str]:
    assert found is not None
    return {(cell["row"], cell["column"]): cell["verdict"] for cell in found["cells"]}


def test_the_tables_own_study_is_judged_as_published(cited: Table) -> None:
    found = beside(cited.id, records())
    assert found is not None
    assert found["table"] == "toy/width"
    assert verdicts(found) == {
        ("4", "latency"): "other setting",
        ("4", "AP"): "reproduced",
        ("8", "latency"): "other setting",
        ("8", "AP"): "reproduced",
    }  # what the architecture determines is left out
    assert [pair["verdict"] for pair in found["comparisons"]] == ["appears", "appears"]


def test_a_rehearsal_stands_in_by_the_names_of_its_trials(cited: Table) -> None:
    found = beside(cited.id, records(study="small", detector="tiny", data=SMALL))
    assert set(verdicts(found).values()) == {"other setting"}
    assert found is not None
    reason = next(cell["reason"] for cell in found["cells"] if cell["column"] == "AP")
    assert reason == "rehearsed by study small; on bccd, 87 images; mean of 3 seeds"
    assert [pair["verdict"] for pair in found["comparisons"]] == ["appears", "appears"]


def test_cells_may_have_a_trial_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As RT-DETR's table 5, whose columns are trainings."""
    rows = []
    for width in (4, 8):
        printed = row(width)
        own = printed.pop("repeat")
        rows.append({**printed, "repeats": dict.fromkeys(("latency", "AP"), own)})
    made = table(write(tmp_path), rows)
    monkeypatch.setattr(module.tables, "tables", lambda: [made])
    found = beside(made.id, records(study="small", data=SMALL))
    assert set(verdicts(found).values()) == {"other setting"}


def test_what_the_command_line_changed_is_another_setting(cited: Table) -> None:
    config = {"detector.width": 4, "recipe.epochs": 3}
    given = Given(None, ("recipe.epochs=3",))
    found = beside(cited.id, records(config=config), given)
    assert verdicts(found)["4", "AP"] == "other setting"


def test_a_trial_that_did_not_finish_is_not_run(cited: Table) -> None:
    found = beside(cited.id, [one for one in records() if one.name == "width=4"])
    assert verdicts(found)["8", "AP"] == "not run"
    assert found is not None
    assert found["cells"][-1]["command"] == "detbench reproduce toy/width --run"


def test_studies_that_cite_no_table_or_ran_nothing_of_it_have_none(cited: Table) -> None:
    assert beside("arXiv:2212.07784", records()) is None
    assert beside(cited.id, []) is None
    assert beside(cited.id, records(name="depth=3")) is None
    unfinished = [one.model_copy(update={"state": "pruned"}) for one in records()]
    assert beside(cited.id, unfinished) is None


def test_a_row_of_another_detector_is_not_the_rehearsals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one trial would stand in for two rows."""
    large = {"trial": "width=8", "set": ["detector=tests.toy:TOY"]}
    rows = [row(8), {**row(8, repeat=large), "width": "large"}]
    monkeypatch.setattr(module.tables, "tables", lambda: [table(write(tmp_path), rows)])
    found = verdicts(beside("toy/width", records(study="small", detector="tiny", data=SMALL)))
    assert (found["8", "AP"], found["large", "AP"]) == ("other setting", "not run")
    same = verdicts(beside("toy/width", records(study="small", data=SMALL)))
    assert same["large", "AP"] == "other setting"
