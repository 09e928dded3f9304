"""What the terminal shows while trials run: a row or a line for each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.cli.console import clock, latency, plain_text
from harness.cli.forecast import Forecast
from harness.config.recipe import Recipe
from harness.records import latencies, learning
from harness.records.progress import OnProgress
from harness.records.progress import Progress as Step

if TYPE_CHECKING:
    from harness.engine.events import Event  # imports torch, which is slow

SECONDS_BETWEEN_LINES = 15.0
_NOTHING = Step("", 0, 1, {})
NUMERIC = ("epoch", "step", "loss", "mAP", "images/s", "ETA")


class Board:
    """One row a running trial: live on a terminal, else a line printed now and then."""

    def __init__(self, console: Console, total: int = 1, forecast: Forecast | None = None) -> None:
        self.console, self.total, self.forecast = console, total, forecast
        self.states: Counter[str] = Counter()
        self.rows: dict[str, _Row] = {}
        self.noted: set[str] = set()
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
        if self.forecast is not None:
            self.forecast.handle(event)
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
        if step.note and step.note not in self.noted:  # of all trials that have the same to say
            self.noted.add(step.note)
            self.say(f"{row.title}: {step.note}")
        due = row.take(step)
        if due and not self.console.is_terminal:
            shown = [row.step.phase, row.epoch, row.done, row.loss, row.accuracy, row.speed]
            shown += [row.left, self.left]
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
        for heading in ("trial", "state", "", *NUMERIC):
            result.add_column(heading, justify="right" if heading in NUMERIC else "left")
        for row in self.rows.values():
            done, total = row.step.done, max(row.step.total, 1)
            bar = ProgressBar(total, done, width=20)
            cells = (row.epoch, row.done, row.loss, row.accuracy, row.speed, row.left)
            numbers = (Text(text.rpartition(" ")[2]) for text in cells)
            result.add_row(plain_text(row.title), plain_text(row.step.phase), bar, *numbers)
        over = ", ".join(f"{count} {state}" for state, count in self.states.items())
        told = [f"{over} of {self.total}"] if over else []
        told += [self.left] if self.left else []
        if told:
            result.add_row(Text(", ".join(told), style="dim"))
        return result

    @property
    def left(self) -> str:
        """Say how long the whole study will take yet, where that is known."""
        found = None if self.forecast is None else self.forecast.left()
        return "" if found is None else f"study {clock(found)} left"


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
    def done(self) -> str:
        """Say which step of the training is done."""
        return f"step {self.step.done}/{self.step.total}" if self.epoch else ""

    @property
    def speed(self) -> str:
        """Say how many images a second the training takes."""
        found = self.step.values.get("images_per_second")
        return "" if found is None else f"images/s {found:.3g}"

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


def _outcome(record: Any) -> str:
    if record.failure is not None:
        return f"failed ({record.failure.cause}): {record.failure.message}"
    spent = record.timings["finished"] - record.timings["started"]
    found = [f"mAP {record.metrics['mAP']:.3f}"] if "mAP" in record.metrics else []
    found += ["learnt nothing"] if learning.learnt_nothing(record) else []
    figure = latency(record.metrics, rough=latencies.rough(record) is not None, digits=2)
    found += [f"latency_ms {figure}"] if figure is not None else []
    return ", ".join([f"done in {clock(spent)}", *found])
