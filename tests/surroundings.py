"""Run the tests where others would run them: `python -m tests.surroundings`.

A test passes for the wrong reason if it needs the order of the files, the language, the hour or the
rights of whoever wrote it. The tests run once in each of the surroundings that are asked for, in a
copy of the checkout, with a home and a folder for temporary files of their own:

    python -m tests.surroundings                      # all, as tox runs the tests: two processes
    python -m tests.surroundings --list
    python -m tests.surroundings --only umask-077 without-network
    python -m tests.surroundings --workers 0 -- tests/harness/engine -k driver

Afterwards nothing may be left: no process, and no file in the copy, the home, the folder for
temporary files or the shared memory. A summary ends the output; the exit status is 1 if a test
failed or something was left. What this machine cannot imitate, such as a locale that is not
installed, is said to be `not here` and fails nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import locale
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.reruns import ROOT, USUAL, parser, print_table, read, spread

CACHES = {"__pycache__", ".hypothesis", ".benchmarks"}  # that tools of development keep
LIBRARIES = {"torchinductor_root"}  # headers that torch compiles, wherever its cache is to be
KEPT = CACHES | LIBRARIES
MARK = "DETBENCH_TESTS_RUN"  # an environment variable, by which processes of a run are known
SECONDS_TO_END = 30.0  # for processes whose parent has ended
NOBODY = 65534
MEMORY = Path("/dev/shm")


class Surrounding(NamedTuple):
    """Where and how the tests run."""

    about: str
    variables: dict[str, str] = {}
    prefix: tuple[str, ...] = ()  # a command that runs the one after it
    options: tuple[str, ...] = ()  # of pytest
    folder: str = "checkout"  # name of the copy
    apart: bool = False  # whether each file of tests is a run of its own
    user: int | None = None
    needs: Callable[[], str | None] = lambda: None  # says what is missing


def shell(line: str) -> tuple[str, ...]:
    """Return a prefix that does something first."""
    return ("sh", "-c", f'{line} && exec "$@"', "sh")


def lacks_locale(name: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        before = locale.setlocale(locale.LC_ALL)
        try:
            locale.setlocale(locale.LC_ALL, name)
        except locale.Error:
            return f"no locale {name}"
        finally:
            locale.setlocale(locale.LC_ALL, before)
        return None

    return missing


def lacks_own_network() -> str | None:
    tried = subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True, text=True)
    return tried.stderr.strip().splitlines()[-1] if tried.returncode else None


def lacks_root() -> str | None:
    return None if hasattr(os, "geteuid") and os.geteuid() == 0 else "needs root"


def lacks_user() -> str | None:
    if lacks_root():
        return lacks_root()
    try:
        subprocess.run(
            [sys.executable, "-c", ""], cwd="/", user=NOBODY, extra_groups=[], check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return f"only root may run {sys.executable}"
    return None


def of_language(name: str) -> Surrounding:
    return Surrounding(f"locale {name}", {"LC_ALL": name}, needs=lacks_locale(name))


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
WITHOUT_NETWORK = ("unshare", "--map-root-user", "--net", *shell("ip link set lo up"))
SHUFFLED = ("--random-order", "--random-order-seed={seed}")
SURROUNDINGS = {
    "as-usual": Surrounding("as tox runs them"),
    "each-alone": Surrounding("each file of tests in a run of its own", apart=True),
    "random-order": Surrounding("files and tests in them in a random order", options=SHUFFLED),
    "without-shared": Surrounding("no reference data", {"DETBENCH_SHARED": "/nowhere"}),
    "without-network": Surrounding(
        "nothing but the loopback", prefix=WITHOUT_NETWORK, needs=lacks_own_network
    ),
    "locale-ascii": Surrounding("locale C, and files in ASCII unless said otherwise", ASCII),
    "locale-german": of_language("de_DE.UTF-8"),
    "locale-turkish": of_language("tr_TR.UTF-8"),
    "zone-kathmandu": Surrounding("5:45 hours east", {"TZ": "Asia/Kathmandu"}),
    "zone-st-johns": Surrounding("3:30 hours west, with summer time", {"TZ": "America/St_Johns"}),
    "umask-077": Surrounding("files for their owner alone", prefix=shell("umask 077")),
    "umask-002": Surrounding("files for a group", prefix=shell("umask 002")),
    "root": Surrounding("as root", needs=lacks_root),
    "ordinary-user": Surrounding("as a user who owns nothing else", user=NOBODY, needs=lacks_user),
    "path-with-a-blank": Surrounding("in a folder with a blank", folder="check out"),
}


class Outcome(NamedTuple):
    surrounding: str
    passed: int = 0
    skipped: int = 0
    failed: tuple[str, ...] = ()  # names of tests
    wrong: tuple[int, ...] = ()  # pytest's statuses other than 0
    left: tuple[str, ...] = ()
    minutes: float = 0.0
    missing: str | None = None

    @property
    def good(self) -> bool:
        return not self.wrong and not self.left

    def row(self) -> list[str]:
        statuses = ", ".join(map(str, sorted(set(self.wrong))))
        result = f"FAILED (pytest's status {statuses})" if self.wrong else "passed"
        if self.missing:
            result = f"not here: {self.missing}"
        elif self.left and not self.wrong:
            result = "FAILED (something was left)"
        counts = (self.passed, len(self.failed), self.skipped, len(self.left))
        return [self.surrounding, *map(str, counts), f"{self.minutes:.1f}", result]


HEADER = ["surrounding", "passed", "failed", "skipped", "left", "minutes", "result"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and print the summary."""
    options = parse(arguments)
    if options.list:
        for name, what in SURROUNDINGS.items():
            print(f"{name:18} {what.about}")
        return 0
    print(f"random order: --seed {options.seed}", flush=True)
    outcomes = [run(name, options) for name in options.only]
    print_summary(outcomes)
    return 0 if all(outcome.good for outcome in outcomes) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    made = parser("tests.surroundings", __doc__, SURROUNDINGS)
    seed = int(time.time()) % 100_000
    made.add_argument("--seed", type=int, default=seed, help="of the random order")
    return made.parse_args(arguments)


