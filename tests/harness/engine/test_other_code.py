"""Code that changed between two runs, or while one was under way: a detector of one's own."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness import study
from harness.engine import agenda, driver, worker
from harness.engine.agenda import Agenda
from harness.engine.driver import Place
from harness.engine.events import Event, Summary
from harness.engine.executor import Job
from harness.engine.failures import OTHER_CODE
from harness.machine import environment
from harness.records import Failure, Record, record
from harness.study.code import CodeError
from harness.trials import stale, trainings
from tests.harness.engine.instant import Inline
from tests.harness.studies import TOY, write
from tests.rooms import ROOT

LOSS = ("0.2 * distance", "0.3 * distance")
LAYER = ("nn.ReLU()", "nn.SiLU()")
POSTPROCESS_DEFAULT = ("inference_only(0.6)", "inference_only(0.5)")


class Ran(NamedTuple):
    """One run of the study, as a command of its own would do it."""

    summary: Summary
    events: list[Event]

    @property
    def only(self) -> Record:
        (found,) = self.summary.records
        return found

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


class Own:
    """A package of one's own: a model, its criterion and assigners, and what no model needs."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch, self.out = folder, monkeypatch, folder / "runs"
        self.package = folder / "own_code"
        self.package.mkdir()
        text = (ROOT / "tests" / "toy.py").read_text(encoding="utf-8")
        head, _, rest = text.partition("STRIDE = 8\n")
        choices = rest[: rest.index("@dataclass(frozen=True)\nclass ToyPostprocessConfig")]
        model, _, after = rest.removeprefix(choices).partition("class ToyCriterion")
        criterion, _, after = after.partition("class ToyPostprocess(")
        imports = "from .criterion import STRIDE, Inside, Nearest, ToyCriterion\n"
        self.write("__init__", '"""A package."""\n')
        self.write("criterion", f"{head}STRIDE = 8\n{choices}class ToyCriterion{criterion}")
        self.write("model", f"{head}{imports}\n{model}class ToyPostprocess({after}")
        self.write("notes", "REMARK = 1\n")
        monkeypatch.syspath_prepend(str(folder))

    def write(self, module: str, text: str) -> None:
        (self.package / f"{module}.py").write_text(text, encoding="utf-8")

    def edit(self, module: str, before: str, after: str) -> None:
        """Change a module, which a new process will import anew."""
        text = (self.package / f"{module}.py").read_text(encoding="utf-8")
        assert before in text
        self.write(module, text.replace(before, after, 1))

    def agenda(self, **changes: Any) -> Agenda:
        """Read the study, as a process does that begins now."""
        forget()
        importlib.invalidate_caches()
        self.monkeypatch.setattr(worker, "HELD", {})
        fixed = {"set": {**TOY["set"], "recipe.epochs": 1}, "sweep": {"detector.width": [4]}}
        tree = {"detector": "own_code.model:TOY", "measure": ["complexity", "accuracy"], **fixed}
        return agenda.of(study.load(write(self.folder, **tree | changes)))

    def run(self, todo: Agenda | None = None, **changes: Any) -> Ran:
        """Run the study in this process."""
        events: list[Event] = []
        todo = replace(todo or self.agenda(), **changes)
        summary = driver.run(todo, Inline(perform), Place(self.out), events.append)
        return Ran(summary, events)

    def text(self, trial: str) -> str:
        """Return the record of a trial as it stands in its file."""
        return (self.out / "toy" / trial / record.FILE).read_text(encoding="utf-8")

    def trainings(self) -> set[str]:
        """Name the trainings on the shelf."""
        return {item.name for item in (self.out / trainings.SHELF).glob("[!.]*")}


def forget() -> None:
    """Let the next import read the package anew."""
    for module in [item for item in sys.modules if item.partition(".")[0] == "own_code"]:
        del sys.modules[module]


def perform(job: Job) -> Record | Failure:
    """Carry a job out as a worker does."""
    quiet: Callable[..., None] = lambda *arguments: None  # noqa: E731
    try:
        return worker.perform(job, device="cpu", share=1, on_progress=quiet, judge=quiet)
    except CodeError as error:
        return Failure(cause=OTHER_CODE, message=str(error))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Own]:
    # which would be taken for that of a file that was edited within a second, to the same length
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Own(tmp_path, monkeypatch)
    forget()


