"""Makes the files in this folder; see README.md. Meant for the commit that is named there."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2

from tests.golden.before_rooms import hashes
from tests.harness.tracking import trackers

HERE = Path(__file__).parent
CONTENTS = HERE / "contents.json"
ROOT = HERE.parents[2]
STUDIES = ("before.yaml", "hunt.yaml")
WHO = ("detbench.writer", "detbench.logging_since", "detbench.record")  # sent what, and when
TRACKER = {"http://tracker.example:5000": "0123456789abcdef0123456789abcdef"}


def main() -> None:
    for old in ("data", "runs"):
        shutil.rmtree(HERE / old, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for study in STUDIES:
            shutil.copy(HERE / study, folder)
        _make_data(folder)
        _detbench(folder, "run", "hunt.yaml", *_plain()).wait()
        _run_and_kill(folder)
        for item in ("data", "runs"):
            shutil.copytree(folder / item, HERE / item, ignore=shutil.ignore_patterns("*.lock"))
        _forget_the_machine(HERE / "runs")
        _write_contents(folder)
    first = min((HERE / "runs" / "before").glob("[!.]*"))
    (first / "mlflow.json").write_text(json.dumps(TRACKER, indent=1) + "\n")
    hashes.write()


def _plain() -> tuple[str, ...]:
    return ("--device", "cpu", "--no-report", "--no-tracking")


def _detbench(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start the command in a process group of its own."""
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    own |= {"DETBENCH_CACHE": str(folder / "cache"), "DETBENCH_LOCKS": str(folder / "locks")}
    command = [sys.executable, "-m", "harness.cli", *arguments]
    return subprocess.Popen(command, cwd=folder, env=os.environ | own, start_new_session=True)


def _make_data(folder: Path) -> None:
    """Render a few scenes, and keep them as PNG: the same pixels for every reader."""
    from harness.config.data import ShapesConfig
    from harness.data import shapes

    os.environ["DETBENCH_CACHE"] = str(folder / "cache")
    config = ShapesConfig(
        train_images=8, val_images=4, size=64, classes=6, objects=(2, 4), clutter=0, noise=0
    )
    shutil.copytree(shapes.folder(config), folder / "data")
    for file in (folder / "data").glob("*/*.jpg"):
        cv2.imwrite(str(file.with_suffix(".png")), cv2.imread(str(file)) // 16 * 16)
        file.unlink()
    for file in (folder / "data" / "annotations").iterdir():
        tree = json.loads(file.read_text().replace(".jpg", ".png"))
        file.write_text(json.dumps({key: tree[key] for key in tree if key != "info"}))


def _run_and_kill(folder: Path) -> None:
    """Run the study, and kill it in the third training, after the first validation."""
    process = _detbench(folder, "run", "before.yaml", *_plain())
    while not _is_half_done(folder / "runs"):
        if process.poll() is not None:
            raise SystemExit("the study ended before it was killed; try again")
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _is_half_done(runs: Path) -> bool:
    finished = len(list((runs / "before").glob("[!.]*/record.json")))
    return finished == 3 and any((runs / ".trainings").glob(".partial-*/validations.json"))


def _forget_the_machine(runs: Path) -> None:
    """Take out what names the machine; none of it is looked at by what the tests promise."""
    for file in [*runs.glob("*/*/record.json"), *runs.glob(".trainings/*/training.json")]:
        tree = json.loads(file.read_text())
        tree["environment"] = _neutral(tree["environment"])
        file.write_text(json.dumps(tree, indent=1) + "\n")
    for file in runs.glob("*/study.db"):
        with sqlite3.connect(file, isolation_level=None) as database:
            owner = json.dumps(["elsewhere", "", 1, "1"])
            database.execute(
                "UPDATE trial_user_attributes SET value_json = ? WHERE key = 'owner'", (owner,)
            )
            database.execute("PRAGMA page_size = 1024")  # most tables hold a row or two
            database.execute("VACUUM")


def _write_contents(folder: Path) -> None:
    """Send the records, as they are now, to a tracker, and write down what it then holds."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    shutil.copytree(HERE / "runs", folder / "sent")
    _detbench(folder, "sync", "all", "--out", "sent", "--tracking-uri", uri).wait()
    held = {study: contents(uri, study) for study in ("before", "hunt")}
    CONTENTS.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")


def contents(uri: str, study: str) -> dict[str, Any]:
    """Return what a tracker holds of a study, as far as it is the same in every such tracker."""
    found = {}
    for run in trackers.runs(uri, study):
        told = run.data.tags.items()
        tags = {key: text for key, text in told if key.startswith("detbench.") and key not in WHO}
        files = trackers.client(uri).list_artifacts(run.info.run_id)
        found[run.data.tags.get("detbench.trial", "the study")] = {
            "name": run.info.run_name,
            "status": run.info.status,
            "tags": tags,
            "params": dict(run.data.params),
            "metrics": dict(run.data.metrics),
            "artifacts": sorted(item.path for item in files),
        }
    return found


def _neutral(facts: dict[str, Any]) -> dict[str, Any]:
    return facts | {"host": "0" * 12, "os": "Linux"}


if __name__ == "__main__":
    main()