def run(name: str, options: argparse.Namespace) -> Outcome:
    """Run the tests in one of the surroundings; their output goes where ours goes."""
    what = SURROUNDINGS[name]
    print(f"\n{name}: {what.about}", flush=True)
    missing = what.needs()
    if missing:
        return Outcome(name, missing=missing)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="detbench-tests-") as folder:
        os.chmod(folder, 0o711)  # a server that root may not run finds its files in there
        place = Place(Path(folder), what)
        before = place.files()
        wrong = [done for one in runs(what, options) if (done := place.pytest(one)) != 0]
        left = tuple([*place.processes(), *sorted(place.files() - before)])
        passed, skipped, failed = read(place.reports)
    minutes = (time.monotonic() - start) / 60
    return Outcome(name, passed, skipped, tuple(failed), tuple(wrong), left, minutes)


def runs(what: Surrounding, options: argparse.Namespace) -> Iterator[list[str]]:
    """Yield the arguments of each run of pytest."""
    workers = spread(options.workers)
    own = [word.format(seed=options.seed) for word in what.options]
    if not what.apart:
        yield [*own, *workers, *options.pytest]
        return
    named = [word for word in options.pytest if (ROOT / word.partition("::")[0]).exists()]
    others = [word for word in options.pytest if word not in named]
    for word in named or ["tests"]:
        path = ROOT / word
        files = sorted(path.rglob("test_*.py")) if path.is_dir() else [path]
        yield from ([*own, *others, str(file.relative_to(ROOT))] for file in files)


