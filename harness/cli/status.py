"""`detbench status`: how far a study is, who runs what, and what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.cli import answers, console, named, versions
from harness.cli.console import print_json
from harness.cli.versions import Asked
from harness.engine import status as engine_status
from harness.records import Record, latencies, record
from harness.trials import stale

COLUMNS = {"name": "trial", "seed": "seed", "phase": "phase", "share": "of it", "mAP": "mAP"}
COLUMNS |= {"eta": "ETA", "since": "since", "owner": "run by"}
FINISHED = {"trial": "folder", "name": "trial", "seed": "seed"}
FIGURES = {"mAP": "mAP", "params": "params (M)", "latency_ms": "latency (ms)"}
SHOWN = 40  # finished trials that a terminal shows


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
    folder = named.folder_of(name, out)
    if folder is not None:
        title, asked = folder.resolve().name, versions.of_folder(folder)
        total = asked.snapshot.total if asked.snapshot else 0
    else:
        study = versions.load(name, out, data_name, sets)
        title, folder = study.name, out / study.name
        asked = versions.of_study(study, folder)
        total = study.search.trials if study.search else len(study.variants()) * len(study.seeds)
    found = engine_status.status(title, total, folder, storage, asked.holds)
    found["out_of_date"] = [item.told() for item in asked.out_of_date]
    found["earlier"] -= len(asked.out_of_date)
    records = [one for one in record.read_all(folder) if asked.holds(one)]
    found["finished"] = [_finished(one) for one in records if one.state == "done"]
    found["answer"] = _answer(asked, records, folder, found["counts"])
    notes = [asked.unsure, versions.left_out(found["earlier"])]
    print_json({"study": title, **found}) if as_json else _show(title, found, notes)
    return 0


def _finished(one: Record) -> dict[str, Any]:
    """Name a finished trial with its main figures; a time that is only rough is left out."""
    known = latencies.firm(one)
    return {"trial": one.trial, "name": one.name, "seed": one.seed} | {
        key: known[key] for key in FIGURES if key in known
    }


def _answer(
    asked: Asked, records: Sequence[Record], folder: Path, counts: Mapping[str, int]
) -> str:
    """Say what the study came to, or so far where trials are missing."""
    total = sum(counts.values()) if counts["running"] or counts["waiting"] else None
    return answers.of(asked.snapshot, records, folder, total=total)


def _show(name: str, found: Mapping[str, Any], notes: Sequence[str]) -> None:
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
    for note in filter(None, notes):
        out.print(note, markup=False, highlight=False)
    if found["finished"]:
        _show_finished(found["finished"])
    out.print(f"answer: {found['answer']}", markup=False, highlight=False)


def _show_finished(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the finished trials, those that were started last."""
    out, last = console.stdout(), rows[-SHOWN:]
    measured = {key: head for key, head in FIGURES.items() if any(key in row for row in last)}
    out.print(console.table(FINISHED | measured, last, "finished"))
    if len(rows) > len(last):
        out.print(f"{len(rows) - len(last)} earlier ones: --json", markup=False, highlight=False)


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    done, total, left = item.get("done"), item.get("total"), item.get("eta_s")
    return {
        **item,
        "share": f"{100 * done / total:.0f} %" if done is not None and total else None,
        "eta": None if left is None else console.clock(left),
        "since": None if item["seconds"] is None else console.clock(item["seconds"]),
        "owner": f"{item['owner']}, dead" if item["owner_is_dead"] else item["owner"],
    }
