"""The commands about single models, knobs and data: what each does once its arguments are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import detectors
from detectors import config as detector_config
from detectors import weights as detector_weights
from harness import (
    complexity,
    console,
    data,
    environment,
    export,
    knobs,
    latency,
    locks,
    record,
    samples,
    trial,
)
from harness import evaluate as evaluation
from harness import study as studies
from harness.complexity import Complexity
from harness.console import Board, print_json
from harness.data import DataConfig
from harness.knobs import Setup
from harness.latency import LatencyConfig, Subject, Timing
from harness.progress import OnProgress
from harness.recipe import Recipe
from harness.record import RecordError
from harness.runtimes import RuntimeConfig
from harness.runtimes.config import Name
from harness.specification import started_from
from harness.study import Study, StudyError

TAIL = {
    "preprocess_ms": "resize, normalise (ms)",
    "busy_ms": "device busy (ms)",
    "latency_p95_ms": "p95 (ms)",
    "latency_p99_ms": "p99 (ms)",
    "reference_ratio": "to the reference",
    "roofline_fraction": "of the roofline (%)",
    "uncounted_fraction": "not counted (% of time)",
    "memory_bytes": "memory (bytes)",
    "energy_j": "energy (J)",
}


def measure(
    models: Sequence[str],
    data_name: str,
    sets: Sequence[str],
    weights: str | None,
    device: str,
    *,
    runtimes: Sequence[str] = (),
    out: Path | None = None,
    as_json: bool,
) -> int:
    """Count detectors, and time them in turns, by each of the runtimes or by that of the knobs.

    Args:
        models: names of detectors, or folders of saved ones.
        data_name: where the images come from.
        sets: knobs, `PATH=VALUE`.
        weights: of the only model; None for those beside a saved one, or an untrained one.
        device: as torch spells it.
        runtimes: names; none for that of the knobs.
        out: folder for the figures and the raw samples; None for neither.
        as_json: whether to print JSON.
    """
    if weights is not None and len(models) > 1:
        raise StudyError("--weights goes with one MODEL")
    changes = studies.changes(sets)
    by = _runtimes(runtimes)
    setups = [_setup(model, changes) for model in models]
    for setup in setups:
        studies.check_size(setup.detector)
    subjects = {
        _unlike(models, index): _subject(setup.detector, _source(models[index], weights))
        for index, setup in enumerate(setups)
    }
    dataset = data.load(setups[0].data.model_copy(update={"source": data_name}))
    with locks.working(device):
        counted = {
            name: complexity.count(item.detector, item.detector.config.input.size)
            for name, item in subjects.items()
        }
    about = {_by(name, runtime): name for name in subjects for runtime in by}
    subjects = {
        _by(name, runtime): item._replace(
            macs=counted[name].metrics.get("macs_deployed"), runtime=runtime, optional=len(by) > 1
        )
        for name, item in subjects.items()
        for runtime in by
    }
    with _one_line("measure", None) as on_progress:
        timings = latency.measure(
            subjects, dataset.val, setups[0].latency, device=device, on_progress=on_progress
        )
    rows = [_row(name, counted[model], timings[name]) for name, model in about.items()]
    if out is not None:
        _keep(rows, timings, record.make_folder(out), device)
    _show_measured(rows, device, dataset.name, as_json=as_json)
    return 0


def _keep(
    rows: Sequence[dict[str, Any]], timings: Mapping[str, Timing], folder: Path, device: str
) -> None:
    """Write what was measured, whole, and every raw sample beside it."""
    facts = {"environment": environment.capture(device), "models": rows}
    record.write_whole(folder / "measure.json", json.dumps(facts, indent=1, default=str))
    samples.write(timings, folder)


def _row(name: str, counted: Complexity, timing: Timing) -> dict[str, Any]:
    return {
        "model": name,
        "metrics": counted.metrics | timing.metrics,
        "absent": counted.absent | timing.absent,
        "caveats": counted.caveats | timing.caveats,
        "details": {"complexity": counted.details, "latency": timing.details},
    }


def _runtimes(names: Sequence[str]) -> list[Name | None]:
    """Return runtimes by name, each once; None, which is that of the knobs, where none is named."""
    known = get_args(Name)
    for name in names:
        if name not in known:
            raise StudyError(
                f"--runtimes: there is no runtime {name!r}{knobs.nearest(name, known)} "
                f"There is {', '.join(known)}."
            )
    found = [RuntimeConfig.model_validate({"runtime": name}).runtime for name in names]
    return [*dict.fromkeys(found)] or [None]


def _by(model: str, runtime: str | None) -> str:
    return model if runtime in (None, "eager") else f"{model}, {runtime}"


def _subject(config: Any, source: str | None) -> Subject:
    return Subject(detectors.create(config, weights=source), trained=source is not None)


def _show_measured(
    rows: Sequence[dict[str, Any]], device: str, data_name: str, *, as_json: bool
) -> None:
    if as_json:
        print_json({"device": device, "data": data_name, "models": rows})
        return
    stages = {f"{stage}_ms": f"{stage} (ms)" for stage in ("backbone", "neck", "head")}
    columns = {"model": "model", **console.METRICS, **stages, **TAIL}
    columns.pop("mAP")
    flat = [{"model": row["model"], **_shown(row["metrics"])} for row in rows]
    out = console.stdout()
    columns = {key: name for key, name in columns.items() if any(key in row for row in flat)}
    out.print(console.table(columns, flat, f"on {device}, images of {data_name}"))
    for text in _remarks(rows):
        out.print(f"note: {text}", markup=False, highlight=False)
    for row in rows:
        if "latency_ms" not in row["metrics"]:
            reason = row["absent"]["latency_ms"]
            out.print(f"{row['model']}: no latency: {reason}", markup=False, highlight=False)


def _shown(metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return metrics as they are shown, those with an interval in words."""
    found: dict[str, Any] = dict(metrics)
    for name, low, high, digits in (
        ("latency_ms", "latency_low_ms", "latency_high_ms", 2),
        ("reference_ratio", "reference_ratio_low", "reference_ratio_high", 3),
    ):
        if low in metrics and high in metrics:
            value, least, most = (f"{metrics[key]:.{digits}f}" for key in (name, low, high))
            found[name] = f"{value} ({least} to {most})"
    for name in ("roofline_fraction", "uncounted_fraction"):
        if name in metrics:
            found[name] = 100 * metrics[name]
    return found


