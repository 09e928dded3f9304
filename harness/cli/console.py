"""What the terminal shows: a line a trial while it runs, and tables of results."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, cast

from rich.console import Console, JustifyMethod
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.cli.plain import PlainConsole
from harness.cli.streams import Careless
from harness.cli.text import visible
from harness.config.recipe import Recipe
from harness.records import latencies
from harness.records.progress import OnProgress
from harness.records.progress import Progress as Step

if TYPE_CHECKING:
    from harness.engine.events import Event  # imports torch, which is slow

SECONDS_BETWEEN_LINES = 15.0
DASH = "-"
_NOTHING = Step("", 0, 1, {})
NUMERIC = ("epoch", "loss", "mAP", "ETA")


def stdout() -> PlainConsole:
    """Return the console for results."""
    return PlainConsole(sys.stdout)


def stderr() -> PlainConsole:
    """Return the console for logs and bars."""
    return PlainConsole(cast("TextIO", Careless(sys.stderr)))


def print_json(value: Any) -> None:
    """Print a result for machines, alone on stdout; what is not ASCII is spelled out."""
    print(json.dumps(value, indent=1, default=str))


class Board:
    """One row a running trial: live on a terminal, else a line printed now and then."""

    def __init__(self, console: Console, total: int = 1) -> None:
        self.console, self.total = console, total
        self.states: Counter[str] = Counter()
        self.rows: dict[str, _Row] = {}
        self.live = Live(
            console=console, transient=True, refresh_per_second=4, get_renderable=self.table
        )

    def __enter__(self) -> Board:
        """Begin to draw."""
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the table away."""
        self.live.stop()

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self.console.print(text)

    def handle(self, event: Event) -> None:
        """Show what happened to a trial of a study."""
        spec, result = event.spec, event.record
        if event.kind == "started" and spec is not None:
            self.begin(spec.trial, spec.title, spec.recipe)
        elif event.kind == "progress" and event.progress is not None:
            self.update(event.trial, event.progress)
        elif event.kind == "taken_over" and spec is not None:
            self.end(event.trial)
            self.say(f"{spec.title}: another process has taken it over")
        elif event.failure is not None and spec is not None:
            self.end(event.trial)
            self.say(f"{spec.title}: {event.failure.cause}, to be tried again")
        elif result is not None:
            self.end(event.trial)
            self.states[result.state] += 1
            outcome = "stands already" if event.kind == "skipped" else _outcome(result)
            title = f"{result.name} (seed {result.seed})"
            number = self.states.total()
            self.say(f"[{number}/{max(number, self.total)}] {title}: {outcome}")

    def begin(self, key: str, title: str, recipe: Recipe | None) -> None:
        """Add the row of something that begins."""
        self.rows[key] = _Row(title, recipe)

    def update(self, key: str, step: Step) -> None:
        """Show how far it is."""
        row = self.rows[key]
        due = row.take(step)
        if due and not self.console.is_terminal:
            shown = (row.step.phase, row.epoch, row.loss, row.accuracy, row.left)
            self.say(f"{row.title}: {'  '.join(text for text in shown if text)}")

    def end(self, key: str) -> None:
        """Take its row away."""
        self.rows.pop(key, None)

    @contextmanager
    def row(self, title: str) -> Iterator[OnProgress]:
        """Show something that is no trial, as long as it lasts."""
        self.begin(title, title, None)
        try:
            yield partial(self.update, title)
        finally:
            self.end(title)

    def table(self) -> Table:
        """Lay out what runs; the last line counts the trials that are over."""
        result = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("trial", "state", "", "epoch", "loss", "mAP", "ETA"):
            result.add_column(heading, justify="right" if heading in NUMERIC else "left")
        for row in self.rows.values():
            done, total = row.step.done, max(row.step.total, 1)
            bar = ProgressBar(total, done, width=20)
            cells = (row.epoch, row.loss, row.accuracy, row.left)
            numbers = (Text(text.rpartition(" ")[2]) for text in cells)
            result.add_row(_text(row.title), _text(row.step.phase), bar, *numbers)
        if self.states:
            over = ", ".join(f"{count} {state}" for state, count in self.states.items())
            result.add_row(Text(f"{over} of {self.total}", style="dim"))
        return result


