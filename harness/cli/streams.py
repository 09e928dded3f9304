"""Standard streams that are closed, or that nothing more can be written to."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import IO, Any


def open_closed() -> bool:
    """Open what was closed before the command began, as if it led nowhere.

    Else the next file that is opened would take the number of such a stream, and get what libraries
    print.

    Returns:
        Whether results can be shown.
    """
    shown = sys.stdout is not None
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    return shown


class Careless:
    """A stream that work does not end for when it can't be written, as on a full disk.

    Args:
        stream: the one that is written to.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.wrong: str | None = None  # why something could not be written

    def write(self, text: str) -> int:
        """Write a text if that is possible."""
        try:
            return self.stream.write(text)
        except (OSError, ValueError) as error:
            self._note(error)
            return len(text)

    def flush(self) -> None:
        """Flush if that is possible."""
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self._note(error)

    def give_up(self) -> None:
        """Let what is left lead nowhere, else the interpreter would try once more, and complain."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError, ValueError):
            os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)

    def _note(self, error: OSError | ValueError) -> None:
        self.wrong = self.wrong or getattr(error, "strerror", None) or str(error)

    def __getattr__(self, name: str) -> Any:  # noqa: D105
        return getattr(self.stream, name)
