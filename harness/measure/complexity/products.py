"""Counts a detector as a whole, for a plan of many; of modules and operators nothing is told."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from detectors.interface import Detector
from harness.measure.complexity import (
    _countable,
    _images,
    _without_memory,
    count_parameters,
    shapes,
)


def count(detector: Detector, size: tuple[int, int]) -> dict[str, float]:
    """Return what `count_training` returns, in little more than half the time.

    It stands in a file of its own, since those beside it are in the hashes of results.
    """
    return _without_memory(_sums, detector, size)[0]


def _sums(model: Detector, size: tuple[int, int], device: str) -> dict[str, float]:
    products = _Products()
    with _countable(), torch.device(device), products:
        model.eval()(_images(size, device))
    macs = products.flops // 2
    return {"params": count_parameters(model)["params"], "macs": macs, "flops": 2 * macs}


class _Products(TorchDispatchMode):  # type: ignore[misc, no-untyped-call, unused-ignore]
    """Adds up what torch's counter does, but not by module, which takes most of its time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.flops = 0
        self.whole: set[Any] = set()  # operators that are made of no others

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator, or what it is made of, and count it."""
        from torch.utils.flop_counter import flop_registry  # slow to import: it loads triton

        kwargs = kwargs or {}
        formula = flop_registry.get(func.overloadpacket)
        if formula is None and func not in self.whole:
            with self:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
            self.whole.add(func)
        output = shapes.run(func, args, kwargs)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=output)
        return output