def _remarks(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Write each caveat of the models once, with whom it is about unless all timed are."""
    timed = {row["model"] for row in rows if "latency_ms" in row["metrics"]}
    about: dict[str, list[str]] = {}
    for row in rows:
        texts = (part for text in row["caveats"].values() for part in text.split("; "))
        for text in dict.fromkeys(texts):
            about.setdefault(text, []).append(row["model"])
    return [
        text if timed and timed <= set(names) else f"{'; '.join(names)}: {text}"
        for text, names in about.items()
    ]


def _unlike(models: Sequence[str], index: int) -> str:
    """Name a model so that one that is named twice has two names."""
    before = models[:index].count(models[index])
    return f"{models[index]}#{before + 1}" if before else models[index]


def _setup(name: str, changes: Mapping[str, Any]) -> Setup:
    """Return the setup of a detector by name, or of one that a training saved in a folder."""
    saved = _is_saved(name)
    config = detector_weights.load(Path(name)).config if saved else detectors.resolve(name)
    return knobs.turn(knobs.start(config, None, "shapes"), changes)


def _source(name: str, weights: str | None) -> str | None:
    """Return where a model's weights come from; None for an untrained one."""
    return weights or (name if _is_saved(name) else None)


def _is_saved(name: str) -> bool:
    return Path(name, detector_weights.CONFIG_FILE).is_file()


def train(study: Study, weights: str | None, out: Path, device: str, *, as_json: bool) -> int:
    """Train and evaluate one detector in this process."""
    spec = studies.expand(study)[0]
    if weights is not None:
        detectors.create(spec.setup.detector, weights=weights)
        spec = started_from(spec, Path(weights))
    record.make_folder(out)
    with _one_line(spec.detector, spec.recipe) as on_progress:
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
    changes = studies.changes(sets)
    setup = _setup(model, changes)
    dataset = data.load(setup.data.model_copy(update={"source": data_name}))
    classes, path = len(dataset.categories), "detector.num_classes"
    if not _is_saved(model) and path not in changes:
        setup = knobs.turn(setup, {path: classes})
    studies.check_size(setup.detector)
    detector = detectors.create(setup.detector, weights=_source(model, weights))
    known = detector.config.num_classes
    if known != classes:
        raise StudyError(
            f"{model} tells {known} classes apart, data set {dataset.name} has {classes}; "
            "name weights that were trained on it, or --set detector.num_classes"
        )
    with _one_line(model, None) as show, trial.sharing(device, show) as on_progress:
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
    setup = _setup(model, studies.changes(sets))
    studies.check_size(setup.detector)
    path = out or Path(f"{Path(model).resolve().name.replace(':', '_')}.onnx")
    if path.is_dir():
        raise RecordError(f"{path}: is a folder; name a file with --out")
    record.make_folder(path.parent)
    detector = detectors.create(setup.detector, weights=_source(model, weights))
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
def _one_line(title: str, recipe: Recipe | None) -> Iterator[OnProgress]:
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