@pytest.mark.parametrize(
    ("module", "before", "after", "again"),
    [
        ("criterion", *LOSS, "training"),
        ("criterion", "topk(self.assigner.topk", "topk(1 + self.assigner.topk", "training"),
        ("model", *LAYER, "training"),
        ("model", *POSTPROCESS_DEFAULT, "trial"),
        ("__init__", '"""A package."""', "import torch", "training"),
        ("criterion", "# [", "# of shape [", "nothing"),
        ("criterion", '"""Cross-entropy', '"""Binary cross-entropy', "nothing"),
        ("criterion", "near = ", "near = \\\n                ", "nothing"),
        ("notes", "1", "2", "nothing"),
    ],
)
def test_what_an_edit_runs_again(
    own: Own, module: str, before: str, after: str, again: str
) -> None:
    first = own.run().only
    made, text = own.trainings(), own.text(first.trial)
    if before not in (own.package / f"{module}.py").read_text(encoding="utf-8"):
        own.edit("criterion", "return point, gt", "return point, gt  # [P]")
    own.edit(module, before, after)
    second = own.run()
    assert (second.only.trial == first.trial) == (again == "nothing")
    assert (own.trainings() != made) == (again == "training")
    assert second.kinds == (["skipped"] if again == "nothing" else second.kinds)
    assert own.text(first.trial) == text
    if again == "trial":
        told = second.only.details["training"]
        assert told["training"] in made
        assert told["validated_with"] == {"postprocess.iou_threshold": 0.6}
    if again == "training":
        assert second.only.details["training"]["made_by"] == f"toy/{second.only.trial}"


def test_a_result_names_the_code_behind_it(own: Own) -> None:
    found = own.run().only.code
    assert {"own_code/__init__.py", "own_code/criterion.py", "own_code/model.py"} <= set(
        found["detector"]
    )
    assert "own_code/notes.py" not in found["detector"]
    story = trainings.find(own.out / trainings.SHELF, *own.trainings())
    assert story is not None
    assert story.story.code == found


def test_a_training_of_other_code_is_neither_taken_nor_gone_on_with(own: Own) -> None:
    todo = own.agenda()
    (spec,) = todo.specs
    begun = trainings.partial_folder(own.out / trainings.SHELF, spec.training)
    begun.mkdir(parents=True)
    (begun / trainings.CHECKPOINT).write_text("of the old code")
    own.edit("criterion", *LOSS)
    found = own.run(own.agenda(name="other"))
    assert found.only.state == "done"
    assert found.only.details["training"]["details"]["resumed"] == 0
    assert (begun / trainings.CHECKPOINT).read_text() == "of the old code"


def test_code_that_changes_after_the_start_ends_the_run(own: Own) -> None:
    todo = own.agenda()
    own.edit("criterion", *LOSS)
    found = own.run(todo)
    assert found.summary.records == []
    assert str(found.summary.halted) == (
        "the code changed since the study was started, or differs on this node:"
        " own_code/criterion.py; run the study again, with the same code everywhere"
    )
    assert own.trainings() == set()
    assert own.run().only.state == "done"


def test_a_warm_worker_runs_nothing_that_changed_under_it(own: Own) -> None:
    (spec,) = own.agenda().specs
    worker.check_code(spec)
    own.edit("criterion", *LOSS)
    held = dict(worker.HELD)
    (spec,) = own.agenda().specs  # of a driver that was started after the change
    own.monkeypatch.setattr(worker, "HELD", held)
    with pytest.raises(CodeError, match=r"own_code/criterion\.py; run the study again"):
        worker.check_code(spec)
    own.edit("criterion", *reversed(LOSS))
    own.edit("criterion", '"""Cross-entropy', '"""The cross-entropy')
    (spec,) = own.agenda().specs
    own.monkeypatch.setattr(worker, "HELD", held)
    worker.check_code(spec)


