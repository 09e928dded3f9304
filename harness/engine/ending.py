"""The end of a study: its finished trials are timed together, and their records written anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from filelock import FileLock

from harness.config.yaml_source import StudyError
from harness.engine import interrupt
from harness.engine.agenda import Agenda
from harness.engine.events import Summary
from harness.records import Record, latencies
from harness.records.progress import OnProgress
from harness.study import Study
from harness.trials import folders, together
from harness.trials.together import Group

TURN = ".together.lock"  # held by the run that times a study's trials together

ALONE = "latencies are those of each trial alone"

Watch: TypeAlias = Callable[[str], AbstractContextManager[OnProgress]]
"""Shows something by its title as long as it lasts, and gives what to call at every step."""


def finished(agenda: Agenda, folder: Path) -> Summary:
    """Look up what stands of a study, and run nothing.

    Args:
        agenda: the study's.
        folder: of its records.

    Raises:
        StudyError: nothing does.
    """
    order = {spec.trial: place for place, spec in enumerate(agenda.specs)}
    standing = (folders.standing(folder, trial) for trial in folders.names(folder))
    found = [item for item in standing if item is not None and agenda.holds(item)]
    if not found:
        raise StudyError(f"{folder}: no trial of {agenda.study} is finished; run it first")
    found.sort(key=lambda item: order.get(item.trial, len(order)))
    return Summary(found, len(found))


def time_together(
    study: Study,
    summary: Summary,
    folder: Path,
    device: str | None,
    *,
    all_over: bool,
    again: bool,
    watch: Watch,
    say: Callable[[str], None],
) -> list[Record]:
    """Time the finished trials of a study together, unless that is done or cannot be.

    Args:
        study: that was run.
        summary: how its run went.
        folder: of its records.
        device: as torch spells it; None where the trials ran on a cluster.
        all_over: whether the run was of the whole study.
        again: whether trials that were timed together are to be timed once more, or a single one.
        watch: shows how far it is.
        say: is told in a line what was done, or why nothing could be.

    Returns:
        The records that are new, in the place of those of the same trials.

    Raises:
        StudyError: they are to be timed again, and there are none.
        KeyboardInterrupt: either all is as it was, or all records were written.
    """
    fewest = 1 if again else 2
    own = [item for item in summary.records if folders.OTHER_CODE not in item.details]
    timed = [item for item in own if "latency_ms" in item.metrics]
    if len(timed) < fewest or not (again or study.setup().latency.together_seconds):
        if again:
            raise StudyError(f"{folder}: no trial of {study.name} has a latency; run it first")
        return []
    if not again and together.share_rounds(timed):
        return []
    hindrance = _hindrance(summary, device, all_over=all_over)
    if hindrance is not None or device is None:
        say(f"{ALONE}: {hindrance}")
        return []
    with FileLock(folder / TURN):
        current = [folders.read(folder, item.trial) or item for item in timed]
        found = together.groups(study, current, folder, device)
        alike = [item for item in found if len(item.trials) >= fewest]
        if not alike and again:
            raise StudyError(f"{folder}: no trial was timed on this machine, on such a device")
        if not alike:
            say(f"{ALONE}: no two of them were timed in one way on this machine as it is now")
        chosen = [item for item in alike if again or not together.share_rounds(item.trials)]
        return [item for group in chosen for item in _renewed(group, folder, device, watch, say)]


def _hindrance(summary: Summary, device: str | None, *, all_over: bool) -> str | None:
    """Say why trials cannot be timed together yet, or here; None if they can."""
    if device is None:
        return "the trials ran on a cluster; `--remeasure latency` on one of its machines helps"
    if summary.elsewhere:
        by_others = "1 trial is" if summary.elsewhere == 1 else f"{summary.elsewhere} trials are"
        return f"{by_others} run by others; whoever ends last times them together"
    if summary.halted:
        return "the run stopped early; the next one times them together"
    return None if all_over else "only some trials were asked for; a run of all times them together"


def _renewed(
    group: Group, folder: Path, device: str, watch: Watch, say: Callable[[str], None]
) -> Sequence[Record]:
    """Time trials together and write their records; what goes wrong in it leaves all as it was."""
    count = len(group.trials)
    try:
        with watch(f"{count} trials together") as on_progress:
            made = together.measure(group, folder, device, on_progress)
    except Exception as error:  # whatever it is, the study's results stand without it
        text = " ".join(str(error).split()) or type(error).__name__
        say(f"{ALONE}: {text}")
        return []
    with interrupt.heeded() as asked, folders.lock(folder):
        written = together.write(made, folder)
    if asked():
        raise KeyboardInterrupt
    seconds = made[0].record.details["together"]["seconds"]
    say(f"{len(written)} trials were timed together in {seconds:.0f} s{_doubts(written)}")
    return written


def _doubts(records: Sequence[Record]) -> str:
    """Say how many latencies are not to be ranked all the same."""
    reasons = [why for why in map(latencies.rough, records) if why is not None]
    if not reasons:
        return ""
    return (
        f"; {len(reasons)} latencies are rough ({reasons[0]}); `--remeasure latency` times them"
        " again, on a machine at rest"
    )
