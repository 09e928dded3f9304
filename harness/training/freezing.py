"""Stages of a detector that don't learn while it trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from detectors.interface import Detector


class Frozen:
    """Stages that are left as they are, their norms' statistics included.

    What a detector's config freezes stays frozen when they thaw.
    """

    def __init__(self, detector: Detector, stages: Sequence[str]) -> None:
        self._detector, self._stages = detector, stages
        parameters = (each for stage in self._modules() for each in stage.parameters())
        self._parameters = [each for each in parameters if each.requires_grad]
        for parameter in self._parameters:
            parameter.requires_grad_(False)

    def settle(self) -> None:
        """Let norms go by their statistics and dropout drop nothing, after `train()`."""
        for stage in self._modules():
            for module in stage.modules():
                if isinstance(module, _NormBase | _DropoutNd):
                    module.eval()

    def thaw(self) -> None:
        """Let them learn again."""
        for parameter in self._parameters:
            parameter.requires_grad_(True)

    def _modules(self) -> Iterator[nn.Module]:
        """Yield the stages as they are now; norms may have been exchanged meanwhile."""
        for stage in self._stages:
            yield getattr(self._detector, stage)
