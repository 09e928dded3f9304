"""Read and validate a study, with what the command line changes in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import detectors
from harness.config import knobs, library, recipe, yaml_source
from harness.config.knobs import Setup
from harness.config.search import Axis, Racing, Search
from harness.config.settings import Settings
from harness.config.yaml_source import Source, StudyError
from harness.study import source as study_source
from harness.study.search import checks
from harness.study.study import Given, Study, at


def load(name_or_path: str | Path, *, data: str | None = None, sets: Sequence[str] = ()) -> Study:
    """Read and validate a study; nothing is built, and no data set is opened.

    Args:
        name_or_path: a file, or a name under studies/, such as `rtmdet/expand_ratio`.
        data: a data set in place of the study's own.
        sets: `PATH=VALUE`. A knob's path joins the study's `set`; `sweep.PATH=[...]` replaces the
            values of an axis; `seeds`, `measure`, `recipe` and the other keys replace their own.

    Raises:
        StudyError: naming file, line and the nearest key.
    """
    source = yaml_source.read(library.find(str(name_or_path)))
    for text in sets:
        source = study_source.with_set(source, text)
    if data is not None:
        source = study_source.replaced(source, ("data",), data, f"--data {data}")
    if not source.value.get("sweep") and "search" not in source.value:
        where = source.place("sweep")
        raise StudyError(f"{where}: nothing is swept; add `sweep: {{detector.KNOB: [A, B]}}`")
    study = _resolved(source)
    study._given = Given(data, tuple(sets))
    _check_table(study)
    _check_axes(study)
    return checks.checked(study)


def single(
    detector: str, recipe_name: str, data_name: str, sets: Sequence[str] = (), seed: int = 0
) -> Study:
    """Make the study behind `detbench train`: one detector, nothing swept.

    Raises:
        StudyError: an unknown detector, recipe or knob.
    """
    tree: dict[str, Any] = {
        "name": "train",
        "detector": detector,
        "recipe": recipe_name,
        "data": data_name,
    }
    tree |= {"measure": ["complexity", "accuracy"], "seeds": [seed]}
    source = Source("command line", tree, {})
    for text in sets:
        source = study_source.with_set(source, text)
    return _resolved(source)


def changes(sets: Sequence[str]) -> dict[str, Any]:
    """Read `--set PATH=VALUE` where there is no study.

    Raises:
        StudyError: a text of another form.
    """
    empty = Source("command line", {}, {})
    trees = [study_source.with_set(empty, text).value for text in sets]
    for tree, text in zip(trees, sets, strict=True):
        if "set" not in tree:
            raise StudyError(f"--set {text}: expected the dotted path of a knob")
    return {path: value for tree in trees for path, value in tree["set"].items()}


def _resolved(source: Source) -> Study:
    """Validate the keys and look up what they name."""
    try:
        study = knobs.validate(Study, source.value)
    except ValidationError as error:
        raise StudyError(_explain(source, error)) from error
    study._source = source
    study._setup = _setup(study)
    return study


def _explain(source: Source, error: ValidationError) -> str:
    """Say in one line what is wrong with the first key that is refused."""
    first = error.errors()[0]
    path = tuple(map(str, first["loc"]))
    place, *within = source.place(*path), path[:-1]
    if first["type"] == "extra_forbidden":
        keys = _keys(path[:-1])
        hint = knobs.nearest(path[-1], keys)
        owner = f"`{'.'.join(path[:-1])}`" if within[0] else "A study"
        return f"{place}: unknown key {path[-1]!r}{hint} {owner} has {', '.join(keys)}."
    if first["type"] == "missing":
        return f"{place}: {'.'.join(path)} is missing"
    if path[0] == "sweep" and len(path) == 2:
        return f"{place}: {path[1]}: expected a list of values, got {first['input']!r}"
    if first["type"] == "value_error":
        return f"{place}: {'.'.join(path)}: {first['msg'].removeprefix('Value error, ')}"
    return f"{place}: {'.'.join(path)}: {first['msg']}, got {first['input']!r}"


def _keys(path: tuple[str, ...]) -> list[str]:
    """Return the keys that a part of a study may have."""
    kinds: dict[str, type[Settings]] = {"racing": Racing, "search": Search}
    kind = Axis if path[:2] == ("search", "space") else kinds.get("".join(path), Study)
    return [field.alias or name for name, field in kind.model_fields.items()]


def _setup(study: Study) -> Setup:
    """Resolve detector and recipe, and turn the knobs that hold for all trials."""
    both = [path for path in study.fixed if path in study.sweep]
    if both:
        raise StudyError(f"{study.place('set', both[0])}: {both[0]} is both set and swept")
    if "data.source" in {**study.fixed, **study.sweep}:
        raise StudyError(f"{study.where('data.source')}: the data set is named by `data:`")
    with at(study.place("detector")):
        config = detectors.resolve(study.detector)
    start = knobs.start(config, _recipe(study), study.data)
    with study.placed(study.fixed):
        return knobs.turn(start, study.fixed)


def _recipe(study: Study) -> recipe.Recipe | None:
    if study.recipe is None:
        if "accuracy" in study.measure:
            raise StudyError(
                f"{study.place('measure')}: accuracy needs a recipe; add `recipe:` "
                f"({', '.join(recipe.names())})"
            )
        return None
    with at(study.place("recipe")):
        return recipe.load(study.recipe)


def _check_table(study: Study) -> None:
    """See that the published table exists, if the paper's tables are there."""
    if study.source is None:
        return
    file = library.FOLDER / "papers" / f"{study.source.partition('/')[0]}.yaml"
    if not file.is_file():
        return
    ids = [table["id"] for table in yaml_source.read(file).value["tables"]]
    if study.source not in ids:
        hint = knobs.nearest(study.source, ids)
        raise StudyError(
            f"{study.place('source')}: no published table {study.source!r}{hint} "
            f"There is {', '.join(ids)}."
        )


def _check_axes(study: Study) -> None:
    """Refuse a knob or value of the sweep by itself, before combinations are made."""
    known = study.setup().flat()
    for path, values in study.sweep.items():
        exists = any(name == path or name.startswith(f"{path}.") for name in known)
        for index, value in enumerate(values):
            with at(study.place("sweep", path, *([str(index)] if exists else []))):
                knobs.turn(study.setup(), {path: value})
    if study.sweep:
        study.variants()
