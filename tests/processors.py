"""Run the tests as other processors would compute them: `python -m tests.processors`.

Libraries choose among kernels by what the processor can do: PyTorch's own by instruction set, those
of oneDNN and MKL too, and all of them split sums by the number of threads. Environment variables
make them choose as they would elsewhere. The tests run once under each choice:

    python -m tests.processors                        # all, as tox runs the tests: two processes
    python -m tests.processors --list
    python -m tests.processors --only onednn-sse41 threads-4
    python -m tests.processors --workers 0 -- tests/detectors -k "golden or denoising or parity"

A variable takes away instructions and adds none: what a processor lacks is not imitated. A summary
ends the output; the exit status is 1 if any test failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import torch

from harness.machine.environment import capture

ROOT = Path(__file__).resolve().parents[1]
USUAL = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}  # as tox sets them
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}  # more threads than cores do not spin in each other's way
IMITATIONS = {
    "aten-default": {"ATEN_CPU_CAPABILITY": "default"},
    "aten-avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "onednn-sse41": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "onednn-avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "mkl-compatible": {"MKL_CBWR": "COMPATIBLE"},
    "threads-1": {"OMP_NUM_THREADS": "1"},
    "threads-2": {"OMP_NUM_THREADS": "2", **PATIENT},
    "threads-4": {"OMP_NUM_THREADS": "4", **PATIENT},
}
VARIABLES = {name for variables in IMITATIONS.values() for name in variables}
ASK_TORCH = (
    "import torch; print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), sep=',')"
)


class Outcome(NamedTuple):
    imitation: str
    kernels: str  # of PyTorch's own operators, as PyTorch names them
    threads: str
    passed: int
    skipped: int
    failed: list[str]  # names of tests
    status: int  # of pytest
    minutes: float

    @property
    def good(self) -> bool:
        return self.status == 0

    def row(self) -> list[str]:
        result = "passed" if self.good else f"FAILED (pytest's status {self.status})"
        counts = (self.passed, len(self.failed), self.skipped)
        return [
            *(self.imitation, self.kernels, self.threads, *map(str, counts)),
            *(f"{self.minutes:.1f}", result),
        ]


HEADER = ["imitation", "kernels", "threads", "passed", "failed", "skipped", "minutes", "result"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and print the summary."""
    options = parse(arguments)
    if options.list:
        for name, variables in IMITATIONS.items():
            print(f"{name:16}", *(f"{key}={value}" for key, value in variables.items()))
        return 0
    print(f"{capture('cpu')['cpu'].get('model')}, torch {torch.__version__}", flush=True)
    outcomes = [run(name, options.workers, options.pytest) for name in options.only]
    print_summary(outcomes)
    return 0 if all(outcome.good for outcome in outcomes) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.processors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--list", action="store_true", help="print the imitations and stop")
    parser.add_argument(
        *("--only", "-o"),
        nargs="+",
        choices=IMITATIONS,
        default=list(IMITATIONS),
        metavar="NAME",
        help="imitations to run, in this order; all if not given",
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="processes of pytest-xdist, 0 for none; 2 as in tox"
    )
    parser.add_argument("pytest", nargs="*", metavar="-- ARGUMENT", help="given to pytest")
    return parser.parse_args(arguments)


def environment(variables: dict[str, str]) -> dict[str, str]:
    """Return the environment of an imitation, without what the caller set for another one."""
    own = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {**own, **USUAL, **variables}


def ask_torch(variables: dict[str, str]) -> tuple[str, str]:
    """Return the kernels that PyTorch chooses in an environment, and its number of threads."""
    command = [sys.executable, "-c", ASK_TORCH]
    done = subprocess.run(
        command, cwd=ROOT, env=variables, check=True, stdout=subprocess.PIPE, text=True
    )
    kernels, threads = done.stdout.strip().split(",")
    return kernels, threads


def run(name: str, workers: int, extra: Sequence[str]) -> Outcome:
    """Run the tests under one imitation; their output goes where ours goes."""
    variables = environment(IMITATIONS[name])
    kernels, threads = ask_torch(variables)
    print(f"\n{name}:", *(f"{key}={value}" for key, value in IMITATIONS[name].items()), flush=True)
    spread = ["-n", str(workers), "--dist", "loadfile"] if workers else []
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["--benchmark-disable", f"--junitxml={report}", *spread, *extra]
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "pytest", *options], cwd=ROOT, env=variables)
        minutes = (time.monotonic() - start) / 60
        passed, skipped, failed = read(report)
    return Outcome(name, kernels, threads, passed, skipped, failed, done.returncode, minutes)


def read(report: Path) -> tuple[int, int, list[str]]:
    """Return how many tests passed, how many were skipped, and the names of those that failed."""
    passed, skipped, failed = 0, 0, []
    cases = ElementTree.parse(report).iter("testcase") if report.is_file() else ()
    for case in cases:
        if {"failure", "error"} & {part.tag for part in case}:
            failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, skipped, failed


def print_summary(outcomes: Sequence[Outcome]) -> None:
    """Print a row per imitation and the tests that failed."""
    rows = [HEADER, *(outcome.row() for outcome in outcomes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print(
            "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    for outcome in outcomes:
        for test in outcome.failed:
            print(f"{outcome.imitation}: {test}")


if __name__ == "__main__":
    sys.exit(main())
