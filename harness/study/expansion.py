"""From a study to its trials: every combination of its values, written down one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from detectors import WeightsError
from harness import adapters, data
from harness.config import knobs
from harness.config.data import DataConfig
from harness.config.knobs import Setup
from harness.config.yaml_source import StudyError
from harness.data import DataSet
from harness.data.classes import Choice, ClassError
from harness.data.loader import NO_TRAINING
from harness.released import resolve_auto
from harness.study import fitting
from harness.study.code import Fingerprints
from harness.study.fitting import check_size
from harness.study.found import Start
from harness.study.search import judge
from harness.study.specification import TrialSpec, specify
from harness.study.start import OF_CLASSES, Starts
from harness.study.study import Study, at

OpenData = Callable[[DataConfig], DataSet]


class Specs:
    """Writes down the trials of a study, opening each data set and weights that they need once."""

    def __init__(
        self, study: Study, open_data: OpenData = data.load, choice: Choice | None = None
    ) -> None:
        self.study, self.open_data, self.choice = study, open_data, choice
        self.opened: dict[DataConfig, DataSet] = {}
        self.fingerprints: dict[str, Fingerprints] = {}
        self.starts = Starts()

    def __call__(self, overrides: Mapping[str, Any], seed: int) -> TrialSpec:
        """Write down one trial.

        Raises:
            StudyError: an impossible combination.
            DataError: a data set that cannot be used.
        """
        study = self.study
        setup, dataset, start = self._begun(overrides)
        detector = str(study.named(overrides)["detector"])
        code = self._code_of(detector).of(setup.detector, study.measure)
        spec = specify(study, setup, overrides, seed, dataset, code, start)
        return spec.model_copy(update={"cheap_latency": judge.needs_latency(study)})

    def check_weights(self) -> None:
        """See that the weights of a search fit all detectors that it may give them to.

        Raises:
            StudyError: some do not.
        """
        for row in fitting.rows(self.study):
            if self.study.named(row)["weights"] is not None:
                self._begun(row)

    def _begun(self, overrides: Mapping[str, Any]) -> tuple[Setup, DataSet, Start | None]:
        """Return what a trial is made of, matched with its data set."""
        study = self.study
        with study.placed(overrides):
            setup = study.setup(overrides)
        if setup.data not in self.opened:
            self.opened[setup.data] = self.open_data(setup.data)
        dataset = self.opened[setup.data]
        setup = _with_classes(study, setup, overrides, dataset)
        setup = resolve_auto(setup, _has_backbone(study, setup))
        counted = "detector.num_classes" not in {**study.fixed, **overrides}
        try:
            setup, start = self.starts.of(setup, dataset, self.choice, count=counted)
        except (ClassError, StudyError, WeightsError) as error:
            raise StudyError(_refused(study, overrides, setup, error)) from error
        if "accuracy" in study.measure:
            with at(study.where("recipe.frozen")):
                _check_frozen(setup, start)
        return setup, dataset, start

    def _code_of(self, detector: str) -> Fingerprints:
        if detector not in self.fingerprints:
            self.fingerprints[detector] = Fingerprints(detector)
        return self.fingerprints[detector]


def expand(
    study: Study, open_data: OpenData = data.load, choice: Choice | None = None
) -> list[TrialSpec]:
    """List a study's trials in the order they are run: seed by seed, the last axis fastest.

    Args:
        study: from `load`.
        open_data: opens a data set; called once for each that the trials need.
        choice: what the command line says of the weights' classes.

    Raises:
        StudyError: an impossible combination, two trials that are the same, or a search, whose
            trials follow from each other.
        DataError: a data set that cannot be used.
    """
    if study.search is not None:
        raise StudyError(f"{study.place('search')}: a search finds its trials as it goes")
    make, specs = Specs(study, open_data, choice), dict[str, TrialSpec]()
    for seed, overrides in itertools.product(study.seeds, study.variants()):
        spec = make(overrides, seed)
        if spec.trial in specs:
            raise StudyError(_same(study, specs[spec.trial], spec))
        specs[spec.trial] = spec
    return list(specs.values())


def _has_backbone(study: Study, setup: Setup) -> bool:
    """Say whether a trial's backbone is not to be trained from nothing."""
    given = setup.weights
    is_given = given is not None and (given.parts is None or "backbone" in given.parts)
    return is_given or setup.recipe is None or "accuracy" not in study.measure


def _with_classes(
    study: Study, setup: Setup, overrides: Mapping[str, Any], dataset: DataSet
) -> Setup:
    """Let the number of classes follow the data set, unless the study sets it; check the input."""
    wanted, path = len(dataset.categories), "detector.num_classes"
    if adapters.brings_weights(setup.detector):
        pass  # it tells as many classes apart as it was trained to
    elif path not in {**study.fixed, **overrides}:
        setup = knobs.turn(setup, {path: wanted})
    elif setup.detector.num_classes < wanted and "accuracy" in study.measure:
        raise StudyError(
            f"{study.where(path)}: {path} is {setup.detector.num_classes}, but data set "
            f"{dataset.name} has {wanted} classes; leave {path} out, and it follows the data"
        )
    with at(study.where("detector.input.size")):
        check_size(setup.detector)
    if setup.detector.input.varies and setup.recipe is not None and "accuracy" in study.measure:
        raise StudyError(f"{study.where('detector.input.resize')}: {NO_TRAINING}")
    return setup


def _check_frozen(setup: Setup, start: Start | None) -> None:
    """Refuse to freeze a stage that weights don't give whole: nobody would have trained it.

    Args:
        setup: of a trial that trains.
        start: of it; None without weights.

    Raises:
        StudyError: a frozen stage starts anew, or its rows of classes do.
    """
    for stage in setup.recipe.frozen if setup.recipe else ():
        given = start is not None and (start.parts is None or stage in start.parts)
        if not given:
            raise StudyError(
                f"recipe.frozen: {stage} comes from no weights here, and what nobody trained would"
                " never learn; leave it out of recipe.frozen, or name `weights:` that have it"
            )
        rows = start.labels if start is not None and stage == OF_CLASSES else None
        if rows == "fresh" or (isinstance(rows, tuple) and None in rows):
            raise StudyError(
                f"recipe.frozen: {stage} tells classes apart, and some start anew here, which would"
                " never learn; leave it out of recipe.frozen"
            )


def _refused(study: Study, overrides: Mapping[str, Any], setup: Setup, error: ValueError) -> str:
    """Say where the weights are named that are refused, which these are, and for which detector."""
    if setup.weights is None:  # they are a foreign model's own
        return f"{study.where('detector')}: {error}"
    place, text = study.place_of_weights(overrides.get("weights")), str(error)
    source, detector = setup.weights.source, study.named(overrides)["detector"]
    whose = "" if source in text else f"weights {source} for {detector}: "
    return f"{place}: {whose}{text}"


def _same(study: Study, first: TrialSpec, second: TrialSpec) -> str:
    return (
        f"{study.place('sweep')}: two trials are the same: {first.title!r} and {second.title!r} "
        "lead to one configuration; take one of them out"
    )
