"""Find out on a machine with a GPU, in a given time, what can be found out there.

    python -m tests.device --minutes 8 --device cuda:0 --out DIR

Steps are done in the order of their worth, each in processes of its own and within a time of its
own. What a step has found is in DIR once it ends, so that whoever stops this at any moment has what
was done until then: `summary.json`, `records.tar`, `report.html` and `log.txt`, four files, at most
16 MB each. `python -m tests.device.keep DIR FOLDER` makes a folder of reports/measured of them.
Nothing here needs a network, or MLflow.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.device import plan, results, running
from tests.device.plan import Job
from tests.device.results import Summary

RESERVE_SECONDS = 3.0  # at the end, to write
LEAST_SECONDS = 5.0  # below which no step is begun


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what there is time for; the exit status is 1 if a step failed."""
    begun = time.monotonic()
    given = _parser().parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="detbench-device-") as scratch:
        job = _job(given, Path(scratch))
        todo = [step for step in plan.steps(job) if not given.only or step.name in given.only]
        summary = Summary.begin(job, todo, given.minutes, given.out)
        for step in todo:
            left = given.minutes * 60 - RESERVE_SECONDS - (time.monotonic() - begun)
            limit = min(step.share * given.minutes * 60, left)
            summary.began(step, limit)
            if step.lacks:
                summary.ended(step, running.Ending("absent", step.lacks, 0.0))
            elif limit < LEAST_SECONDS:
                summary.ended(step, running.Ending("cut", "no time was left for it", 0.0))
            else:
                found = job.out / step.name
                found.mkdir()
                ending = running.run(step, limit, given.out / results.LOG)
                summary.ended(step, ending, found)
    print((given.out / results.SUMMARY).read_text("utf-8"))
    return int(summary.any_failed())


def _job(given: argparse.Namespace, scratch: Path) -> Job:
    """Say what there is to be done; what was carried along is used, where it is there."""
    data = given.photographs
    return Job(
        device=given.device,
        data=str(data) if data is not None and data.is_dir() else "shapes",
        out=scratch,
        weights=given.weights,
        models=tuple(given.models),
        size=given.size,
        seconds=given.seconds,
        each=given.each,
    )


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m tests.device",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--minutes", type=float, default=8.0, help="for all steps; 8 if not given")
    made.add_argument("--device", default="cuda:0", help="cuda:0 if not given, or cpu")
    made.add_argument("--out", type=Path, required=True, help="folder for what comes back")
    made.add_argument(
        "--photographs", type=Path, help="a folder in COCO layout; rendered scenes if not there"
    )
    made.add_argument("--weights", type=Path, help="a folder of ours, of a network that detects")
    made.add_argument("--only", nargs="+", default=[], metavar="STEP", help="in place of all")
    made.add_argument("--models", nargs="+", default=[], help="in place of all")
    made.add_argument("--size", type=int, default=640, help="of the inputs, pixels")
    made.add_argument("--seconds", type=float, default=2.0, help="for the calls of each model")
    made.add_argument(
        "--each", type=float, default=10.0, help="seconds in which each model has to run once"
    )
    return made


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
