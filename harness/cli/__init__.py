"""The command `detbench`: results on stdout, everything else on stderr.

`app`, `rest` and `lists` declare every subcommand and its options. A module carries each out in a
function of the same name; `count` and `frontier` belong to `measure`.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO, cast

from harness.cli import streams
from harness.cli.app import app
from harness.cli.text import visible
from harness.config.secrets import masked

INTERRUPTED, PIPE_CLOSED = 130, 141
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
SAFE_PATH = "PYTHONSAFEPATH"
OURS = ("detectors", "harness", "reports")
SPINS = "10000"
"""How long a thread of an operator spins for the others before it sleeps, unless the user says so:
OpenMP's own 300000 slows training down tenfold beside one other busy process, none at all slows it
by two fifths when alone."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; user errors become one line and exit status 2."""
    wrong = None if streams.open_closed() else "it is closed"
    printed = streams.Careless(sys.stdout)
    sys.stdout = cast(TextIO, printed)
    try:
        status = _run(arguments)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        place = f"{error.filename}: " if error.filename else ""
        return _refuse(f"{place}{error.strerror}; see to that, and run again", 1)
    finally:
        printed.flush()
        sys.stdout = printed.stream
    if printed.wrong is not None:
        printed.give_up()
    if printed.wrong == os.strerror(errno.EPIPE):
        return PIPE_CLOSED  # whoever read it has seen enough
    wrong = wrong or printed.wrong
    if wrong is not None:
        return _refuse(
            f"stdout: {wrong}; the result is not shown, and what was done stands", status or 1
        )
    return status


def _run(arguments: Sequence[str] | None) -> int:
    """Run the command and return its exit status."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # for detectors of one's own, named package.module:ATTRIBUTE
    try:
        with _working_directory_last():
            status: Any = app(arguments, standalone_mode=False)
    except Exception as error:
        if not isinstance(error.__cause__, KeyboardInterrupt):
            message = _user_message(error)
            if message is None:
                raise
            return _refuse(message, 2) if message else 2  # empty after help that nobody asked for
        status = INTERRUPTED  # which newer versions of typer return by themselves
    if status == INTERRUPTED:
        return _refuse("interrupted; finished trials stand", INTERRUPTED)
    return int(status or 0)


@contextmanager
def _working_directory_last() -> Iterator[None]:
    """Let no Python that is started inside look for its own modules in the working directory.

    `python -c`, as servers of processes are started, else looks there first. What is the user's own
    is found by the path that such a process is told. Pythons before 3.11 know no such wish.
    """
    known = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = known or "1"
    try:
        yield
    finally:
        if known is None:
            del os.environ[SAFE_PATH]


def _user_message(error: Exception) -> str | None:
    """Return what to tell a user; None for a mistake of our own."""
    if hasattr(error, "format_message"):
        text = str(error.format_message())
        if type(error).__name__ != "NoArgsIsHelpError":
            return text
        print(text, file=sys.stderr)
        return ""
    ours = type(error).__module__.partition(".")[0] in OURS
    return str(error) if ours and isinstance(error, ValueError) else None


def _refuse(message: str, status: int) -> int:
    text = visible(masked(" ".join(message.split())))
    print("detbench: error:", text, file=streams.Careless(sys.stderr))
    return status
