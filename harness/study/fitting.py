"""See, before anything starts, that all that a study names exists and that every value fits."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from detectors.config import KnobError
from harness import adapters
from harness.config import knobs, recipe
from harness.config.axes import Swept, short
from harness.config.weights import Weights
from harness.config.yaml_source import StudyError
from harness.study.study import NAMED, Study, named_in, values_of

Overrides = Mapping[str, Any]


def check(study: Study) -> None:
    """Refuse what a study names or sets, and what it sweeps value by value.

    Raises:
        StudyError: naming file, line and remedy.
    """
    _check_keys(study)
    all_of_them = list(rows(study))
    named = _distinct({path: row[path] for path in NAMED if path in row} for row in all_of_them)
    _check_named(study, named)
    for path, axis in study.sweep.items():
        _check_values(study, all_of_them, path, axis)
    if study.sweep:
        study.variants()


def refusal(
    error: KnobError,
    failed: Sequence[Overrides],
    tried: Sequence[Overrides],
    values: str,
) -> str:
    """Say which detectors lack a knob or a value of it, and what helps.

    Args:
        error: the first of those that were raised.
        failed: what was overridden besides, each time that there was one.
        tried: the same, of all attempts.
        values: how they are written beside a condition, such as `values: [...]`.
    """
    lacking, named = (_detectors(contexts) for contexts in (failed, tried))
    others = [name for name in named if name not in lacking]
    if lacking and others:
        return (
            f"{error} (so for {', '.join(lacking)}; for the others alone:"
            f" {{{values}, when: {{detector: [{', '.join(others)}]}}}})"
        )
    held = ", ".join(f"{path} is {short(value)}" for path, value in failed[0].items())
    if not held or lacking:
        return str(error)
    return f"{error} (when {held}; a knob that exists under some values only has `when:`)"


def deciding(path: str) -> set[str]:
    """Return the paths that choose the group which a knob is in, and so whether it exists."""
    groups = {path.rsplit(".", depth)[0] for depth in range(1, path.count(".") + 1)}
    return {*groups, *(f"{group}.type" for group in groups)}


def check_size(config: Any) -> None:
    """Refuse an input size that the detector's strides don't divide, or what is not known to run.

    Raises:
        StudyError: naming the nearest sizes that they do.
        KnobError: too little is known of a foreign model.
    """
    adapters.check(config)
    divisor = config.size_divisor
    if config.input.varies:
        if config.input.pad_to % divisor:
            raise StudyError(
                f"detector.input.pad_to: {config.input.pad_to} is no multiple of {divisor}, as this"
                f" detector needs; use {divisor}"
            )
        return
    for side in config.input.size:
        if side <= 0 or side % divisor:
            lower = max(side // divisor * divisor, divisor)
            raise StudyError(
                f"detector.input.size: {side} is no multiple of {divisor}, as this detector needs; "
                f"use {lower} or {lower + divisor}"
            )


def _check_keys(study: Study) -> None:
    """Refuse what is said twice, or not at all."""
    for path in study.axes:
        own = path in NAMED and getattr(study, path) is not None
        if own and study.design != "one_factor":
            other = f"`{path}:` or `{'search.space' if study.search else 'sweep'}.{path}`"
            raise StudyError(f"{study.place(path)}: a study has {other}, not both")
        if path in study.fixed:
            verb = "searched" if study.search else "swept"
            raise StudyError(f"{study.place('set', path)}: {path} is both set and {verb}")
    if "data.source" in {**study.fixed, **study.axes}:
        raise StudyError(f"{study.where('data.source')}: the data set is named by `data:`")
    if study.detector is None and ("detector" not in study.axes or study.design == "one_factor"):
        raise StudyError(f"{study.place('detector')}: detector is missing")
    if "queries" in study.measure and "accuracy" not in study.measure:
        raise StudyError(f"{study.place('measure')}: queries needs accuracy among `measure:`")
    for path, axis in study.sweep.items():
        _check_condition(study, path, axis)


def _check_condition(study: Study, path: str, axis: Swept) -> None:
    above = list(itertools.takewhile(lambda other: other != path, study.sweep))
    for other, allowed in axis.when.items():
        place = study.place("sweep", path, "when", other)
        if other not in above:
            hint = knobs.nearest(other, above)
            raise StudyError(
                f"{place}: {other} is not swept above {path}{hint} a condition names such an axis"
            )
        known = [short(value) for value in study.sweep[other].values]
        for text in map(short, allowed):
            if text not in known:
                raise StudyError(
                    f"{place}: {text} is no value of {other}; it has {', '.join(known)}"
                )


def rows(study: Study) -> Iterable[Overrides]:
    """Return what trials override: of a sweep all of it, of a search what they name."""
    if study.design == "one_factor":
        return [{}, *({path: v} for path, axis in study.sweep.items() for v in axis.values)]
    if study.search is None:
        return study.variants() if study.sweep else [{}]
    found: list[dict[str, Any]] = [{}]
    for path in (path for path in study.search.space if path in NAMED):
        axis, grown = study.search.space[path], list[dict[str, Any]]()
        for row in found:
            sure = axis.when.keys() <= set(NAMED)
            if not sure or axis.holds(row):
                grown += [{**row, path: choice} for choice in axis.choices or ()]
            if not sure or not axis.holds(row):
                grown.append(row)
        found = grown
    return found


def _check_named(study: Study, named: Sequence[Overrides]) -> None:
    """Look up what trials name, and turn the knobs that hold for all of them."""
    failed: dict[str, list[Overrides]] = {}
    first: dict[str, KnobError] = {}
    for row in named:
        is_foreign = adapters.is_foreign(str(study.named(row)["detector"]))
        if not is_foreign:
            _check_recipe(study, row)
        try:
            setup = study.setup(row)
            if is_foreign:
                _check_foreign(study, row, setup.detector)
        except KnobError as error:
            path = named_in(error, [*study.fixed, *NAMED])
            failed.setdefault(path, []).append(row)
            first.setdefault(path, error)
    for path, lacking in failed.items():
        if path in NAMED and path in lacking[0]:
            known = [short(value) for value in values_of(study.axes[path])]
            place = study.place_of(path, known.index(short(lacking[0][path])))
            raise StudyError(f"{place}: {first[path]}")
        values = f"values: [{short(study.fixed.get(path))}]"
        raise StudyError(f"{study.where(path)}: {refusal(first[path], lacking, named, values)}")


def _check_recipe(study: Study, row: Overrides) -> None:
    names = study.named(row)
    if "accuracy" not in study.measure or names["recipe"] or names["weights"]:
        return
    place = study.where("recipe") if "recipe" in study.axes else study.place("measure")
    raise StudyError(
        f"{place}: accuracy needs a recipe; add `recipe:` ({', '.join(recipe.names())}), or"
        " `weights:` that are evaluated as they are"
    )


def _check_foreign(study: Study, row: Overrides, config: Any) -> None:
    """Refuse to train a foreign model, or to give one weights that brings its own."""
    names, others = study.named(row), [n for n in study.detectors if not adapters.is_foreign(n)]
    unwanted = {"recipe": "accuracy" in study.measure, "weights": adapters.brings_weights(config)}
    for what in (name for name, is_wrong in unwanted.items() if is_wrong and names[name]):
        named = names[what]
        value = short(named.source if isinstance(named, Weights) else named)
        verb = "is not trained" if what == "recipe" else "brings its own"
        help = f"sweep {{{what}: {{values: [{value}], when: {{detector: [{', '.join(others)}]}}}}}}"
        raise StudyError(
            f"{study.where(what)}: {what} {value}: {config.name} {verb}, it is evaluated as it is;"
            f" {help if others else f'leave {what} out'}"
        )
    if not adapters.brings_weights(config):
        _check_recipe(study, row)


def _check_values(study: Study, given: Iterable[Overrides], path: str, axis: Swept) -> None:
    """Turn one knob to all its values, under all that decides whether and how it exists.

    A value that fits only beside another axis, such as a layer that the default depth lacks, is
    tried in the variants that have it.
    """
    kept = {path, *deciding(path)}
    there = [row for row in given if path in row]
    tried = _distinct({k: v for k, v in row.items() if k in kept} for row in there)
    failed: list[Overrides] = []
    errors: list[KnobError] = []
    for row in tried:
        if _misfit(study, row) is None:
            continue
        whole = (full for full in there if {k: v for k, v in full.items() if k in kept} == row)
        error = next(filter(None, (_misfit(study, full) for full in whole)), None)
        if error is not None:
            failed.append(row)
            errors.append(error)
    if not failed:
        return
    known = study.setup({k: v for k, v in failed[0].items() if k in NAMED}).flat()
    place = study.place("sweep", path)
    if any(name == path or name.startswith(f"{path}.") for name in known):
        index = next(i for i, value in enumerate(axis.values) if value is failed[0][path])
        place = study.place_of(path, index)
    besides, all_of_them = (
        [{k: v for k, v in row.items() if k != path} for row in rows] for rows in (failed, tried)
    )
    raise StudyError(f"{place}: {refusal(errors[0], besides, all_of_them, 'values: [...]')}")


def _misfit(study: Study, row: Overrides) -> KnobError | None:
    try:
        study.setup(row)
    except KnobError as error:
        return error
    return None


def _distinct(given: Iterable[Overrides]) -> list[Overrides]:
    return list({repr(row): row for row in given}.values())


def _detectors(contexts: Iterable[Overrides]) -> list[str]:
    return list(dict.fromkeys(str(row["detector"]) for row in contexts if "detector" in row))
