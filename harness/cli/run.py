"""`detbench run`: run a study, log it, write its page, and print its table."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from harness import study as studies
from harness.cli import answers, console, findings, tracked, verdicts, versions
from harness.cli.board import Board
from harness.cli.console import print_json
from harness.cli.forecast import Forecast
from harness.cli.models import get_weights
from harness.config.secrets import masked
from harness.engine import agenda, devices, driver, ending
from harness.engine.agenda import Agenda
from harness.engine.driver import Place
from harness.engine.events import Event, Summary
from harness.engine.executor import Executor
from harness.engine.local import LocalExecutor
from harness.engine.ray import RayExecutor
from harness.records import ranking, record
from harness.study import Study, StudyError
from harness.study.specification import TrialSpec
from harness.trials import plan, stale

PAGE = "report.html"


@dataclass(frozen=True)
class Options:
    """How a study is run, as against what it is."""

    devices: Sequence[str]  # of the workers; of this machine if trials run elsewhere
    out: Path
    storage: str | None  # SQLAlchemy's URL; None for a file beside the records
    only: Sequence[str]  # beginnings of the hashes of the trials to run; empty for all
    tracker: str | None  # MLflow's URI; None for none
    report: bool
    cluster: Mapping[str, float] | None = None  # what a trial takes of a node of Ray; None for here
    workers: int | None = None  # trials at a time on a cluster; None for as many as fit
    keep_stale: bool = False  # whether finished trials of other code stand in
    fresh: bool = False  # whether what other versions of libraries computed is run again
    models: bool = True  # whether MLflow gets trained weights as models, too
    remeasure: bool = False  # whether to run nothing, and time what is finished once more


def run(
    name: str, data_name: str | None, sets: Sequence[str], options: Options, *, as_json: bool
) -> int:
    """Run a study, log it, write its page, and print its table."""
    if options.remeasure:
        study = versions.load(name, options.out, data_name, sets)
    else:
        study = studies.load(name, data=data_name, sets=sets)
        get_weights(study)
    done = carry_out(study, options)
    _show(study, done, options.out / study.name, as_json=as_json)
    _hint(done.summary)
    return done.status


class Done(NamedTuple):
    """What became of a study."""

    summary: Summary
    answer: str
    page: Path | None

    @property
    def status(self) -> int:
        """The exit status."""
        return 1 if self.summary.failed or self.summary.halted else 0


def carry_out(study: Study, options: Options) -> Done:
    """Run a study, log it and write its page."""
    todo = _renewed(agenda.of(study), options)
    options = _beside(todo, options)
    folder = options.out / study.name
    todo = _only(todo, options.only)
    with Board(console.stderr(), todo.total, _forecast(todo, options)) as board:
        if options.remeasure:
            summary = ending.finished(todo, folder)
        else:
            summary = _run(study, todo, options, board)
        summary = _timed_together(study, summary, options, board)
        answer = _answer(todo, summary, options)
        tracked.answer(answer, summary, folder, options.tracker, board.say)
        file = folder / PAGE
        page = _page(todo, summary, answer, file, board.say) if options.report else None
    return Done(summary, answer, page)


def _forecast(todo: Agenda, options: Options) -> Forecast:
    """Prepare to say how long the study will take yet."""

    def operations(specs: Sequence[TrialSpec]) -> dict[str, float]:
        try:
            planned = plan.plan(specs, options.out)
        except StudyError:  # a trial that cannot be built says so itself
            return {}
        return {item.spec.trial: float(item.trained_macs) for item in planned}

    slots = len(options.devices) if options.cluster is None else options.workers or 1
    return Forecast(todo.specs, todo.total, slots, operations)


def _run(study: Study, todo: Agenda, options: Options, board: Board) -> Summary:
    """Run what is left, and log it."""
    with _tracked(study, options, board.say) as tell:

        def handle(event: Event) -> None:
            board.handle(event)
            tell(event)

        place = Place(options.out, options.storage)
        return driver.run(todo, _executor(options), place, handle, board.say)


def _timed_together(study: Study, summary: Summary, options: Options, board: Board) -> Summary:
    """Time the finished trials together, and log what is new of them."""
    folder = options.out / study.name
    renewed = ending.time_together(
        study,
        summary,
        folder,
        None if options.cluster is not None else options.devices[0],
        all_over=not options.only,
        again=options.remeasure,
        watch=board.row,
        say=board.say,
    )
    if not renewed:
        return summary
    with _tracked(study, options, board.say) as tell:
        for item in renewed:
            tell(Event("finished", item.trial, record=item))
    new = {item.trial: item for item in renewed}
    return summary._replace(records=[new.get(item.trial, item) for item in summary.records])


def _renewed(todo: Agenda, options: Options) -> Agenda:
    """Let finished trials count, or not, whose code or libraries are not those of now."""
    todo = replace(todo, keep_stale=options.keep_stale, fresh=options.fresh)
    if not options.fresh:
        return todo
    before = todo.outdated
    return replace(todo, outdated=lambda found: before(found) or bool(stale.other_versions(found)))


def _executor(options: Options) -> Executor:
    """Return who carries the trials out.

    Raises:
        StudyError: no such cluster.
    """
    if options.cluster is None:
        return LocalExecutor(options.devices)
    return RayExecutor(options.cluster, options.workers)


def _beside(todo: Agenda, options: Options) -> Options:
    """Have the trials of a sweep run side by side, where one does not decide about another."""
    if options.workers is not None or todo.search is not None or todo.judge is not None:
        return options
    return replace(options, devices=devices.side_by_side(options.devices, todo.total))


def _only(todo: Agenda, wanted: Sequence[str]) -> Agenda:
    """Leave out the trials that were not asked for.

    Raises:
        StudyError: no trial's hash begins like that.
    """
    for text in wanted:
        if not any(spec.trial.startswith(text) for spec in todo.specs):
            known = ", ".join(spec.trial for spec in todo.specs) or "a search finds them as it goes"
            raise StudyError(f"--only {text}: no trial of {todo.study} begins so; {known}")
    if not wanted:
        return todo
    kept = [spec for spec in todo.specs if spec.trial.startswith(tuple(wanted))]
    return replace(todo, specs=kept, more=lambda records: ())


def _hint(summary: Summary) -> None:
    """Say on stderr what is missing, why, and how to run just that."""
    say = console.stderr().print
    if summary.earlier:
        say(versions.left_out(summary.earlier), markup=False, highlight=False)
    if summary.elsewhere:
        by_others = "1 trial is" if summary.elsewhere == 1 else f"{summary.elsewhere} trials are"
        say(f"{by_others} run by others", markup=False, highlight=False)
    causes = Counter(item.failure.cause for item in summary.failed if item.failure)
    if causes:
        counts = ", ".join(f"{count} by {cause}" for cause, count in causes.most_common())
        again = _command()  # all others stand
        say(f"failed: {counts}; to run just these again: {again}", markup=False, highlight=False)
    if summary.halted:
        say(f"stopped early: {summary.halted}", markup=False, highlight=False)


def _tracked(
    study: Study, options: Options, warn: Callable[[str], None]
) -> AbstractContextManager[tracked.Told]:
    """Have MLflow told of a study, if it is wanted."""
    folder, device = options.out / study.name, options.devices[0]
    return tracked.tracked(study, folder, options.tracker, device, warn, models=options.models)


def _answer(todo: Agenda, summary: Summary, options: Options) -> str:
    """Say what the study came to, or so far where trials are missing."""
    missing = summary.halted or summary.elsewhere or options.only
    total = todo.total if missing else None
    return answers.of(todo.snapshot, summary.records, options.out / todo.study, total=total)


def _command() -> str:
    """Return the command that runs, without passwords."""
    return shlex.join(["detbench", *(masked(text, text) for text in sys.argv[1:])])


def _page(
    todo: Agenda, summary: Summary, answer: str, file: Path, warn: Callable[[str], None]
) -> Path | None:
    """Write the study's page; a page that fails does not take the records with it."""
    from reports import site  # slow to import

    study, records = todo.snapshot, summary.records
    try:
        return site.write(
            records,
            file,
            title=todo.study,
            question=study.question if study else "",
            source=study.source if study else "",
            command=_command(),
            answer=answer,
            goal=answers.goal_of(study, records),
            verdicts=verdicts.on_latency(records),
            findings=findings.of(study, records, file.parent, warn),
            notes=list(filter(None, [versions.left_out(summary.earlier)])),
        )
    except Exception as error:
        warn(f"the page could not be written: {type(error).__name__}: {error}")
        return None


