"""`detbench report --tables` and `--figures`: files for papers, or one line that says why not."""

import importlib.util
import json
from pathlib import Path

import pytest

from harness import cli
from tests.harness.cli.refusals import refusal
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


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--out file", "--out file: file is no folder"),
        ("--out site --plotly runs", "--plotly runs: is a folder; name a file with --plotly"),
        ("--out site --plotly file/x.js", "file is no folder; name another folder with --plotly"),
        ("--out site --plotly file", "--plotly file: holds something else than plotly.js"),
    ],
)
def test_places_that_cannot_be_written_are_refused_before_anything_is(
    options: str, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_bytes(b"")
    assert told in refusal(capfd, cli.main(["report", "runs/study", *options.split()]))
    assert not Path("site").exists()


def test_pages_share_a_file_that_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["report", "runs/study", "--out", "site", "--plotly", "site/plotly.min.js"]
    assert cli.main(words) == 0
    written = Path("site/plotly.min.js").stat().st_mtime_ns
    assert cli.main(words) == 0
    assert Path("site/plotly.min.js").stat().st_mtime_ns == written
    assert 'src="plotly.min.js"' in Path("site/study.html").read_text("utf-8")
