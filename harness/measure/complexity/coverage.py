"""Which share of a network's time goes into operators that its operations do not count."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from harness.measure.complexity.operators import place

COUNTED = "counted"
AROUND = "around"  # what an operator does itself that is made of others
FEWEST = 0.005  # share of the time from which on an operator is named

QUIET = "99"  # of torch's profiler, which tells on stderr that it starts, and that no GPU is there


class Coverage(NamedTuple):
    """Where the time of operators goes, as shares of it."""

    uncounted: float  # all but `counted`
    groups: dict[str, float]  # as `operators.place` sorts, and `around`
    operators: dict[str, float]  # not counted, most first; those under `FEWEST` are left out


def measure(call: Callable[[], Any], device: str, calls: int = 3) -> Coverage | str:
    """Profile a network that runs operator by operator; what is timed afterwards is disturbed.

    An operator's time is that of the kernels it launches on a GPU, and its own on a CPU. Whatever
    runs inside an operator with a formula belongs to it.

    Args:
        call: runs the network once.
        device: where, as torch spells it.
        calls: how often.

    Returns:
        Shares, or why there are none.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", QUIET)
    on_gpu = torch.device(device).type == "cuda"
    kinds = torch.profiler.ProfilerActivity
    activities = [kinds.CPU] + [kinds.CUDA] * on_gpu
    call()
    with torch.profiler.profile(activities=activities, acc_events=True) as profiler:
        for _ in range(calls):
            call()
        if on_gpu:
            torch.cuda.synchronize(device)
    return summarise(profiler.events(), on_gpu=on_gpu)


def summarise(events: Any, *, on_gpu: bool) -> Coverage | str:
    """Add up the time of a profile's events by operator; see `measure`."""
    found: dict[int, tuple[str, str]] = {}  # group and operator by event
    times: defaultdict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        if event.name.startswith("aten::"):
            time = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            times[_sorted(event, found)] += time
    total = sum(times.values())
    if not total:
        return "the profiler saw no operator"
    groups: defaultdict[str, float] = defaultdict(float)
    operators: defaultdict[str, float] = defaultdict(float)
    for (group, operator), time in times.items():
        groups[group] += time / total
        if group != COUNTED:
            operators[operator] += time / total
    named = {name: share for name, share in operators.items() if share >= FEWEST}
    return Coverage(1 - groups[COUNTED], _most_first(groups), _most_first(named))


def _most_first(shares: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _sorted(event: Any, found: dict[int, tuple[str, str]]) -> tuple[str, str]:
    """Return an event's group and operator: those of the outermost that can be sorted."""
    if id(event) not in found:
        parent = event.cpu_parent
        outer = (AROUND, "")
        if parent is not None and parent.name.startswith("aten::"):
            outer = _sorted(parent, found)
        found[id(event)] = _own(event) if outer[0] == AROUND else outer
    return found[id(event)]


def _own(event: Any) -> tuple[str, str]:
    name = event.name.removeprefix("aten::")
    if "scaled_dot_product" in name:  # counted by way of what it is made of
        return COUNTED, name
    packet = getattr(torch.ops.aten, name, None)
    if packet is None:
        return AROUND, name
    group = place(getattr(packet, packet.overloads()[0]))
    made_of_others = bool(event.cpu_children) and group == "unknown"
    return (AROUND if made_of_others else group), name