def _show(study: Study, done: Done, folder: Path, *, as_json: bool) -> None:
    summary, answer, page = done
    if as_json:
        fields = {
            "trial",
            "name",
            "detector",
            "seed",
            "overrides",
            "state",
            "failure",
            "stopped",
            "metrics",
        }
        trials = [
            {
                **item.model_dump(
                    mode="json", include=fields | {"failure", "stopped", "absent", "caveats"}
                ),
                "record": str(folder / item.trial / record.FILE),
            }
            for item in summary.records
        ]
        told: dict[str, Any] = {
            "study": study.name,
            "skipped": summary.skipped,
            "earlier": summary.earlier,
        }
        told |= {"answer": answer, "trials": trials, "report": str(page) if page else None}
        print_json(told)
        return
    from reports import tables  # slow to import

    out = console.stdout()
    rows = tables.trial_rows(summary.records, verdicts.on_latency(summary.records))
    out.print(console.trials(rows, study.question or study.name))
    for text in (*console.remarks(rows), *ranking.rank(summary.records).reasons):
        out.print(text, markup=False, highlight=False)
    out.print(f"records: {folder}", markup=False, highlight=False)
    if page:
        out.print(f"page:    {page}", markup=False, highlight=False)
    out.print(f"answer:  {answer}", markup=False, highlight=False)
