"""Weights whose norms were folded into convolutions: how they load, and how norms come back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from detectors.interface import Detector, WeightsError


class Convolution(NamedTuple):
    """A convolution of a graph that was exported for inference."""

    weight: Tensor  # [out_channels, in_channels / groups, height, width]
    bias: Tensor | None  # [out_channels]
    stride: int
    groups: int


def unfold(detector: Detector, convolutions: Sequence[Convolution]) -> dict[str, Tensor]:
    """Return weights and biases of convolutions under the names of a detector's own.

    `detectors.weights.fill` takes them: the norm behind a convolution gets its bias, mean 0 and
    variance 1 - eps, and changes nothing else in eval mode. Before it is trained, such norms need
    `restore_norms`.

    Args:
        detector: that the convolutions fit.
        convolutions: all of the graph, in the order in which it runs them.

    Raises:
        WeightsError: their number or one of their shapes, strides or groups is another.
    """
    names = detector.exported_convolutions()
    if len(names) != len(convolutions):
        raise WeightsError(
            f"the graph has {len(convolutions)} convolutions, the detector {len(names)}"
        )
    state: dict[str, Tensor] = {}
    for number, (name, given) in enumerate(zip(names, convolutions, strict=True), start=1):
        _check(number, name, cast(nn.Conv2d, detector.get_submodule(name)), given)
        bias = torch.zeros(len(given.weight)) if given.bias is None else given.bias
        state |= {f"{name}.weight": given.weight, f"{name}.bias": bias}
    return state


def _check(number: int, name: str, conv: nn.Conv2d, given: Convolution) -> None:
    wanted = (list(conv.weight.shape), conv.stride[0], conv.groups)
    found = (list(given.weight.shape), given.stride, given.groups)
    if wanted != found:
        words = ["shape {}, stride {}, groups {}".format(*each) for each in (found, wanted)]
        raise WeightsError(
            f"convolution {number} of the graph has {words[0]}, the detector's {name} {words[1]};"
            " build it with the knobs that the weights were trained with"
        )


def _folded(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the statistics that stand for a norm that was folded; no data leaves such ones."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return torch.zeros_like(norm.running_mean), torch.full_like(norm.running_var, 1 - norm.eps)


def folded_norms(detector: nn.Module) -> list[nn.BatchNorm2d]:
    """Return the norms that stand for folded ones and that nothing has restored yet."""
    norms = [part for part in detector.modules() if isinstance(part, nn.BatchNorm2d)]
    return [norm for norm in norms if norm.running_mean is not None and _is_folded(norm)]


def _is_folded(norm: nn.BatchNorm2d) -> bool:
    own = (norm.running_mean, norm.running_var)
    return all(torch.equal(a, b) for a, b in zip(own, _folded(norm), strict=True) if a is not None)


@torch.no_grad()
def restore_norms(detector: nn.Module, batches: Iterable[Tensor]) -> int:
    """Give folded norms the statistics of what enters them, so that they can be trained.

    Weight and bias follow the statistics: the outputs in eval mode stay what they were, and a
    training starts with norms that normalise to what the layers behind them know.

    Args:
        detector: changed in place; in the mode it was in.
        batches: images [B, 3, H, W] as `forward` takes them, on the detector's device; at least
            one.

    Returns:
        How many norms were folded; where there are none, no batch is asked for.
    """
    norms = folded_norms(detector)
    if not norms:
        return 0
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}

    def add(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].detach().transpose(0, 1).flatten(1).double()
        count = torch.full_like(values[:, 0], values.shape[1])
        added = torch.stack([count, values.sum(1), values.square().sum(1)])
        sums[cast(nn.BatchNorm2d, norm)] += added.cpu()

    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    was_training = detector.training
    detector.eval()
    for images in batches:
        detector(images)
    detector.train(was_training)
    for hook in hooks:
        hook.remove()
    for norm, (count, total, squares) in sums.items():
        _set(norm, total / count, (squares - total.square() / count) / (count - 1))
    return len(norms)


def _set(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Let a folded norm have these statistics and give what it gave before."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double().cpu()
    variance = variance.clamp(min=0)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    norm.bias.copy_(norm.bias.double().cpu() + scale * mean)