class _Row:
    """What is shown of one trial."""

    def __init__(self, title: str, recipe: Recipe | None) -> None:
        self.title, self.epochs = title, recipe.epochs if recipe else None
        self.step: Step = _NOTHING
        self.since, self.printed = 0.0, 0.0

    def take(self, step: Step) -> bool:
        """Note a step; say whether to print a line: at every phase, and after a while."""
        now = time.monotonic()
        if step.phase != self.step.phase:
            self.since, self.printed = now, 0.0
        self.step = step
        due = not self.printed or now - self.printed >= SECONDS_BETWEEN_LINES
        self.printed = now if due else self.printed
        return due

    @property
    def epoch(self) -> str:
        """Say which epoch of the training is under way."""
        if self.step.phase != "train" or not self.epochs:
            return ""
        epoch = max(self.step.done - 1, 0) * self.epochs // max(self.step.total, 1) + 1
        return f"epoch {epoch}/{self.epochs}"

    @property
    def loss(self) -> str:
        """Say what the loss is."""
        return self._value("loss")

    @property
    def accuracy(self) -> str:
        """Say the best mAP so far."""
        return self._value("mAP")

    def _value(self, key: str) -> str:
        return f"{key} {self.step.values[key]:.3f}" if key in self.step.values else ""

    @property
    def left(self) -> str:
        """Say how long the phase will take yet, as it says itself or as it went so far."""
        step = self.step
        found = step.values.get("eta_s")
        if found is None and step.done:
            found = (time.monotonic() - self.since) / step.done * (step.total - step.done)
        return "" if found is None else f"ETA {clock(found)}"


def clock(seconds: float) -> str:
    """Write a duration as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _outcome(record: Any) -> str:
    if record.failure is not None:
        return f"failed ({record.failure.cause}): {record.failure.message}"
    spent = record.timings["finished"] - record.timings["started"]
    found = [f"mAP {record.metrics['mAP']:.3f}"] if "mAP" in record.metrics else []
    figure = latency(record.metrics, rough=latencies.rough(record) is not None, digits=2)
    found += [f"latency_ms {figure}"] if figure is not None else []
    return ", ".join([f"done in {clock(spent)}", *found])


def latency(figures: Mapping[str, Any], *, rough: bool = False, digits: int = 3) -> str | None:
    """Write an end-to-end latency with its interval, marked if it is rough; None if there is none.

    Args:
        figures: metrics of a record, or a row of a table.
        rough: whether it may not be ranked.
        digits: behind the point.
    """
    median, low, high = (figures.get(f"latency_{end}ms") for end in ("", "low_", "high_"))
    if median is None:
        return None
    text = f"{'~' if rough else ''}{median:.{digits}f}"
    return (
        text if low is None or high is None else f"{text} ({low:.{digits}f} to {high:.{digits}f})"
    )


def table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], title: str = "") -> Table:
    """Lay out rows.

    Args:
        columns: key of a row: heading; numbers are set to the right.
        rows: plain values; None is shown as a dash.
        title: stands above.
    """
    result = Table(title=visible(title) or None, title_justify="left", header_style="bold")
    for key, heading in columns.items():
        numeric = key in METRICS or any(isinstance(row.get(key), int | float) for row in rows)
        justify: JustifyMethod = "right" if numeric else "left"
        result.add_column(visible(heading), justify=justify, overflow="fold")
    for row in rows:
        result.add_row(*(_text(_cell(key, row.get(key))) for key in columns))
    return result


def _text(text: str) -> Text:
    """Return text for a table, spelled out before the widths of its columns are known."""
    return Text(visible(text))


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


OLD = " (other code)"


def _marked(key: str, row: Mapping[str, Any]) -> str | None:
    """Write a time of a row's, marked if the row's latency is rough."""
    if row.get(key) is None:
        return None
    return ("~" if row.get("latency_rough") else "") + _cell(key, row[key])


def remarks(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say below a table which of its rows are rough or out of date, and why; equal reasons once."""
    found = []
    for key, lead in (("latency_rough", "~ rough, not ranked"), ("other_code", "other code")):
        about: dict[str, list[str]] = {}
        for row in rows:
            if row.get(key):
                about.setdefault(row[key], []).append(f"#{row['number']}")
        found += [f"{lead}: {', '.join(numbers)}: {why}" for why, numbers in about.items()]
    return found


def trials(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Lay out the trials of a study beside their differences to the first.

    Args:
        rows: as `reports.tables.trial_rows` makes them.
        title: stands above.
    """
    shown = [
        {
            **row,
            "name": (row["name"] or row["detector"]) + (OLD if row.get("other_code") else ""),
            "latency_ms": latency(row, rough=row.get("latency_rough") is not None),
            "nms_ms": _marked("nms_ms", row),
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
