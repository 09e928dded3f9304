"""`detbench reproduce`: published tables beside what is counted and measured here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.analysis.reproduce import tables, writers
from harness.analysis.reproduce.cells import Result, Sources, judge, wanted
from harness.analysis.reproduce.counts import Counts
from harness.analysis.reproduce.finished import Finished
from harness.analysis.reproduce.images import OverImages
from harness.analysis.reproduce.schema import Table
from harness.analysis.reproduce.status import status
from harness.analysis.reproduce.trials import Asked, rehearsal
from harness.analysis.reproduce.writers import Noted
from harness.cli import console
from harness.cli.board import Board
from harness.cli.console import print_json
from harness.cli.expenses import Expenses
from harness.cli.folders import PAGE
from harness.cli.models import get_weights
from harness.cli.plain import PlainConsole
from harness.cli.run import Options as RunOptions
from harness.cli.run import carry_out
from harness.machine import environment
from harness.records import record
from harness.records.progress import Progress
from harness.study import Study, StudyError, expand
from harness.study.study import Given

STATUS = "STATUS.md"


@dataclass(frozen=True)
class Options:
    """Where figures come from and go to."""

    given: Given  # what the command line changes in the studies
    rehearse: bool  # whether small studies stand in for those of the tables
    run: RunOptions | None  # how what is missing is run; None to run nothing
    runs: Path
    keep_stale: bool
    out: Path | None  # folder for the tables, or a page on all of them; None to write none


def reproduce(name: str, options: Options, *, as_json: bool) -> int:
    """Print published tables with a verdict for each cell, and write them down.

    Args:
        name: of a table, a paper, or `all`.
        options: where figures come from and go to.
        as_json: whether to print JSON.
    """
    chosen, out = tables.named(name), options.out
    if out is not None:
        record.make_folder(out.parent if out.suffix == PAGE else out)
    failed = _run_missing(chosen, options) if options.run is not None else 0
    results, notes = _judged(chosen, options)
    facts: Mapping[str, Any] = environment.capture("cpu").get("git") or {}
    found = writers.plain(name, results, facts.get("commit"))
    if out is not None and out.suffix == PAGE:
        record.write_whole(out, status(results))
    elif out is not None:
        _write(out, results, found)
    if as_json:
        print_json({**found, "notes": notes})
    else:
        _show(results, notes, found["counts"])
    return failed


def _judged(chosen: Sequence[Table], options: Options) -> tuple[list[Result], list[str]]:
    """Judge tables, and say what is to be known of the records."""
    finished = Finished(options.runs, keep_stale=options.keep_stale)
    over_images = None if options.keep_stale else OverImages(options.runs)
    counted: dict[str, Counts] = {}
    results = []
    with Board(console.stderr()) as board:
        board.begin("reproduce", "reproduce", None)
        for number, table in enumerate(chosen):
            board.update("reproduce", Progress("tables", number, len(chosen), {}))
            sources = _sources(table, finished, options)._replace(over_images=over_images)
            results.append(judge(table, sources, counted))
    return results, list(finished.notes)


def _sources(table: Table, finished: Finished, options: Options) -> Sources:
    """Say where the measured figures of a table come from."""
    small = rehearsal(table, options.given) if options.rehearse else None
    expenses = Expenses(options.runs, options.given, small)
    return Sources(finished, expenses, options.given, small)


def _run_missing(chosen: Sequence[Table], options: Options) -> int:
    """Run the trials that cells need and that were not run, as `detbench run` does.

    Returns:
        The exit status of those runs.
    """
    assert options.run is not None
    failed = 0
    for table in chosen:
        finished = Finished(options.runs, keep_stale=options.keep_stale)
        sources = _sources(table, finished, options)
        if options.rehearse and sources.rehearsal is None:
            continue  # the table's own study takes days
        missing: dict[int, list[Asked]] = {}
        for one in wanted(table, sources):
            seeds = {item.seed for item in finished.of(one)}
            if not seeds.issuperset(one.study.seeds):
                missing.setdefault(id(one.study), []).append(one)
        for asked in missing.values():
            study = asked[0].study
            _get_weights(study)
            only = _only(study, {one.name for one in asked})
            failed |= carry_out(study, replace(options.run, only=only)).status
    return failed


def _get_weights(study: Study) -> None:
    """Download the weights of a study; the trials of one that cannot be had fail by themselves."""
    try:
        get_weights(study)
    except StudyError as error:
        text = f"note: {error}; other trials run"
        console.stderr().print(text, markup=False, soft_wrap=True)


def _only(study: Study, names: set[str]) -> list[str]:
    """Return the trials to run; none where these are all that the study has."""
    specs = expand(study)
    if {spec.name for spec in specs} == names:
        return []
    return [spec.trial for spec in specs if spec.name in names]


def _write(folder: Path, results: Sequence[Result], found: Mapping[str, Any]) -> None:
    """Write each table in four forms, and how far all of them are where there are several."""
    for result in results:
        name = result.table.id.replace("/", "_")
        own = writers.plain(result.table.id, [result], found["commit"])
        for ending, text in (
            ("md", writers.markdown(result)),
            ("tex", writers.latex(result)),
            ("csv", writers.to_csv([result])),
            ("json", json.dumps(own, indent=1) + "\n"),
        ):
            record.write_whole(folder / f"{name}.{ending}", text)
    if len(results) > 1:
        record.write_whole(folder / STATUS, status(results))


def _show(results: Sequence[Result], notes: Sequence[str], counts: Mapping[str, int]) -> None:
    """Print tables, one below the other."""
    out = console.stdout()
    for result in results:
        _say(out, [f"{result.table.id}: {result.table.title}", *writers.about(result)])
        if result.cells:
            _print(out, writers.CELLS, writers.cells(result))
        if result.comparisons:
            _print(out, writers.PAIRS, writers.pairs(result), "comparisons between rows")
        _say(out, [*(f"{word}: {told}" for word, told in writers.key([result]).items()), ""])
    _say(out, [f"note: {text}" for text in notes])
    if len(results) > 1:
        told = ", ".join(f"{count} {word}" for word, count in counts.items())
        _say(out, [f"{len(results)} tables, {sum(counts.values())} cells: {told}"])


def _print(out: PlainConsole, columns: Mapping[str, str], found: Noted, title: str = "") -> None:
    out.print(console.table(columns, found.rows, title))
    _say(out, [f"{number}: {text}" for number, text in enumerate(found.notes, 1)])


def _say(out: PlainConsole, lines: Sequence[str]) -> None:
    for line in lines:
        out.print(line, markup=False, highlight=False)
