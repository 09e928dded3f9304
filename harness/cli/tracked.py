"""A study that runs, as MLflow is told of it: its trials, their order, and its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.config.secrets import masked
from harness.engine.events import Event, Summary
from harness.records import record, snapshot
from harness.records.snapshot import Snapshot
from harness.study import Study
from harness.tracking import Outbox, Tracker, is_logged, marks
from harness.trials.outcome import blank

Told = Callable[[Event], None]


@contextmanager
def tracked(
    study: Study,
    folder: Path,
    tracker: str | None,
    device: str,
    warn: Callable[[str], None],
    *,
    models: bool,
) -> Iterator[Told]:
    """Have MLflow told of trials as they start, of their epochs, and of their records.

    Args:
        study: whose trials they are.
        folder: of its records.
        tracker: MLflow's URI; None for none, which is told nothing.
        device: that trials are measured on here.
        warn: is told what MLflow lacks.
        models: whether trained weights are sent as models, too.

    Yields:
        What to call with every event.
    """
    if tracker is None:
        yield lambda event: None
        return
    before = snapshot.load(folder)
    with Outbox(
        study.name,
        tracker,
        device=device,
        knobs={*study.sweep, *(study.search.space if study.search else ())},
        note=study.question,
        trusted=set(map(str, study.all_named("detector"))) if models else None,
        warn=warn,
    ) as outbox:

        def tell(event: Event) -> None:
            if event.record is not None:
                outbox.put(folder / event.record.trial)
            elif event.kind == "started" and event.spec is not None:
                outbox.begin(blank(event.spec), folder / event.trial)
            elif event.progress is not None and event.progress.row:
                outbox.add(event.trial, event.progress.row)

        yield tell
    if outbox.complete:  # else nobody waits for it once more
        _arrange(folder, before, tracker, warn)


def answer(
    text: str, summary: Summary, folder: Path, tracker: str | None, warn: Callable[[str], None]
) -> None:
    """Have MLflow hold the answer beside the question, once it holds the trials."""
    records = summary.records
    if tracker is None or not records or marks.is_told(folder, tracker, text):
        return
    if not all(is_logged(folder / item.trial, tracker) for item in records):
        return
    try:
        Tracker(tracker).tell(records[0], folder, text)
    except Exception as error:  # whatever a tracker raises
        why = masked(" ".join(str(error).split()), tracker)[:300]
        warn(f"MLflow: {why}; `detbench sync {records[0].study}` sends the answer")


def _arrange(
    folder: Path, before: Snapshot | None, tracker: str, warn: Callable[[str], None]
) -> None:
    """Have MLflow hold the trials of a file that was edited under the run of its version."""
    now = snapshot.load(folder)
    if now is None or (before is not None and before.version == now.version):
        return
    records = [item for item in record.read_all(folder) if is_logged(folder / item.trial, tracker)]
    try:
        if records:
            Tracker(tracker).arrange(now.study, folder, records)
    except Exception as error:  # whatever a tracker raises
        text = masked(" ".join(str(error).split()), tracker)[:300]
        warn(f"MLflow: {text}; `detbench sync {now.study}` puts the trials in order")
