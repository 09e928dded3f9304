"""How fast a trial trained: the only figure that tells what a cache of photographs saves."""

from __future__ import annotations

from statistics import median

from harness.machine import environment
from harness.records import Record
from harness.trials.trainings import Story

NAME = "images_per_second"
AT_A_TIME = "at_a_time"


def note(story: Story, result: Record) -> None:
    """Write down how many images a second a training took, and what to know of that.

    Args:
        story: of the training; with one row an epoch.
        result: the trial's, with the machine that it runs on.
    """
    speeds = [row[NAME] for row in story.curves if NAME in row]
    if not speeds:  # a training from before they were kept
        return
    result.metrics[NAME] = median(speeds[1:] or speeds)
    caveats = [] if len(speeds) > 1 else ["of the only epoch, which also warms up"]
    others = int(story.details.get(AT_A_TIME, 1)) - 1
    if others > 0:
        caveats.append(f"trained while up to {others} more ran on the same cores")
    here, there = (environment.identity(item) for item in (result.environment, story.environment))
    if here != there:
        caveats.append("trained on another machine, or by other software")
    if caveats:
        result.caveats[NAME] = "; ".join(caveats)
