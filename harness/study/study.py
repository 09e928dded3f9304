"""A study: which knobs are swept or searched, over which values, and what its trials measure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import Field, PrivateAttr

from detectors.config import KnobError
from harness.config.knobs import Setup
from harness.config.recipe import RecipeError
from harness.config.search import Racing, Search
from harness.config.settings import Settings
from harness.config.yaml_source import Source, StudyError
from harness.records import Name
from harness.study import designs
from harness.study.designs import Design, DesignError

Measure = Literal["complexity", "latency", "accuracy"]
Cause = Literal["out_of_memory", "not_finite", "timeout", "crash", "data", "lost_worker", "error"]
NonEmpty = Annotated[tuple[Any, ...], Field(min_length=1)]


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
    _given: Given = PrivateAttr(default=Given())

    def setup(self) -> Setup:
        """Return what the trials have in common."""
        return self._setup

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
            return designs.variants(self.design, self.sweep, self.setup(), self.resolution)

    def confounded(self) -> list[str]:
        """Name the effects, equal signs between them, that a fraction of a grid mixes up."""
        if self.design != "fractional_factorial" or not self.sweep:
            return []
        return designs.factorial.describe(list(self.sweep), self.resolution)

    def place(self, *path: str) -> str:
        """Return the file and line of a part."""
        return self._source.place(*path)

    def where(self, path: str) -> str:
        """Return the place where a knob is set, swept or searched, or the study's own."""
        if self.search is not None and path in self.search.space:
            return self.place("search", "space", path)
        return self.place("sweep" if path in self.sweep else "set", path)

    @contextmanager
    def placed(self, changes: Iterable[str]) -> Iterator[None]:
        """Put the place of the knob that a message begins with before that message."""
        try:
            yield
        except KnobError as error:
            named = re.split(r"[:\s]", str(error), maxsplit=1)[0]
            path = next((p for p in changes if named == p or named.startswith(f"{p}.")), "")
            raise StudyError(f"{self.where(path)}: {error}") from error


@contextmanager
def at(place: str) -> Iterator[None]:
    """Put a place before the message of what is refused inside."""
    try:
        yield
    except (DesignError, KnobError, RecipeError, StudyError) as error:
        raise StudyError(f"{place}: {error}") from error
