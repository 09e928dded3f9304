"""One hostile study through every command: it is data, so no code of it runs, nothing but `--out`
is written to, nothing else is sent, and the terminal is told nothing that it would obey.

`doctor` and the lists take nothing from anybody.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from detectors import weights
from harness import cli
from harness.machine import locks
from harness.measure.accuracy import detections
from harness.records import Record
from harness.study import expand, load
from tests.harness.studies import TOY, write
from tests.toy import TOY as DETECTOR

EVIL = (
    "\x1b]52;c;aGk=\x07\x9b2J[/red][bold]</script><script>owned()</script>"
    "<img src=x onerror=owned()>\u202e'\"` {{7*7}} %{x} :bug:\n=cmd()"
)
PATHS = ("../outside/page", "/tmp/page", "..", ".", "a/b", "a\\b", "a'b", "a\nb", "", "a" * 400)
SECRET = "the owner's secret"
PAYLOAD = """
from pathlib import Path
Path({canary!r}).write_text("ran")
from tests.toy import TOY as X
"""


class Place:
    """A working directory full of what strangers sent, and what is none of their business."""

    def __init__(self, root: Path) -> None:
        self.here, self.outside, self.canary = root / "here", root / "outside", root / "canary"
        self.here.mkdir()
        (self.outside / "home").mkdir(parents=True)
        for name in ("page.html", "secret", "home/notes"):
            (self.outside / name).write_text(SECRET, "utf-8")
        text = PAYLOAD.format(canary=str(self.canary))
        (self.here / "payload.py").write_text(text, "utf-8")
        self.before = self.seen()

    def seen(self) -> dict[str, str]:
        """Return what lies outside."""
        files = (file for file in self.outside.rglob("*") if file.is_file())
        found = {str(file): file.read_text("utf-8") for file in files}
        return found | {item.name: "" for item in self.outside.parent.iterdir()}

    def is_untouched(self) -> None:
        """Fail if code ran or something outside is not what it was."""
        assert not self.canary.exists()
        assert self.seen() == self.before
        assert "payload" not in sys.modules


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    root = tmp_path / "root"
    root.mkdir()
    found = Place(root)
    monkeypatch.chdir(found.here)
    monkeypatch.setenv("HOME", str(found.outside / "home"))
    monkeypatch.setattr(locks, "_folder", lambda: tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield found
    found.is_untouched()


def detbench(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run a command; whatever it is given, it ends in order and shows nothing but text."""
    status = cli.main([str(item) for item in arguments])
    shown = "".join(capfd.readouterr())
    assert not any(ord(letter) < 32 and letter not in "\n\t" for letter in shown)
    assert not {"\x7f", "\x9b", "\u202e"} & set(shown)
    assert "Traceback" not in shown
    return status, shown


