"""`detbench report`: write pages from records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness import study as studies
from harness.cli.console import print_json
from harness.records import Record, latencies, record
from harness.study import Study, StudyError, constraints
from reports.search import Goal


def goal_of(study: Study | None, records: Sequence[Record]) -> Goal | None:
    """Say what a search looked for, and which trials are beyond its constraints."""
    if study is None or study.search is None:
        return None
    beyond = (r.trial for r in records if constraints.infeasible(latencies.firm(r), study.limits))
    return Goal(study.search.objectives, study.search.reference, frozenset(beyond))


def report(
    names: Sequence[str], out: Path, runs: Path, *, mixed: bool = False, as_json: bool
) -> int:
    """Write pages from records that stand.

    Raises:
        StudyError: there are no records.
        MixedProtocols: they were measured differently, and `mixed` does not allow it.
    """
    from reports import designs, site  # slow to import

    pages, lines = [], []
    for name in names:
        folder = Path(name)
        study = None if folder.is_dir() else studies.load(name)
        folder = folder if study is None else runs / study.name
        records = record.read_all(folder) if folder.is_dir() else []
        if not records:
            raise StudyError(f"{folder}: no records there; run the study first")
        title, goal = records[0].study, goal_of(study, records)
        file = record.make_folder(out) / f"{title}.html"
        question, source = (study.question, study.source or "") if study else ("", "")
        page = site.write(
            records,
            file,
            title=title,
            question=question,
            source=source,
            goal=goal,
            mixed=mixed,
        )
        pages.append(str(page))
        lines += [str(page), *designs.summary(records, goal)]
    print_json(pages) if as_json else print("\n".join(lines))
    return 0
