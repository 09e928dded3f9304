"""How the difference of two variants varies over the images that both were evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.analysis import compare
from harness.analysis.compare import FIGURES, Drawn, runs
from harness.analysis.compare.differences import FEWEST_IMAGES, drawn_variance
from harness.analysis.seen import Seen
from harness.records import Record

DRAWS = 200


class OverImages:
    """Draws images as `detbench compare` does; each trial and each data set is read once."""

    def __init__(self, folder: Path) -> None:
        """Look into a folder of runs."""
        self.folder = folder
        self._drawn: dict[str, Drawn | None] = {}
        self._seen = Seen()

    def __call__(
        self, a: Sequence[Record], b: Sequence[Record], metric: str
    ) -> tuple[float, int] | None:
        """Return the variance of B's mean less A's over images, and how many these are.

        Args:
            a: the seeds of a variant.
            b: those of another.
            metric: of accuracy.

        Returns:
            None where a trial left no detections, or the data that it saw is not here.

        Raises:
            RecordError: detections are damaged.
        """
        prints = {record.data.get("fingerprint") for record in (*a, *b)}
        if metric not in FIGURES or len(prints) > 1:
            return None
        place, means = FIGURES.index(metric), []
        for side in (a, b):
            drawn = [self._of(record) for record in side]
            known = [item for item in drawn if item is not None]
            if len(known) < len(drawn):
                return None
            means.append(np.mean([item.figures for item in known], axis=0))
        images = int(known[0].images[place])
        if images < FEWEST_IMAGES:
            return None
        return float(drawn_variance(means[1] - means[0])[place]), images

    def _of(self, record: Record) -> Drawn | None:
        if record.trial not in self._drawn:
            self._drawn[record.trial] = self._draw(record)
        return self._drawn[record.trial]

    def _draw(self, record: Record) -> Drawn | None:
        dataset = self._seen.opened(record)
        if dataset is None or "classes" in record.protocol:
            return None
        folder = self.folder / record.study / record.trial
        if not Path(folder, record.artifacts.get("detections", "nothing")).is_file():
            return None
        run = runs.read(folder)
        return compare.draw(run, dataset.val, draws=DRAWS)
