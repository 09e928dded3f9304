"""A trial's weights as a model of MLflow: loaded, registered and served with MLflow's own means.

It stands beside the file of weights that detbench itself reads, and holds the detector as it was
trained, so that training can go on from it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from harness.records import Record, artifact
from harness.tracking import connection

NAME = "model"
LEFT_OUT = "detbench.model_left_out"  # tag of a run: why its weights are no model


class Saved(NamedTuple):
    """A model on this disk, or the reason why there is none."""

    folder: Path | None
    reason: str = ""


@contextmanager
def saved(record: Record, folder: Path, trusted: Collection[str]) -> Iterator[Saved | None]:
    """Save the weights of a trial as a model, in a folder that is gone afterwards.

    Args:
        record: of the trial.
        folder: its own, with weights and their config.
        trusted: detectors that are not built in, whose code may run here.

    Yields:
        None for a trial that trained nothing.
    """
    if not _is_trained(record, folder):
        yield None
        return
    place = Path(tempfile.mkdtemp(prefix="detbench-model-"))
    try:
        yield _save(record, folder, trusted, place / NAME)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def send(client: Any, run: str, model: Saved, record: Record) -> None:
    """Log a model as an output of a run; of one that could not be saved, say why."""
    if model.folder is None:
        client.set_tag(run, LEFT_OUT, model.reason)
        return
    from mlflow.entities import LoggedModelOutput  # slow to import
    from mlflow.models import Model  # likewise

    experiment = client.get_run(run).info.experiment_id
    tags = {"detbench.study": record.study, "detbench.trial": record.trial}
    made = client.create_logged_model(
        experiment, name=NAME, source_run_id=run, tags=tags, model_type="detector"
    )
    description = Model.load(str(model.folder))
    description.run_id, description.model_id = run, made.model_id
    description.save(str(model.folder / "MLmodel"))
    client.log_model_artifacts(made.model_id, str(model.folder))
    client.finalize_logged_model(made.model_id, "READY")
    client.log_outputs(run, [LoggedModelOutput(made.model_id, step=_last_step(record))])


def discard(client: Any, experiment: str, run: str) -> None:
    """Delete the models that came of a run."""
    wanted = f"source_run_id = '{run}'"
    for model in client.search_logged_models([experiment], filter_string=wanted):
        client.delete_logged_model(model.model_id)


def _is_trained(record: Record, folder: Path) -> bool:
    """Say whether there are weights that a training of ours made."""
    name = record.artifacts.get("weights")
    there = name is not None and artifact(folder, name).is_file()
    return there and record.state == "done" and bool(record.curves)


def _save(record: Record, folder: Path, trusted: Collection[str], place: Path) -> Saved:
    """Write a model of MLflow's; whatever stands against it costs the run nothing else."""
    from harness.tracking.served import save  # torch is slow to import

    try:
        with connection.quiet():
            save(record, folder, trusted, place)
    except Exception as error:
        return Saved(None, f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])
    return Saved(place)


def _last_step(record: Record) -> int:
    return int(max((row.get("step", 0) for row in record.curves), default=0))
