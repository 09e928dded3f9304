"""Who works on a trial, and whether that process is alive: what gives a dead one's trials back."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

BOOT, NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


class Owner(NamedTuple):
    """A process, told apart from all others that ever had or will have its number."""

    host: str
    place: str  # the running system whose numbers of processes hold: boot and namespace
    pid: int
    born: str  # when it started, in a unit of the system's own that no clock change touches
    key: str = ""  # at random: containers may give two processes all the rest alike

    @property
    def title(self) -> str:
        """Name the process for people."""
        return f"{self.host}:{self.pid}"


def me() -> Owner:
    """Return this process."""
    return _living(os.getpid())


@cache
def _living(pid: int) -> Owner:
    return Owner(socket.gethostname(), _place(), pid, _born(pid) or "", secrets.token_hex(4))


def is_dead(owner: Owner) -> bool:
    """Say whether a process is known to be over; of other machines nothing is known."""
    here = me()
    if (owner.host, owner.place) != (here.host, here.place):
        return False
    return _born(owner.pid) != owner.born


def is_elsewhere(owner: Owner) -> bool:
    """Say whether only heartbeats can tell whether a process lives."""
    return (owner.host, owner.place) != (me().host, me().place)


def is_stopped(owner: Owner) -> bool:
    """Say whether a process of this machine is known to be stopped, as by SIGSTOP."""
    return not is_elsewhere(owner) and _state(owner.pid) in ("T", "t")


def is_gone(owner: Owner, *, silent: bool) -> bool:
    """Say whether somebody else may take over a process's trials.

    Args:
        owner: the process.
        silent: whether its heart has not beaten for longer than the grace. Of a process that runs
            on this machine that says nothing: it may be slow.
    """
    return is_dead(owner) or silent and (is_elsewhere(owner) or is_stopped(owner))


def _place() -> str:
    boot = BOOT.read_text().strip() if BOOT.exists() else ""
    return f"{boot} {os.readlink(NAMESPACE) if os.path.lexists(NAMESPACE) else ''}"


def _born(pid: int) -> str | None:
    """Return when a process started; None if it is over, also if nobody has reaped it yet."""
    if BOOT.exists():
        fields = _stat(pid)
        return None if not fields or fields[0] in "ZX" else fields[19]
    told = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},  # drivers may differ in both
    )
    return told.stdout.strip() or None


def _state(pid: int) -> str:
    """Return the letter of what a process does; empty if that is not known here."""
    return next(iter(_stat(pid)), "")


def _stat(pid: int) -> list[str]:
    """Return what Linux tells of a process, from its state on; empty if it is over."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
