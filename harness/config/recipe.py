"""A training recipe: what turns a fresh detector into a trained one."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from harness.config import yaml_source
from harness.config.augmentation import Augment
from harness.config.settings import Settings, knobs, place
from harness.config.yaml_source import StudyError

AUTO = "auto"
LEAVES_RESULT = ("workers", "cache_bytes", "checkpoint_minutes")
FOLDER = Path(__file__).parents[2] / "studies" / "recipes"


_Share = Annotated[float, Field(ge=0, lt=1)]


class RecipeError(ValueError):
    """A recipe that cannot be read, or that cannot be followed."""


class Recipe(Settings):
    """How a detector is trained."""

    epochs: PositiveInt
    """Passes over the training images."""
    batch_size: PositiveInt
    """Images an optimiser step, over all devices and accumulated micro-batches."""
    accumulate: PositiveInt = 1
    """Micro-batches per optimiser step; divides `batch_size`."""
    lr: PositiveFloat
    """Learning rate after warm-up, for `lr_base_batch` images per step, else for `batch_size`."""
    lr_base_batch: PositiveInt | None = None
    """Images per step that `lr` is stated for: with another `batch_size` it grows in proportion.
    Null for an `lr` that is taken as it is. Steps of warm-up and moving average don't follow."""
    backbone_lr: PositiveFloat | Literal["auto"] = 1.0
    """Share of `lr` with which the backbone learns; `auto` as published where it starts from
    weights, else 1."""
    frozen: tuple[Literal["backbone", "neck", "head"], ...] = ()
    """Stages that don't learn, their norms' statistics included; they need pre-trained weights."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or stochastic gradient descent with momentum."""
    betas: tuple[_Share, _Share] = (0.9, 0.999)
    """Decay of AdamW's averages of the gradient and of its square."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of SGD."""
    nesterov: bool = False
    """Whether SGD looks ahead along its momentum."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Decay of weights; AdamW's is apart from the gradient, SGD's is added to it."""
    no_decay: Literal["norm_bias", "none"] | tuple[str, ...] = "norm_bias"
    """Parameters without decay: `norm_bias` those of norms and all biases, `none` no parameter, or
    regular expressions that are searched in their names."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimiser steps over which the learning rate rises linearly; the last has the full rate."""
    warmup_start: float = Field(default=1e-5, gt=0, le=1)
    """Share of `lr` at which the warm-up begins."""
    schedule: Literal["flat_cosine", "cosine", "step", "constant"] = "flat_cosine"
    """`flat_cosine` holds `lr`, then follows half a cosine down to `lr_end`; `cosine` follows it
    from the start; `step` falls at every share in `step_at`."""
    flat_until: float = Field(default=0.5, ge=0, le=1)
    """Share of all steps after which the cosine of `flat_cosine` begins."""
    lr_end: float = Field(default=0.05, ge=0, le=1)
    """Share of `lr` that the cosine reaches at the end of the last epoch."""
    step_at: tuple[_Share, ...] = (2 / 3, 11 / 12)
    """Shares of all steps at which the learning rate of `step` falls; the default is the usual one
    of 12 epochs, after 8 and 11."""
    step_factor: float = Field(default=0.1, gt=0, le=1)
    """What the learning rate of `step` is multiplied with each time."""
    ema_decay: float | None = Field(default=0.9998, gt=0, lt=1)
    """Decay of the weights' moving average, which is what is evaluated and kept; null for none."""
    ema_ramp: PositiveFloat = 2000.0
    """Steps over which the moving average's decay rises towards `ema_decay`."""
    clip_norm: PositiveFloat | None = None
    """Largest norm of the gradient; null for none."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass; losses and matching are always in float32."""
    sync_norm: bool = True
    """Whether batch norms see the images of all processes; with one process, or on a CPU, which
    cannot, they see their own micro-batch."""
    channels_last: bool = False
    """Whether images and weights lie in memory channel by channel, which many GPUs prefer."""
    validate_every: PositiveInt = 10
    """Epochs between two evaluations on the validation split; the last epoch always is."""
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Processes that load images; 0 for the one that trains. `auto` follows the cores: on a CPU one
    for every four threads of the operators, so none on two cores, where they would only disturb
    those; on a GPU all cores but the one that drives it. At most 8. Changes no result."""
    checkpoint_minutes: PositiveFloat = 10.0
    """Time between two checkpoints within an epoch; there is one at the end of each, too."""
    cache_bytes: int = Field(default=1 << 31, ge=0)
    """Shared memory for decoded and mixed images, at most; less costs time and changes nothing."""
    on_corrupt: Literal["refuse", "skip"] = "refuse"
    """What to do with an image that cannot be read: stop, or take the next one and count it."""
    augment: Augment = Augment()
    """What happens to a training image."""
    last_epochs: int = Field(default=0, ge=0)
    """Epochs at the end with an augmentation of their own, `last_augment`."""
    last_augment: Augment | None = None
    """What happens to an image in the last epochs; null for `augment` without Mosaic and MixUp."""

    @model_validator(mode="after")
    def _accumulate_divides_batch_size(self) -> Recipe:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"accumulate {self.accumulate} does not divide batch_size {self.batch_size}"
            )
        return self

    @model_validator(mode="after")
    def _optimizer_exists(self) -> Recipe:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov looks ahead along the momentum, which is 0; raise momentum")
        for pattern in self.no_decay if isinstance(self.no_decay, tuple) else ():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"no_decay: {pattern!r} cannot be searched: {error}") from None
        return self

    @model_validator(mode="after")
    def _something_learns(self) -> Recipe:
        if len(set(self.frozen)) < len(self.frozen):
            raise ValueError(f"frozen names a stage twice: {', '.join(self.frozen)}")
        if len(self.frozen) == 3:
            raise ValueError("frozen names all stages; leave one out, so that something learns")
        return self

    @model_validator(mode="after")
    def _last_epochs_fit(self) -> Recipe:
        if self.last_epochs > self.epochs:
            raise ValueError(f"last_epochs {self.last_epochs} of only {self.epochs} epochs")
        return self

    @property
    def scaled_lr(self) -> float:
        """Learning rate after warm-up, for `batch_size` images per step."""
        return self.lr * self.batch_size / (self.lr_base_batch or self.batch_size)

    def of_result(self) -> dict[str, Any]:
        """Return the knobs that change what comes out, and not only how fast or how safely.

        Where nothing is frozen, the knob that says so is left out, as before there was one.
        """
        neutral = set() if self.frozen else {"frozen"}
        return self.model_dump(mode="json", exclude={*LEAVES_RESULT, *neutral})

    def augment_of(self, epoch: int) -> Augment:
        """Return what happens to the images of an epoch, counted from 0."""
        if not self.last_epochs or epoch < self.epochs - self.last_epochs:
            return self.augment
        unmixed = self.augment.model_copy(update={"mosaic": None, "mixup": None})
        return self.last_augment or unmixed


def load(name_or_path: str | Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe and change some of its knobs.

    Args:
        name_or_path: a file, or the name of one in studies/recipes.
        changes: dotted path, such as `augment.flip`, to value.

    Raises:
        RecipeError: no such recipe, an unknown knob, or a value of the wrong type.
    """
    file = _find(name_or_path)
    try:
        values = yaml_source.read(file, "knobs, one `name: value` a line").value
    except StudyError as error:
        raise RecipeError(str(error)) from error
    for path, value in (changes or {}).items():
        _set(values, path, value)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{file}: {_explain(error)}") from error


