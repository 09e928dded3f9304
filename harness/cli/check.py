"""`detbench check`: what studies will do, what is ruled out or stands, hours and disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import study as studies
from harness.cli import console
from harness.cli.console import print_json
from harness.config.axes import short
from harness.machine import arithmetic, environment
from harness.study import Study, StudyError
from harness.study.specification import TrialSpec
from harness.study.study import NAMED
from harness.trials import folders, plan, stale
from harness.trials.plan import Cost, Planned
from harness.trials.probe import Probe, probe

COLUMNS = {"trial": "trial", "name": "name", "seed": "seed", "params": "params (M)"}
COLUMNS |= {"macs": "MACs (G)", "steps": "steps", "training": "training", "fate": "what happens"}
DRAWS = 20  # of a search's space
MB = 1e6


@dataclass(frozen=True)
class Options:
    """Where a study would run, and whether to try how fast that is."""

    device: str
    out: Path
    probe: bool


def check(
    names: Sequence[str],
    data_name: str | None,
    sets: Sequence[str],
    options: Options,
    *,
    as_json: bool,
) -> int:
    """Print what studies would do and cost."""
    summaries = []
    for name in names:
        study = studies.load(name, data=data_name, sets=sets)
        machine = environment.capture(options.device)
        planned = plan.plan(_trials(study), options.out, study.limits, machine)
        summaries.append(summary(study, planned, options))
        if not as_json:
            _show(study, summaries[-1])
    if as_json:
        print_json(summaries)
    return 0


def _trials(study: Study) -> list[TrialSpec]:
    """List a study's trials; of a search, whose trials follow from each other, some drawn blindly.

    Raises:
        StudyError: a trial that cannot be.
    """
    if study.search is None:
        return studies.expand(study)
    import optuna  # slow to import

    from harness.study.search.plan import ask  # imports optuna, too

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler, make = optuna.samplers.RandomSampler(study.search.seed), studies.Specs(study)
    draws, found = optuna.create_study(sampler=sampler), dict[str, TrialSpec]()
    for _ in range(min(DRAWS, study.search.trials)):
        drawn = ask(study, draws.ask())
        with suppress(StudyError):  # a combination that no detector can have costs nothing
            spec = make(drawn.overrides, drawn.seed)
            found[spec.trial] = spec
    if not found:
        raise StudyError(f"{study.place('search')}: none of {DRAWS} draws can be built")
    return list(found.values())


def summary(study: Study, planned: Sequence[Planned], options: Options) -> dict[str, Any]:
    """Return the plan of a study as JSON values; times in seconds, sizes in bytes."""
    left, cost = plan.trainings_left(planned), _cost(planned, options)
    folder = options.out / study.name
    stands = [folders.read(folder, item.spec.trial) for item in planned if item.stands]
    needed = [item for item in planned if item.training]
    return {
        "study": study.name,
        "confounded": study.confounded(),
        "weights": _weights(item.spec for item in planned),
        "search_trials": study.search.trials if study.search else None,
        "trials": [_row(item, left) for item in planned],
        "stand_already": sum(item.stands for item in planned),
        "out_of_date": [found.told() for found in stale.find((i.spec for i in planned), folder)],
        "other_versions": stale.versions_lines(item for item in stands if item is not None),
        "taken_over": sum(item.earlier is not None for item in planned),
        "ruled_out": sum(item.ruled_out is not None and not item.stands for item in planned),
        "trainings": len(left),
        "trainings_distinct": len({item.training for item in needed}),
        "trainings_stand": len({item.training for item in needed if item.trained}),
        "images_an_epoch": max((item.images for item in left), default=0),
        "steps": sum(item.steps for item in left),
        "training_macs": sum(item.training_macs for item in left),
        "training_seconds": cost.seconds,
        "latency_seconds": plan.latency_seconds(planned),
        "other_seconds": plan.other_seconds(planned),
        "basis": cost.basis,
        "slow_arithmetic": _slow(planned, options.device),
        "disk": plan.disk(planned, options.out)._asdict(),
    }


def _slow(planned: Sequence[Planned], device: str) -> list[str]:
    """Say which arithmetic that trials ask for is slower than float32; each once."""
    asked = {
        pair: None for item in planned if not item.stands for pair in item.spec.arithmetic.items()
    }
    return list(filter(None, (arithmetic.warning(*pair, device) for pair in asked)))


def _weights(specs: Iterable[TrialSpec]) -> list[str]:
    """Say what trials start from, and how much of their detectors that is; each once."""
    found = (f"{spec.detector} {spec.start.title}" for spec in specs if spec.start is not None)
    return list(dict.fromkeys(found))


def _cost(planned: Sequence[Planned], options: Options) -> Cost:
    """Estimate from what was recorded here; failing that, from a probe."""
    machine = environment.capture(options.device)
    cost = plan.cost(planned, options.out, machine)
    if cost.seconds is not None or not options.probe:
        return cost
    console.stderr().print("no record of this machine tells a pace: trying some training steps")
    found = probe(plan.trainings_left(planned), options.device)
    if not isinstance(found, Probe):
        return Cost(None, found)
    return plan.cost(planned, options.out, machine, found.paces)._replace(basis=found.basis)


def _row(item: Planned, left: Sequence[Planned]) -> dict[str, Any]:
    return {
        "trial": item.spec.trial,
        "name": item.spec.name,
        "seed": item.spec.seed,
        "weights": item.spec.start.taken if item.spec.start else None,
        "params": item.params,
        "macs": item.macs,
        "steps": item.steps,
        "training": item.training,
        "stands": item.stands,
        "trained": item.trained,
        "ruled_out": item.ruled_out,
        "taken_over": item.earlier.title if item.earlier else None,
        "fate": _fate(item, left),
    }


def _fate(item: Planned, left: Sequence[Planned]) -> str:
    if item.stands:
        return "done"
    if item.earlier:
        again = "" if item.earlier.here else ", latency measured anew"
        return f"taken over from {item.earlier.record.study}{again}"
    if item.ruled_out:
        return f"ruled out: {item.ruled_out}"
    if not item.training:
        start = item.spec.start
        looked_at = start is not None and start.evaluated and "accuracy" in item.spec.measure
        return "evaluated" if looked_at else "measured"
    return "trained" if item in left else "measured with shared weights"


def _show(study: Study, found: Mapping[str, Any]) -> None:
    names = {name: ", ".join(dict.fromkeys(map(short, study.all_named(name)))) for name in NAMED}
    recipe = f", recipe {names['recipe']}" if study.recipe or "recipe" in study.axes else ""
    out = console.stdout()
    for line in (
        f"{study.name}: {study.question}".removesuffix(": "),
        f"{names['detector']} on {study.data}{recipe}; measures {', '.join(study.measure)}",
    ):
        out.print(line, markup=False, highlight=False)
    out.print(console.table(COLUMNS, found["trials"]))
    for line in _lines(found):
        out.print(line, markup=False, highlight=False)


def _lines(found: Mapping[str, Any]) -> list[str]:
    ruled_out = f", {found['ruled_out']} ruled out for free" if found["ruled_out"] else ""
    taken = f", {found['taken_over']} of another study" if found["taken_over"] else ""
    shared = f" ({found['trainings_distinct']} distinct, {found['trainings_stand']} finished)"
    mixed = [f"confounded in this design: {line}" for line in found["confounded"]]
    drawn = len(found["trials"])
    search = f"a search of {found['search_trials']} trials; of {drawn} drawn blindly: "
    return [
        *mixed,
        *(f"weights: {text}" for text in found["weights"]),
        f"{search if found['search_trials'] else ''}"
        f"{drawn} trials, {found['stand_already']} of them finished{taken}{ruled_out}; "
        f"{_count(found['trainings'], 'training')}{shared} of {found['images_an_epoch']} images "
        f"an epoch, {found['steps']} steps",
        f"training: {found['training_macs']:.3g} MACs (forward, and twice that backward)",
        f"time: {_time(found)}",
        *(f"slow: {text}" for text in found["slow_arithmetic"]),
        *stale.lines(found["out_of_date"]),
        *found["other_versions"],
        f"disk: {_disk(found['disk'])}\n",
    ]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _time(found: Mapping[str, Any]) -> str:
    """Say how long what is left will take, of what that is made up, and how it is known."""
    seconds, basis = found["training_seconds"], str(found["basis"])
    measuring, other = found["latency_seconds"], found["other_seconds"]
    parts = [f"at most {console.clock(measuring)} for latency"] if measuring else []
    parts += [f"{console.clock(other)} to load and write"] if other else []
    if seconds is None:
        return "; ".join([basis, *parts])
    if seconds:
        parts.insert(0, f"{console.clock(seconds)} of training and validation, {basis}")
    else:
        parts.insert(0, basis)
    whole = seconds + measuring + other
    if not whole:
        return basis
    return f"about {console.clock(whole)}, one trial after the other: {'; '.join(parts)}"


def _disk(held: Mapping[str, int]) -> str:
    """Say what the weights will take, and what lies there."""
    needed = held["weights"] + held["checkpoint"]
    parts = [
        f"{held['weights'] / MB:.1f} MB of weights",
        f"up to {held['checkpoint'] / MB:.1f} MB of checkpoint while one trains",
        f"trainings of all studies there: {held['finished'] / MB:.1f} MB",
        f"unfinished: {held['unfinished'] / MB:.1f} MB",
    ]
    short = "; NOT ENOUGH ROOM" if needed > held["free"] else ""
    return f"{', '.join(parts)}; {held['free'] / MB:.0f} MB free{short}"
