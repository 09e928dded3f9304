"""Weights of a deployed model, whose norms are folded, for the model before it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from detectors.interface import Detector, WeightsError
from detectors.layers import ConvNormAct, FrozenBatchNorm2d, SepBN
from detectors.rtdetr.encoder_layers import RepVGGBlock

ALIKE = 1e-3  # of the largest weight: how far levels may differ that share a convolution


def unfused(detector: Detector, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return weights with norms that change nothing where theirs are folded into convolutions.

    Folded are the convolutions that have a bias in place of a norm: under the names that `deploy`
    gives them, or under those that they had before, as mmengine's `fuse_conv_bn` leaves them.

    Args:
        detector: that takes the weights, not deployed.
        state: the weights under its keys; what is not folded stays as it is.
    """
    ours = dict(state)
    for name, module in detector.named_modules():
        if isinstance(module, RepVGGBlock):
            _unfuse_sum(ours, name, module)
        elif isinstance(module, SepBN):
            _unfuse_levels(ours, name, module)
        elif isinstance(module, ConvNormAct):
            _unfuse(ours, name, module)
    return ours


def _unfuse(state: dict[str, Any], name: str, module: ConvNormAct) -> None:
    """Let the norm add the bias."""
    if f"{name}.norm.running_var" in state:
        return
    for place in (f"{name}.conv", f"{name}.0", name):
        weight, bias = state.get(f"{place}.weight"), state.get(f"{place}.bias")
        if isinstance(weight, Tensor) and isinstance(bias, Tensor):
            del state[f"{place}.weight"], state[f"{place}.bias"]
            state[f"{name}.conv.weight"] = weight
            norm = cast(nn.BatchNorm2d, module.norm)
            state |= _norm(f"{name}.norm", norm, torch.ones_like(bias), bias)
            return


def _unfuse_sum(state: dict[str, Any], name: str, module: RepVGGBlock) -> None:
    """Let the 3x3 convolution be all of the sum."""
    folded = f"{name}.0.weight", f"{name}.0.bias"
    weight, bias = (state.pop(key, None) for key in folded)
    if not isinstance(weight, Tensor) or not isinstance(bias, Tensor):
        return
    if f"{name}.dense.conv.weight" in state:  # upstream keeps both
        return
    for part, value, shift in (
        ("dense", weight, bias),
        ("point", torch.zeros_like(weight[..., :1, :1]), torch.zeros_like(bias)),
    ):
        norm = cast(nn.BatchNorm2d, getattr(module, part).norm)
        state[f"{name}.{part}.conv.weight"] = value
        state |= _norm(f"{name}.{part}.norm", norm, torch.ones_like(bias), shift)


def _unfuse_levels(state: dict[str, Any], name: str, module: SepBN) -> None:
    """Share the first level's convolution; the norms of the others scale it to theirs."""
    places = [f"{name}.{level}.0" for level in range(len(module.norms))]
    keys = [(f"{place}.weight", f"{place}.bias") for place in places]
    if not all(isinstance(state.get(key), Tensor) for pair in keys for key in pair):
        return
    weights, biases = zip(*((state.pop(a), state.pop(b)) for a, b in keys), strict=True)
    flat = torch.stack(weights).double().flatten(2)  # [L, C, N]
    largest = flat.square().sum(2).argmax(0)
    shared = flat[largest, torch.arange(len(largest))]  # [C, N]
    size = shared.square().sum(1).clamp(min=torch.finfo(torch.float64).tiny)
    scales = (flat * shared).sum(2) / size  # [L, C]
    if not torch.allclose(
        scales[..., None] * shared, flat, rtol=0, atol=ALIKE * float(flat.abs().max())
    ):
        raise WeightsError(f"{name}: the levels' folded convolutions are not one, scaled")
    state[f"{name}.conv.weight"] = shared.reshape(weights[0].shape).to(weights[0].dtype)
    for level, bias in enumerate(biases):
        norm = cast(nn.BatchNorm2d, module.norms[level])
        state |= _norm(f"{name}.norms.{level}", norm, scales[level].to(bias.dtype), bias)


def _norm(name: str, norm: nn.Module, scale: Tensor, shift: Tensor) -> dict[str, Tensor]:
    """Return a norm that multiplies by a scale and adds a shift, up to rounding."""
    eps = cast(float, norm.eps)
    state = {
        f"{name}.weight": scale,
        f"{name}.bias": shift,
        f"{name}.running_mean": torch.zeros_like(shift),
        f"{name}.running_var": torch.full_like(shift, 1 - eps),
    }
    if not isinstance(norm, FrozenBatchNorm2d):
        state[f"{name}.num_batches_tracked"] = torch.tensor(0)
    return state
