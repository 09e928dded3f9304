"""Studies: which knobs are swept, over which values, and the trials that follow."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, PrivateAttr, StringConstraints, ValidationError

import detectors
from detectors.config import KnobError
from harness import data, designs, knobs, library, recipe, study_source, yaml_source
from harness.data import DataConfig, DataSet
from harness.designs import Design, DesignError
from harness.knobs import Setup
from harness.search import checks, judge
from harness.search.config import Axis, Racing, Search
from harness.settings import Settings
from harness.specification import TrialSpec, specify
from harness.yaml_source import Source, StudyError

__all__ = ["Specs", "Study", "StudyError", "TrialSpec", "expand", "load", "single"]

Measure = Literal["complexity", "latency", "accuracy"]
Cause = Literal["out_of_memory", "not_finite", "timeout", "crash", "data", "lost_worker", "error"]
OpenData = Callable[[DataConfig], DataSet]
NonEmpty = Annotated[tuple[Any, ...], Field(min_length=1)]


class Study(Settings):
    """One question, asked by sweeping knobs."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Names the folder of the records and the experiment in MLflow."""
    question: str = ""
    """What the study is to answer, in one sentence."""
    source: str | None = None
    """The published table it repeats, in studies/papers; absent for a study of one's own."""
    expected: str = ""
    """What comes out and what it costs, in words."""
    detector: str
    """A name from `detbench list detectors`, or package.module:ATTRIBUTE."""
    data: str = "shapes"
    """`shapes`, `coco2017`, or a folder in COCO layout."""
    fixed: dict[str, Any] = Field({}, alias="set")
    """Knobs that are turned for all trials: dotted path to value."""
    recipe: str | None = None
    """A recipe of studies/recipes or a file; needed when accuracy is measured."""
    measure: Annotated[tuple[Measure, ...], Field(min_length=1)] = get_args(Measure)
    """What each trial measures."""
    sweep: dict[str, NonEmpty] = {}
    """Knobs that differ between trials: dotted path to values."""
    design: Design = "grid"
    """`grid` tries all combinations, `zip` takes the values side by side, `one_factor` turns one
    knob at a time away from the study's own setting, which is the first trial;
    `fractional_factorial` takes a part of the grid of two values a knob."""
    resolution: Literal[3, 4, 5] = 4
    """Of a fractional factorial: 3 tells main effects apart, 4 also from interactions of two
    knobs, 5 also these from each other."""
    search: Search | None = None
    """A search in place of a sweep."""
    constraints: dict[str, str] = {}
    """Metric: a limit such as `<= 6e6`; a variant known to be beyond it is not trained."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    """Each variant is run once with each."""
    racing: Racing | None = None
    """More seeds for the variants that may still be the best."""
    retries: dict[Cause, Annotated[int, Field(ge=0)]] = {}
    """Further attempts at a trial by cause of its failure; else one after a `crash` of its process,
    three after the loss of the machine (`lost_worker`), and none otherwise."""
    timeout_hours: Annotated[float, Field(gt=0)] | None = None
    """Time an attempt at a trial may take."""

    _source: Source = PrivateAttr(default=Source("study", {}, {}))
    _setup: Setup = PrivateAttr()

    def setup(self) -> Setup:
        """Return what the trials have in common."""
        return self._setup

    @property
    def limits(self) -> dict[str, str]:
        """Return all constraints: metric to limit."""
        return {**self.constraints, **(self.search.constraints if self.search else {})}

    def variants(self) -> list[dict[str, Any]]:
        """Return what each variant of a sweep turns.

        Raises:
            StudyError: a sweep that the design cannot have.
        """
        with _at(self.place("sweep")):
            return designs.variants(self.design, self.sweep, self.setup(), self.resolution)

    def confounded(self) -> list[str]:
        """Name the effects, equal signs between them, that a fraction of a grid mixes up."""
        if self.design != "fractional_factorial" or not self.sweep:
            return []
        return designs.factorial.describe(list(self.sweep), self.resolution)

    def place(self, *path: str) -> str:
        """Return the file and line of a part."""
        return self._source.place(*path)


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


class Specs:
    """Writes down the trials of a study, opening each data set that they need once."""

    def __init__(
        self, study: Study, open_data: Callable[[DataConfig], DataSet] = data.load
    ) -> None:
        self.study, self.open_data = study, open_data
        self.opened: dict[DataConfig, DataSet] = {}

    def __call__(self, overrides: Mapping[str, Any], seed: int) -> TrialSpec:
        """Write down one trial.

        Raises:
            StudyError: an impossible combination.
            DataError: a data set that cannot be used.
        """
        study = self.study
        with _placed(study, overrides):
            setup = knobs.turn(study.setup(), overrides)
        if setup.data not in self.opened:
            self.opened[setup.data] = self.open_data(setup.data)
        dataset = self.opened[setup.data]
        setup = _with_classes(study, setup, overrides, dataset)
        spec = specify(study, setup, overrides, seed, dataset)
        return spec.model_copy(update={"cheap_latency": judge.needs_latency(study)})


def expand(study: Study, open_data: OpenData = data.load) -> list[TrialSpec]:
    """List a study's trials in the order they are run: seed by seed, the last axis fastest.

    Args:
        study: from `load`.
        open_data: opens a data set; called once for each that the trials need.

    Raises:
        StudyError: an impossible combination, two trials that are the same, or a search, whose
            trials follow from each other.
        DataError: a data set that cannot be used.
    """
    if study.search is not None:
        raise StudyError(f"{study.place('search')}: a search finds its trials as it goes")
    make, specs = Specs(study, open_data), dict[str, TrialSpec]()
    for seed, overrides in itertools.product(study.seeds, study.variants()):
        spec = make(overrides, seed)
        if spec.trial in specs:
            raise StudyError(_same(study, specs[spec.trial], spec))
        specs[spec.trial] = spec
    return list(specs.values())


def _with_classes(
    study: Study, setup: Setup, overrides: Mapping[str, Any], dataset: DataSet
) -> Setup:
    """Let the number of classes follow the data set, unless the study sets it; check the input."""
    wanted, path = len(dataset.categories), "detector.num_classes"
    if path not in {**study.fixed, **overrides}:
        setup = knobs.turn(setup, {path: wanted})
    elif setup.detector.num_classes < wanted and "accuracy" in study.measure:
        raise StudyError(
            f"{_where(study, path)}: {path} is {setup.detector.num_classes}, but data set "
            f"{dataset.name} has {wanted} classes; leave {path} out, and it follows the data"
        )
    with _at(_where(study, "detector.input.size")):
        check_size(setup.detector)
    return setup


def check_size(config: Any) -> None:
    """Refuse an input size that the detector's strides don't divide.

    Raises:
        StudyError: naming the nearest sizes that they do.
    """
    divisor = config.size_divisor
    for side in config.input.size:
        if side <= 0 or side % divisor:
            lower = max(side // divisor * divisor, divisor)
            raise StudyError(
                f"detector.input.size: {side} is no multiple of {divisor}, as this detector needs; "
                f"use {lower} or {lower + divisor}"
            )


def _same(study: Study, first: TrialSpec, second: TrialSpec) -> str:
    return (
        f"{study.place('sweep')}: two trials are the same: {first.title!r} and {second.title!r} "
        "lead to one configuration; take one of them out"
    )


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
        raise StudyError(f"{_where(study, 'data.source')}: the data set is named by `data:`")
    with _at(study.place("detector")):
        config = detectors.resolve(study.detector)
    start = knobs.start(config, _recipe(study), study.data)
    with _placed(study, study.fixed):
        return knobs.turn(start, study.fixed)


def _recipe(study: Study) -> recipe.Recipe | None:
    if study.recipe is None:
        if "accuracy" in study.measure:
            raise StudyError(
                f"{study.place('measure')}: accuracy needs a recipe; add `recipe:` "
                f"({', '.join(recipe.names())})"
            )
        return None
    with _at(study.place("recipe")):
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
            with _at(study.place("sweep", path, *([str(index)] if exists else []))):
                knobs.turn(study.setup(), {path: value})
    if study.sweep:
        study.variants()


def _where(study: Study, path: str) -> str:
    """Return the place where a knob is set or swept, or the study's own."""
    if study.search is not None and path in study.search.space:
        return study.place("search", "space", path)
    return study.place("sweep" if path in study.sweep else "set", path)


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Put a place before the message of what is refused inside."""
    try:
        yield
    except (DesignError, KnobError, recipe.RecipeError, StudyError) as error:
        raise StudyError(f"{place}: {error}") from error


@contextmanager
def _placed(study: Study, changes: Iterable[str]) -> Iterator[None]:
    """Put the place of the knob that a message begins with before that message."""
    try:
        yield
    except KnobError as error:
        named = re.split(r"[:\s]", str(error), maxsplit=1)[0]
        path = next((p for p in changes if named == p or named.startswith(f"{p}.")), "")
        raise StudyError(f"{_where(study, path)}: {error}") from error
