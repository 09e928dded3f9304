"""The commands about single models, knobs and data: what each does once its arguments are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import detectors
from detectors import config as detector_config
from detectors import weights as detector_weights
from detectors.interface import Detector
from harness import (
    console,
    data,
    export,
    knobs,
    record,
    trial,
)
from harness import evaluate as evaluation
from harness import study as studies
from harness.console import Board, print_json
from harness.data import DataConfig, DataSet
from harness.knobs import Setup
from harness.latency import LatencyConfig
from harness.progress import OnProgress
from harness.recipe import Recipe
from harness.record import RecordError
from harness.specification import started_from
from harness.study import Study, StudyError
from harness.training import processes


def configured(name: str, changes: Mapping[str, Any]) -> Setup:
    """Return the setup of a detector by name, or of one that a training saved in a folder."""
    saved = is_saved(name)
    config = detector_weights.load(Path(name)).config if saved else detectors.resolve(name)
    return knobs.turn(knobs.start(config, None, "shapes"), changes)


def weights_of(name: str, weights: str | None) -> str | None:
    """Return where a model's weights come from; None for an untrained one."""
    return weights or (name if is_saved(name) else None)


def opened(
    name: str, data_name: str, changes: Mapping[str, Any], weights: str | None
) -> tuple[Detector, DataSet, Setup]:
    """Make a detector and open a data set, whose classes it must tell apart.

    Raises:
        StudyError: it tells others apart.
    """
    setup = configured(name, changes)
    dataset = data.load(setup.data.model_copy(update={"source": data_name}))
    classes, path = len(dataset.categories), "detector.num_classes"
    if not is_saved(name) and path not in changes:
        setup = knobs.turn(setup, {path: classes})
    studies.check_size(setup.detector)
    detector = detectors.create(setup.detector, weights=weights_of(name, weights))
    known = detector.config.num_classes
    if known != classes:
        raise StudyError(
            f"{name} tells {known} classes apart, data set {dataset.name} has {classes}; "
            "name weights that were trained on it, or --set detector.num_classes"
        )
    return detector, dataset, setup


def is_saved(name: str) -> bool:
    """Say whether a name is that of a folder that a training saved a detector in."""
    return Path(name, detector_weights.CONFIG_FILE).is_file()


def train(study: Study, weights: str | None, out: Path, device: str, *, as_json: bool) -> int:
    """Train and evaluate one detector in this process, and those that `torchrun` started with it.

    Only the first of them shows and keeps anything.
    """
    spec = studies.expand(study)[0]
    if weights is not None:
        detectors.create(spec.setup.detector, weights=weights)
        spec = started_from(spec, Path(weights))
    device = processes.local(device)
    if not processes.is_first():
        return 1 if trial.run(spec, out, device=device).failure else 0
    record.make_folder(out)
    with one_line(spec.detector, spec.recipe) as on_progress:
        result = trial.run(spec, out, device=device, on_progress=on_progress)
    if as_json:
        print(result.to_json())
    else:
        _show_metrics(result.metrics, f"{spec.detector} on {spec.dataset['name']}")
        print(f"weights, record and detections: {out}")
    if result.failure is not None:
        console.stderr().print(
            f"failed ({result.failure.cause}): {result.failure.message}", markup=False
        )
    return 1 if result.failure else 0


def evaluate(
    model: str,
    data_name: str,
    weights: str | None,
    sets: Sequence[str],
    device: str,
    *,
    as_json: bool,
) -> int:
    """Evaluate one detector."""
    detector, dataset, _ = opened(model, data_name, studies.changes(sets), weights)
    with one_line(model, None) as show, trial.sharing(device, show) as on_progress:
        result = evaluation.evaluate(detector, dataset.val, device=device, on_progress=on_progress)
    if as_json:
        summary = dataset.summary()
        print_json({"data": summary, "metrics": result.metrics, "details": result.details})
    else:
        _show_metrics(result.metrics, f"{model} on {dataset.name}")
    return 0


