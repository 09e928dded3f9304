"""What a trial's entry in Optuna says: user attributes, read and written in one place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.engine import owner
from harness.engine.agenda import Agenda, Directions, Params
from harness.engine.owner import Owner
from harness.records import Record
from harness.study.specification import TrialSpec

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial

DUPLICATE = "duplicate"
"""Outcome of a suggestion that leads to a configuration which another trial has."""


class Claim(NamedTuple):
    """A trial that this driver has to see to."""

    spec: TrialSpec
    id: int  # Optuna's
    number: int  # Optuna's, in the study
    attempts: dict[str, int]  # that failed, by cause
    token: str  # tells this claim from any other to the trial, before and after
    asked: Trial | None  # Optuna's, of a search


class Waiting(NamedTuple):
    """A trial that anybody may claim."""

    id: int  # Optuna's
    trial: str | None  # None if a search has not chosen it yet


def described(spec: TrialSpec) -> dict[str, Any]:
    """Return what is known of a trial before it runs."""
    return {
        "trial": spec.trial,
        "name": spec.name,
        "seed": spec.seed,
        "overrides": spec.model_dump(mode="json", include={"overrides"})["overrides"],
    }


def trial_of(entry: FrozenTrial) -> str | None:
    """Return the hash that names the trial; None if a search has not chosen it yet."""
    found: str | None = entry.user_attrs.get("trial")
    return found


def owner_of(entry: FrozenTrial) -> Owner | None:
    """Return who works on a trial, or did."""
    found = entry.user_attrs.get("owner")
    return Owner(*found) if found else None


def token_of(entry: FrozenTrial) -> str:
    """Return what tells the latest claim to a trial from those before."""
    return str(entry.user_attrs.get("claim", ""))


def is_held(entry: FrozenTrial, claim: Claim) -> bool:
    """Say whether a trial runs under a claim, and under no later one."""
    running = entry.state.name == "RUNNING" and owner_of(entry) == owner.me()
    return running and token_of(entry) == claim.token


def attempts_of(entry: FrozenTrial) -> dict[str, int]:
    """Return how many attempts failed, by cause."""
    return dict(entry.user_attrs.get("attempts", {}))


def state_of(entry: FrozenTrial) -> str | None:
    """Return how a trial ended: done, pruned, failed or duplicate; None before."""
    outcome = entry.user_attrs.get("outcome") if entry.state.is_finished() else None
    return outcome["state"] if outcome else None


def outcome(record: Record) -> dict[str, Any]:
    """Return what is told of a trial that is over."""
    timings = record.timings
    told: dict[str, Any] = {
        "state": record.state,
        "seconds": max(timings.get("finished", 0.0) - timings.get("started", 0.0), 0.0),
        "metrics": {name: value for name, value in record.metrics.items() if math.isfinite(value)},
    }
    if record.failure is not None:
        told |= {"cause": record.failure.cause, "message": record.failure.message}
    return told


def values(record: Record, directions: Directions) -> list[float] | None:
    """Return the objectives; None unless all were measured."""
    found = [record.metrics.get(name, math.nan) for name in directions]
    return found if record.state == "done" and all(map(math.isfinite, found)) else None


def states() -> Any:
    """Return the states that Optuna knows of a trial."""
    from optuna.trial import TrialState  # slow to import

    return TrialState


def candidate(agenda: Agenda, spec: TrialSpec) -> tuple[str, Params, dict[str, Any]]:
    """Return what enters a trial: its hash, its parameters, and what is known of it."""
    return spec.trial, agenda.params(spec.overrides), described(spec)


def plain(entry: FrozenTrial) -> dict[str, Any]:
    """Return what an entry says of the trial, and nothing of how it went."""
    kept = ("trial", "name", "seed", "overrides")
    return {key: entry.user_attrs[key] for key in kept if key in entry.user_attrs}


def contradicts(entry: FrozenTrial, record: Record) -> bool:
    """Say whether an entry tells of a failure that the record has overcome."""
    state = state_of(entry)
    return entry.state.is_finished() and state not in (record.state, DUPLICATE)