def refused(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that has to refuse what it is given, in one line."""
    status, shown = detbench(capfd, *arguments)
    lines = [line for line in shown.splitlines() if line.startswith("detbench: error: ")]
    assert (status, len(lines)) == (2, 1), shown
    return lines[0]


def a_record(**changes: Any) -> dict[str, Any]:
    """Make a record in which every text that is no name is hostile."""
    one = Record(
        study="toy",
        trial="abc",
        name=EVIL,
        detector=EVIL,
        overrides={"detector.width": 4, f"recipe.{EVIL}": EVIL},
        config={"detector.input.size": [EVIL, 64], "recipe.epochs": EVIL, EVIL: EVIL},
        seed=0,
        state="done",
        metrics={"mAP": 0.5, "latency_ms": 2.0, "params": 10.0, EVIL: 1.0},
        absent={"nms_ms": EVIL},
        caveats={"mAP": EVIL},
        details={"training": {"validated_with": {EVIL: EVIL}}, "reference": EVIL},
        samples={"latency_ms": [1.0, 2.0, 3.0]},
        curves=[{"epoch": 1, "step": 2, "loss": 1.0, EVIL: 2.0}],
        protocol={EVIL: EVIL},
        protocol_hash=EVIL,
        data={"name": EVIL, "fingerprint": EVIL, "classes": [EVIL], "train": {"images": 3}},
        environment={"device": EVIL, "packages": {"torch": EVIL}, "command": [EVIL]},
        timings={"started": 1.0, "finished": 2.0},
    )
    return json.loads(one.to_json()) | changes


def put(folder: Path, tree: dict[str, Any] | str) -> Path:
    """Write what pretends to be a trial's record."""
    folder.mkdir(parents=True, exist_ok=True)
    text = tree if isinstance(tree, str) else json.dumps(tree)
    (folder / "record.json").write_text(text, "utf-8")
    return folder


class Scripts(HTMLParser):
    """What a browser would run of a page, and the data beside it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.code, self.tags, self.handlers, self.inside = 0, set[str](), list[str](), False
        self.data: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.inside = tag == "script" and given.get("type") == "application/json"
        self.code += tag == "script" and not self.inside
        self.tags.add(tag)
        self.handlers += [name for name in given if name.startswith("on")]
        self.handlers += [v for v in given.values() if v and v.strip().startswith("javascript:")]

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.data.append(data)


def strings(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    for item in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from strings(item)


def test_texts_of_a_record_are_shown_and_never_run(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    put(Path("runs/toy/abc"), a_record())
    other = a_record(trial="b12", overrides={"detector.width": 8}, seed=1)
    put(Path("runs/toy/b12"), other)
    failure = {"cause": EVIL, "message": EVIL, "details": EVIL}
    put(Path("runs/toy/abe"), a_record(trial="abe", state="failed", failure=failure, metrics={}))
    status, shown = detbench(capfd, "report", "runs/toy", "--out", "pages", "--mixed")
    assert status == 0, shown
    assert [file.name for file in Path("pages").iterdir()] == ["toy.html"]
    page = Scripts(Path("pages/toy.html").read_text("utf-8"))
    assert page.code == 2  # plotly, and ours
    assert "img" not in page.tags
    assert page.handlers == []
    figures = [json.loads(text) for text in page.data if '"layout"' in text]
    assert len(figures) > 2
    drawn = [text for figure in figures for text in strings(figure["data"])]
    assert any("owned()" in text for text in drawn)
    assert not any("<script" in text or "<img" in text for text in drawn)


@pytest.mark.parametrize("field", ["study", "trial"])
@pytest.mark.parametrize("name", PATHS)
def test_names_that_lead_elsewhere_are_refused(
    place: Place, capfd: pytest.CaptureFixture[str], field: str, name: str
) -> None:
    put(Path("runs/toy/abc"), a_record(**{field: name}))
    assert field in refused(capfd, "report", "runs/toy", "--out", "pages")
    assert field in refused(capfd, "sync", "runs/toy", "--tracking-uri", "sqlite:///mlflow.db")
    assert not Path("pages", "toy.html").exists()
    assert field in refused(capfd, "compare", "runs/toy/abc", "runs/toy/abc")


@pytest.fixture
def tracker(place: Place, empty_tracker: Path) -> str:
    """A whole tracker, not one that refuses: what is sent to it can be seen."""
    shutil.copy(empty_tracker, "mlflow.db")
    return "sqlite:///mlflow.db"


def sent(tracker: str) -> list[Path]:
    return [file for file in Path("mlartifacts").rglob("*") if file.is_file()]


def test_files_elsewhere_are_not_sent(
    place: Place, tracker: str, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = place.outside / "secret"
    for name in (str(secret), "../../../../outside/secret", ".hidden", "a/../../secret"):
        put(Path("runs/toy/abc"), a_record(artifacts={"weights": name}))
        line = refused(capfd, "sync", "runs/toy", "--tracking-uri", tracker)
        assert "is not the name of a file beside the record" in line
    for link in (secret, Path("../../../../outside/secret")):
        folder = put(Path("runs/toy/abc"), a_record(artifacts={"weights": "w"}))
        (folder / "w").unlink(missing_ok=True)
        (folder / "w").symlink_to(link)
        status, shown = detbench(capfd, "sync", "runs/toy", "--tracking-uri", tracker)
        assert status == 1
        assert "leads out of its folder" in shown
    assert sent(tracker) == []
    (folder / "w").unlink()
    (folder / "w").write_text("its own", "utf-8")
    plain = ("name", "overrides", "config", "metrics", "curves")
    clean = {key: a_record()[key] for key in a_record() if key not in plain}
    clean |= {"name": EVIL, "overrides": {"detector.width": EVIL}, "config": {}}
    put(folder, clean | {"artifacts": {"weights": "w"}})
    status, shown = detbench(capfd, "sync", "runs/toy", "--tracking-uri", tracker)
    assert status == 0, shown
    assert sorted(file.name for file in sent(tracker)) == ["record.json", "w"]
    assert all(SECRET not in file.read_text("utf-8") for file in sent(tracker))


ODD_RECORDS = {
    "deep": '{"schema": 1, "details": ' + "[" * 100_000,
    "a number of a thousand digits": json.dumps(a_record()).replace(
        '"seed": 0', '"seed": 1' + "0" * 9000
    ),
    "a moment after all dates": json.dumps(a_record(timings={"started": 1e300})),
    "another kind": "[]",
    "half a character": '{"study": "\\ud800"}',
    "not text": "\x00\x01",
}


@pytest.mark.parametrize("kind", [*ODD_RECORDS, "a pipe", "a link to a secret", "a folder"])
def test_odd_records_are_refused_in_one_line(
    place: Place, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    folder = put(Path("runs/toy/abc"), ODD_RECORDS.get(kind, ""))
    if kind not in ODD_RECORDS:
        (folder / "record.json").unlink()
    if kind == "a pipe":
        os.mkfifo(folder / "record.json")
    elif kind == "a folder":
        (folder / "record.json" / "x").mkdir(parents=True)
    elif kind == "a link to a secret":
        (folder / "record.json").symlink_to(place.outside / "secret")
    line = refused(capfd, "report", "runs/toy", "--out", "pages")
    assert "record" in line
    assert SECRET not in line
    study = write(place.here)
    status, shown = detbench(capfd, "status", study)
    assert status in (0, 2), shown


class Bomb:
    """What runs code where it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


def strange_weights(place: Place) -> Iterator[tuple[str, str]]:
    """Yield names of files with weights, and what the refusal says of each."""
    torch.save({"state_dict": Bomb(place.canary)}, "bomb.pth")
    yield "bomb.pth", "not loaded for safety"
    Path("bare.pt").write_bytes(pickle.dumps(Bomb(place.canary)))
    yield "bare.pt", "bare.pt"
    for number, content in enumerate(
        ({1: torch.ones(1)}, [1], {"a": 5}, {"\x1b[2J": torch.ones(1)})
    ):
        torch.save(content, f"odd{number}.pth")
        yield f"odd{number}.pth", ""
    headers = {
        "long": (1 << 62).to_bytes(8, "little"),
        "deep": (100_000).to_bytes(8, "little") + b'{"a":' + b"[" * 99_995,
        "negative": (62).to_bytes(8, "little")
        + b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,9999]}}    ',
        "empty": b"",
    }
    for name, content in headers.items():
        Path(f"{name}.safetensors").write_bytes(content)
        yield f"{name}.safetensors", f"{name}.safetensors"


