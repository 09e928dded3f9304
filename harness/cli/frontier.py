"""`detbench measure --nms-frontier`: settings of NMS against each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import study as studies
from harness.analysis.frontier import NMS_GRID, Frontier, FrontierError, Row, measure, plan
from harness.cli import console
from harness.cli.board import Board
from harness.cli.console import print_json
from harness.cli.models import is_trained, opened, over, place
from harness.config import knobs
from harness.data import fingerprint
from harness.data.classes import read_choice
from harness.machine import environment
from harness.measure.latency import Subject
from harness.records import write_whole

ROOT = "frontier."  # of the knobs that belong to this command alone
DETECTIONS = "detections.json"  # COCO results of the recommended setting
Write = Callable[[Mapping[str, Any], Path], Path]  # `reports.frontier.write`


def frontier(
    models: Sequence[str],
    data_name: str,
    sets: Sequence[str],
    weights: str | None,
    device: str,
    *,
    out: Path | None = None,
    write: Write | None = None,
    classes: Sequence[str] = (),
    shared: bool = False,
    split: str = "val",
    trust: bool = False,
    as_json: bool = False,
) -> int:
    """Try settings of one detector's postprocessing against each other.

    Args:
        models: names of detectors, of which there must be one.
        data_name: where the images come from.
        sets: knobs, `PATH=VALUE`; `frontier.KNOB=[VALUE, ...]` replaces an axis of the grid.
        weights: of the detector; None for those beside a saved one, or an untrained one.
        device: as torch spells it.
        out: where the page goes, an .html file or a folder, and beside it what the recommended
            setting finds; None for neither.
        write: makes the page.
        classes: which class of the data set is which of the weights', `DATA=MODEL,...`.
        shared: whether classes that the weights do not know are left out.
        split: of the data set; the others need not exist.
        trust: whether a folder may name a detector that is not built in; see `trusted_names`.
        as_json: whether to print JSON.
    """
    if len(models) != 1:
        raise FrontierError(f"--nms-frontier goes with one MODEL, got {len(models)}")
    name, (own, others) = models[0], _parted(studies.changes(sets))
    choice = read_choice(classes, shared=shared)
    detector, dataset, setup, remarks, known = opened(
        name, data_name, others, weights, choice, trust=trust, split=split
    )
    subject = Subject(detector, is_trained(name, weights, detector.config))
    tried = plan(subject.detector, own)
    with Board(console.stderr()) as board:
        board.begin(name, name, None)
        found = measure(
            subject,
            dataset.split,
            tried,
            setup.latency,
            device=device,
            on_progress=lambda step: board.update(name, step),
        )
    fingerprint.check_unchanged(dataset)
    said = {"classes": "; ".join(remarks)} if remarks else {}
    found = found._replace(caveats={**said, **found.caveats})
    result = {
        "model": name,
        "data": {"name": dataset.name, "fingerprint": dataset.fingerprint, **over(known, split)},
        "environment": environment.capture(device),
        "latency": knobs.flatten(setup.latency),
        **found.plain(),
        "detections": _store(found, out) if out is not None else None,
    }
    page = write(result, out) if write is not None and out is not None else None
    title = f"{name} on {device}, {len(found.rows)} settings, {place(dataset.name, split)}"
    print_json(result) if as_json else _show(found, title, page, result["detections"])
    return 0


def _store(found: Frontier, out: Path) -> str | None:
    """Write what the recommended setting finds beside the page; return the file."""
    if found.recommended is None:
        return None
    is_page = out.suffix == ".html"
    file = out.with_suffix(f".{DETECTIONS}") if is_page else out / DETECTIONS
    file.parent.mkdir(parents=True, exist_ok=True)
    return str(write_whole(file, json.dumps(found.recommended.detections)))


def _parted(changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the axes of the grid that are replaced, and the knobs that are turned."""
    own = {path.removeprefix(ROOT): v for path, v in changes.items() if path.startswith(ROOT)}
    return own, {path: v for path, v in changes.items() if not path.startswith(ROOT)}


COLUMNS = {
    "role": "setting",
    **{name: name.replace("_", " ") for name in NMS_GRID},
    "mAP": "mAP",
    "nms_ms": "NMS (ms)",
    "interval": "95 % interval",
    "latency_ms": "end to end (ms)",
    "candidates": "before NMS",
    "detections": "after",
}


def _show(found: Frontier, title: str, page: Path | None, stored: str | None) -> None:
    """Print the front and the extremes, and which setting to take."""
    advice = found.recommended
    chosen = found.rows[advice.choice.place] if advice else None
    rows = [_plain(row, role) for row, role in highlights(found.rows, chosen)]
    keys = dict.fromkeys(key for row in rows for key in row)
    columns = {key: head for key, head in COLUMNS.items() if key in keys}
    extra = {key: key.replace("_", " ") for key in keys if key not in COLUMNS}
    out = console.stdout()
    out.print(console.table({"role": "setting", **extra, **columns}, rows, title))
    details, network = found.details, found.network["network_ms"]
    notes = [
        f"network alone: {network:.3f} ms; times are medians of {details['rounds']} rounds in "
        f"random order; {details['nms_seconds']:.1f} s of NMS in all",
        *{f"note: {text}" for text in (*found.caveats.values(), *found.absent.values())},
        *([advice.sentence] if advice else []),
        *([f"what it finds, as COCO results: {stored}"] if stored else []),
        *([f"page: {page}"] if page is not None else []),
    ]
    for text in notes:
        out.print(text, markup=False, highlight=False)


def highlights(rows: Sequence[Row], chosen: Row | None = None) -> list[tuple[Row, str]]:
    """Pick the front by rising latency, the configured setting, and the extremes, with roles.

    Args:
        rows: all settings.
        chosen: the one that is recommended.
    """

    def latency(row: Row) -> float:
        return row.metrics["latency_ms"]

    def accuracy(row: Row) -> float:
        return row.metrics.get("mAP", 0.0)

    roles = {
        "recommended": chosen,
        "fastest": min(rows, key=latency),
        "slowest": max(rows, key=latency),
        "best mAP": max(rows, key=accuracy),
        "least mAP": min(rows, key=accuracy),
        "configured": next(row for row in rows if row.configured),
    }
    picked = []
    for row in sorted(rows, key=latency):
        own = [role for role, holder in roles.items() if holder is row]
        if own or row.optimal:
            picked.append((row, ", ".join(["front"] * row.optimal + own)))
    return picked


def _plain(row: Row, role: str) -> dict[str, Any]:
    metrics = row.metrics
    counts: dict[str, Any] = {name: found["median"] for name, found in row.counts.items()}
    low, high = metrics.get("nms_low_ms"), metrics.get("nms_high_ms")
    interval = f"{low:.3f} to {high:.3f}" if low is not None and high is not None else None
    shown: dict[str, Any] = {key: metrics[key] for key in ("nms_ms", "latency_ms")}
    shown["mAP"] = f"{metrics['mAP']:.4f}" if "mAP" in metrics else None
    setting = {name: f"{value:g}" if _is_number(value) else str(value)
               for name, value in row.setting.items()}  # fmt: skip
    return dict(role=role, **setting, **shown, interval=interval, **counts)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
