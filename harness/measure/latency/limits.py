"""What a device can do at most, and a fixed piece of work to compare sessions by.

A latency means little without the machine it was taken on. Measured in the same session as the
detectors, the rate of matrix products and of copies say how far a latency is from what the device
allows, and the reference workload says how fast the session was as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from harness.measure.latency import statistics
from harness.measure.latency.timer import Timer, timer_for
from harness.measure.runtimes.precision import DTYPES

SIDES = {"cpu": (256, 512, 1024), "cuda": (2048, 4096, 8192)}
COPIES = {"cpu": 64 * 2**20, "cuda": 512 * 2**20}  # bytes of the buffer that is copied
TRIES = 3  # calls that choose among the sizes
FEWEST = 8  # samples of the chosen size and of the copy, however slow the device
MOST = 200


class Rate(NamedTuple):
    """How much a second: of the median call, with the interval of that median at 95 %."""

    value: float
    low: float | None  # None where the samples are too few for an interval
    high: float | None
    samples: int


class Limits(NamedTuple):
    """What a device can do at most, as it was in this session."""

    precision: str
    compute: Rate  # FLOP/s of a square matrix product, two a multiply-accumulate
    memory: Rate  # bytes/s of a copy, what is read and what is written both counted
    details: dict[str, Any]
    caveats: dict[str, str]


class Fraction(NamedTuple):
    """How close a call comes to what its device allows."""

    fraction: float  # of the roofline: attainable over measured time, in [0, 1] if all is well
    low: float | None
    high: float | None
    attainable_s: float
    bound: str  # compute | memory


def measure(
    device: str, precision: str = "fp32", *, seconds: float = 1.0, timer: Timer | None = None
) -> Limits:
    """Measure the rates of matrix products and copies on a device that nobody else uses.

    Of a few sizes of matrices the fastest is chosen, then products and copies take turns, so that
    both meet the same machine. Call it with the threads that the detectors are timed with.

    Args:
        device: as torch spells it.
        precision: a key of `DTYPES`.
        seconds: for everything, kept roughly; a size that would not fit is left out.
        timer: instead of the device's own.

    Source: S. Williams, A. Waterman, D. Patterson, Roofline (2009); copies are counted as in
    J. McCalpin's STREAM.
    """
    timer, kind, dtype = timer or timer_for(device), torch.device(device).type, DTYPES[precision]
    copied = COPIES[kind]
    with _tf32(precision == "tf32", kind), torch.inference_mode():
        tried = _try_sizes(SIDES[kind], device, dtype, timer, seconds / 3)
        side = max(tried, key=lambda size: tried[size])
        works = _product(side, device, dtype), _copy(copied, device)
        products, copies = _in_turns(works, timer, seconds * 2 / 3)
    cache = _cache_bytes() if kind == "cpu" else None
    details = {
        "device": device,
        "side": side,
        "flops_by_side": tried,
        "copied_bytes": copied,
        "cache_bytes": cache,
        "threads": torch.get_num_threads(),
    }
    caveats = {}
    if cache and cache > copied:
        sizes = f"{copied >> 20} MiB fits into the cache of {cache >> 20} MiB"
        caveats["memory"] = f"a copy of {sizes}: the rate may be the cache's"
    compute, memory = _rate(2 * side**3, products), _rate(2 * copied, copies)
    return Limits(precision, compute, memory, details, caveats)


def roofline(macs: float, bytes_moved: float, seconds: float, limits: Limits) -> Fraction:
    """Say which share of a device's limits a call reaches.

    A call takes at least its operations at the rate of matrix products, and at least its bytes at
    the rate of copies. `bytes_moved` counts each weight, input and output once, and no features
    between layers, which a fused program could keep on the chip: fewer than move, so that the
    fraction is not flattered. Depthwise convolutions, NMS and launches keep it far below 1. It can
    exceed 1 where weights stay in a cache between calls, where a convolution needs fewer operations
    than are counted (Winograd), or when the machine was disturbed while the limits were taken.

    Args:
        macs: multiply-accumulates of the call, of all its images.
        bytes_moved: between the device's memory and its processors.
        seconds: what the call took.
        limits: of the same device, session and precision.

    Returns:
        The fraction; its interval holds the uncertainty of the limits, not that of `seconds`.
    """
    by_compute = 2 * macs / limits.compute.value
    by_memory = bytes_moved / limits.memory.value
    compute, memory = limits.compute, limits.memory
    low = _attainable(macs, bytes_moved, compute.high, memory.high)
    high = _attainable(macs, bytes_moved, compute.low, memory.low)
    attainable = max(by_compute, by_memory)
    return Fraction(
        attainable / seconds,
        None if low is None else low / seconds,
        None if high is None else high / seconds,
        attainable,
        "compute" if by_compute >= by_memory else "memory",
    )


class Reference(nn.Module):
    """The workload `reference-1`: what detectors are made of, in fixed shapes with fixed weights.

    Convolutions (dense, depthwise, pointwise), pooling, attention by plain matrix products, a
    linear layer and elementwise arithmetic. It never changes: another workload has another name.
    Weights follow a formula, so that no version of a random generator matters.
    """

    name = "reference-1"
    shape = (1, 3, 320, 320)  # of its input
    macs = 503_603_200

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, stride=2, padding=1)
        self.dense = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(64, 64, 5, padding=2, groups=64)
        self.pointwise = nn.Conv2d(64, 128, 1)
        self.down = nn.Conv2d(128, 128, 3, stride=2, padding=1)
        self.queries = nn.Linear(128, 3 * 128)
        self.output = nn.Linear(128, 84)
        for index, parameter in enumerate(self.parameters()):
            fan_in = max(parameter[0].numel(), 1)
            parameter.data = _sequence(parameter.shape, index) * math.sqrt(6 / fan_in)
            parameter.requires_grad_(False)

    @staticmethod
    def example() -> Tensor:
        """Return its input [1, 3, 320, 320] in float32, on the CPU."""
        return _sequence(Reference.shape, 100)

    def forward(self, images: Tensor) -> Tensor:
        """Compute [1, 400, 84] in [0, 1] from images [1, 3, 320, 320]."""
        features = nn.functional.silu(self.stem(images))
        features = nn.functional.silu(self.dense(features))
        mixed = nn.functional.silu(self.pointwise(self.depthwise(features) + features))
        coarse = nn.functional.max_pool2d(torch.relu(self.down(mixed)), 2)  # [1, 128, 20, 20]
        tokens = coarse.flatten(2).transpose(1, 2)  # [1, 400, 128]
        query, key, value = self.queries(tokens).chunk(3, dim=-1)
        weights = torch.softmax(query @ key.transpose(1, 2) / math.sqrt(128), dim=-1)
        return torch.sigmoid(self.output(tokens + weights @ value))


def reference(device: str, precision: str = "fp32") -> tuple[Reference, Tensor]:
    """Return the reference workload and its input, ready on a device.

    Args:
        device: as torch spells it.
        precision: a key of `DTYPES`.
    """
    dtype = DTYPES[precision]
    return Reference().eval().to(device, dtype), Reference.example().to(device, dtype)


def _sequence(shape: Sequence[int], offset: int) -> Tensor:
    """Fill a tensor with numbers in [-0.5, 0.5] that look random: multiples of the golden ratio."""
    count = math.prod(shape)
    steps = torch.arange(1, count + 1, dtype=torch.float64) + 1e5 * offset
    return ((steps * ((math.sqrt(5) - 1) / 2)).frac() - 0.5).float().reshape(tuple(shape))


_Work = tuple[Callable[[Any], Any], Any]  # a step and what it takes


def _product(side: int, device: str, dtype: torch.dtype) -> _Work:
    matrix = _sequence((side, side), 0).to(device=device, dtype=dtype)
    result = torch.empty_like(matrix)
    return lambda factor: torch.matmul(matrix, factor, out=result), matrix.clone()


def _copy(size: int, device: str) -> _Work:
    target = torch.zeros(size // 4, device=device)
    return target.copy_, torch.ones(size // 4, device=device)


def _call(timer: Timer, work: _Work) -> float:
    """Return the seconds of a call, by the device's clock where it has one."""
    step, value = work
    _, spans = timer.time((step,), value)
    span = spans[0]
    return (span.wall_ms if span.device_ms is None else span.device_ms) / 1e3


