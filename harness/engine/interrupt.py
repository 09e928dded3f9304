"""Ctrl-C, once to finish cleanly and twice to end at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeAlias

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # the latter is what a cluster's scheduler sends
Asked: TypeAlias = Callable[[], bool]


@contextmanager
def heeded() -> Iterator[Asked]:
    """Note the first interrupt inside, and raise `KeyboardInterrupt` at the second.

    Yields:
        Whether an interrupt came.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # which alone hears signals
        yield came.is_set
        return

    def note(number: int, frame: FrameType | None) -> None:
        if came.is_set():
            raise KeyboardInterrupt
        came.set()

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield came.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
