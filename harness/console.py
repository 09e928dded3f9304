"""What the terminal shows: a line a trial while it runs, and tables of results."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from harness.progress import Progress as Step
    from harness.recipe import Recipe
    from harness.runner import Event

SECONDS_BETWEEN_LINES = 15.0
WIDTH_OF_A_FILE = 200  # of a table, when nobody knows how wide the reader's screen is
DASH = "-"


def stdout() -> Console:
    """Return the console for results."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)


def stderr() -> Console:
    """Return the console for logs and bars."""
    return Console(file=sys.stderr, width=None if sys.stderr.isatty() else WIDTH_OF_A_FILE)


def print_json(value: Any) -> None:
    """Print a result for machines, alone on stdout."""
    print(json.dumps(value, indent=1, default=str))


class Board:
    """One line a running trial: live on a terminal, else printed now and then."""

    def __init__(self, console: Console, total: int = 1) -> None:
        self.console, self.total, self.number = console, total, 0
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.rows: dict[str, _Row] = {}

    def __enter__(self) -> Board:
        """Begin to draw."""
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bars away."""
        self.bars.stop()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(text, markup=False, highlight=False)

    def handle(self, event: Event) -> None:
        """Show what happened to a trial of a study."""
        spec = event.spec
        if event.kind == "started":
            self.begin(spec.trial, spec.title, spec.recipe)
        elif event.kind == "progress" and event.progress is not None:
            self.update(spec.trial, event.progress)
        elif event.record is not None:
            self.end(spec.trial)
            self.number += 1
            outcome = "stands already" if event.kind == "skipped" else _outcome(event.record)
            self.say(f"[{self.number}/{self.total}] {spec.title}: {outcome}")

    def begin(self, key: str, title: str, recipe: Recipe | None) -> None:
        """Add the line of something that begins."""
        task = self.bars.add_task(title, total=None, text="")
        self.rows[key] = _Row(task, title, recipe)

    def update(self, key: str, step: Step) -> None:
        """Show how far it is."""
        row = self.rows[key]
        text = row.text(step)
        self.bars.update(row.task, completed=step.done, total=step.total, text=text)
        if not self.console.is_terminal and row.is_due(step):
            self.say(f"{row.title}: {text}")

    def end(self, key: str) -> None:
        """Take its line away."""
        row = self.rows.pop(key, None)
        if row is not None:
            self.bars.remove_task(row.task)


class _Row:
    """The line of one trial."""

    def __init__(self, task: TaskID, title: str, recipe: Recipe | None) -> None:
        self.task, self.title, self.recipe = task, title, recipe
        self.phase, self.since, self.printed = "", 0.0, 0.0

    def text(self, step: Step) -> str:
        """Say phase, epoch, loss, mAP so far and time left."""
        now = time.monotonic()
        if step.phase != self.phase:
            self.since = now
        parts = [step.phase]
        if step.phase == "train" and self.recipe:
            epoch = max(step.done - 1, 0) * self.recipe.epochs // max(step.total, 1) + 1
            parts.append(f"epoch {epoch}/{self.recipe.epochs}")
        shown = (("loss", ".3f"), ("lr", ".2g"), ("mAP", ".3f"))
        parts += [f"{key} {step.values[key]:{form}}" for key, form in shown if key in step.values]
        left = step.values.get("eta_s", self._left(step, now))
        return "  ".join([*parts, f"ETA {clock(left)}" if left is not None else ""]).rstrip()

    def _left(self, step: Step, now: float) -> float | None:
        if step.phase != self.phase or not step.done:
            return None
        return (now - self.since) / step.done * (step.total - step.done)

    def is_due(self, step: Step) -> bool:
        """Say whether to print a line: at every phase, and after a while."""
        now = time.monotonic()
        due = step.phase != self.phase or now - self.printed >= SECONDS_BETWEEN_LINES
        self.phase = step.phase
        if due:
            self.printed = now
        return due


def clock(seconds: float) -> str:
    """Write a duration as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _outcome(record: Any) -> str:
    if record.failure is not None:
        return f"failed ({record.failure.cause}): {record.failure.message}"
    spent = record.timings["finished"] - record.timings["started"]
    shown = (("mAP", ".3f"), ("latency_ms", ".2f"))
    found = [f"{key} {record.metrics[key]:{f}}" for key, f in shown if key in record.metrics]
    return ", ".join([f"done in {clock(spent)}", *found])


def table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], title: str = "") -> Table:
    """Lay out rows.

    Args:
        columns: key of a row: heading; numbers are set to the right.
        rows: plain values; None is shown as a dash.
        title: stands above.
    """
    result = Table(title=title or None, title_justify="left", header_style="bold")
    for key, heading in columns.items():
        numeric = any(isinstance(row.get(key), int | float) for row in rows)
        result.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        result.add_row(*(Text(_cell(key, row.get(key))) for key in columns))
    return result


def _cell(key: str, value: Any) -> str:
    if value is None:
        return DASH
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if key.startswith(("macs", "flops")):
        return f"{value / 1e9:.3f}"
    if key.startswith("params"):
        return f"{value / 1e6:.3f}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


METRICS = {
    "mAP": "mAP",
    "params": "params (M)",
    "macs": "MACs (G)",
    "flops": "FLOPs (G)",
    "latency_ms": "latency (ms)",
    "network_ms": "network (ms)",
    "nms_ms": "NMS (ms)",
}


def trials(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Lay out the trials of a study beside their differences to the first.

    Args:
        rows: as `reports.tables.trial_rows` makes them.
        title: stands above.
    """
    shown = [
        {
            **row,
            "name": row["name"] or row["detector"],
            "difference": difference(row),
            "state": row["state"] if row["state"] == "done" else f"{row['state']}: {row['cause']}",
        }
        for row in rows
    ]
    columns = {"number": "#", "name": "trial"}
    if len({row["seed"] for row in rows}) > 1:
        columns["seed"] = "seed"
    if len({row.get("protocol") for row in rows}) > 1:
        columns["protocol"] = "protocol"
    columns |= {key: head for key, head in METRICS.items() if key not in ("flops", "network_ms")}
    columns |= {"difference": "against the first"}
    if any(row["state"] != "done" for row in rows):
        columns["state"] = "state"
    return table(columns, shown, title)


def difference(row: Mapping[str, Any]) -> str | None:
    """Write a trial's difference to the first: points of mAP, share of parameters, latency."""
    parts = []
    if row.get("mAP_delta") is not None:
        parts.append(f"mAP {row['mAP_delta']:+.1f} points")
    if row.get("params_delta") is not None:
        parts.append(f"params {row['params_delta']:+.1f} %")
    if row.get("latency_ratio") is not None:
        parts.append(_ratio(row))
    return ", ".join(parts) or None


def _ratio(row: Mapping[str, Any]) -> str:
    low, high = row.get("latency_ratio_low"), row.get("latency_ratio_high")
    if low is None or high is None:
        return f"latency x{row['latency_ratio']:.2f}"
    interval = f"x{row['latency_ratio']:.2f} ({low:.2f} to {high:.2f})"
    return f"latency tied, {interval}" if row.get("latency_tie") else f"latency {interval}"
