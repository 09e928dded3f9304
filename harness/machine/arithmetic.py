"""Arithmetic that is slower than float32 on a device, as bf16 where a CPU has no instructions."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

from harness.machine import locks

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Arithmetic that is meant to be faster than float32, and need not be."""
SLOWER = 1.25  # times as long as float32, from which it is worth a word
RECIPE = "recipe.precision"
ROUNDS = 4  # of a call in each arithmetic, of which the fastest counts

Clock = Callable[[], float]


def warning(knob: str, precision: str, device: str) -> str | None:
    """Say in one line that an arithmetic is slower than float32 on a device; None if it is not.

    Args:
        knob: that asks for it, `recipe.precision` or `latency.precision`.
        precision: its value.
        device: as torch spells it.
    """
    found = slowdown(precision, device, training=knob == RECIPE)
    if found is None or found < SLOWER:
        return None
    doing = "a training step takes" if knob == RECIPE else "a network takes"
    return (
        f"{knob} {precision}: {doing} about {times(found)} as long as in fp32 on this"
        f" {kind(device)}, as measured just now"
    )


def times(factor: float) -> str:
    """Write how many times as long something takes."""
    return f"{factor:.0f} times" if factor >= 3 else f"{factor:.1f} times"


def kind(device: str) -> str:
    """Return the kind of a device, as torch spells it."""
    return device.partition(":")[0]


@cache
def slowdown(precision: str, device: str, *, training: bool = False) -> float | None:
    """Return how many times as long as in float32 a small network takes; below 1 it is faster.

    It is measured in a fraction of a second, once in a process, and on a CPU with one thread, so
    that what else runs at that moment matters little.

    Args:
        precision: as a knob spells it.
        device: as torch spells it.
        training: whether it is a step forward and back, of float32 weights, as a recipe's; else the
            whole network is of that arithmetic, as when it is timed.

    Returns:
        None for float32 itself, and where the device cannot compute in this arithmetic at all.
    """
    if precision not in HALVES:
        return None
    threads = torch.get_num_threads()
    if kind(device) == "cpu":
        torch.set_num_threads(1)
    try:
        with locks.working(device), torch.random.fork_rng(devices=[]):
            make = _step if training else _pass
            return ratio(make(torch.float32, device), make(HALVES[precision], device))
    except RuntimeError:  # an operator that this device lacks
        return None
    finally:
        torch.set_num_threads(threads)


def ratio(
    first: Callable[[], Any], second: Callable[[], Any], clock: Clock = time.perf_counter
) -> float:
    """Return how many times as long as the first call a second takes, of each the fastest."""
    fastest = [float("inf"), float("inf")]
    for turn in range(ROUNDS + 1):
        for index, call in enumerate((first, second)):
            began = clock()
            call()
            if turn:  # the first makes kernels ready
                fastest[index] = min(fastest[index], clock() - began)
    return fastest[1] / fastest[0]


def _pass(dtype: torch.dtype, device: str) -> Callable[[], None]:
    """Return what runs a network of an arithmetic once."""
    network, pixels = _network(device)
    network, pixels = network.eval().to(dtype), pixels.to(dtype)

    def call() -> None:
        with torch.inference_mode():
            network(pixels)
        _wait(device)

    return call


def _step(dtype: torch.dtype, device: str) -> Callable[[], None]:
    """Return what runs a network forward in an arithmetic, and back."""
    network, pixels = _network(device)
    mixed = dtype != torch.float32

    def call() -> None:
        with torch.autocast(kind(device), dtype if mixed else None, enabled=mixed):
            found = network(pixels)
        found.float().sum().backward()
        _wait(device)

    return call


def _network(device: str) -> tuple[nn.Module, torch.Tensor]:
    """Return convolutions as detectors have them, and what they are given."""
    images, side = (16, 512) if kind(device) == "cuda" else (1, 64)
    blocks = [
        *_block(3, 16, kernel=3, stride=2),
        *_block(16, 32, kernel=3, stride=2),
        *_block(32, 32, kernel=1, stride=1),
        *_block(32, 64, kernel=3, stride=2),
        *_block(64, 64, kernel=1, stride=1),
    ]
    return nn.Sequential(*blocks).to(device), torch.ones(images, 3, side, side, device=device)


def _block(before: int, after: int, *, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(after), nn.SiLU()]


def _wait(device: str) -> None:
    if kind(device) == "cuda":
        torch.cuda.synchronize(device)
