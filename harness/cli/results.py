"""Files of results that no model of ours made: scored, recorded, and one side of a comparison."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from pathlib import Path

from harness import data
from harness.analysis.compare.runs import Run
from harness.cli import console
from harness.cli.console import print_json
from harness.cli.models import note, over, place, show_metrics
from harness.cli.text import say
from harness.config import places
from harness.data import OneSplit
from harness.machine import environment
from harness.measure.accuracy import detections as stored
from harness.measure.accuracy import evaluate as evaluation
from harness.measure.accuracy import results
from harness.records import SCHEMA, Record, digest
from harness.study import code
from harness.study.specification import EVALUATOR

STUDY = "results"
DETECTOR = "results"  # what stands for one where nothing is known but its boxes
NOT_TIMED = "a file of results has boxes and no times"


def evaluate(
    name: str, data_name: str, split: str, *, out: Path | None = None, as_json: bool = False
) -> int:
    """Score a file of COCO results.

    Args:
        name: of the file.
        data_name: a data set, whose images need not be there, or an annotation file.
        split: of the data set.
        out: a folder for the record, which `report` and `compare` read; None for none.
        as_json: whether to print JSON.
    """
    truth = data.load_truth(data_name, split)
    found = run(name, truth, split)
    if out is not None:
        folder = out / found.record.trial
        folder.mkdir(parents=True, exist_ok=True)
        names = {item.id: item.name for item in truth.categories}
        kept = stored.write(found.detections, folder, names)
        record = found.record.model_copy(
            update={"study": _plain(out.resolve().name), "artifacts": {"detections": kept.name}}
        )
        record.write(folder)
    notes = _notes(found, truth)
    if as_json:
        print_json(
            {
                "data": truth.summary(),
                "protocol": found.record.protocol,
                "metrics": found.record.metrics,
                "details": found.record.details["accuracy"],
                "notes": notes,
            }
        )
        return 0
    images = f"{len(truth.split)} images, {len(found.detections)} boxes"
    show_metrics(
        found.record.metrics, f"{found.folder.name} on {place(truth.name, split)}, {images}"
    )
    note(console.stdout(), notes)
    if out is not None:
        say(f"record: {folder}")
    return 0


def is_file(name: str) -> bool:
    """Say whether a name is that of a file of results, and not of a trial's folder."""
    return name.endswith(places.ALONE) and not Path(name).is_dir()


def run(name: str, truth: OneSplit, split: str = "val") -> Run:
    """Read and score a file of results; it is like a finished trial that found this.

    Args:
        name: of the file.
        truth: what it was found in.
        split: of the data set.

    Raises:
        DataError: the file, or an entry of it, cannot be what it is taken for.
    """
    file, started = places.alone(name), time.time()
    found = results.read(file, truth.split)
    scored = evaluation.score(truth.split.ground_truth(), found)
    protocol = {
        "schema": SCHEMA,
        "measure": ["accuracy"],
        "data": truth.fingerprint,
        "evaluator": EVALUATOR,
        "max_detections": list(evaluation.MAX_DETECTIONS),
        "iou_thresholds": list(evaluation.IOU_THRESHOLDS),
        **over(None, split),
    }
    content = hashlib.sha256(file.read_bytes()).hexdigest()
    title = file.name.removesuffix(".gz").removesuffix(".json")
    record = Record(
        study=STUDY,
        trial=digest([content, protocol]),
        name=title,
        detector=DETECTOR,
        overrides={"detections": title},
        config={"data.source": truth.name},
        seed=0,
        state="done",
        metrics=scored.metrics,
        absent={"latency_ms": NOT_TIMED},
        details={"accuracy": scored.details, "results": {"file": file.name, "sha256": content}},
        protocol=protocol,
        protocol_hash=digest(protocol),
        data=truth.summary(),
        code=code.of_scoring(),
        environment=environment.capture("cpu"),
        timings={"started": started, "finished": time.time()},
    )
    return Run(file, record, found)


def _notes(found: Run, truth: OneSplit) -> Sequence[str]:
    """Say what may be wrong with a file that can be scored."""
    missed = len(truth.split) - len({item["image_id"] for item in found.detections})
    if not missed:
        return ()
    return (
        f"nothing was found in {missed} of {len(truth.split)} images; their objects are missed",
    )


def _plain(name: str) -> str:
    """Return a folder's name as one of a study."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip("_.-") or STUDY
