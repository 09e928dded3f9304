"""One trial before it is run: its configuration, its protocol, and the hash that names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectors import kind_of
from detectors.config import canonical, flatten, of_result, override
from detectors.config import describe as describe_config
from harness import adapters
from harness.config.axes import short
from harness.config.data import DataConfig
from harness.config.knobs import Setup
from harness.config.latency import LatencyConfig
from harness.config.recipe import Recipe
from harness.config.settings import Settings
from harness.data import DataSet
from harness.measure.accuracy.evaluate import (
    BACKGROUND_IOU,
    FOUND_IOU,
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
)
from harness.measure.accuracy.queries import PLACED, SURE
from harness.measure.latency.timer import SYNC
from harness.records import SCHEMA, digest
from harness.study import code as codes
from harness.study.code import TRAINED, Code
from harness.study.found import Start
from harness.study.study import Study

EVALUATOR = "hotcoco"  # its version is in a record's `environment`


class TrialSpec(Settings):
    """Everything that a trial needs to run, in any process."""

    study: str
    trial: str
    """Hash of what determines the result, its code included, not of the machine."""
    name: str
    """The overrides in short."""
    detector: str
    knobs: dict[str, Any]
    """The detector's flat config."""
    recipe: Recipe | None
    data: DataConfig
    latency: LatencyConfig
    measure: tuple[str, ...]
    seed: int
    overrides: dict[str, Any]
    start: Start | None = None
    """Weights that training starts from, or that are evaluated where there is no recipe."""
    goes_on: str | None = None
    """Hash of the training that this one goes on with, which began from weights."""
    trusted: tuple[str, ...] = ()
    """Detectors that the study names, whose code may run."""
    cheap_latency: bool = False
    """Whether the judge wants to know how long the untrained network takes."""
    protocol: dict[str, Any]
    protocol_hash: str
    dataset: dict[str, Any]
    """Name, fingerprint, classes and size of the data set."""
    code: Code = {}
    """Source that computes the results: part to file to fingerprint."""
    fresh: bool = False
    """Whether results that other versions of libraries computed are not taken over."""

    @property
    def title(self) -> str:
        """Name the trial with its seed."""
        return f"{self.name} (seed {self.seed})"

    @property
    def training(self) -> str:
        """Hash what determines the trained weights; trials that share it need one training.

        The defaults of inference-only knobs don't: a training says which it was validated with.
        """
        config = canonical(self.setup.detector)
        known = describe_config(config)
        return digest(
            {
                "schema": SCHEMA,
                "detector": kind_of(config),
                "knobs": {
                    knob.path: knob.value
                    for knob in known
                    if not (knob.inference_only or knob.unsaid)
                },
                "data": self.dataset["fingerprint"],
                "recipe": _of_result(self.recipe),
                "seed": self.seed,
                "weights": self.goes_on or (self.start.identity if self.start else None),
                "code": codes.identity(self.code, TRAINED),
            }
        )

    @property
    def setup(self) -> Setup:
        """Return the configuration, typed."""
        config = override(adapters.resolve(self.detector), self.knobs)
        weights = self.start.weights if self.start and not self.start.brought else None
        return Setup(config, self.recipe, self.data, self.latency, weights)

    @property
    def trains(self) -> bool:
        """Whether the trial trains, and does not only look at weights that there are."""
        return "accuracy" in self.measure and self.recipe is not None

    @property
    def arithmetic(self) -> dict[str, str]:
        """Return the arithmetic that the trial asks for: knob to value."""
        asked = {}
        if self.recipe is not None and self.trains:
            asked["recipe.precision"] = str(self.recipe.precision)
        if "latency" in self.measure:
            asked["latency.precision"] = str(self.latency.precision)
        return asked

    @property
    def classes(self) -> list[str] | None:
        """Return the names of the detector's labels: the data set's, or those of its weights."""
        if self.start is None or self.recipe is not None:
            return list(self.dataset["classes"])
        return None if self.start.known is None else list(self.start.known)

    @property
    def config(self) -> dict[str, Any]:
        """Return every knob of detector, recipe, data and latency by dotted path."""
        return self.setup.flat()


def specify(
    study: Study,
    setup: Setup,
    overrides: Mapping[str, Any],
    seed: int,
    dataset: DataSet,
    code: Code,
    start: Start | None = None,
) -> TrialSpec:
    """Write down one trial of a study."""
    trained = "accuracy" in study.measure
    protocol = _protocol(study.measure, setup, dataset.fingerprint)
    if start is not None and start.shared is not None:
        protocol["classes"] = list(start.shared)
    result = {
        "schema": SCHEMA,
        "detector": kind_of(setup.detector),
        "knobs": of_result(setup.detector),
        "data": dataset.fingerprint,
        "recipe": _of_result(setup.recipe) if trained else None,
        "seed": seed,
        "protocol": protocol,
        "code": codes.identity(code, code),
    }
    return TrialSpec(
        study=study.name,
        trial=_named(result, start),
        name=describe(overrides),
        detector=str(study.named(overrides)["detector"]),
        knobs=flatten(setup.detector),
        recipe=setup.recipe,
        data=setup.data,
        latency=setup.latency,
        measure=study.measure,
        seed=seed,
        overrides=dict(overrides),
        protocol=protocol,
        protocol_hash=digest(protocol),
        dataset=dataset.summary() | {"fingerprint": dataset.fingerprint},
        code=code,
        start=start,
        trusted=study.detectors,
    )


def _named(result: Mapping[str, Any], start: Start | None) -> str:
    """Hash what determines a result."""
    own = digest(result)
    return own if start is None else digest([own, start.identity])


def describe(overrides: Mapping[str, Any]) -> str:
    """Write overrides in short, e.g. "backbone.expand_ratio=0.25, recipe.lr=0.002"."""
    parts = (f"{path.removeprefix('detector.')}={short(v)}" for path, v in overrides.items())
    return ", ".join(parts) or "baseline"


def _protocol(measure: tuple[str, ...], setup: Setup, fingerprint: str) -> dict[str, Any]:
    """Say what the figures mean: figures of different protocols are not comparable.

    A knob that was added later is not in it at its default, so that it stays what it was.
    """
    parts = ("input.", "postprocess.")
    known = of_result(setup.detector)
    protocol: dict[str, Any] = {
        "schema": SCHEMA,
        "measure": sorted(measure),
        "data": fingerprint,
        **{path: value for path, value in known.items() if path.startswith(parts)},
    }
    if "accuracy" in measure:
        protocol |= {
            "evaluator": EVALUATOR,
            "max_detections": MAX_DETECTIONS,
            "iou_thresholds": IOU_THRESHOLDS,
            "tide": {"found": FOUND_IOU, "background": BACKGROUND_IOU},
        }
    if "queries" in measure:
        protocol["queries"] = {"score": SURE, "overlap": PLACED}
    if "latency" in measure:
        protocol["latency"] = setup.latency.of_result()
        protocol["sync"] = SYNC
    return protocol


def _of_result(recipe: Recipe | None) -> dict[str, Any] | None:
    """Return what of a recipe determines the result."""
    return None if recipe is None else recipe.of_result()