def _try_sizes(
    sides: Sequence[int], device: str, dtype: torch.dtype, timer: Timer, seconds: float
) -> dict[int, float]:
    """Return the rate of each size that fits into the time, FLOP/s of the fastest call."""
    rates: dict[int, float] = {}
    start = timer.clock()
    for side in sides:
        left = seconds - (timer.clock() - start) / 1e9
        expected = 2 * side**3 / max(rates.values()) * (TRIES + 1) if rates else 0.0
        if rates and expected > left:
            break
        work = _product(side, device, dtype)
        _call(timer, work)
        rates[side] = 2 * side**3 / max(min(_call(timer, work) for _ in range(TRIES)), 1e-12)
    return rates


def _in_turns(works: Sequence[_Work], timer: Timer, seconds: float) -> list[list[float]]:
    for work in works:
        _call(timer, work)
    samples: list[list[float]] = [[] for _ in works]
    start = timer.clock()
    while len(samples[0]) < MOST:
        for work, taken in zip(works, samples, strict=True):
            taken.append(_call(timer, work))
        if len(samples[0]) >= FEWEST and timer.clock() - start >= seconds * 1e9:
            break
    return samples


def _rate(amount: float, seconds: Sequence[float]) -> Rate:
    interval = statistics.median_interval(seconds)
    low, high = (
        (None, None) if interval is None else (amount / interval.high, amount / interval.low)
    )
    return Rate(amount / float(np.median(seconds)), low, high, len(seconds))


def _attainable(
    macs: float, bytes_moved: float, compute: float | None, memory: float | None
) -> float | None:
    if compute is None or memory is None:
        return None
    return max(2 * macs / compute, bytes_moved / memory)


@contextmanager
def _tf32(allowed: bool, kind: str) -> Iterator[None]:
    """Let matrix products on a GPU round to TF32, or not."""
    if kind != "cuda":
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _cache_bytes() -> int | None:
    """Return the bytes of the last cache of the first core; None where it is not told."""
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    texts = [path.read_text().strip() for path in sizes]
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    return max(
        (int(text[:-1]) * units[text[-1]] for text in texts if text[-1] in units), default=None
    )
