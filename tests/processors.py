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

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from harness.machine.environment import capture
from tests.reruns import ROOT, USUAL, parser, print_table, read, spread

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
    options = parser("tests.processors", __doc__, IMITATIONS).parse_args(arguments)
    if options.list:
        for name, variables in IMITATIONS.items():
            print(f"{name:16}", *(f"{key}={value}" for key, value in variables.items()))
        return 0
    print(f"{capture('cpu')['cpu'].get('model')}, torch {torch.__version__}", flush=True)
    outcomes = [run(name, options.workers, options.pytest) for name in options.only]
    print_summary(outcomes)
    return 0 if all(outcome.good for outcome in outcomes) else 1


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
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["--benchmark-disable", f"--junitxml={report}", *spread(workers), *extra]
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "pytest", *options], cwd=ROOT, env=variables)
        minutes = (time.monotonic() - start) / 60
        passed, skipped, failed = read(Path(folder))
    return Outcome(name, kernels, threads, passed, skipped, failed, done.returncode, minutes)


def print_summary(outcomes: Sequence[Outcome]) -> None:
    """Print a row per imitation and the tests that failed."""
    print_table([HEADER, *(outcome.row() for outcome in outcomes)])
    for outcome in outcomes:
        for test in outcome.failed:
            print(f"{outcome.imitation}: {test}")


if __name__ == "__main__":
    sys.exit(main())
