"""Tells whoever watches a training what each of its epochs has come to."""

from __future__ import annotations

import time
from typing import Literal

from harness.records.progress import Judge, OnProgress, Progress

LIVE = "live/"
"""How figures of one step begin: a record's curves have the means of the epoch instead."""
SHOWN = ("loss", "lr", "images_per_second")


class Epochs:
    """Stands between a training and those who watch and judge it, and adds rows to progress.

    Args:
        on_progress: is told all that the training tells, and the rows.
        judge: the study's, which is asked as before; None for none.
        epochs: of the whole training.
    """

    def __init__(self, on_progress: OnProgress, judge: Judge | None, epochs: int) -> None:
        self.on_progress, self.judge, self.epochs = on_progress, judge, epochs
        self.latest = Progress("train", 0, 1, {})

    def show(self, progress: Progress) -> None:
        """Pass progress on; after the last step of an epoch, with a row."""
        if progress.phase == "train":
            self.latest = progress
            progress = progress._replace(row=self._row(progress))
        self.on_progress(progress)

    def ask(
        self,
        stage: Literal["cheap", "epoch"],
        metrics: dict[str, float],
        curves: list[dict[str, float]],
    ) -> str | None:
        """Tell the latest validation, and ask the judge, as `Judge` describes."""
        if curves:
            self.on_progress(self.latest._replace(row=curves[-1], note=""))
        return None if self.judge is None else self.judge(stage, metrics, curves)

    def _row(self, progress: Progress) -> dict[str, float]:
        steps = progress.total // self.epochs
        if not steps or not progress.done or progress.done % steps:
            return {}
        axes = {"epoch": progress.done // steps, "step": progress.done, "time": time.time()}
        values = progress.values
        return {**axes, **{f"{LIVE}{name}": values[name] for name in SHOWN if name in values}}
