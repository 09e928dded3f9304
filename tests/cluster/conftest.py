"""A private PostgreSQL server, for the tests of a storage that many drivers share."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest

USERS = ("postgres", "nobody")  # one of whom runs the server, which refuses to run as root
SECONDS_TO_START = 300  # which only a hang takes


class Postgres:
    """A server on 127.0.0.1 with a folder of its own."""

    def __init__(self, folder: Path, programs: Path, user: str | None) -> None:
        self.folder, self.programs, self.user = folder, programs, user
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None
        self.names = (f"study{number}" for number in count())

    def start(self) -> None:
        """Make the database's files, unless they are there, and start."""
        data = self.folder / "data"
        if not data.exists():
            self._run("initdb", "-D", data, "-U", "detbench", "-A", "trust", "--no-sync")
        options = ("-D", data, "-p", self.port, "-h", "127.0.0.1", "-k", self.folder)
        command = self._command("postgres", *options, "-c", "fsync=off")
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, user=self.user)
        deadline = time.monotonic() + SECONDS_TO_START
        while subprocess.run(
            self._command("pg_isready", *self._at()), capture_output=True
        ).returncode:
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """End it, and whoever is connected."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)  # "fast" in PostgreSQL's words
            self.process.wait(SECONDS_TO_START)
            self.process = None

    def database(self) -> str:
        """Make an empty database and return its URL."""
        name = next(self.names)
        self._run("createdb", *self._at(), "-U", "detbench", name)
        return f"postgresql+psycopg://detbench@127.0.0.1:{self.port}/{name}"

    def _at(self) -> Sequence[object]:
        return "-h", "127.0.0.1", "-p", self.port

    def _command(self, program: str, *arguments: object) -> list[str]:
        return [str(self.programs / program), *map(str, arguments)]

    def _run(self, program: str, *arguments: object) -> None:
        command = self._command(program, *arguments)
        subprocess.run(command, check=True, capture_output=True, user=self.user, cwd=self.folder)


def _programs() -> Path | None:
    """Return where the server's programs are; Debian leaves them off the path."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    return max(map(Path, glob.glob("/usr/lib/postgresql/*/bin")), default=None)


def _user() -> str | None:
    """Return who is to run the server; None for whoever runs the tests."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in USERS if name in names), None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of the tests' own."""
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL here; install Debian's package postgresql")
    pytest.importorskip("psycopg", reason="no driver of PostgreSQL; install the extra `cluster`")
    user = _user()
    with tempfile.TemporaryDirectory(prefix="detbench-postgres-") as folder:
        if user is not None:
            shutil.chown(folder, user)
        server = Postgres(Path(folder), programs, user)
        server.start()
        try:
            yield server
        finally:
            server.stop()
