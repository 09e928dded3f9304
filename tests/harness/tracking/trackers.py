"""Trackers, records and what a tracker holds, for the tests of tracking."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
import warnings
from pathlib import Path
from typing import Any

from harness.records import Record
from tests.patience import wait_for


def make(folder: Path, **changes: Any) -> Record:
    """Write the record of a small trial, and weights beside it."""
    values: dict[str, Any] = {
        "study": "toy",
        "trial": folder.name,
        "name": "width=4",
        "detector": "tests.toy:TOY",
        "overrides": {"detector.width": 4},
        "config": {f"detector.knob{i}": i for i in range(150)}
        | {"detector.long": "x" * 7000, "detector.width": 4},
        "seed": 3,
        "state": "done",
        "metrics": {"mAP": 0.5, "latency_ms": 2.0},
        "curves": [
            {"epoch": 1, "step": 4, "time": 1000.0, "loss": 2.0},
            {"epoch": 2, "step": 8, "time": 1001.0, "loss": 1.0, "mAP": 0.4},
        ],
        "timings": {"started": 999.0, "finished": 1002.0},
        "artifacts": {"weights": "weights.safetensors"},
    }
    record = Record(**{**values, **changes})
    record.write(folder)
    (folder / "weights.safetensors").write_bytes(b"weights")
    return record


def client(uri: str) -> Any:
    """Return MLflow's own client."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri)


def runs(uri: str, study: str = "toy") -> list[Any]:
    """Return all runs of an experiment that were not deleted, the study's own included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        experiment = client(uri).get_experiment_by_name(study)
        return list(client(uri).search_runs([experiment.experiment_id]))


def trials(uri: str, study: str = "toy") -> list[Any]:
    """Return the runs of an experiment that stand for trials."""
    return [run for run in runs(uri, study) if "detbench.trial" in run.data.tags]


class Server:
    """A tracking server on this machine, which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
            )
        log_file = self.folder / "server.log"
        wait_for(self._answers, f"an answer of the server, whose log is {log_file},")

    def stop(self) -> None:
        """End it as a crash would, with the workers that it started."""
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
