"""Results of one study that another needs, too: a trial's hash says what is the same.

Counts and accuracy hold on any machine. A latency of this machine is taken over as a rough one, for
it is of another moment, until the study's trials are timed together; a ratio holds beside the trial
that it was timed in turns with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.machine import environment
from harness.records import FILE, METRICS, Record, RecordError, latencies, record
from harness.study.specification import TrialSpec
from harness.trials import trainings
from harness.trials.stale import other_versions

ANYWHERE = {name for group in ("complexity", "accuracy", "queries") for name in METRICS[group]}
DETAILS = ("complexity", "training", "accuracy", "queries")
NO_REFERENCE = "timed before another trial had a latency to compare with"
RATIOS = (
    *("latency_ratio", "latency_ratio_low", "latency_ratio_high"),
    *("latency_adjusted_ms", "latency_adjusted_low_ms", "latency_adjusted_high_ms"),
)


class Earlier(NamedTuple):
    """A finished trial of another study with the same hash."""

    folder: Path
    record: Record
    here: bool  # whether it was measured on this machine

    @property
    def title(self) -> str:
        """Name study and trial."""
        return f"{self.record.study}/{self.record.trial}"


def find(spec: TrialSpec, out: Path, machine: Mapping[str, Any]) -> Earlier | None:
    """Return the finished trial of another study that makes running this one needless.

    Args:
        spec: the trial.
        out: holds a folder a study.
        machine: from `environment.capture`; what was measured here comes first.
    """
    identity, found = environment.identity(machine), []
    for file in sorted(out.glob(f"*/{spec.trial}/{FILE}")):
        folder = file.parent
        if folder.parent.name == spec.study:
            continue
        try:
            result = record.read(file)
        except (OSError, RecordError):
            continue
        if spec.fresh and other_versions(result):
            continue
        if result.state == "done" and _is_whole(result, folder):
            same = environment.identity(result.environment) == identity
            found.append(Earlier(folder, result, same))
    return max(found, key=lambda earlier: earlier.here, default=None)


def adopt(earlier: Earlier, result: Record, folder: Path, reference: Path | None) -> None:
    """Take over what holds for a trial, too; study, name and overrides are its own.

    Args:
        earlier: from `find`.
        result: the trial's record, blank but for what names it.
        folder: the trial's; files are linked into it.
        reference: folder of the trial that latency is compared with.
    """
    taken = earlier.record.model_copy(deep=True)
    _leave_session(taken)
    taken.details.pop("start", None)  # which names the same weights as the trial's own does
    if earlier.here:
        _call_rough(taken, f"timed for {earlier.title}, at another time than this study's trials")
    else:
        _leave_machine(taken)
    for name, file in taken.artifacts.items():
        trainings.link(earlier.folder / file, folder / file)
        result.artifacts[name] = file
    for part in ("metrics", "absent", "caveats", "details", "samples"):
        getattr(result, part).update(getattr(taken, part))
    result.curves = taken.curves
    result.details["reused"] = {"from": earlier.title, "latency": earlier.here}
    if earlier.here:
        result.environment = taken.environment
        _compare(result, earlier, reference)


def _is_whole(result: Record, folder: Path) -> bool:
    try:
        return all(record.artifact(folder, file).is_file() for file in result.artifacts.values())
    except RecordError:  # a file that leads elsewhere
        return False


def _leave_machine(taken: Record) -> None:
    """Drop what holds on another machine alone."""
    for part in (taken.metrics, taken.absent, taken.caveats):
        for name in [name for name in part if name not in ANYWHERE]:
            del part[name]
    taken.details = {name: value for name, value in taken.details.items() if name in DETAILS}
    taken.artifacts.pop("samples", None)
    taken.samples = {}


def _leave_session(taken: Record) -> None:
    """Drop what tells of the rounds that the other study's trials shared."""
    for name in ("together", "alone"):
        taken.details.pop(name, None)
    taken.artifacts.pop("samples_alone", None)


def _call_rough(taken: Record, reason: str) -> None:
    """Say of every time that it is not to be ranked; its share of its own moment's limits is."""
    for name in filter(latencies.is_time, taken.metrics):
        kept = taken.caveats.get(name, "").split("; ")
        kept = [part for part in kept if part and not latencies.reason(part)]
        taken.caveats[name] = "; ".join([f"{latencies.ROUGH}{reason}", *kept])


def _compare(result: Record, earlier: Earlier, reference: Path | None) -> None:
    """Keep the ratio if the study compares with the same trial; else say why there is none."""
    first = None if reference is None else record.read(reference)
    against = result.details.get("reference")
    if first is not None and first.trial == against and "latency_ms" in first.metrics:
        for name in [name for name in RATIOS if name.startswith("latency_adjusted")]:
            ratio = result.metrics.get(name.replace("adjusted", "ratio").removesuffix("_ms"))
            if ratio is not None:
                result.metrics[name] = first.metrics["latency_ms"] * ratio
        return
    result.details.pop("reference", None)
    result.samples.pop("reference_latency_ms", None)
    for name in RATIOS:
        result.metrics.pop(name, None)
    if "latency_ms" in result.metrics:
        reason = f"timed for {earlier.title}, not in turns with a trial of this study"
        if first is None:
            reason = NO_REFERENCE
        result.absent |= dict.fromkeys(("latency_ratio", "latency_adjusted_ms"), reason)
