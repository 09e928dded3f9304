"""What is misspelt or missing is refused before anything slow is imported, by the same line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch  # so that the refusals here come with it, and those in the other process without

from harness.cli import main
from tests.harness.cli.refusals import refusal

ROOT = Path(__file__).parents[3]
SLOW = {"torch", "numpy", "cv2", "hotcoco", "pandas", "plotly", "mlflow", "optuna", "scipy"}
TABLE = {
    "a study": ("run nosuch", "no study 'nosuch'"),
    "a study to check": ("check rtmdet/expand", "did you mean rtmdet/expand_ratio?"),
    "a measure": ("check quickstart --set measure=[queries]", "queries needs accuracy among"),
    "a key of a study": ("check wrong.yaml", "unknown key 'sweeps'"),
    "a detector of a study": ("run quickstart --set detector=rtmdet_q", "no 'rtmdet_q'"),
    "a recipe": ("train rtmdet_s --data shapes --recipe smok --out o", "did you mean smoke?"),
    "a recipe's knob": ("run quickstart --set recipe.epoch=3", "did you mean recipe.epochs?"),
    "a data knob": ("check quickstart --set data.max_train=3", "data.max_train: no such knob"),
    "a latency knob": ("measure rtmdet_s --set latency.second=3", "latency.seconds?"),
    "a detector's knob": ("run quickstart --set detector.backbon.x=1", "did you mean backbone?"),
    "a value": ("check quickstart --set detector.head.stacked_convs=-1", "must not be negative"),
    "a type": ("check quickstart --set detector.head.stacked_convs=two", "expected int"),
    "a value that is swept": ("check wrong_value.yaml", "above 0"),
    "a paper": ("list tables rtmdt", "no paper 'rtmdt'; did you mean rtmdet?"),
    "a device": ("run quickstart --device gpu", "--device gpu: expected cpu or cuda:N"),
    "a device to measure on": ("measure rtmdet_s --device cud", "expected cpu or cuda:N"),
    "a data set": ("run quickstart --data nosuch", "nosuch: no such folder"),
    "a data set to train on": (
        "train rtmdet_s --data nosuch --recipe smoke --out o",
        "nosuch: no such folder",
    ),
    "weights of a study": ("run quickstart --weights no.pth", "weights no.pth: no such file"),
    "weights to train from": (
        "train rtmdet_s --data shapes --recipe smoke --out o --weights no.pth",
        "weights no.pth: no such file",
    ),
    "a detector to train": ("train rtmdet_q --data shapes --recipe smoke --out o", "rtmdet_q"),
    "a detector to evaluate": ("evaluate rtmdet_q --data shapes", "no 'rtmdet_q'"),
    "weights to evaluate": ("evaluate rtmdet_s --data shapes --weights no.pth", "no.pth: no such"),
    "a data set to evaluate on": ("evaluate rtmdet_s --data nosuch", "nosuch: no such folder"),
    "a split": ("evaluate rtmdet_s --data one_split --split test", "no split 'test'"),
    "a detector to measure": ("measure rtmdet_q", "no 'rtmdet_q'"),
    "a detector to count": ("measure rtmdet_q --count-only", "no 'rtmdet_q'"),
    "a detector to try NMS of": ("measure rtmdet_q --nms-frontier", "no 'rtmdet_q'"),
    "an ONNX file": ("evaluate onnx:nosuch.onnx --data shapes", "nosuch.onnx: no such file"),
    "a text in place of an ONNX file": ("measure onnx:wrong.yaml", "wrong.yaml: no ONNX file"),
    "a model of no name": ("predict onnx: a.png --out p", "names no model; expected onnx:NAME"),
    "a foreign detector of a study": ("run quickstart --set detector=onnx:no", "no: no such file"),
    "a foreign detector to train": (
        "train onnx:nosuch.onnx --data shapes --recipe smoke --out o",
        "nosuch.onnx: no such file",
    ),
    "a model to look at": ("doctor model rtmdet_q --data shapes", "no 'rtmdet_q'"),
    "a runtime": ("measure rtmdet_s --runtimes eagr", "did you mean eager?"),
    "photographs": ("predict rtmdet_s no.png --out p --weights coco", "no.png: no such file"),
    "weights to predict with": ("predict rtmdet_s a.png --out p --weights no.pth", "no.pth"),
    "another model": ("predict rtmdet_s a.png --out p --against rtmdet_q", "no 'rtmdet_q'"),
    "a folder that is taken": ("predict rtmdet_s a.png --out one_split", "holds something already"),
    "a knob to export": ("export rtmdet_s --set detector.head.x=2", "has no knob 'x'"),
    "a saved detector's knob": ("export saved --set detector.head.x=2", "has no knob 'x'"),
    "a saved detector": (
        "evaluate ./savd --data shapes",
        "./savd: no such folder; did you mean saved? name one that train left",
    ),
    "a saved config": ("export damaged", "no config of a saved detector"),
    "a published table": ("reproduce rtmdet/table5b_block", "did you mean rtmdet/table5b_blocks?"),
    "records of a table": ("reproduce rtmdet --runs nosuch", "--runs nosuch: no such folder"),
    "a knob of a table's study": (
        "reproduce rtmdet/table5b_blocks --set recipe.epoch=3",
        "did you mean recipe.epochs?",
    ),
    "an axis of a table's study": (
        "reproduce rtmdet/table5b_blocks --set sweep.foo=[1]",
        "foo is not swept. The axes are detector.backbone.blocks",
    ),
    "a knob of a table without a study": (
        "reproduce rtmdet/table2 --set detector.head.num_queries=3",
        "has no knob 'num_queries'",
    ),
    "a file for tables": (
        "reproduce rtmdet/table2 --out x.tex",
        "--out x.tex: a table is written as Markdown, LaTeX, CSV and JSON into a folder; name one"
        " with --out, such as x",
    ),
    "a folder for tables": (
        "reproduce rtmdet/table2 --out wrong.yaml/x",
        "--out wrong.yaml/x: wrong.yaml is no folder; name another folder with --out",
    ),
    "a page on tables": (
        "reproduce rtmdet --out page.md",
        "--out page.md: is a folder; name a file",
    ),
    "a folder for samples": ("measure rtmdet_s --out a.png", "a.png is no folder"),
    "a file for counts": ("measure rtmdet_s --count-only --out one_split", "is a folder; name a"),
    "a page on NMS": ("measure rtmdet_s --nms-frontier --out a.png/x.html", "a.png is no folder"),
    "a file to export": ("export rtmdet_s --out one_split", "is a folder; name a file with --out"),
    "a trial": ("compare a b", "a: no record.json there"),
    "records": ("report quickstart --out p", "no records there; run the study first"),
    "a study to report": ("report nosuch --out p", "no study 'nosuch'"),
    "a study to look at": ("status nosuch", "no study 'nosuch'"),
    "a study to send": ("sync nosuch", "no study 'nosuch'"),
    "a folder to clean": ("clean --out nosuch", "nosuch: no such folder"),
    "released weights": ("weights get rtmdet_q", "no released weights 'rtmdet_q/coco'"),
    "a detector to convert": ("weights convert f.onnx --detector rtm --out x", "no 'rtm'"),
    "a data set to get": ("data get voc", "coco2017 is the only one to get"),
    "a data set to show": ("data show nosuch", "nosuch: no such folder"),
    "a detector to list": ("list knobs rtmdet_q", "no 'rtmdet_q'"),
    "knobs to list": (
        "list knobs rtmdet_s asigner",
        "no knob of rtmdet_s has 'asigner' in its path; did you mean assigner?",
    ),
}
ALL_OF_THEM = """
import contextlib, io, json, sys
from harness.cli import main
found = []
for line in json.loads(sys.stdin.read()):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = main(line.split())
    found.append([status, said.getvalue(), sorted(set(sys.modules) & set(sys.argv[1:]))])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the table names."""
    folder = tmp_path_factory.mktemp("here")
    study = "name: wrong\ndetector: rtmdet_s\nrecipe: smoke\n"
    (folder / "wrong.yaml").write_text(f"{study}sweeps: {{}}\nsweep: {{detector.x: [1]}}\n")
    sweep = "sweep: {detector.backbone.width_mult: [0.5, -1]}\n"
    (folder / "wrong_value.yaml").write_text(study + sweep)
    for name, text in (
        ("saved", '{"detector": "rtmdet_s", "knobs": {"num_classes": 3}}'),
        ("damaged", "{"),
        ("one_split/annotations", None),
        ("one_split/val", None),
        ("page.md", None),
    ):
        (folder / name).mkdir(parents=True)
        if text is not None:
            (folder / name / "config.json").write_text(text)
    (folder / "one_split" / "annotations" / "instances_val.json").write_text("{}")
    (folder / "a.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def without_torch(here: Path) -> dict[str, tuple[int, str, list[str]]]:
    """What one process refused, one line after the other, and what it had imported after each."""
    done = subprocess.run(
        [sys.executable, "-c", ALL_OF_THEM, *SLOW],
        input=json.dumps([line for line, _ in TABLE.values()]),
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(TABLE, map(tuple, json.loads(done.stdout)), strict=True))


@pytest.mark.parametrize("what", TABLE)
def test_a_refusal_imports_nothing_slow_and_is_the_same_line_with_torch(
    what: str,
    here: Path,
    without_torch: dict[str, tuple[int, str, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    line, told = TABLE[what]
    status, said, loaded = without_torch[what]
    assert status == 2
    assert told in said
    assert loaded == []
    monkeypatch.chdir(here)
    assert torch.__name__ in sys.modules
    assert refusal(capfd, main(line.split())) == said


def test_every_command_refuses_something() -> None:
    from typer.main import get_command  # the only test that needs it

    from harness.cli.app import app

    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert commands - {line.split()[0] for line, _ in TABLE.values()} == set()


def test_the_version_is_told_without_torch(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capfd.readouterr().out.startswith("detbench ")


def offered(line: str) -> list[str]:
    """Return what bash is offered behind a line whose last word is not finished, and see to it."""
    words = line.split(" ")
    code = "import sys; sys.argv[0] = 'detbench'\nfrom harness.cli import main\ntry: main()\n"
    code += "finally: print('torch' in sys.modules, file=sys.stderr)"
    asked = {"_DETBENCH_COMPLETE": "complete_bash", "COMP_WORDS": line}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **asked, "COMP_CWORD": str(len(words) - 1)},
        capture_output=True,
        text=True,
    )
    assert done.stderr == "False\n"
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("detbench eva", ["evaluate"]),
        ("detbench run rtmdet/exp", ["rtmdet/expand_ratio"]),
        ("detbench list knobs rtdetr_r1", ["rtdetr_r18", "rtdetr_r101"]),
        ("detbench train rtmdet_s --recipe smo", ["smoke"]),
        ("detbench run quickstart --set recipe.ep", ["recipe.epochs="]),
        ("detbench measure rtdetr_r18 --set detector.head.num_q", ["detector.head.num_queries="]),
        ("detbench data show shapes --set data.max_t", ["data.max_train_images="]),
        ("detbench measure rtmdet_q --set detector.", []),
    ],
)
def test_a_shell_is_offered_what_there_is(line: str, found: list[str]) -> None:
    assert offered(line) == found
