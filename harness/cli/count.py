"""`detbench measure --count-only`: two counters beside the published figures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import detectors
from detectors.config import flatten
from detectors.interface import Detector
from harness import study as studies
from harness.analysis.reproduce import printed
from harness.cli import console
from harness.cli.board import Board
from harness.cli.console import print_json
from harness.cli.named import configured, trusted_names
from harness.machine import locks
from harness.measure import complexity
from harness.measure.complexity import crosscheck
from harness.measure.complexity.exported import GraphMacs, count_macs
from harness.measure.runtimes import export
from harness.records import record
from harness.records.progress import Progress

COLUMNS = {
    "model": "model",
    "params": "params (M)",
    "params_deployed": "deployed (M)",
    "params_exported": "exported (M)",
    "macs": "MACs (G)",
    "macs_deployed": "deployed (G)",
    "macs_exported": "exported (G)",
    "second": "fvcore (G)",
    "difference": "difference",
    "reason": "where the counters differ, and why",
    "sampling": "sampling, beside (G)",
    "published": "published FLOPs",
}
Markdown = Callable[[list[dict[str, Any]], dict[str, str]], str]  # `reports.tables.to_markdown`
_DIGITS = {"M": (1e6, 3), "G": (1e9, 3)}


def count(
    models: Sequence[str],
    sets: Sequence[str],
    *,
    exported: bool = False,
    out: Path | None = None,
    markdown: Markdown | None = None,
    trust: bool = False,
    as_json: bool = False,
) -> int:
    """Count detectors by two counters and by the conventions of what was published.

    Args:
        models: names of detectors, or folders of saved ones.
        sets: knobs, `PATH=VALUE`.
        exported: whether each is exported, too, and the graph of the file counted.
        out: a Markdown file for the table; None for none.
        markdown: writes it, from rows and the headings of their keys.
        trust: whether folders may name detectors that are not built in; see `trusted_names`.
        as_json: whether to print JSON.
    """
    changes = studies.changes(sets)
    trusted = trusted_names(models, trust=trust)
    rows = []
    with Board(console.stderr()) as board:
        board.begin("count", "count", None)
        for number, name in enumerate(models):
            board.update("count", Progress("complexity", number, len(models), {}))
            rows.append(_count(name, changes, trusted, exported=exported))
    shown = [_shown(row) for row in rows]
    columns = {key: head for key, head in COLUMNS.items() if any(row.get(key) for row in shown)}
    if out is not None and markdown is not None:
        record.make_folder(out.parent)
        record.write_whole(out, markdown(shown, columns))
    if as_json:
        print_json({"models": rows})
    else:
        console.stdout().print(console.table(columns, shown, "of one image"))
    return 0


def _count(
    name: str, changes: Mapping[str, Any], trusted: Collection[str], *, exported: bool
) -> dict[str, Any]:
    setup = configured(name, changes, trusted)
    studies.check_size(setup.detector)
    detector = detectors.create(setup.detector)
    size = detector.config.input.largest
    with locks.working("cpu"):
        counted = complexity.count(detector, size)
        graph = _exported(detector, size) if exported else None
    counts = counted.details["training"]["conventions"]
    check = printed.check(name, counts) if _is_as_published(detector, name) else None
    return {
        "model": name,
        "metrics": counted.metrics,
        "caveats": counted.caveats,
        "details": counted.details,
        "exported": None if graph is None else graph._asdict(),
        "published": None if check is None else {**check._asdict(), "verdict": str(check)},
    }


def _exported(detector: Detector, size: tuple[int, int]) -> GraphMacs:
    with tempfile.TemporaryDirectory() as folder:
        return count_macs(export.export(detector, size, Path(folder, "model.onnx")).path)


def _is_as_published(detector: Detector, name: str) -> bool:
    """Say whether a detector has the knobs that it was published with."""
    known = detectors.CONFIGS.get(name)
    return known is not None and flatten(known) == flatten(detector.config)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's figures as they are shown, all of them text."""
    check, graph = row["details"]["cross_check"], row["exported"] or {}
    sampling = sum(row["details"]["training"]["sampling"].values())
    figures = {
        **row["metrics"],
        **{f"{key}_exported": graph.get(key) for key in ("params", "macs")},
        "second": check.get("macs"),
        "sampling": sampling or None,
    }
    shown = {key: _scaled(figures[key], head) for key, head in COLUMNS.items() if key in figures}
    same = check.get("relative_difference") == 0
    return {
        **shown,
        "model": row["model"],
        "difference": None if "reason" in check else f"{check['relative_difference']:+.2%}",
        "reason": check.get("reason") or (None if same else crosscheck.reason(check)),
        "published": row["published"] and row["published"]["verdict"],
    }


def _scaled(value: float | None, head: str) -> str | None:
    divisor, digits = _DIGITS[head[-2]]
    return None if value is None else f"{value / divisor:.{digits}f}"
