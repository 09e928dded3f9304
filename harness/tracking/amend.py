"""What is new in a record that a run in MLflow holds already."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import harness.tracking.contents as contents
from harness.records import FILE, Record, artifact
from harness.tracking.contents import Point

METRICS_A_BATCH = 1000
SENT = "detbench.record"  # tag of a run: digest of the record that it holds


class Held(NamedTuple):
    """A run that holds a record."""

    run: str  # its id
    sent: str | None  # digest of the record; None from before it was kept


def amend(client: Any, run: Any, record: Record, folder: Path) -> None:
    """Add to a run the figures that a record has anew, as the last ones, and what lies behind them.

    Args:
        client: MLflow's.
        run: MLflow's, whole.
        record: of the same attempt at the same trial.
        folder: the trial's.
    """
    known = run.data.metrics
    last = {point.key: point for point in contents.metrics(record)}
    log(client, run.info.run_id, (p for p in last.values() if known.get(p.key) != p.value))
    names = (name for key, name in record.artifacts.items() if key.startswith("samples"))
    files = [artifact(folder, name) for name in (FILE, *names)]
    for file in filter(Path.is_file, files):
        client.log_artifact(run.info.run_id, str(file))


def log(client: Any, run: str, points: Iterable[Point]) -> None:
    """Add values of metrics to a run."""
    from mlflow.entities import Metric  # slow to import

    metrics = [Metric(*point) for point in points]
    for low in range(0, len(metrics), METRICS_A_BATCH):
        client.log_batch(run, metrics=metrics[low : low + METRICS_A_BATCH])
