"""The commands about studies: what each does once its arguments are read."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import console, locks, plan, record, runner, tracking
from harness import study as studies
from harness.console import Board, print_json
from harness.record import Record
from harness.runner import Event, Summary
from harness.study import Study, StudyError

PAGE = "report.html"


@dataclass(frozen=True)
class Options:
    """How a study is run, as against what it is."""

    device: str
    out: Path
    workers: int
    tracker: str | None  # MLflow's URI; None for none
    report: bool


def run(
    name: str, data_name: str | None, sets: Sequence[str], options: Options, *, as_json: bool
) -> int:
    """Run a study, log it, write its page, and print its table."""
    study = studies.load(name, data=data_name, sets=sets)
    specs = studies.expand(study)
    folder = options.out / study.name
    with Board(console.stderr(), len(specs)) as board:
        with _tracker(study, options, board.say) as track:

            def handle(event: Event) -> None:
                board.handle(event)
                if event.record is not None:
                    track(event.record, folder / event.spec.trial)

            summary = runner.run(
                specs,
                out=options.out,
                device=options.device,
                workers=options.workers,
                on_event=handle,
            )
        page = _page(study, summary.records, folder / PAGE, board.say) if options.report else None
    _show(study, summary, folder, page, as_json=as_json)
    return 1 if summary.failed else 0


@contextmanager
def _tracker(
    study: Study, options: Options, warn: Callable[[str], None]
) -> Iterator[Callable[[Record, Path], None]]:
    """Log in a thread of its own, so that neither MLflow's import nor its absence is waited for."""
    if options.tracker is None:
        yield lambda result, folder: None
        return
    uri, device, warned = options.tracker, options.device, [False]

    def attempt(work: Callable[[], object]) -> None:
        try:
            with locks.working(device):
                work()
        except Exception as error:  # whatever a tracker raises, the study goes on
            if not warned[0]:
                text = " ".join(str(error).split())[:300]
                warn(f"MLflow at {uri} is away ({text}); the next run logs what is missing")
            warned[0] = True

    def track(result: Record, folder: Path) -> None:
        if not tracking.is_logged(folder, uri):
            thread.submit(attempt, lambda: tracking.log(result, folder, uri))

    with ThreadPoolExecutor(1) as thread:
        thread.submit(attempt, lambda: tracking.close_stale(study.name, uri))
        yield track


def _page(
    study: Study, records: list[Record], file: Path, warn: Callable[[str], None]
) -> Path | None:
    """Write the study's page; a page that fails does not take the records with it."""
    from reports import site

    try:
        command = shlex.join(["detbench", *sys.argv[1:]])
        return site.write(
            records,
            file,
            title=study.name,
            question=study.question,
            source=study.source or "",
            command=command,
        )
    except Exception as error:
        warn(f"the page could not be written: {type(error).__name__}: {error}")
        return None


def _show(
    study: Study, summary: Summary, folder: Path, page: Path | None, *, as_json: bool
) -> None:
    if as_json:
        fields = {"trial", "name", "detector", "seed", "overrides", "state", "failure", "metrics"}
        trials = [
            {
                **item.model_dump(mode="json", include=fields | {"absent", "caveats"}),
                "record": str(folder / item.trial / record.FILE),
            }
            for item in summary.records
        ]
        skipped, report = summary.skipped, str(page) if page else None
        print_json({"study": study.name, "skipped": skipped, "trials": trials, "report": report})
        return
    from reports import tables

    out = console.stdout()
    out.print(console.trials(tables.trial_rows(summary.records), study.question or study.name))
    out.print(f"records: {folder}", markup=False, highlight=False)
    if page:
        out.print(f"page:    {page}", markup=False, highlight=False)


def check(
    names: Sequence[str],
    data_name: str | None,
    sets: Sequence[str],
    out: Path,
    *,
    as_json: bool,
) -> int:
    """Print what studies would do and cost."""
    results = []
    for name in names:
        study = studies.load(name, data=data_name, sets=sets)
        planned = plan.plan(studies.expand(study), out)
        cost = plan.cost(planned, out)
        results.append(_plan_summary(study, planned, cost))
        if not as_json:
            _show_plan(study, planned, results[-1])
    if as_json:
        print_json(results)
    return 0


def _plan_summary(study: Study, planned: list[plan.Planned], cost: plan.Cost) -> dict[str, Any]:
    left = [item for item in planned if not item.stands]
    return {
        "study": study.name,
        "trials": [_plan_row(item) for item in planned],
        "stand_already": len(planned) - len(left),
        "trainings": sum(item.epochs > 0 for item in left),
        "images_an_epoch": max((item.images for item in left), default=0),
        "steps": sum(item.steps for item in left),
        "training_macs": sum(item.training_macs for item in left),
        "training_seconds": cost.seconds,
        "basis": cost.basis,
    }


def _plan_row(item: plan.Planned) -> dict[str, Any]:
    row = {"trial": item.spec.trial, "name": item.spec.name, "seed": item.spec.seed}
    row |= {"params": item.params, "macs": item.macs, "steps": item.steps}
    return row | {"stands": item.stands}


def _show_plan(study: Study, planned: list[plan.Planned], summary: Mapping[str, Any]) -> None:
    columns = {"trial": "trial", "name": "name", "seed": "seed", "params": "params (M)"}
    columns |= {"macs": "MACs (G)", "steps": "steps", "stands": "done"}
    rows = [row | {"stands": "yes" if row["stands"] else "no"} for row in summary["trials"]]
    recipe = f", recipe {study.recipe}" if study.recipe else ""
    out = console.stdout()
    for line in (
        f"{study.name}: {study.question}".removesuffix(": "),
        f"{study.detector} on {study.data}{recipe}; measures {', '.join(study.measure)}",
    ):
        out.print(line, markup=False, highlight=False)
    out.print(console.table(columns, rows))
    for line in (
        f"{len(planned)} trials, {summary['stand_already']} of them done; "
        f"{summary['trainings']} trainings of {summary['images_an_epoch']} images an epoch, "
        f"{summary['steps']} steps",
        f"training: {summary['training_macs']:.3g} MACs (forward, and twice that backward)",
        f"time: {_time(summary)}\n",
    ):
        out.print(line, markup=False, highlight=False)


def _time(summary: Mapping[str, Any]) -> str:
    """Say how long the trainings that are left will take, and how that is known."""
    seconds, basis = summary["training_seconds"], summary["basis"]
    return f"about {console.clock(seconds)} on this machine ({basis})" if seconds else str(basis)


def report(
    names: Sequence[str], out: Path, runs: Path, *, mixed: bool = False, as_json: bool
) -> int:
    """Write pages from records that stand.

    Raises:
        StudyError: there are no records.
        MixedProtocols: they were measured differently, and `mixed` does not allow it.
    """
    from reports import site

    pages = []
    for name in names:
        folder = Path(name)
        study = None if folder.is_dir() else studies.load(name)
        folder = folder if study is None else runs / study.name
        records = record.read_all(folder) if folder.is_dir() else []
        if not records:
            raise StudyError(f"{folder}: no records there; run the study first")
        title = records[0].study
        question, source = (study.question, study.source or "") if study else ("", "")
        file = record.make_folder(out) / f"{title}.html"
        page = site.write(records, file, title=title, question=question, source=source, mixed=mixed)
        pages.append(str(page))
    print_json(pages) if as_json else print("\n".join(pages))
    return 0