def test_a_worker_holds_the_files_that_it_has_imported() -> None:
    """Those that its module needs; a detector's come with the first trial that builds it."""
    held = {file.relative_to(ROOT).as_posix() for file in worker.HELD if ROOT in file.parents}
    assert {"detectors/interface.py", "harness/training/loop.py"} <= held


def test_finished_trials_of_other_code_are_told_and_used_on_request(own: Own) -> None:
    first = own.run().only
    text = own.text(first.trial)
    own.edit("criterion", *LOSS)
    todo = own.agenda()
    (found,) = stale.find(todo.specs, own.out / "toy")
    assert found.told() == {
        "trial": todo.specs[0].trial,
        "record": first.trial,
        "files": ["own_code/criterion.py"],
    }
    assert stale.lines([found.told()]) == [
        "1 finished trial is of other code (own_code/criterion.py changed) and will be run again;"
        " --keep-stale uses what there is"
    ]
    kept = own.run(todo, keep_stale=True)
    assert (kept.kinds, kept.summary.skipped, kept.only.trial) == (["skipped"], 1, first.trial)
    assert set(kept.only.caveats) == set(kept.only.metrics) == set(first.metrics)
    said = {text.partition("; ")[0] for text in kept.only.caveats.values()}
    assert said == {"of other code: own_code/criterion.py changed"}
    assert kept.only.details["other_code"] == ["own_code/criterion.py"]
    assert own.text(first.trial) == text
    again = own.run(own.agenda(), keep_stale=False)
    assert again.only.trial == todo.specs[0].trial
    assert stale.find(todo.specs, own.out / "toy") == []


def test_what_other_knobs_gave_does_not_stand_in(own: Own) -> None:
    own.run()
    own.edit("criterion", *LOSS)
    todo = own.agenda(sweep={"detector.width": [8]})
    assert stale.find(todo.specs, own.out / "toy") == []


def test_a_trial_whose_code_is_unknown_is_not_taken_over(own: Own) -> None:
    first = own.run().only
    file = own.out / "toy" / first.trial / record.FILE
    before = first.model_copy(update={"code": {}, "trial": "0123456789ab"})
    before.protocol = first.protocol | {"evaluator": "hotcoco 1.3.0"}
    before.protocol_hash = record.digest(before.protocol)
    file.parent.rename(file.parent.with_name(before.trial))
    before.write(file.parent.with_name(before.trial))
    todo = own.agenda()
    (found,) = stale.find(todo.specs, own.out / "toy")
    assert stale.lines([found.told()])[0].startswith("1 finished trial is of other code (code unk")
    assert own.run(todo).only.trial == first.trial


def test_other_versions_are_told_and_run_again_on_request(own: Own) -> None:
    first = own.run().only
    place, shelf = own.out / "toy" / first.trial, own.out / trainings.SHELF
    (training,) = own.trainings()
    story = shelf / training / trainings.STORY_FILE
    for file in (place / record.FILE, story):
        text = json.loads(file.read_text(encoding="utf-8"))
        text["environment"]["packages"]["hotcoco"] = "0.9"
        file.write_text(json.dumps(text), encoding="utf-8")
    before = record.read(place)
    now = environment.versions(first.environment)["hotcoco"]
    assert stale.other_versions(before) == [f"hotcoco 0.9, now {now}"]
    assert stale.versions_lines([before]) == [
        f"1 finished trial is of other versions (hotcoco 0.9, now {now}); --fresh runs again"
    ]
    assert own.run().kinds == ["skipped"]
    renewed = replace(
        own.agenda(), fresh=True, outdated=lambda found: bool(stale.other_versions(found))
    )
    again = own.run(renewed)
    assert again.only.trial == first.trial
    assert stale.other_versions(again.only) == []
    assert again.only.details["training"]["versions"]["hotcoco"] == now
    (aside,) = (own.out / "toy").glob(f".earlier-{first.trial}-*")
    assert record.read(aside) == before
    assert [item.name for item in shelf.glob(".earlier-*")] == [f".earlier-{training}-1"]
    assert own.run(renewed).kinds == ["skipped"]