def names() -> list[str]:
    """Return the names of the recipes that come with the package."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def _find(name_or_path: str | Path) -> Path:
    named, path = FOLDER / f"{name_or_path}.yaml", Path(name_or_path)
    if os.path.isfile(named):
        return named
    if os.path.isfile(path):
        return path
    nearest = difflib.get_close_matches(str(name_or_path), names(), n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ";"
    raise RecipeError(f"no recipe {str(name_or_path)!r}{hint} There is {', '.join(names())}.")


def _set(values: dict[str, Any], path: str, value: Any) -> None:
    """Set one knob in nested mappings."""
    *groups, name = path.split(".")
    for group in groups:
        inner = values.get(group)
        values[group] = dict(inner) if isinstance(inner, dict) else {}
        values = values[group]
    values[name] = value


def _explain(error: ValidationError) -> str:
    """Say in one line what is wrong with the first knob that is refused."""
    first = error.errors()[0]
    path = place(first["loc"])
    if first["type"] == "extra_forbidden":
        known = knobs(Recipe)
        nearest = difflib.get_close_matches(path, known, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ";"
        return f"no knob {path!r}{hint} A recipe has {', '.join(known)}."
    if first["type"] == "missing":
        return f"{path} is missing"
    if first["type"] == "value_error":
        return ": ".join(filter(None, [path, str(first["ctx"]["error"])]))
    return f"{path}: {first['msg']}, got {first['input']!r}"
