"""`detbench status`: how far a study is, who runs what, and what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import study as studies
from harness.cli import console
from harness.cli.console import print_json
from harness.engine import status as engine_status
from harness.trials import stale

COLUMNS = {"name": "trial", "seed": "seed", "phase": "phase", "share": "of it", "mAP": "mAP"}
COLUMNS |= {"eta": "ETA", "since": "since", "owner": "run by"}


def status(
    name: str,
    data_name: str | None,
    sets: Sequence[str],
    out: Path,
    storage: str | None,
    *,
    as_json: bool,
) -> int:
    """Print the state of a study; nothing is run."""
    study = studies.load(name, data=data_name, sets=sets)
    total = study.search.trials if study.search else len(study.variants()) * len(study.seeds)
    folder = out / study.name
    found = engine_status.status(study.name, total, folder, storage)
    found["out_of_date"] = [item.told() for item in stale.find(stale.asked(study, folder), folder)]
    print_json({"study": study.name, **found}) if as_json else _show(study.name, found)
    return 0


def _show(name: str, found: Mapping[str, Any]) -> None:
    out = console.stdout()
    counts = ", ".join(f"{number} {state}" for state, number in found["counts"].items() if number)
    left = f"; about {console.clock(found['eta_s'])} left" if "eta_s" in found else ""
    out.print(f"{name}: {counts or 'no trials'}{left}", markup=False, highlight=False)
    if found["running"]:
        out.print(console.table(COLUMNS, [_row(item) for item in found["running"]]))
    for line in stale.lines(found["out_of_date"]):
        out.print(line, markup=False, highlight=False)
    for item in found["failures"]:
        trials = ", ".join(item["trials"])
        line = f"failed by {item['cause']}: {trials}: {item['message']}"
        out.print(line, markup=False, highlight=False)


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    done, total, left = item.get("done"), item.get("total"), item.get("eta_s")
    return {
        **item,
        "share": f"{100 * done / total:.0f} %" if done is not None and total else None,
        "eta": None if left is None else console.clock(left),
        "since": None if item["seconds"] is None else console.clock(item["seconds"]),
        "owner": f"{item['owner']}, dead" if item["owner_is_dead"] else item["owner"],
    }
