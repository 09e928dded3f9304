"""Other people's ways of counting operations, for comparison with what they published.

Our own rule is `macs`: the products of convolutions, linear layers and matrices, one for each
multiply-accumulate (harness/complexity.py). What papers print as FLOPs is counted otherwise:

- RT-DETR prints twice the count called `paddle` here, cut to whole G: 60, 92, 100, 136, 259 (R18,
  R34, R50-m, R50, R101), 110 and 234 (HGNetv2-L and -X) at 640x640, before fusion.
- RTMDet prints multiply-accumulates, not doubled, 0.3 to 0.8 % above `macs`: its counter seems to
  add norms and activations, but no known one gives all five sizes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d


@contextmanager
def counting(model: nn.Module) -> Iterator[Counter[str]]:
    """Count what a model's modules do while the context is open.

    Yields:
        Name of a convention to its count, which grows with every call of a module:

        `paddle` looks at modules, not at operators. A convolution counts the products, and one
        for the bias, of every output; a linear layer the products; batch normalisation, frozen or
        not, two for every element; average pooling one for every output, and adaptive one for
        every input more. Everything else is free: norms of layers, activations, the projections
        into attention and its products. The projection out of `nn.MultiheadAttention` counts: it
        is a layer in Paddle.

    Source: github.com/PaddlePaddle/Paddle python/paddle/hapi/dynamic_flops.py, by which
    lyuwenyu/RT-DETR@068dfde rtdetr_paddle/README.md counts 68348108800 for R50.
    """
    counts: Counter[str] = Counter(paddle=0)

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        counts["paddle"] += _rule(module)(module, inputs, output)

    modules = [module for module in model.modules() if isinstance(module, tuple(PADDLE))]
    hooks = [module.register_forward_hook(note) for module in modules]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


Rule = Callable[[Any, tuple[Any, ...], Any], int]


def _rule(module: nn.Module) -> Rule:
    return next(rule for kind, rule in PADDLE.items() if isinstance(module, kind))


def _convolution(module: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> int:
    kernel = module.weight[0].numel()
    return output.numel() * (kernel + (module.bias is not None))


def _linear(module: nn.Linear, inputs: tuple[Tensor], output: Tensor) -> int:
    return output.numel() * module.in_features


def _attention(module: nn.MultiheadAttention, inputs: tuple[Tensor], output: Any) -> int:
    return _linear(module.out_proj, inputs, output[0])


def _norm(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> int:
    return 2 * output.numel()


def _pool(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> int:
    return output.numel()


def _adaptive_pool(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> int:
    return inputs[0].numel() + output.numel()


PADDLE: dict[type[nn.Module], Rule] = {
    nn.Conv2d: _convolution,
    nn.Linear: _linear,
    nn.MultiheadAttention: _attention,
    nn.BatchNorm2d: _norm,
    FrozenBatchNorm2d: _norm,
    nn.AvgPool2d: _pool,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
}