class Place:
    """A copy of the checkout, with a home and a folder for temporary files."""

    def __init__(self, folder: Path, what: Surrounding) -> None:
        self.what, self.mark, self.count = what, uuid.uuid4().hex, 0
        self.copy, self.home, self.temporary = folder / what.folder, folder / "home", folder / "tmp"
        self.reports, self.scratch = folder / "reports", folder / "pytest"
        for one in (self.home, self.temporary, self.reports, self.scratch):
            one.mkdir()
        for file in tracked():
            target = self.copy / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, target)
        if what.user is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, what.user, what.user)

    def pytest(self, arguments: Sequence[str]) -> int:
        """Run pytest and return its status; that nothing was chosen in a file is no failure."""
        self.count += 1
        command = [*self.what.prefix, sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
        command += ["--benchmark-disable", f"--basetemp={self.scratch / str(self.count)}"]
        command += [f"--junitxml={self.reports / f'{self.count}.xml'}", *arguments]
        status = subprocess.run(
            command,
            cwd=self.copy,
            env=self.environment(),
            user=self.what.user,
            group=self.what.user,
            extra_groups=None if self.what.user is None else [],
        ).returncode
        return 0 if status == 5 and self.what.apart else status

    def environment(self) -> dict[str, str]:
        """Return the variables of a run, without what the caller set for another one."""
        taken = ("LC_", "LANG", "XDG_", "TZ", "DETBENCH_", "MLFLOW_", "PYTHON", "PYTEST_")
        own = {key: value for key, value in os.environ.items() if not key.startswith(taken)}
        kept = {"DETBENCH_SHARED": os.environ.get("DETBENCH_SHARED", str(ROOT.parent / "shared"))}
        folders = {"HOME": str(self.home), "TMPDIR": str(self.temporary)}
        path = {"PYTHONPATH": str(self.copy), MARK: self.mark}
        return {**own, **kept, **USUAL, **folders, **path, **self.what.variables}

    def files(self) -> set[str]:
        """Return what stands where nothing may be left, each with its size and its last change."""
        found = set()
        for root in (self.copy, self.home, self.temporary):
            for path in root.rglob("*"):
                inside = path.relative_to(root.parent)
                if KEPT.isdisjoint(inside.parts) and not path.is_dir():
                    status = path.lstat()
                    found.add(f"{inside} ({status.st_size} bytes, {status.st_mtime_ns})")
            found |= {f"{path.relative_to(root.parent)}/" for path in folders_in(root)}
        if MEMORY.is_dir():
            found |= {str(path) for path in MEMORY.iterdir()}
        return found

    def processes(self) -> list[str]:
        """Return the processes that the run left, and end them."""
        until = time.monotonic() + SECONDS_TO_END
        while (found := list(marked(self.mark))) and time.monotonic() < until:
            time.sleep(0.1)
        for pid, _ in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return [f"process {pid}: {command}" for pid, command in found]


def tracked() -> list[str]:
    """Return the files of the checkout that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    names = filter(None, os.fsdecode(listed).split("\0"))
    return [name for name in names if (ROOT / name).is_file()]


def folders_in(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        if path.is_dir() and KEPT.isdisjoint(path.relative_to(root).parts):
            yield path


def marked(mark: str) -> Iterator[tuple[int, str]]:
    """Yield the living processes of a run, wherever they went and whoever began them."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes():
                words = (folder / "cmdline").read_bytes().split(b"\0")
                yield int(folder.name), os.fsdecode(b" ".join(words)).strip()


def print_summary(outcomes: Sequence[Outcome]) -> None:
    """Print a table, and below it what failed and what was left."""
    print_table([HEADER, *(outcome.row() for outcome in outcomes)])
    for outcome in outcomes:
        for name in outcome.failed:
            print(f"{outcome.surrounding}: failed: {name}")
        for name in outcome.left:
            print(f"{outcome.surrounding}: left: {name}")


if __name__ == "__main__":
    sys.exit(main())
