"""A study: which knobs are swept or searched, over which values, and what its trials measure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, PrivateAttr, ValidationError

from detectors.config import KnobError
from harness import adapters
from harness.config import knobs, recipe
from harness.config.axes import Axis, Swept, short
from harness.config.knobs import Setup
from harness.config.latency import PRESETS
from harness.config.offers import offer
from harness.config.recipe import RecipeError
from harness.config.search import Racing, Search
from harness.config.settings import Settings, first_of
from harness.config.weights import Weights
from harness.config.yaml_source import Source, StudyError
from harness.records import Name
from harness.study import designs
from harness.study.designs import Design, DesignError

Measure = Literal["complexity", "latency", "accuracy", "queries"]
USUAL: tuple[Measure, ...] = ("complexity", "latency", "accuracy")
Protocol = Literal["papers"]
Cause = Literal["out_of_memory", "not_finite", "timeout", "crash", "data", "lost_worker", "error"]
NAMED = ("detector", "recipe", "weights")
"""Axes that are no knobs: each names something, of which knobs are turned afterwards."""


class Given(NamedTuple):
    """What the command line changes in a study's file."""

    data: str | None = None  # the data set
    sets: tuple[str, ...] = ()  # PATH=VALUE


class Study(Settings):
    """One question, asked by sweeping knobs."""

    name: Name
    """Names the folder of the records and the experiment in MLflow."""
    question: str = ""
    """What the study is to answer, in one sentence."""
    source: str | None = None
    """The published table it repeats, in studies/papers; absent for a study of one's own."""
    expected: str = ""
    """What comes out and what it costs, in words."""
    detector: str | None = None
    """A name from `detbench list detectors`, package.module:ATTRIBUTE, or a foreign model such as
    onnx:FILE; absent where it is swept or searched."""
    data: str = "shapes"
    """`shapes`, `coco2017`, or a folder in COCO layout."""
    fixed: dict[str, Any] = Field({}, alias="set")
    """Knobs that are turned for all trials: dotted path to value."""
    recipe: str | None = None
    """A recipe of studies/recipes or a file; needed when accuracy is measured, but for a trial with
    weights: without a recipe these are evaluated as they are."""
    latency: Protocol | None = None
    """`papers` times as RTMDet's and RT-DETR's papers do: TensorRT, float16, batch 1; knobs
    `latency.` that the study turns go before it."""
    weights: Weights | None = None
    """What training starts from: a file, a folder of ours, the name of a release, or a mapping."""
    measure: Annotated[tuple[Measure, ...], Field(min_length=1)] = USUAL
    """What each trial measures: `complexity`, `latency`, `accuracy`, unless it says so; `queries`
    besides accuracy: what the features are worth that a detector such as RT-DETR makes queries
    of."""
    sweep: dict[str, Swept] = {}
    """What differs between trials: `detector`, `recipe`, `weights` or a knob's dotted path, to a
    list of values, or to `values` and the condition `when` they are tried."""
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
    _bases: dict[str, Setup] = PrivateAttr(default_factory=dict)
    _given: Given = PrivateAttr(default=Given())

    def setup(self, overrides: Mapping[str, Any] | None = None) -> Setup:
        """Return what a trial is made of: what it names, the study's knobs turned, then its own.

        Args:
            overrides: of the trial; None for what stands for all of them: the first value of each
                of the axes that name something.

        Raises:
            KnobError: beginning with the path of what is wrong.
        """
        given = overrides or {}
        names = self.named(given)
        key = repr(names)
        if key not in self._bases:
            self._bases[key] = self._base(**names)
        own = {path: value for path, value in given.items() if path not in NAMED}
        return knobs.turn(self._bases[key], own)

    def named(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Return a trial's detector, recipe and weights as they are written."""
        return {name: overrides.get(name, self._usual(name)) for name in NAMED}

    @property
    def detectors(self) -> tuple[str, ...]:
        """Return the names of all detectors, whose code is trusted."""
        return tuple(dict.fromkeys(map(str, self.all_named("detector"))))

    def all_named(self, name: str) -> list[Any]:
        """Return all detectors, recipes or weights of the trials, as they are written."""
        own, axis = getattr(self, name), self.axes.get(name)
        found = () if axis is None else values_of(axis)
        is_used = own is not None or axis is None or axis.when or self.design == "one_factor"
        return [*([own] if is_used else []), *found]

    @property
    def axes(self) -> Mapping[str, Swept | Axis]:
        """Return what is swept or searched."""
        return self.search.space if self.search else self.sweep

    def _usual(self, name: str) -> Any:
        """Return what trials name that do not override it."""
        own, axis = getattr(self, name), self.axes.get(name)
        if own is not None or axis is None or axis.when or self.design == "one_factor":
            return own
        return next(iter(values_of(axis)), None)

    def _base(self, **names: Any) -> Setup:
        """Return what is named, with the knobs turned that hold for all trials."""
        detector, recipe_name, weights = (names[name] for name in NAMED)
        if not isinstance(detector, str):
            raise KnobError(f"detector: expected a name, got {detector!r}")
        if not isinstance(recipe_name, str | None):
            raise KnobError(f"recipe: expected a name, a file or null, got {recipe_name!r}")
        config = adapters.resolve(detector)
        try:
            read = None if recipe_name is None else recipe.load(_known(recipe_name))
        except RecipeError as error:
            raise KnobError(f"recipe: {error}") from error
        start = knobs.start(config, read, self.data)._replace(weights=as_weights(weights))
        protocol = PRESETS[self.latency] if self.latency else {}
        preset = {f"latency.{knob}": value for knob, value in protocol.items()}
        return knobs.turn(start, {**preset, **self.fixed})

    @property
    def given(self) -> Given:
        """Return what the command line changed in the file."""
        return self._given

    @property
    def limits(self) -> dict[str, str]:
        """Return all constraints: metric to limit."""
        return {**self.constraints, **(self.search.constraints if self.search else {})}

    def variants(self) -> list[dict[str, Any]]:
        """Return what each variant of a sweep turns.

        Raises:
            StudyError: a sweep that the design cannot have.
        """
        with at(self.place("sweep")):
            return designs.variants(self.design, self.sweep, self.setup, self.resolution)

    def confounded(self) -> list[str]:
        """Name the effects, equal signs between them, that a fraction of a grid mixes up."""
        if self.design != "fractional_factorial" or not self.sweep:
            return []
        return designs.factorial.describe(list(self.sweep), self.resolution)

    def place(self, *path: str) -> str:
        """Return the file and line of a part."""
        return self._source.place(*path)

    def where(self, path: str) -> str:
        """Return the place where something is named, set, swept or searched."""
        if path in self.axes:
            return self.place(*self._axis(path))
        return self.place(path) if path in NAMED else self.place("set", path)

    def place_of(self, path: str, index: int) -> str:
        """Return the place of one of an axis's values, in a bare list or in the long form."""
        top, key = self._axis(path), "choices" if self.search else "values"
        found = self.place(*top, key, str(index))
        return self.place(*top, str(index)) if found == self.place(*top) else found

    def place_of_weights(self, written: Any) -> str:
        """Return the place of weights among the values of their axis, else of the study's own."""
        axis = self.axes.get("weights")
        known = [] if axis is None else [short(value) for value in values_of(axis)]
        if short(written) in known:
            return self.place_of("weights", known.index(short(written)))
        return self.where("weights")

    def _axis(self, path: str) -> tuple[str, ...]:
        return ("search", "space", path) if self.search else ("sweep", path)

    @contextmanager
    def placed(self, changes: Iterable[str]) -> Iterator[None]:
        """Put the place of the knob that a message begins with before that message."""
        try:
            yield
        except KnobError as error:
            path = named_in(error, [*changes, *self.fixed, *NAMED])
            raise StudyError(f"{self.where(path)}: {error}") from error


def values_of(axis: Swept | Axis) -> tuple[Any, ...]:
    """Return the values of an axis; none of a range."""
    return axis.values if isinstance(axis, Swept) else axis.choices or ()


def named_in(error: KnobError, paths: Iterable[str]) -> str:
    """Return which of these paths a message begins with, or the path that is nearest above it."""
    named = re.split(r"[:\s]", str(error), maxsplit=1)[0]
    above = (path for path in paths if named == path or named.startswith(f"{path}."))
    return max(above, key=len, default="")


def as_weights(given: Any) -> Weights | None:
    """Return what a study says of weights.

    Raises:
        KnobError: beginning with the path of what is wrong.
    """
    if given is None or isinstance(given, Weights):
        return given
    try:
        return knobs.validate(Weights, given)
    except ValidationError as error:
        first = first_of(error)
        path = ".".join(["weights", *map(str, first["loc"])])
        if first["type"] == "extra_forbidden":
            keys = [field.alias or name for name, field in Weights.model_fields.items()]
            offered = offer(str(first["loc"][-1]), keys)
            raise KnobError(f"{path}: no such key{offered}") from error
        if first["type"] == "missing":
            raise KnobError(f"{path} is missing") from error
        message = first["msg"].removeprefix("Value error, ")
        raise KnobError(f"{path}: {message}, got {first['input']!r}") from error


def _known(name: str) -> str:
    """Return the name of a recipe, or its file, that there is."""
    if name not in recipe.names() and not os.path.isfile(name):
        offered = offer(name, recipe.names(), "detbench list recipes")
        raise RecipeError(f"no recipe {name!r}{offered}")
    return name


@contextmanager
def at(place: str) -> Iterator[None]:
    """Put a place before the message of what is refused inside."""
    try:
        yield
    except (DesignError, KnobError, RecipeError, StudyError) as error:
        raise StudyError(f"{place}: {error}") from error
