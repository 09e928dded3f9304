"""`detbench reproduce` prints, writes, and runs what is missing."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import detectors
from harness import cli
from harness.analysis.reproduce import tables
from harness.config import library
from harness.records import record
from harness.released.convert import convert
from tests.harness.analysis.reproduce.published import COLUMNS, put, row, trained
from tests.harness.cli.refusals import refusal
from tests.harness.studies import write

CONFIG = {"detector.width": 4, "latency.runtime": "eager"}


@pytest.fixture
def papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put papers of the toy detector in place of the published ones; work in an empty folder."""
    folder = tmp_path / "papers"
    folder.mkdir()
    study = write(tmp_path, measure=["complexity", "accuracy"])
    publish(folder, study=str(study))
    monkeypatch.setattr(tables, "FOLDER", folder)
    monkeypatch.chdir(tmp_path)
    return folder


def publish(folder: Path, **changes: Any) -> None:
    columns = [
        {**column, "conventions": ["macs"]} if column["name"] == "flops" else column
        for column in COLUMNS
    ]
    tree = {
        "id": "toy/width", "title": "Width", "varied": "width", "columns": columns,
        "rows": [row(4), row(8, params="0.0020")], "status": "made up", "source": ["a test"],
    }  # fmt: skip
    content = {"meta": {"paper": "Toy"}, "tables": [tree | changes]}
    (folder / "toy.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def run(*words: str) -> int:
    return cli.main(["reproduce", *words])


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert run(*words, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def verdicts(found: dict[str, Any], column: str) -> list[str]:
    return [cell["verdict"] for cell in found["cells"] if cell["column"] == column]


def test_a_table_needs_no_data_and_no_records(
    papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("toy/width", "--out", "out") == 0
    said = capsys.readouterr()
    assert "0.0016" in said.out
    assert "8 cells: 3 reproduced, 1 differs, 4 not run" in said.out
    name = "toy_width"
    assert {file.name for file in Path("out").iterdir()} == {
        f"{name}.{ending}" for ending in ("md", "tex", "csv", "json")
    }
    found = json.loads(Path("out", f"{name}.json").read_text("utf-8"))
    assert verdicts(found, "params") == ["reproduced", "differs"]
    assert found["table"] == "toy/width"
    lines = Path("out", f"{name}.csv").read_text("utf-8").splitlines()
    assert len(list(csv.reader(lines))) == 9
    missing = next(cell for cell in found["cells"] if cell["column"] == "AP")
    assert missing["command"].startswith("detbench run ")
    assert "2 trainings" in missing["reason"]
    assert "hours unknown until" in missing["reason"]
    assert not Path("runs").exists()


def test_what_is_missing_is_run_once_and_found_again(
    papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On another data set than COCO, so shown and not judged."""
    found = told(capsys, "toy/width", "--run", "--no-tracking", "--device", "cpu")
    assert verdicts(found, "AP") == ["other setting", "other setting"]
    (pair,) = found["comparisons"]
    assert (pair["verdict"], pair["reason"]) == ("not settled", "one seed, which has no interval")
    made = sorted(Path("runs", "toy").glob(f"[!.]*/{record.FILE}"))
    assert len(made) == 2
    stamps = [file.stat().st_mtime_ns for file in made]
    again = told(capsys, "toy/width", "--run", "--no-tracking", "--device", "cpu")
    assert again["cells"] == found["cells"]
    assert [file.stat().st_mtime_ns for file in made] == stamps
    assert told(capsys, "toy/width", "--set", "seeds=[1]")["counts"]["not run"] == 4
    assert verdicts(told(capsys, "toy/width"), "latency") == ["not run", "not run"]


def test_a_rehearsal_that_there_is_not_runs_nothing(
    papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table's own study would take days."""
    found = told(capsys, "toy/width", "--scale", "rehearsal", "--run", "--no-tracking")
    assert verdicts(found, "AP") == ["not run", "not run"]
    assert not Path("runs").exists()


def test_released_weights_are_not_run_without_their_data(
    papers: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DETBENCH_COCO", raising=False)
    rows = [{"width": "4", "AP": "40.0", "repeat": {"detector": "rtmdet_s", "weights": "coco"}}]
    publish(papers, study=None, columns=[COLUMNS[0], COLUMNS[-1]], rows=rows)
    assert "coco2017: data/coco is no folder" in refusal(capfd, run("toy/width", "--run"))


def test_a_paper_and_all_are_several_tables(
    papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (told(capsys, name, "--out", f"out-{name}") for name in ("toy", "all"))
    assert first["cells"] == second["cells"]
    assert (first["table"], second["table"]) == ("toy", "all")
    assert first["setting"] == {}


def test_records_of_other_code_count_where_that_is_asked_for(
    papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(Path("kept"), *(trained(4, seed, 40 + seed / 100, config=CONFIG) for seed in range(3)))
    assert verdicts(told(capsys, "toy/width", "--runs", "kept"), "AP") == ["not run", "not run"]
    found = told(capsys, "toy/width", "--runs", "kept", "--keep-stale")
    assert verdicts(found, "AP") == ["reproduced", "not run"]
    assert any("records are taken as they are" in text for text in found["notes"])


def test_released_weights_are_evaluated_on_selected_photographs(
    shared: Path, papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """RTMDet-nano finds persons alone; another evaluator measured 36.4 on these photographs."""
    file = shared / "weights" / "rtmdet_nano_person.onnx"
    photographs = shared / "data" / "coco_mini"
    for path in (file, photographs):
        if not path.exists():
            pytest.skip(f"{path} is not here; set DETBENCH_SHARED to the folder that has it")
    pytest.importorskip("onnxruntime")
    weights = convert(file, "rtmdet_nano", detectors.CONFIGS["rtmdet_nano"], Path("nano")).folder
    rows = [{"width": "nano", "AP": "40.3"}]
    rows[0]["repeat"] = {"detector": "rtmdet_nano", "weights": str(weights)}
    publish(papers, columns=[COLUMNS[0], COLUMNS[-1]], rows=rows)
    selected = ("--data", str(photographs), "--set", "data.where={coco_split: val2017}")
    found = told(capsys, "toy/width", *selected, "--run", "--no-tracking", "--device", "cpu")
    (cell,) = found["cells"]
    assert cell["verdict"] == "other setting"
    assert cell["reason"] == "on coco_mini, 171 images with coco_split val2017"
    assert cell["measured"] == pytest.approx(36.4, abs=0.7)
    assert cell["published"] == 40.3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["toy/widht"], "no published table 'toy/widht'; did you mean toy/width?"),
        (["toys"], "no published table 'toys'; did you mean toy?"),
        (["toy/width", "--runs", "nowhere"], "--runs nowhere: no such folder"),
        (["toy/width", "--data", "nowhere"], "nowhere: no such folder"),
        (["toy/width", "--set", "detector.widht=3"], "detector.widht"),
        (["toy/width", "--out", "toy.yaml/tables"], "--out toy.yaml/tables: toy.yaml is no folder"),
        (["toy/width", "--device", "gpu"], "--device gpu: expected cpu or cuda:N"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    papers: Path, words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert said in refusal(capfd, run(*words))


def test_a_wide_table_can_be_read_on_a_narrow_screen(
    papers: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cli.plain.WIDTH_OF_A_FILE", 100)
    assert run("toy/width") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert any("params (M)" in line and "reproduced" in line for line in lines)


def test_every_published_table_can_be_named() -> None:
    assert tables.named("all") == tables.tables()
    for paper in tables.papers():
        assert tables.named(paper) == tables.tables(paper)
    assert library.FOLDER / "papers" == tables.FOLDER
