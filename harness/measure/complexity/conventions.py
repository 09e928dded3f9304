"""Other people's ways of counting operations, for comparison with what they published.

Our own rule is `macs`: the products of convolutions, linear layers and matrices, one for each
multiply-accumulate (see `harness.measure.complexity`). What papers print as FLOPs is counted
otherwise, by one of these:

- `paddle`, twice: RT-DETR, cut to whole G, at 640x640, before fusion.
- `mmengine`: what `mmengine.get_model_complexity_info` adds up today, which is all that fvcore has
  a formula for. RTMDet-tiny and -s, rounded, not doubled; 0.2 % below the figures of m, l and x.
- `ptflops`: a counter of modules in the manner of ptflops, with norms, activations, pooling and
  upsampling. RTMDet-tiny, m, l and x, rounded, not doubled; 14.9 for s, of which 14.8 is printed.

No single counter gives RTMDet's five figures. That `ptflops` was used is inferred: its terms were
chosen to fit m, l and x.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


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

        `ptflops` counts convolutions and linear layers with their biases; batch normalisation two
        for every element, activations one; pooling one for every element of its input, upsampling
        one for every element of its output. Gates of attention are free.

    Source: github.com/PaddlePaddle/Paddle python/paddle/hapi/dynamic_flops.py, by which
    lyuwenyu/RT-DETR@068dfde rtdetr_paddle/README.md counts 68348108800 for R50;
    github.com/sovrasov/flops-counter.pytorch 0.7, the idea of `ptflops`.
    """
    upsampled = _Upsampled()
    counts: Counter[str] = upsampled.counts
    hooks = [
        module.register_forward_hook(partial(_note, counts, name, rule))
        for name, rules in CONVENTIONS.items()
        for module in model.modules()
        if (rule := _rule(rules, module)) is not None
    ]
    try:
        with upsampled:
            yield counts
    finally:
        for hook in hooks:
            hook.remove()


FROZEN_NORM = "FrozenBatchNorm2d"  # ours, torchvision's and others'
Rule = Callable[[Any, tuple[Any, ...], Any], int]


def _note(
    counts: Counter[str],
    name: str,
    rule: Rule,
    module: nn.Module,
    inputs: tuple[Any, ...],
    output: Any,
) -> None:
    counts[name] += rule(module, inputs, output)


def _rule(rules: dict[type[nn.Module] | str, Rule], module: nn.Module) -> Rule | None:
    """Return how a module counts, which is known by its class or by the class's name."""
    kinds = type(module).__mro__
    known = {*kinds, *(kind.__name__ for kind in kinds)}
    return next((rule for kind, rule in rules.items() if kind in known), None)


class _Upsampled(TorchDispatchMode):  # type: ignore[misc, no-untyped-call, unused-ignore]
    """Counts upsampling, which is a function and no module."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.counts: Counter[str] = Counter(dict.fromkeys(CONVENTIONS, 0))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator and count it."""
        output = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__.startswith("upsample_"):
            self.counts["ptflops"] += output.numel()
        return output


def _convolution(module: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> int:
    kernel = module.weight[0].numel()
    return output.numel() * (kernel + (module.bias is not None))


def _linear(module: nn.Linear, inputs: tuple[Tensor], output: Tensor) -> int:
    return output.numel() * module.in_features


def _attention(module: nn.MultiheadAttention, inputs: tuple[Tensor], output: Any) -> int:
    return _linear(module.out_proj, inputs, output[0])


def _norm(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> int:
    return 2 * output.numel()


def _linear_with_bias(module: nn.Linear, inputs: tuple[Tensor], output: Tensor) -> int:
    return output.numel() * (module.in_features + (module.bias is not None))


def _each(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> int:
    return inputs[0].numel()


def _pool(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> int:
    return output.numel()


def _adaptive_pool(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> int:
    return inputs[0].numel() + output.numel()


PADDLE: dict[type[nn.Module] | str, Rule] = {
    nn.Conv2d: _convolution,
    nn.Linear: _linear,
    nn.MultiheadAttention: _attention,
    nn.BatchNorm2d: _norm,
    FROZEN_NORM: _norm,
    nn.AvgPool2d: _pool,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
}
PTFLOPS: dict[type[nn.Module] | str, Rule] = {
    nn.Conv2d: _convolution,
    nn.Linear: _linear_with_bias,
    nn.BatchNorm2d: _norm,
    FROZEN_NORM: _norm,
    **dict.fromkeys((nn.SiLU, nn.ReLU, nn.GELU), _each),
    **dict.fromkeys((nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d), _each),
}
CONVENTIONS = {"paddle": PADDLE, "ptflops": PTFLOPS}
"""Those that look at modules; `mmengine` is fvcore's, see `crosscheck`."""
