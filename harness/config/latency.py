"""How latency is measured."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from harness.config.runtime import Name, RuntimeConfig

LEAVES_RESULT = ("together_seconds",)
PRESETS: dict[str, dict[str, Any]] = {
    "papers": {"runtime": "tensorrt", "precision": "fp16", "batch_size": 1},
}
"""Knobs that a study's key `latency` turns at once. `papers` is how RTMDet and RT-DETR were timed
(arXiv 2212.07784, section 4.1; arXiv 2304.08069, section 5.1: TensorRT, float16, batch 1); NMS is
part of the latency all the same."""


class LatencyConfig(RuntimeConfig):
    """How latency is measured."""

    batch_size: PositiveInt = 1
    """Images a call."""
    threads: PositiveInt | None = None
    """Threads inside an operator on a CPU; null leaves torch's own choice."""
    images: PositiveInt = 32
    """Validation images that take turns, from the first on."""
    block: PositiveInt = 8
    """Calls in a row a subject gets each round; fewer where a call takes long."""
    min_samples: PositiveInt = 100
    """Calls of a subject before the interval may end the measurement."""
    max_samples: PositiveInt = 1000
    """Calls of a subject after which the measurement ends."""
    seconds: PositiveFloat = 10.0
    """Time for a subject's calls, after which the measurement ends; its stages take half of it."""
    target_interval: PositiveFloat = 0.01
    """Half width of the median's 95 % interval, as a share of it, at which the measurement ends."""
    warmup_seconds: float = Field(5.0, ge=0)
    """Time for a subject's warm-up, which ends as soon as every trace is steady."""
    reference: bool = True
    """Whether a reference workload takes turns with the subjects, and limits are measured."""
    preprocess: bool = False
    """Whether making the images from decoded photographs is timed, in a pass of its own."""
    together_seconds: float = Field(4.0, ge=0)
    """Time for a trial's calls when a study's finished trials are timed once more, together, after
    which that ends; it ends before once every ratio is known to within `target_interval`. Stages
    take half of it. 0 leaves every trial with the latency that it was timed with alone."""

    @model_validator(mode="after")
    def _ordered(self) -> LatencyConfig:
        if self.max_samples < self.min_samples:
            raise ValueError(
                f"max_samples {self.max_samples} is below min_samples {self.min_samples}"
            )
        return self

    def of_result(self) -> dict[str, Any]:
        """Return the knobs that say how a trial is timed, and not what its study adds to that."""
        return self.model_dump(mode="json", exclude=set(LEAVES_RESULT))

    def deployment(self, runtime: Name | None = None) -> RuntimeConfig:
        """Return how a network is run, by another runtime if one is given."""
        own = {name: getattr(self, name) for name in RuntimeConfig.model_fields}
        return RuntimeConfig(**own | ({"runtime": runtime} if runtime else {}))
