"""The runs in MLflow that stand for a study: one for each version of its file.

A trial has one run, under the newest version that has the trial: once the file is edited, what it
still asks for moves under the new version's run, and the rest stays with the old one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import harness.tracking.contents as contents
from harness.records import Record, snapshot
from harness.tracking.contents import LONGEST_TAG

VERSION = "detbench.version"  # of a study's file; absent where it is not known
ANSWER = "detbench.answer"
PARENT = "mlflow.parentRunId"


def of(folder: Path, trial: str) -> str:
    """Return the newest version of a study that has a trial; empty if its folder does not tell."""
    known = snapshot.load(folder)
    return (known.version_of(trial) if known else None) or ""


def parent(client: Any, experiment: str, record: Record, note: str, version: str) -> str:
    """Find or make the run of a version, which is never open: drivers come, go and are killed."""
    order = ["attributes.start_time", "attributes.run_id"]
    known = client.search_runs([experiment], "tags.`detbench.kind` = 'study'", order_by=order)
    same = [run for run in known if run.data.tags.get(VERSION, "") == version]
    if same:
        found: str = same[0].info.run_id
        return found
    tags = {"detbench.kind": "study", "detbench.study": record.study} | contents.source(record)
    tags |= {"mlflow.note.content": note} if note else {}
    tags |= {VERSION: version} if version else {}
    name = f"{record.study}, version {len(known) + 1}" if known else record.study
    start = int(1000 * record.timings.get("started", 0))
    made = client.create_run(experiment, start_time=start, run_name=name, tags=tags)
    run: str = made.info.run_id
    client.log_inputs(run, contents.inputs(record))
    client.set_terminated(run)
    return run


def tell(client: Any, run: str, question: str, answer: str) -> None:
    """Write an answer on the run of a study: in its note below the question, and as a tag."""
    client.set_tag(run, "mlflow.note.content", "\n\n".join(filter(None, (question, answer))))
    client.set_tag(run, ANSWER, answer[:LONGEST_TAG])


def arrange(client: Any, runs: Iterable[Any], folder: Path, records: Iterable[Record]) -> int:
    """Move runs of trials under the newest version that has them; return how many moved.

    Args:
        client: MLflow's.
        runs: MLflow's, of the study.
        folder: of the study.
        records: in that folder.
    """
    known = snapshot.load(folder)
    by_trial = {item.trial: item for item in records}
    parents: dict[str, str] = {}
    moved = 0
    for run in runs:
        item = by_trial.get(run.data.tags.get("detbench.trial", ""))
        version = known.version_of(item.trial) if known and item else None
        if known is None or item is None or version is None:
            continue
        if version not in parents:
            note = known.question
            parents[version] = parent(client, run.info.experiment_id, item, note, version)
        if run.data.tags.get(PARENT) != parents[version]:
            client.set_tag(run.info.run_id, PARENT, parents[version])
            moved += 1
    return moved
