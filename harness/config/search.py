"""What stands under `search:` and `racing:` in a study, and what each key means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, field_validator
from pydantic import model_validator as whole_validator

from harness.config.axes import Axis
from harness.config.knobs import nearest, validate
from harness.config.settings import Settings

Direction = Literal["maximize", "minimize"]


class Tpe(Settings):
    """Model good and bad values of each knob by densities; the default."""

    type: Literal["tpe"] = "tpe"
    n_startup_trials: PositiveInt = 10
    """Trials drawn at random before the model is asked."""
    n_ei_candidates: PositiveInt = 24
    """Draws of which the best is taken."""
    multivariate: bool | None = None
    """Whether knobs are modelled together; when absent, with one objective only."""


class Nsga2(Settings):
    """Cross and mutate the best of a population: for several objectives and many trials."""

    type: Literal["nsga2"] = "nsga2"
    population_size: Annotated[int, Field(ge=2)] = 20
    """Trials of a generation."""
    mutation_prob: Annotated[float, Field(ge=0, le=1)] | None = None
    """Probability that a knob is drawn anew; one over the number of knobs when absent."""
    crossover_prob: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Probability that two parents are crossed."""


class Gp(Settings):
    """Model the objectives by Gaussian processes: for few and costly trials."""

    type: Literal["gp"] = "gp"
    n_startup_trials: PositiveInt = 10
    """Trials drawn at random before the model is asked."""
    deterministic_objective: bool = False
    """Whether a configuration always gives the same outcome."""


class Random(Settings):
    """Draw every knob independently: what the others are compared with."""

    type: Literal["random"] = "random"


class Qmc(Settings):
    """Fill the space evenly; conditional knobs and choices are drawn at random."""

    type: Literal["qmc"] = "qmc"
    qmc_type: Literal["sobol", "halton"] = "sobol"
    """The sequence."""


class Median(Settings):
    """Stop a trial that is worse than the median of the others at the same epoch."""

    type: Literal["median"] = "median"
    n_startup_trials: NonNegativeInt = 5
    """Finished trials before any is stopped."""
    n_warmup_steps: NonNegativeInt = 0
    """Epochs in which none is stopped."""


class Hyperband(Settings):
    """Give short budgets to many trials, and long ones to the best of them."""

    type: Literal["hyperband"] = "hyperband"
    min_resource: PositiveInt = 1
    """Epochs of the shortest budget."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """One of so many goes on."""


class Halving(Settings):
    """Let one of several trials go on at each rung of epochs."""

    type: Literal["halving"] = "halving"
    min_resource: PositiveInt = 1
    """Epochs of the first rung."""
    reduction_factor: Annotated[int, Field(ge=2)] = 4
    """One of so many goes on."""


class Dominated(Settings):
    """Stop a trial whose optimistic outcome is dominated by a finished one; any objectives."""

    type: Literal["dominated"] = "dominated"
    margin: NonNegativeFloat = 0.01
    """Added to the largest remaining gain that was seen, in units of the metric."""
    finished: PositiveInt = 5
    """Finished trials before any is stopped."""


Sampler: TypeAlias = Tpe | Nsga2 | Gp | Random | Qmc
Pruner: TypeAlias = Median | Hyperband | Halving | Dominated
SAMPLERS: dict[str, type[Settings]] = {
    "tpe": Tpe,
    "nsga2": Nsga2,
    "gp": Gp,
    "random": Random,
    "qmc": Qmc,
}
PRUNERS: dict[str, type[Settings]] = {
    "median": Median,
    "hyperband": Hyperband,
    "halving": Halving,
    "dominated": Dominated,
}


class Search(Settings):
    """A search by Optuna in place of a sweep."""

    space: Annotated[dict[str, Axis], Field(min_length=1)]
    """Dotted path of a knob: its values."""
    objectives: Annotated[dict[str, Direction], Field(min_length=1)]
    """Metric: `maximize` or `minimize`."""
    constraints: dict[str, str] = {}
    """Metric: a limit such as `<= 6e6`; a variant beyond it is not trained."""
    sampler: Sampler = Tpe()
    """Where the next trial is looked for: a name, or `type` and its options."""
    pruner: Pruner | None = None
    """Which trials are stopped early: a name, or `type` and its options; absent for none."""
    trials: PositiveInt
    """How many are proposed in all."""
    seed: NonNegativeInt = 0
    """Of the sampler."""
    reference: dict[str, float] = {}
    """Objective: the worst value of interest, from which the page measures hypervolume; absent for
    the worst that was seen."""

    @field_validator("sampler", mode="before")
    @classmethod
    def _named_sampler(cls, given: Any) -> Any:
        return chosen(SAMPLERS, given)

    @field_validator("pruner", mode="before")
    @classmethod
    def _named_pruner(cls, given: Any) -> Any:
        return None if given is None else chosen(PRUNERS, given)

    @whole_validator(mode="after")
    def _fit(self) -> Search:
        if self.reference and set(self.reference) != set(self.objectives):
            raise ValueError(f"reference names each objective once: {', '.join(self.objectives)}")
        if len(self.objectives) > 1 and not isinstance(self.pruner, Dominated | None):
            raise ValueError(
                f"pruner {self.pruner.type} takes one objective; with several use dominated"
            )
        return self


class Racing(Settings):
    """More seeds, but only where it is still open whether a variant is the best."""

    seeds: Annotated[int, Field(ge=2)]
    """Most seeds of a variant; the first are the study's own."""
    metric: str = "mAP"
    """What variants are compared by."""
    direction: Direction = "maximize"
    """Which end of it is the better."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """That no variant is dropped which is as good as the best."""
    runs: PositiveInt | None = None
    """Most runs in all, the first seeds included; absent for no such limit."""


def chosen(kinds: Mapping[str, type[Settings]], given: Any) -> Settings:
    """Read a name, or a mapping whose `type` is one.

    Raises:
        ValueError: an unknown name or option.
        ValidationError: an option that does not fit.
    """
    if isinstance(given, Settings):
        return given
    tree = {"type": given} if isinstance(given, str) else given
    name = tree.get("type") if isinstance(tree, Mapping) else None
    if name not in kinds:
        hint = nearest(str(name), list(kinds)).rstrip(";")
        raise ValueError(f"expected one of {', '.join(kinds)}, or type and options{hint}")
    kind = kinds[str(name)]
    known = list(kind.model_fields)
    for option in tree:
        if option not in known:
            hint = nearest(str(option), known)
            raise ValueError(f"{name} has no option {option!r}{hint} it has {', '.join(known)}")
    return validate(kind, tree)
