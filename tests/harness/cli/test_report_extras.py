"""`detbench report --tables` and `--figures`: files for papers, or one line that says why not."""

import importlib.util
import json
from pathlib import Path

import pytest

from harness import cli
from tests.reports.conftest import make_record

KNOB = "detector.backbone.expand_ratio"


@pytest.fixture(autouse=True)
def _records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in range(2):
        record = make_record(f"t{place}", overrides={KNOB: place})
        record.write(Path("runs/study") / record.trial)


def test_tables_stand_beside_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "runs/study", "--out", "site", "--tables", "--json"]) == 0
    names = [Path(name).name for name in json.loads(capsys.readouterr().out)]
    assert names == ["study.html", "study.tex", "study.md", "study.csv"]
    assert r"\toprule" in Path("site/study.tex").read_text("utf-8")
    assert r"expand\_ratio" in Path("site/study.md").read_text("utf-8")
    assert Path("site/study.csv").read_text("utf-8").startswith("number,trial,")


def test_figures_without_kaleido_are_refused_before_anything_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "kaleido" else find(name, *rest),
    )
    assert cli.main(["report", "runs/study", "--out", "site", "--figures"]) == 2
    said = capsys.readouterr().err
    assert "--figures needs kaleido: pip install 'detbench[static-plots]'" in said
    assert not Path("site").exists()
