"""`detbench report`: write pages from records."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.cli import answers, findings, named, verdicts, versions
from harness.cli.console import print_json
from harness.cli.text import say, visible
from harness.cli.versions import Asked
from harness.records import Record, record
from harness.records.goals import Goal
from harness.study import StudyError
from harness.trials import stale

if TYPE_CHECKING:
    from reports.findings import Findings


class Extras(NamedTuple):
    """What is written for papers beside each page."""

    tables: bool = False
    figures: bool = False


def report(
    names: Sequence[str],
    out: Path,
    runs: Path,
    *,
    mixed: bool = False,
    earlier: bool = False,
    keep_stale: bool = False,
    extras: Extras | None = None,
    plotly: Path | None = None,
    as_json: bool,
) -> int:
    """Write pages from the records of studies as their files are now.

    Args:
        names: studies, or folders of records.
        out: folder for the pages.
        runs: folder of the records.
        mixed: allow unlike protocols.
        earlier: show the trials of earlier versions of a study, too, in a table of their own.
        keep_stale: let finished trials of other code stand in, marked, for those of a study's name.
        extras: what is written beside each page: `STUDY.tex`, `.md`, `.csv`; `STUDY-figures/`.
        plotly: a plotly.min.js that the pages share; None to have it in each.
        as_json: print JSON.

    Raises:
        StudyError: there are no records.
        StaticError: figures cannot be drawn here.
        MixedProtocols: they were measured differently, and `mixed` does not allow it.
    """
    from reports import designs, site  # slow to import

    pages: list[str] = []
    lines: list[str] = []
    for name in names:
        folder, asked = _asked(name, runs)
        records, shown, others, apart = _sorted_out(folder, asked, keep_stale=keep_stale)
        if not shown and not earlier:
            option = "--keep-stale" if asked.out_of_date else "--earlier"
            raise StudyError(
                f"{folder}: none of {len(records)} records is of the study as its file and code are"
                f" now; run the study, or {option} shows them"
            )
        file = record.make_folder(out) / f"{records[0].study}.html"
        if str(file) in pages:
            raise StudyError(f"{folder}: {file} was just written from another folder of that study")
        study, goal = asked.snapshot, answers.goal_of(asked.snapshot, shown)
        beside = findings.of(study, shown, folder, _warn)
        answer = answers.of(study, shown, folder)
        page = site.write(
            shown,
            file,
            title=records[0].study,
            question=study.question if study else "",
            source=study.source if study else "",
            answer=answer,
            goal=goal,
            mixed=mixed,
            verdicts=verdicts.on_latency(shown),
            findings=beside,
            earlier=apart if earlier else [],
            notes=list(filter(None, [] if earlier else [versions.left_out(len(others))])),
            plotly=plotly,
        )
        written = [page, *_for_papers(shown, page, goal, beside, extras or Extras())]
        pages += map(str, written)
        lines += [*map(str, written), *designs.summary(shown, goal), f"answer: {answer}"]
        told = [] if keep_stale or earlier else [item.told() for item in asked.out_of_date]
        notes = [asked.unsure, versions.left_out(0 if earlier else len(others)), *stale.lines(told)]
        for text in filter(None, notes):
            _warn(text)
    print_json(pages) if as_json else say("\n".join(lines))
    return 0


def _warn(text: str) -> None:
    print(visible(text), file=sys.stderr)


def _for_papers(
    records: list[Record], page: Path, goal: Goal | None, beside: Findings, extras: Extras
) -> list[Path]:
    """Write a page's tables and figures for papers beside it."""
    from reports import panels, paper, static, tables  # slow to import

    found = []
    if extras.tables:
        table = paper.paper(records, records[0].study if records else page.stem)
        files = {
            ".tex": paper.to_latex(table),
            ".md": paper.to_markdown(table),
            ".csv": tables.to_csv(tables.trial_rows(records, verdicts.on_latency(records))),
        }
        found += [record.write_whole(page.with_suffix(e), text) for e, text in files.items()]
    if extras.figures:
        folder = page.with_name(f"{page.stem}-figures")
        found += static.write(panels.panels(records, goal, findings=beside), folder)
    return found


class _Sorted(NamedTuple):
    """The records of a study's folder."""

    records: list[Record]  # all of them
    shown: list[Record]  # that the study asks for
    others: list[Record]  # of earlier versions of its file
    apart: list[Record]  # these, and those that are out of date: for a table of their own


def _sorted_out(folder: Path, asked: Asked, *, keep_stale: bool) -> _Sorted:
    """Read a folder's records, and tell those that a study asks for from the others.

    Raises:
        StudyError: there are none.
    """
    records = record.read_all(folder) if folder.is_dir() else []
    if not records:
        raise named.without_records(folder)
    shown, others = asked.split(records)
    if keep_stale:
        stand_ins = [item.stand_in() for item in asked.out_of_date]
        return _Sorted(records, [*shown, *stand_ins], others, list(others))
    out_of_date = [item.record for item in asked.out_of_date]
    return _Sorted(records, shown, others, [*others, *out_of_date])


def _asked(name: str, runs: Path) -> tuple[Path, Asked]:
    """Return the folder of a study's records, and what the study asks for."""
    known = named.folder_of(name, runs)
    if known is not None:
        return known, versions.of_folder(known)
    study = versions.load(name, runs)
    folder = runs / study.name
    return folder, versions.of_study(study, folder)
