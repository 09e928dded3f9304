"""What benchmarks cost beside a peer or an empty Python, now and when it was last written down.

    pytest tests/benchmarks --benchmark-only --benchmark-json=now.json
    python -m tests.benchmarks.baseline now.json           # shows both; 1 if one has doubled
    python -m tests.benchmarks.baseline now.json --keep    # writes down what there is now

Only ratios of one run are kept, in `baseline.json`: one machine's seconds tell nothing of another.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).with_name("baseline.json")
MOST = 2.0  # times what is stored


def stored() -> dict[str, float]:
    """Return the ratios that are written down, by the names of benchmarks."""
    found: dict[str, float] = json.loads(FILE.read_text("utf-8"))
    return found


def ratios(file: Path) -> dict[str, float]:
    """Return the ratios of a run, from what pytest-benchmark wrote with `--benchmark-json`."""
    held = json.loads(file.read_text("utf-8"))["benchmarks"]
    return {
        item["name"]: item["extra_info"]["ratio"] for item in held if "ratio" in item["extra_info"]
    }


def doubled(now: Mapping[str, float], before: Mapping[str, float]) -> list[str]:
    """Return the names of what takes more than `MOST` times what it took."""
    return [name for name, ratio in now.items() if ratio > MOST * before.get(name, ratio)]


def main(arguments: list[str] | None = None) -> int:
    """Read the command line; return 1 when something has doubled."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.baseline")
    parser.add_argument("file", type=Path, help="what pytest-benchmark wrote")
    parser.add_argument("--keep", action="store_true", help="write down what there is now")
    given = parser.parse_args(arguments)
    now, before = ratios(given.file), stored() if FILE.exists() else {}
    if given.keep:
        text = json.dumps(
            {name: round(ratio, 2) for name, ratio in (before | now).items()}, indent=1
        )
        FILE.write_text(text + "\n", "utf-8")
        return 0
    wrong = doubled(now, before)
    for name, ratio in now.items():
        then = f"{before[name]:8.2f}" if name in before else "     new"
        print(f"{ratio:8.2f} {then}  {name}{'  DOUBLED' if name in wrong else ''}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