def test_strange_weights_run_nothing(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    small = [f"--set={key}={value}" for key, value in TOY["set"].items() if "shapes" in key]
    data = ("--data", "shapes", *small, "--device", "cpu")
    for name, said in strange_weights(place):
        line = refused(capfd, "evaluate", "tests.toy:TOY", "--weights", name, *data)
        assert said in line
    train = ("train", "tests.toy:TOY", "--recipe", "smoke", *data, "--out", "trained")
    assert "safety" in refused(capfd, *train, "--weights", "bomb.pth")


CONFIGS: dict[str, Any] = {
    "code of a stranger": {"detector": "payload:X", "knobs": {}},
    "code of Python": {"detector": "antigravity:X", "knobs": {}},
    "no text": {"detector": ["payload:X"], "knobs": {}},
    "no knobs": {"detector": "rtmdet_tiny", "knobs": [1]},
    "unknown": {"detector": EVIL.replace(":", ""), "knobs": {}},
    "a path": {"detector": "../payload:X", "knobs": {}},
    "a shape": {"detector": "rtmdet_tiny", "knobs": {"input.size": [1 << 60, "x"]}},
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_strangers_model_runs_nothing(
    place: Place, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    model = weights.save(DETECTOR.build(), Path("model"), "tests.toy:TOY")
    (model / "config.json").write_text(json.dumps(CONFIGS[kind]), "utf-8")
    lines = [
        refused(capfd, "evaluate", "model", "--data", "shapes"),
        refused(capfd, "measure", "model", "--out", "measured"),
        refused(capfd, "measure", "tests.toy:TOY", "model"),
        refused(capfd, "measure", "model", "--count-only", "--out", "counts.md"),
        refused(capfd, "measure", "model", "--nms-frontier", "--out", "frontier.html"),
        refused(capfd, "export", "model", "--out", "model.onnx"),
    ]
    if kind in ("code of a stranger", "code of Python"):
        assert all("is code that is not built in; if you trust it, add --trust" in x for x in lines)


def test_what_the_user_names_is_trusted(
    place: Place, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    mine = "from tests.toy import TOY as X\n"
    (place.here / "hostile_test_mine.py").write_text(mine, "utf-8")
    weights.save(DETECTOR.build(), Path("model"), "hostile_test_mine:X")
    count = ("measure", "--count-only", "--size", "64", "64")
    line = refused(capfd, *count, "model")
    assert line.endswith(
        "model/config.json: names the detector hostile_test_mine:X, which is code that is not"
        " built in; if you trust it, add --trust"
    )
    assert "hostile_test_mine" not in sys.modules
    assert detbench(capfd, *count, "model", "hostile_test_mine:X")[0] == 0
    assert detbench(capfd, *count, "model", "--trust")[0] == 0
    sys.modules.pop("hostile_test_mine")


def test_a_study_beside_a_strangers_trials_runs_its_own_alone(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    """The stranger's trial would be the reference of its latencies; unfinished work is links."""
    study = write(place.here, measure=["complexity", "latency"], sweep={"detector.width": [4, 8]})
    spec, theirs = expand(load(study))
    facts = {"trial": theirs.trial, "config": theirs.config, "protocol": theirs.protocol}
    evil = Path("runs/toy", theirs.trial)
    put(evil, a_record(**facts, artifacts={"weights": "weights.safetensors"}))
    weights.save(DETECTOR.build(), evil, "payload:X")
    for name in (f".partial-{spec.trial}", f".replaced-{spec.trial}"):
        Path("runs/toy", name).symlink_to(place.outside / "home")
    Path("runs/toy/study.db").symlink_to(place.outside / "study.db")
    plain = ("run", study, "--no-tracking", "--device", "cpu")
    assert "leads out of its folder" in refused(capfd, *plain)
    Path("runs/toy/study.db").unlink()
    Path("runs/toy", f".replaced-{spec.trial}").unlink()
    status, shown = detbench(capfd, *plain)
    assert status == 0, shown
    result = json.loads(Path("runs/toy", spec.trial, "record.json").read_text("utf-8"))
    assert "another detector, whose code is not run here" in result["absent"]["latency_ratio"]
    assert "latency_ms" in result["metrics"]
    for command in ("status", "check"):
        status, shown = detbench(capfd, command, study, *(["--no-probe"] * (command == "check")))
        assert status == 0, shown


def test_a_comparison_reads_what_lies_beside_the_record(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = put(Path("runs/toy/abc"), a_record(artifacts={"detections": "detections.npz"}))
    (folder / "detections.npz").symlink_to(place.outside / "secret")
    assert "leads out of its folder" in refused(capfd, "compare", folder, folder)
    (folder / "detections.npz").unlink()
    detections.write([], folder)
    refused(capfd, "compare", folder, folder)


def test_a_strangers_study_file_is_told_in_one_line(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    laughs = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    laughs += [
        f"{y}: &{y} [{', '.join([f'*{x}'] * 10)}]"
        for x, y in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    tree = {**TOY, "name": "ok"}
    texts = {
        "laughs.yaml": "\n".join(laughs),
        "deep.yaml": "name: " + "[" * 100_000,
        "object.yaml": "name: !!python/object/apply:os.system ['touch canary']",
        "escape.yaml": 'name: "\\e]52;c;aGk=\\a"',
        "path.yaml": yaml.safe_dump({**tree, "name": "../outside/page"}),
        "recipe.yaml": yaml.safe_dump({**tree, "recipe": "../../outside/secret"}),
        "source.yaml": yaml.safe_dump({**tree, "source": "../../outside/secret/x"}),
    }
    for name, text in texts.items():
        Path(name).write_text(text, "utf-8")
        for command in (("check", name, "--no-probe"), ("run", name), ("status", name)):
            if name != "source.yaml":
                assert SECRET not in refused(capfd, *command)
    assert not Path("canary").exists()


def test_a_strangers_question_is_text(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    question = "From arXiv [/2212.07784], [bold]table[/bold] 5 \x1b]52;c;x"
    study = write(place.here, question=question, measure=["complexity"])
    status, shown = detbench(capfd, "check", study, "--no-probe")
    assert status == 0
    assert "toy: From arXiv [/2212.07784], [bold]table[/bold] 5 \\x1b]52;c;x\n" in shown
