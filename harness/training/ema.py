"""The moving average of a detector's weights, which is what is evaluated and kept."""

from __future__ import annotations

import copy
import math
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

ModelT = TypeVar("ModelT", bound=nn.Module)


def momentum(updates: int, decay: float, ramp: float) -> float:
    """Return the share that the newest weights take in an update, 0 to 1.

    It falls from nearly 1 to `1 - decay`, so that early weights are forgotten soon.

    Args:
        updates: how many updates came before this one.
        decay: share of the old average in the long run.
        ramp: number of updates over which the share has fallen to 1/e of its way.

    Source: github.com/open-mmlab/mmdetection mmdet/models/layers/ema.py, ExpMomentumEMA.
    """
    floor = 1.0 - decay
    return (1.0 - floor) * math.exp(-(1 + updates) / ramp) + floor


class MovingAverage(Generic[ModelT]):
    """A copy of a model whose weights follow the model's slowly.

    Floating-point buffers (the statistics of norms) are averaged like weights, integer ones are
    copied; a tensor that the model uses in several places is averaged once. The first update
    copies the weights. `model` is the averaged copy, in eval mode.

    Source: github.com/open-mmlab/mmengine mmengine/model/averaged_model.py, BaseAveragedModel.
    """

    def __init__(self, model: ModelT, decay: float, ramp: float) -> None:
        self.model: ModelT = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.ramp = decay, ramp
        self.updates = 0
        self._floats, self._others = _tensors(self.model)
        self._followed: tuple[ModelT, list[Tensor], list[Tensor]] | None = None

    @torch.no_grad()
    def update(self, model: ModelT) -> None:
        """Move the average towards the weights of `model`.

        Its tensors are looked up once, since that takes longer than averaging them: they have to
        stay, and change in place.
        """
        if self._followed is None or self._followed[0] is not model:
            self._followed = (model, *_tensors(model))
        _, floats, others = self._followed
        if self.updates == 0:
            torch._foreach_copy_(self._floats, floats)
        else:
            share = momentum(self.updates, self.decay, self.ramp)
            torch._foreach_lerp_(self._floats, floats, share)
        if others:
            torch._foreach_copy_(self._others, others)
        self.updates += 1

    def state(self) -> dict[str, Any]:
        """Return what `resume` needs."""
        return {"model": self.model.state_dict(), "updates": self.updates}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.model.load_state_dict(state["model"])
        self.updates = state["updates"]


def _tensors(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return every tensor of a state dict once: the floating-point ones, and the others."""
    unique = {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values()}
    tensors = [tensor.detach() for tensor in unique.values()]
    floats = [tensor for tensor in tensors if tensor.is_floating_point()]
    return floats, [tensor for tensor in tensors if not tensor.is_floating_point()]
