"""One answer, word for word, wherever a study's answer stands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.cli import answers
from harness.cli import run as command
from harness.engine.executor import Job
from harness.records import Record, record, snapshot
from harness.tracking import Tracker, marks
from tests.harness.analysis.answer.made import study
from tests.harness.engine import instant
from tests.harness.engine.instant import Inline
from tests.harness.studies import TOY, write
from tests.harness.tracking.trackers import client, runs

Run = Callable[..., str]
BETTER = "In mAP, width 8 is better than width 4 by 9.80 points (95 % interval "


class Answer(HTMLParser):
    """Collects the text of the element with the id `answer`, and what is in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.inside = 0
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.inside:
            self.tags.append(tag)
        if ("id", "answer") in attrs:
            self.inside += 1
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside -= self.inside and tag == "p"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data


def on_page(file: Path | str) -> str:
    found = Answer(Path(file).read_text("utf-8"))
    assert (len(found.texts), found.tags) == (1, [])
    return found.texts[0]


def work(job: Job) -> Record:
    """Make a record: 40 and 50 % mAP by width, and a tenth of a point more or less by seed."""
    spec = job.spec
    wide = spec.knobs["width"] == 8
    accuracy = (0.5 if wide else 0.4) + 0.001 * spec.seed * (-1 if wide else 1)
    made = instant.made(spec, started=1.0)
    what = {"config": spec.config, "protocol": spec.protocol, "data": spec.dataset}
    what["code"] = spec.code
    return made.model_copy(update={"metrics": {"mAP": accuracy}, **what})


@pytest.fixture
def detbench(
    tmp_path: Path,
    empty_tracker: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a command in a folder of its own; trials take no time."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_tracker, "mlflow.db")
    monkeypatch.setattr(command, "_executor", lambda options: Inline(work))

    def call(*arguments: object) -> str:
        assert cli.main([str(item) for item in arguments]) == 0
        return capsys.readouterr().out

    return call


def here(name: str = "mlflow.db") -> str:
    return f"sqlite:///{Path(name).resolve()}"


def parent(uri: str, study: str = "toy") -> Any:
    (found,) = (run for run in runs(uri, study) if run.data.tags.get("detbench.kind") == "study")
    return found


def test_the_answer_is_the_same_everywhere(
    detbench: Run, empty_tracker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"measure": ["complexity", "accuracy"], "seeds": [0, 1, 2]}
    file = write(Path(), question="Does width pay?", set=TOY["set"], **changes)
    where = ("--device", "cpu", "--tracking-uri", here())
    ran = json.loads(detbench("run", file, *where, "--json"))
    answer = ran["answer"]
    assert answer.startswith(BETTER)
    assert on_page(ran["report"]) == answer
    assert json.loads(detbench("status", file, "--json"))["answer"] == answer
    assert json.loads(detbench("status", "runs/toy", "--json"))["answer"] == answer
    told = detbench("status", file)
    assert told.splitlines()[-1].startswith("answer: In mAP, width 8")
    finished = json.loads(detbench("status", file, "--json"))["finished"]
    folders = [folder for folder in Path("runs/toy").iterdir() if (folder / record.FILE).is_file()]
    assert {item["trial"] for item in finished} == {folder.name for folder in folders}
    assert all(folder.name in told for folder in folders), "what `compare` needs"
    assert all({"name", "seed", "mAP"} <= item.keys() for item in finished)
    (page,) = json.loads(detbench("report", file, "--out", "site", "--json"))
    assert on_page(page) == answer
    tags = parent(here()).data.tags
    assert tags["detbench.answer"] == answer
    assert tags["mlflow.note.content"] == f"Does width pay?\n\n{answer}"

    assert marks.is_told(Path("runs/toy"), here(), answer)
    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "tell", None)  # which fails if it is called: nothing is sent twice
        told = detbench("run", file, *where, "--no-report").partition("answer:")[2]
    assert " ".join(told.split()) == answer  # and it is the last that is said

    shutil.copy(empty_tracker, "other.db")
    other = here("other.db")
    detbench("sync", "toy", "--tracking-uri", other, "--out", Path("runs").resolve())
    assert parent(other).data.tags["detbench.answer"] == answer


