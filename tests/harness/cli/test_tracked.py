"""What MLflow is told of a study that runs, and when."""

from pathlib import Path
from typing import Any

import pytest

from harness import study as studies
from harness.cli import tracked
from harness.engine.events import Event
from harness.records.progress import Progress
from harness.study import expand
from tests.harness.studies import write
from tests.harness.tracking.trackers import make


class Box:
    """Stands for an outbox, and remembers what it is told."""

    def __init__(self, study: str, uri: str, **options: Any) -> None:
        self.options, self.told = options, []  # type: ignore[var-annotated]
        self.complete = False
        boxes.append(self)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def begin(self, trial: Any, folder: Path) -> None:
        self.told.append(("begin", trial.trial, folder.name, trial.metrics))

    def add(self, trial: str, row: Any) -> None:
        self.told.append(("add", trial, dict(row)))

    def put(self, folder: Path) -> None:
        self.told.append(("put", folder.name))


boxes: list[Box] = []


@pytest.mark.parametrize("models", [True, False])
def test_a_trial_is_told_as_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, models: bool
) -> None:
    monkeypatch.setattr(tracked, "Outbox", Box)
    study = studies.load(write(tmp_path))
    spec = expand(study)[0]
    row = {"epoch": 1.0, "step": 4.0, "time": 0.0, "mAP": 0.5}
    with tracked.tracked(study, tmp_path, "uri", "cpu", pytest.fail, models=models) as tell:
        tell(Event("started", spec.trial, spec))
        tell(Event("progress", spec.trial, spec, progress=Progress("train", 1, 8, {})))
        tell(Event("progress", spec.trial, spec, progress=Progress("train", 4, 8, {}, row=row)))
        tell(Event("finished", spec.trial, spec, record=make(tmp_path / spec.trial)))
    box = boxes.pop()
    assert box.told == [
        ("begin", spec.trial, spec.trial, {}),
        ("add", spec.trial, row),
        ("put", spec.trial),
    ]
    assert box.options["trusted"] == ({"tests.toy:TOY"} if models else None)


def test_without_a_tracker_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracked, "Outbox", lambda *given, **options: pytest.fail("it is asked"))
    study = studies.load(write(tmp_path))
    with tracked.tracked(study, tmp_path, None, "cpu", pytest.fail, models=True) as tell:
        tell(Event("started", "a"))