def export_model(
    model: str,
    weights: str | None,
    sets: Sequence[str],
    out: Path | None,
    opset: int | None,
    *,
    as_json: bool,
) -> int:
    """Write one deployed detector as ONNX."""
    setup = configured(model, studies.changes(sets))
    studies.check_size(setup.detector)
    path = out or Path(f"{Path(model).resolve().name.replace(':', '_')}.onnx")
    if path.is_dir():
        raise RecordError(f"{path}: is a folder; name a file with --out")
    record.make_folder(path.parent)
    detector = detectors.create(setup.detector, weights=weights_of(model, weights))
    done = export.export(detector, detector.config.input.size, path, opset, name=model)
    counted = export.count_macs(done.path)
    found = {
        "path": str(done.path),
        "sha256": done.sha256,
        "opset": done.opset,
        "params": counted.params,
        "params_deployed": done.parameters,
        "macs": counted.macs,
        "flops": 2 * counted.macs,
        "macs_by_stage": counted.by_stage,
        "macs_by_operator": counted.by_operator,
        "macs_not_counted": counted.not_counted,
        "operators": done.operators,
        "agreement": str(done.agreement),
    }
    if as_json:
        print_json(found)
        return 0
    rows = [{"what": key, "value": _worded(value)} for key, value in found.items() if value != {}]
    console.stdout().print(console.table({"what": "what", "value": "value"}, rows, model))
    return 0


def _worded(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{count} {name}" for name, count in value.items())
    return str(value)


def _show_metrics(metrics: Mapping[str, float], title: str) -> None:
    shown = [{"metric": name, "value": f"{value:g}"} for name, value in metrics.items()]
    columns = {"metric": "metric", "value": "value"}
    console.stdout().print(console.table(columns, shown, title))


@contextmanager
def one_line(title: str, recipe: Recipe | None) -> Iterator[OnProgress]:
    """Show the progress of one model."""
    with Board(console.stderr()) as board:
        board.begin(title, title, recipe)
        yield lambda step: board.update(title, step)


def list_knobs(name: str, *, as_json: bool) -> int:
    """List everything that a study of a detector can turn."""
    config = detectors.resolve(name)
    rows = [_knob_row(knob) for knob in detector_config.describe(config)]
    for choice, others in detector_config.alternatives(config).items():
        rows += [{**_knob_row(knob), "when": f"detector.{choice}"} for knob in others]
    for root, kind in (("recipe", Recipe), ("data", DataConfig), ("latency", LatencyConfig)):
        rows += knobs.describe(kind, root)
    if as_json:
        print_json(rows)
        return 0
    shown = [
        {
            **row,
            "default": json.dumps(row["default"]),
            "doc": f"With {row['when']}: {row['doc']}" if "when" in row else row["doc"],
        }
        for row in rows
    ]
    columns = {"knob": "knob", "type": "type", "default": "default", "doc": "meaning"}
    console.stdout().print(console.table(columns, shown))
    return 0


def _knob_row(knob: detector_config.Knob) -> dict[str, Any]:
    return {
        "knob": f"detector.{knob.path}",
        "type": knob.type,
        "default": knob.value,
        "doc": knob.doc,
        "inference_only": knob.inference_only,
    }


def check_data(path: str, *, as_json: bool) -> int:
    """Print what is wrong with a data set; exit status 1 when a study would refuse it."""
    found = data.check(path)
    if as_json:
        print(found.model_dump_json(indent=1))
        return 0 if found.ok else 1
    rows = [
        {**item.model_dump(), "split": item.split or "both", "examples": ", ".join(item.examples)}
        for item in found.findings
    ]
    keys = ("severity", "split", "code", "count", "message", "examples")
    out = console.stdout()
    if rows:
        out.print(console.table({key: key for key in keys}, rows, path))
    out.print("usable" if found.ok else "a study would refuse it", markup=False)
    return 0 if found.ok else 1


def show_data(name: str, sets: Sequence[str], *, as_json: bool) -> int:
    """Print the figures of a data set."""
    config = knobs.turn(knobs.start(None, None, name), studies.changes(sets)).data
    found = data.describe(data.load(config))
    if as_json:
        print_json(found)
        return 0
    rows = [{"what": key, "value": json.dumps(value)} for key, value in _leaves(found)]
    console.stdout().print(console.table({"what": "what", "value": "value"}, rows))
    return 0


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
