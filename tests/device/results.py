"""What comes back from the device: written anew, whole, whenever a step begins or ends."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tests.device import page
from tests.device.plan import Job, Step
from tests.device.running import Ending

SUMMARY, RECORDS, PAGE, LOG = "summary.json", "records.tar", "report.html", "log.txt"
MOST_BYTES = 15_000_000  # of a file that comes back
LEFT_BEHIND = {".safetensors", ".pt", ".pth", ".db", ".onnx", ".lock"}
"""Kinds of files that do not come back: weights, graphs, and what a run needs while it lasts."""
FIGURES = (
    *("latency_ms", "latency_low_ms", "latency_high_ms", "latency_p95_ms", "network_ms", "nms_ms"),
    *("backbone_ms", "neck_ms", "head_ms", "busy_ms", "reference_ratio", "roofline_fraction"),
    *("memory_bytes", "energy_j", "params", "macs"),
)


class Summary:
    """What was done, what was found, and what was not and why."""

    def __init__(self, facts: dict[str, Any], out: Path) -> None:
        self.facts = facts
        self.out = out

    @classmethod
    def begin(cls, job: Job, todo: Sequence[Step], minutes: float, out: Path) -> Summary:
        """Write down all that is to be done, before anything is."""
        steps = [{"name": step.name, "about": step.about, "state": "not reached"} for step in todo]
        models = [
            {"step": step.name, "model": model, "runtime": runtime, "precision": precision}
            | {"absent": {"latency_ms": step.lacks or "not reached"}}
            for step in todo
            for model, runtime, precision in step.expects
        ]
        facts = {
            "schema": 1,
            "begun": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "minutes": minutes,
            "device": job.device,
            "photographs": job.data != "shapes",
            "size": job.size,
            "environment": {},
            "steps": steps,
            "models": models,
            "left_out": [],
        }
        for name in (RECORDS, LOG):
            (out / name).unlink(missing_ok=True)
        made = cls(facts, out)
        made._write()
        return made

    def began(self, step: Step, limit: float) -> None:
        """Say that a step is running, for whoever reads this after the end."""
        self._step(step).update(state="running", limit_s=round(limit, 1))
        self._write()

    def ended(self, step: Step, ending: Ending, found: Path | None = None) -> None:
        """Take what a step has found, and write everything."""
        self._step(step).update(
            state=ending.state, reason=ending.reason, seconds=round(ending.seconds, 1)
        )
        for row in self.facts["models"]:
            if row["step"] == step.name and ending.state != "done":
                row["absent"] = {"latency_ms": f"{ending.state}: {ending.reason}"}
        if found is not None:
            self._read(step, found)
            self._keep(found)
        self._write()

    def any_failed(self) -> bool:
        """Tell whether a step failed."""
        return any(step["state"] == "failed" for step in self.facts["steps"])

    def _step(self, step: Step) -> dict[str, Any]:
        found: dict[str, Any] = next(s for s in self.facts["steps"] if s["name"] == step.name)
        return found

    def _read(self, step: Step, found: Path) -> None:
        """Take the environment and the figures of each model out of a step's files."""
        about = found / "environment.json"
        if about.is_file():
            self.facts["environment"] = json.loads(about.read_text("utf-8"))
        measured = found / "measure.json"
        if not measured.is_file():
            return
        facts = json.loads(measured.read_text("utf-8"))
        self.facts["environment"] = self.facts["environment"] or facts["environment"]
        timed = {named(row["model"]): row for row in facts["models"]}
        for row in self.facts["models"]:
            if row["step"] != step.name:
                continue
            one = timed.pop((row["model"], row["runtime"]), None)
            if one is not None:
                row |= figures(one)
        new = [
            {"step": step.name, "model": model, "runtime": runtime, "precision": "fp32"}
            | figures(one)
            for (model, runtime), one in timed.items()
        ]
        self.facts["models"] += new

    def _keep(self, found: Path) -> None:
        """Add a step's files to the archive, which is replaced whole."""
        archive, next_one = self.out / RECORDS, self.out / f".{RECORDS}"
        if archive.is_file():
            shutil.copyfile(archive, next_one)
        with tarfile.open(next_one, "a") as tar:
            for file in files(found):
                name = str(file.relative_to(found.parent))
                if tar.offset + file.stat().st_size > MOST_BYTES:
                    self.facts["left_out"].append(name)
                else:
                    tar.add(file, name)
        os.replace(next_one, archive)

    def _write(self) -> None:
        _whole(self.out / SUMMARY, json.dumps(self.facts, indent=1))
        _whole(self.out / PAGE, page.page(self.facts))


def named(shown: str) -> tuple[str, str]:
    """Return the model and the runtime of a row of `detbench measure`."""
    model, _, runtime = shown.partition(", ")
    return model, runtime or "eager"


def figures(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a table shows of a row of `detbench measure`."""
    metrics = row["metrics"]
    found = {name: metrics[name] for name in FIGURES if name in metrics}
    absent = {name: why for name, why in row["absent"].items() if name in FIGURES}
    diagnosis = row.get("details", {}).get("latency", {})
    found |= {name: diagnosis[name] for name in ("idle_share", "launch_bound") if name in diagnosis}
    return found | {"absent": absent, "caveats": row["caveats"]}


def files(folder: Path) -> Iterator[Path]:
    """Yield the files that come back, the small ones first."""
    there = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    kept = [path for path in there if path.suffix not in LEFT_BEHIND]
    return iter(sorted(kept, key=lambda path: (path.stat().st_size, str(path))))


def _whole(path: Path, text: str) -> None:
    """Write a file so that whoever reads it at any moment finds the old one or the new one."""
    partial = path.with_name(f".{path.name}")
    partial.write_text(text, "utf-8")
    os.replace(partial, path)
