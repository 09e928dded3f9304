"""Read and validate a study, with what the command line changes in it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config import knobs, library, yaml_source
from harness.config.axes import Axis, Swept
from harness.config.data import COCO2017
from harness.config.offers import offer
from harness.config.search import Racing, Search
from harness.config.settings import Settings, first_of
from harness.config.weights import Weights
from harness.config.yaml_source import Source, StudyError
from harness.study import fitting
from harness.study import source as study_source
from harness.study.search import checks
from harness.study.study import Given, Study


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
        raise StudyError(
            f"{where}: nothing is swept; add `sweep: {{detector.KNOB: [A, B]}}`, or"
            " `sweep: {detector: [A, B]}`"
        )
    study = _resolved(source)
    study._given = Given(data, tuple(sets))
    _check_table(study)
    return checks.checked(study)


def single(
    detector: str,
    recipe_name: str,
    data_name: str,
    sets: Sequence[str] = (),
    seed: int = 0,
    weights: str | None = None,
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
    tree |= {"measure": ["complexity", "accuracy"], "seeds": [seed], "weights": weights}
    source = Source("command line", tree, {})
    for text in sets:
        source = study_source.with_set(source, text)
    return _resolved(source)


def of_detectors(
    name: str,
    detectors: Sequence[str],
    measure: Sequence[str],
    *,
    recipe_name: str | None = None,
    weights: Any = None,
    data_name: str = COCO2017,
    sets: Sequence[str] = (),
) -> Study:
    """Make a study whose file nobody wrote: detectors, each trained, or with weights as they are.

    Args:
        name: of the folder of its records.
        detectors: names.
        measure: as in a study.
        recipe_name: that trains them; None where weights are evaluated, or nothing is.
        weights: as in a study.
        data_name: of the data set.
        sets: `PATH=VALUE`.

    Raises:
        StudyError: an unknown detector, recipe or knob.
    """
    tree: dict[str, Any] = {"name": name, "data": data_name, "measure": list(measure)}
    tree |= {"recipe": recipe_name, "weights": weights, "sweep": {"detector": list(detectors)}}
    source = Source("command line", tree, {})
    for text in sets:
        source = study_source.with_set(source, text)
    study = _resolved(source)
    study._given = Given(None, tuple(sets))
    return checks.checked(study)


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
    """Validate the keys, look up what they name, and try all values."""
    try:
        study = knobs.validate(Study, source.value)
    except ValidationError as error:
        raise StudyError(_explain(source, error)) from error
    study._source = source
    fitting.check(study)
    return study


def _explain(source: Source, error: ValidationError) -> str:
    """Say in one line what is wrong with the first key that is refused."""
    first = first_of(error)
    path = tuple(map(str, first["loc"]))
    place, *within = source.place(*path), path[:-1]
    if first["type"] == "extra_forbidden":
        keys = _keys(path[:-1])
        owner = f"`{'.'.join(path[:-1])}`" if within[0] else "A study"
        return f"{place}: unknown key {path[-1]!r}{offer(path[-1], keys, lead=f'{owner} has')}"
    if first["type"] == "missing":
        return f"{place}: {'.'.join(path)} is missing"
    if path[0] == "sweep" and len(path) == 2:
        return f"{place}: {path[1]}: expected a list of values, got {first['input']!r}"
    if first["type"] == "value_error":
        return f"{place}: {'.'.join(path)}: {first['msg'].removeprefix('Value error, ')}"
    return f"{place}: {'.'.join(path)}: {first['msg']}, got {first['input']!r}"


def _keys(path: tuple[str, ...]) -> list[str]:
    """Return the keys that a part of a study may have."""
    kinds: dict[str, type[Settings]] = {"racing": Racing, "search": Search, "weights": Weights}
    axes: dict[tuple[str, ...], type[Settings]] = {("sweep",): Swept, ("search", "space"): Axis}
    kind = axes.get(path[:-1]) or kinds.get("".join(path), Study)
    return [field.alias or name for name, field in kind.model_fields.items()]


def _check_table(study: Study) -> None:
    """See that the published table exists, if the paper's tables are there."""
    if study.source is None:
        return
    file = library.FOLDER / "papers" / f"{study.source.partition('/')[0]}.yaml"
    if not file.is_file():
        return
    ids = _table_ids(file)
    if study.source not in ids:
        offered = offer(study.source, ids, "detbench list tables")
        place = study.place("source")
        raise StudyError(f"{place}: no published table {study.source!r}{offered}")


@cache
def _table_ids(file: Path) -> tuple[str, ...]:
    """Return the ids of a paper's tables; they ship with the package, and reading is slow."""
    return tuple(table["id"] for table in yaml_source.read(file).value["tables"])
