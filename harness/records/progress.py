"""What a running trial tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple


class Progress(NamedTuple):
    """One step forward in one phase of a trial."""

    phase: str  # "train", "evaluate", "latency", ...
    done: int  # steps finished in this phase
    total: int  # steps in this phase
    values: dict[str, float]  # what to show beside the bar: loss, lr, mAP, ...
    note: str = ""  # what whoever watches has to know, once, in a line
    row: Mapping[str, float] = {}
    """What has been come to at the end of an epoch, and is to be told whatever the pace: `epoch`,
    `step`, `time`, and the figures of a validation as a record's curves have them, or those of the
    epoch's last step, whose names begin with `live/`."""


OnProgress = Callable[[Progress], None]

Judge = Callable[[Literal["cheap", "epoch"], dict[str, float], list[dict[str, float]]], str | None]
"""Asked whether a trial is worth going on with; a returned text is the reason to give it up.

At the stage `cheap`, before training, it gets what was measured of the untrained variant and no
curve: `params`, `macs` and the like; where the trial's spec asks for it `network_ms`, and as
`latency_ms` the low end of that, which the latency with its postprocessing cannot fall below. At
the stage `epoch`, after each validation but the last, it gets these, the latest validation's
metrics, and one row a validation so far: `epoch`, `step`, `time`, `mAP` and the like.
"""


def ignore(progress: Progress) -> None:
    """Watch nothing."""
