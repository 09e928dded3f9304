"""`detbench measure`: count and time detectors side by side, without training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import adapters, data
from harness import study as studies
from harness.cli import console
from harness.cli.console import print_json
from harness.cli.models import created, is_trained, note, one_line, place, weights_of
from harness.cli.named import configured, named_runtimes, trusted_names
from harness.config.knobs import Setup
from harness.machine import arithmetic, environment, locks
from harness.measure import complexity, latency
from harness.measure.complexity import Complexity
from harness.measure.latency import Subject, Timing, samples
from harness.records import latencies, record

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
    split: str = "val",
    trust: bool = False,
    as_json: bool,
) -> int:
    """Count detectors, and time them in turns, by each of the runtimes or by that of the knobs.

    Args:
        models: names of detectors, or folders of saved ones.
        data_name: where the images come from.
        sets: knobs, `PATH=VALUE`.
        weights: of the only model, or the name of a release that all have; None for those beside a
            saved one, or an untrained one.
        device: as torch spells it.
        runtimes: names; none for that of the knobs.
        out: folder for the figures and the raw samples; None for neither.
        split: of the data set; the others need not exist.
        trust: whether folders may name detectors that are not built in; see `trusted_names`.
        as_json: whether to print JSON.
    """
    by = named_runtimes(runtimes)
    trusted = trusted_names(models, trust=trust)
    setups = [configured(model, studies.changes(sets), trusted) for model in models]
    subjects = _subjects(models, setups, weights)
    where = setups[0].data.model_copy(update={"source": data_name})
    dataset = data.load_split(where, split)
    with locks.working(device):
        counted = {
            name: complexity.count(item.detector, item.detector.config.input.largest)
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
    told = arithmetic.warning("latency.precision", setups[0].latency.precision, device)
    said = [text for setup in setups for text in adapters.notes(setup.detector)]
    note(console.stderr(), [*([told] if told else []), *_of_other_images(models, data_name), *said])
    with one_line("measure", None) as on_progress:
        timings = latency.measure(
            subjects, dataset.split, setups[0].latency, device=device, on_progress=on_progress
        )
    rows = [_row(name, counted[model], timings[name]) for name, model in about.items()]
    if out is not None:
        _keep(rows, timings, record.make_folder(out), device)
    _show_measured(rows, device, place(dataset.name, split), as_json=as_json)
    return 0


def _of_other_images(models: Sequence[str], data_name: str) -> list[str]:
    """Say which models are timed on other images than those of their training."""
    sources = {
        model: record.read(Path(model)).config.get("data.source")
        for model in models
        if (Path(model) / record.FILE).is_file()
    }
    return [
        f"{model} was trained on {source} and is timed on {data_name}, though the time for"
        f" postprocessing depends on the images: --data {source}"
        for model, source in sources.items()
        if source not in (None, data_name)
    ]


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


def _by(model: str, runtime: str | None) -> str:
    return model if runtime in (None, "eager") else f"{model}, {runtime}"


def _subjects(
    models: Sequence[str], setups: Sequence[Setup], weights: str | None
) -> dict[str, Subject]:
    """Make the detectors, by names that tell them apart."""
    for setup in setups:
        studies.check_size(setup.detector)
    found = {}
    for index, (model, setup) in enumerate(zip(models, setups, strict=True)):
        source = weights_of(model, weights, setup.detector)
        made = created(model, setup, source)
        found[_unlike(models, index)] = Subject(
            made, trained=is_trained(model, source, setup.detector)
        )
    return found


def _show_measured(
    rows: Sequence[dict[str, Any]], device: str, data_name: str, *, as_json: bool
) -> None:
    if as_json:
        print_json({"device": device, "data": data_name, "models": rows})
        return
    stages = {f"{stage}_ms": f"{stage} (ms)" for stage in ("backbone", "neck", "head")}
    columns = {"model": "model", **console.METRICS, **stages, **TAIL}
    columns.pop("mAP")
    flat = [{"model": row["model"], **_shown(row["metrics"], row["caveats"])} for row in rows]
    out = console.stdout()
    columns = {key: name for key, name in columns.items() if any(key in row for row in flat)}
    out.print(console.table(columns, flat, f"on {device}, images of {data_name}"))
    for text in _remarks(rows):
        out.print(f"note: {text}", markup=False, highlight=False)
    for row in rows:
        if "latency_ms" not in row["metrics"]:
            reason = row["absent"]["latency_ms"]
            out.print(f"{row['model']}: no latency: {reason}", markup=False, highlight=False)


def _shown(metrics: Mapping[str, float], caveats: Mapping[str, str]) -> dict[str, Any]:
    """Return metrics as they are shown: with intervals in words, the rough ones so called."""
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
    rough = (name for name, text in caveats.items() if name in found and latencies.reason(text))
    return found | {name: f"{_number(found[name])}, rough" for name in rough}


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


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
