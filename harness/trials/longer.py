"""Going on with a training that is over: to more epochs, as if they had been meant from the start.

What that takes, the state of the optimiser and of the average, is four times the weights. So it is
kept for a training of one detector alone, and only where its schedule lets it go on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from detectors.config import canonical, override
from harness import adapters, data
from harness.config import knobs
from harness.config.data import DataConfig
from harness.config.knobs import Setup
from harness.config.latency import LatencyConfig
from harness.config.recipe import Recipe
from harness.config.yaml_source import StudyError
from harness.data.loader import batches_digest
from harness.records import Record, digest
from harness.study import Study
from harness.study.code import TRAINED, Fingerprints, differing
from harness.study.found import Start
from harness.study.specification import TrialSpec, specify
from harness.training import checkpoint, optimize
from harness.training.checkpoint import CheckpointError
from harness.trials import stale, trainings
from harness.trials.learn import VALIDATIONS_FILE

STEPS_AN_EPOCH = 100  # at which two schedules are compared; their shapes depend on shares alone


def why_not(recipe: Recipe, epochs: int) -> str | None:
    """Say why a finished training cannot go on to more epochs; None if it can.

    It can if a training of so many epochs would have taken the same steps until here.
    """
    if epochs <= recipe.epochs:
        return f"it has {recipe.epochs} epochs already"
    if recipe.last_epochs:
        return f"its recipe ends with {recipe.last_epochs} epochs of their own augmentation"
    done = recipe.epochs * STEPS_AN_EPOCH
    for step in range(done):
        before = optimize.learning_rate(step, done, recipe)
        if before != optimize.learning_rate(step, epochs * STEPS_AN_EPOCH, recipe):
            return f"its schedule, {recipe.schedule}, depends on the number of epochs"
    return None


def needed(spec: TrialSpec) -> Sequence[str]:
    """Name what of a training's folder is needed to go on with it; nothing where it cannot."""
    if spec.recipe is None or why_not(spec.recipe, spec.recipe.epochs + 1):
        return ()
    return (trainings.CHECKPOINT, VALIDATIONS_FILE)


def keep(training: Path, folder: Path, names: Sequence[str]) -> None:
    """Copy into a trial's folder what going on with its training takes."""
    for name in names:
        source, target = training / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copyfile(source, target)


def specified(found: Record, folder: Path, epochs: int) -> TrialSpec:
    """Return the trial that a finished one becomes with more epochs.

    Args:
        found: its record.
        folder: its folder.
        epochs: in all.

    Raises:
        StudyError: its schedule does not allow it, it trained nothing, or its code has changed.
    """
    setup = _setup(found.config, found.detector)
    if setup.recipe is None or found.state != "done" or "training" not in found.details:
        raise StudyError(f"{folder}: holds no finished training; name one with --resume")
    reason = why_not(setup.recipe, epochs)
    if reason is not None:
        raise StudyError(f"{folder}: cannot go on to {epochs} epochs: {reason}; {_instead(folder)}")
    before, after = (_specified(found, setup, number) for number in (setup.recipe.epochs, epochs))
    trained, now = (
        {part: code.get(part, {}) for part in TRAINED} for code in (found.code, before.code)
    )
    if trained != now:
        files = differing(trained, now) if found.code else []
        raise StudyError(
            f"{folder}: was trained by other code ({stale.changed(files)}), so that going on would"
            f" mix two; {_instead(folder)}"
        )
    told = found.details["training"]["training"]
    if told == before.training:
        return after
    # It began from weights: what it becomes is told apart by where it comes from.
    start = found.details.get("start")
    changes = {
        "goes_on": told,
        "trial": digest([after.trial, told]),
        "start": start and Start.model_validate_json(json.dumps(start)),
    }
    return after.model_copy(update=changes)


def prepare(folder: Path, spec: TrialSpec, epochs_before: int, out: Path, device: str) -> None:
    """Put the state of a finished training where its longer trial looks for one.

    Args:
        folder: of the finished training.
        spec: of the longer one.
        epochs_before: of the finished one.
        out: folder of the longer one.
        device: that it goes on on.

    Raises:
        StudyError: the state is gone, damaged, or that of another training or kind of device.
    """
    assert spec.recipe is not None
    config, data_set = canonical(spec.setup.detector), spec.dataset["fingerprint"]
    shorter = spec.recipe.model_copy(update={"epochs": epochs_before})
    wanted, found = (
        checkpoint.identify(config, data_set, recipe, spec.seed, torch.device(device))
        for recipe in (spec.recipe, shorter)
    )
    kept = folder / trainings.CHECKPOINT
    try:
        state = checkpoint.read(kept, found)
    except CheckpointError as error:
        reason = str(error).partition("; remove")[0]
        raise StudyError(f"{reason}; {_instead(folder)}") from error
    if state is None:
        raise StudyError(f"{kept}: no state that training goes on from; {_instead(folder)}")
    partial = trainings.partial_folder(out / trainings.OWN_SHELF, spec.training)
    target = partial / trainings.CHECKPOINT
    if checkpoint.read(target, wanted) is None:  # else it was begun, and goes on from there
        loader = {**state["loader"], "recipe": batches_digest(spec.recipe)}
        state |= {"identity": wanted, "loader": loader}
        checkpoint.write(state, target / checkpoint.FILE)
        keep(folder, partial, (VALIDATIONS_FILE,))


def _instead(folder: Path) -> str:
    return f"--weights {folder} begins a new training from its weights"


def _specified(found: Record, setup: Setup, epochs: int) -> TrialSpec:
    assert setup.recipe is not None
    setup = setup._replace(recipe=setup.recipe.model_copy(update={"epochs": epochs}))
    tree = {"name": found.study, "detector": found.detector, "seeds": [found.seed]}
    study = knobs.validate(Study, {**tree, "measure": found.protocol["measure"]})
    code = Fingerprints(found.detector).of(setup.detector, study.measure)
    return specify(study, setup, found.overrides, found.seed, data.load(setup.data), code)


def _setup(config: Mapping[str, Any], detector: str) -> Setup:
    """Return the configuration of a record, typed."""
    parts: dict[str, dict[str, Any]] = {root: {} for root in knobs.ROOTS}
    for path, value in config.items():
        root, _, rest = path.partition(".")
        if root in parts:  # what it began from is told in the record's details
            parts[root][rest] = value
    recipe = _nested(parts["recipe"])
    return Setup(
        override(adapters.resolve(detector), parts["detector"]),
        knobs.validate(Recipe, recipe) if recipe else None,
        knobs.validate(DataConfig, _nested(parts["data"])),
        knobs.validate(LatencyConfig, _nested(parts["latency"])),
    )


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *groups, name = path.split(".")
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[name] = value
    return tree