def test_an_answer_that_changed_is_sent_again(detbench: Run) -> None:
    for one in study(["width"], {(4,): (40.0, None), (8,): (50.0, None)}, seeds=2):
        one.write(Path("runs/study", one.trial))
    detbench("sync", "runs/study", "--tracking-uri", here())
    run = parent(here(), "study")
    first = run.data.tags["detbench.answer"]
    assert "2 of 2" not in first
    caveat = {"mAP": "learnt nothing: no detection; train longer"}
    record.read(Path("runs/study/t0")).model_copy(update={"caveats": caveat}).write(
        Path("runs/study/t0")
    )
    detbench("sync", "runs/study", "--tracking-uri", here())
    found = client(here()).get_run(run.info.run_id).data.tags
    assert found["detbench.answer"] == f"{first} 1 of 4 trainings learnt nothing."


def test_a_page_escapes_the_answer(detbench: Run) -> None:
    hostile = "</p><script>alert(1)</script>&amp;"
    for one in study(["width"], {(hostile,): (40.0, None), ("b",): (50.0, None)}):
        one.write(Path("runs/study", one.trial))
    (page,) = json.loads(detbench("report", "runs/study", "--out", "site", "--json"))
    text, _ = answers.of_folder(Path("runs/study"))
    assert hostile in text
    assert on_page(page) == text


def test_the_scatter_comes_from_studies_beside_a_folder_and_from_what_is_committed(
    detbench: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same wherever the answer stands; a record that cannot be read is passed over."""
    data = {"fingerprint": "d1"}
    for one in study(["width"], {(1,): (40.0, None), (2,): (60.0, None)}, seeds=1, data=data):
        one.write(Path("runs/study", one.trial))
    text = answers.of_folder(Path("runs/study"))[0]
    assert "with one seed the scatter is unknown" in text
    other = {"study": "repeated", "data": data}
    for one in study(["width"], {(8,): (50.0, None), (9,): (51.0, None)}, seeds=3, **other):
        named = one.model_copy(update={"trial": f"r-{one.trial}"})
        named.write(Path("runs/repeated", named.trial))
    Path("runs/repeated/broken").mkdir()
    Path("runs/repeated/broken", record.FILE).write_text('{"fingerprint": "d1"', "utf-8")
    text = answers.of_folder(Path("runs/study"))[0]
    assert "by the scatter of 6 trainings of repeated, width 2 is better than width 1" in text
    assert json.loads(detbench("status", "runs/study", "--json"))["answer"] == text
    (page,) = json.loads(detbench("report", "runs/study", "--out", "site", "--json"))
    assert on_page(page) == text
    told = detbench("report", "runs/study", "--out", "site")
    assert told.splitlines()[-1] == f"answer: {text}"

    Path("kept/machine").mkdir(parents=True)
    Path("runs/repeated").rename("kept/machine/repeated")
    assert "scatter is unknown" in answers.of_folder(Path("runs/study"))[0]
    monkeypatch.setattr(answers, "COMMITTED", Path("kept").resolve())
    assert answers.of_folder(Path("runs/study"))[0] == text


def test_the_answer_is_of_the_trials_that_the_study_asks_for(detbench: Run) -> None:
    folder = Path("runs/study")
    for one in study(["width"], {(1,): (40.0, None), (2,): (50.0, None), (3,): (60.0, None)}):
        one.write(folder / one.trial)
    asked = [f"t{n}" for n in (0, 1, 3, 4, 6, 7)]  # not those of width 3
    known = snapshot.Snapshot(version="v", trials=asked, study="study", total=6)
    snapshot.update(folder, known)
    text, records = answers.of_folder(folder)
    assert (len(records), "width 3" in text) == (6, False)
    assert json.loads(detbench("status", folder, "--json"))["answer"] == text
