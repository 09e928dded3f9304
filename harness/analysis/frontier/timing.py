"""Times of settings: in each round the network runs once, then every setting on what came out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from harness.config.frontier import FrontierConfig
from harness.machine import conditions
from harness.machine.conditions import Taint
from harness.machine.trace import Window
from harness.measure.inputs import Inputs
from harness.measure.latency.statistics import FEWEST_ROUNDS
from harness.measure.latency.timer import Timer
from harness.records.latencies import ROUGH
from harness.records.progress import OnProgress, Progress, ignore


class Ready(NamedTuple):
    """What takes turns in a round."""

    network: Callable[[Tensor], Any]  # images to outputs
    stages: Sequence[Callable[[Any, Tensor], Any]]  # outputs, sizes; one a setting
    counters: Sequence[Callable[[Any], Tensor] | None]  # outputs to candidates; one a setting
    inputs: Sequence[Inputs]  # of one image each


class Times(NamedTuple):
    """What the rounds showed."""

    network: list[float]  # by round, milliseconds
    nms: list[list[float]]  # by setting and round, milliseconds
    candidates: list[list[int]]  # by setting and timed image; empty where the stage cannot tell
    detections: list[list[int]]  # by setting and timed image
    seconds: float
    windows: list[Window] = []  # by round, nanoseconds

    def kept(self, rounds: Sequence[int]) -> Times:
        """Return the times of some rounds alone."""
        network = [self.network[index] for index in rounds]
        return self._replace(
            network=network, nms=[[series[index] for index in rounds] for series in self.nms]
        )


def time_settings(
    ready: Ready,
    config: FrontierConfig,
    timer: Timer,
    *,
    seed: int = 0,
    on_progress: OnProgress = ignore,
) -> Times:
    """Time the network, and every stage on what came out of it, round by round.

    Args:
        ready: what is timed.
        config: when to stop.
        timer: of the device.
        seed: of the order in each round.
        on_progress: called after every round.
    """
    draw, count = random.Random(seed), len(ready.stages)
    nms: list[list[float]] = [[] for _ in range(count)]
    times = Times([], nms, [[] for _ in range(count)], [[] for _ in range(count)], 0.0, [])
    _round(ready, timer, list(range(count)), 0)
    start, rounds, elapsed = timer.clock(), 0, 0.0
    while rounds < config.rounds and (rounds < FEWEST_ROUNDS or elapsed < config.seconds):
        order, began = draw.sample(range(count), count), timer.clock()
        network, taken, outputs, found = _round(ready, timer, order, rounds)
        times.windows.append((began, timer.clock()))
        times.network.append(network)
        for samples, sample in zip(times.nms, taken, strict=True):
            samples.append(sample)
        if rounds < len(ready.inputs):
            _count(times, ready.counters, outputs, found)
        rounds, elapsed = rounds + 1, (timer.clock() - start) / 1e9
        on_progress(Progress("NMS", rounds, config.rounds, {}))
    return times._replace(seconds=elapsed)


def _round(
    ready: Ready, timer: Timer, order: Sequence[int], number: int
) -> tuple[float, list[float], Any, list[int]]:
    """Run the network and then every stage, all on one image.

    Returns:
        Milliseconds of the network, those of each stage, the outputs, and how many detections each
        stage made.
    """
    inputs = ready.inputs[number % len(ready.inputs)]
    outputs, spans = timer.time((ready.network,), inputs.images)
    network, nms, found = spans[0].wall_ms, [0.0] * len(order), [0] * len(order)
    for index in order:
        step = partial(_postprocess, ready.stages[index], inputs.sizes)
        detections, spans = timer.time((step,), outputs)
        nms[index], found[index] = spans[0].wall_ms, len(detections[0].scores)
    return network, nms, outputs, found


def _postprocess(stage: Callable[[Any, Tensor], Any], sizes: Tensor, outputs: Any) -> Any:
    return stage(outputs, sizes)


def _count(
    times: Times,
    counters: Sequence[Callable[[Any], Tensor] | None],
    outputs: Any,
    found: Sequence[int],
) -> None:
    """Add an image's boxes before and after NMS."""
    for index, ask in enumerate(counters):
        times.detections[index].append(found[index])
        if ask is not None:
            times.candidates[index].append(int(ask(outputs)[0]))


def undisturbed(times: Times, taints: Sequence[Taint]) -> tuple[Times, dict[str, Any]]:
    """Drop the rounds that the machine disturbed, and count them.

    Returns:
        The times of the others, of all where most were disturbed; and `rounds`, `dropped`,
        `tainted` as a latency's record has them, and a `remark` in words. The settings took turns
        in each round, so that they may be ranked among themselves even where their times are rough.
    """
    count = len(times.windows)
    rounds = conditions.keep(count, taints)
    told = {"rounds": count, "dropped": count - len(rounds), "tainted": conditions.tally(taints)}
    remark = conditions.remark(count, taints)
    if conditions.mostly(count, taints):
        remark = f"{ROUGH}{remark}"
    return times.kept(rounds), told | {"remark": remark}
