"""What this process leaves off while something is timed."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector out of a block."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def with_threads(threads: int | None) -> Iterator[None]:
    """Set torch's threads inside an operator on a CPU for a block; None leaves them."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
