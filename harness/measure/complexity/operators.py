"""Sorts operators: those with a formula, those that cost little, and those nobody knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.measure.complexity import shapes

GROUPS = ("elementwise", "cheap", "unknown")
"""Of operators that are not in `macs`; sampling, which has formulas of its own, is beside them."""

_FREE = """
    detach alias empty empty_like empty_strided new_empty new_empty_strided arange full full_like
    zeros zeros_like ones ones_like new_zeros new_ones new_full scalar_tensor lift_fresh
    _unsafe_view _local_scalar_dense resolve_conj resolve_neg
"""
_CHEAP = """
    _softmax _safe_softmax _log_softmax native_batch_norm _native_batch_norm_legit_no_training
    cudnn_batch_norm _native_batch_norm_legit _batch_norm_no_update native_layer_norm
    native_group_norm max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d
    adaptive_max_pool2d mean sum amax amin max min all any prod linalg_vector_norm
    upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d cat stack
    index index_select index_put index_put_ gather scatter scatter_ copy_ _to_copy clone fill_
    masked_fill masked_fill_ constant_pad_nd roll flip repeat repeat_interleave sort topk argmax
    argmin nonzero cumsum embedding _unsafe_index split_with_sizes_copy
"""
_PLACES = dict.fromkeys(_CHEAP.split(), "cheap") | dict.fromkeys(_FREE.split(), "free")


def _bilinear(args: Any, output: Any) -> int:
    """Count four corners for every value that is read."""
    return int(4 * output.numel())


def _weighted_rows(args: Any, output: Any) -> int:
    """Count each row that is added up; without weights nothing is multiplied."""
    rows, indices = args[0], args[1]
    weighted = len(args) > 6 and args[6] is not None
    return int(indices.numel() * rows.shape[1]) if weighted else 0


SAMPLING: dict[str, Callable[[Any, Any], int]] = {
    "grid_sampler_2d": _bilinear,
    "_embedding_bag": _weighted_rows,
    "_embedding_bag_forward_only": _weighted_rows,
}
"""Formulas, in multiply-accumulates, of what deformable attention reads its memory with.

Neither torch's counter nor any published figure has it among the products, so that it is told
beside `macs` and not in it.
"""


def place(func: Any) -> str:
    """Sort an operator, as a dispatcher names it.

    Returns:
        `counted` with a formula in torch's registry, `sampling`, `free`, or one of `GROUPS`.
    """
    from torch.utils.flop_counter import flop_registry  # slow to import: it loads triton

    packet = func.overloadpacket
    if packet in flop_registry:
        return "counted"
    if packet.__name__ in SAMPLING:
        return "sampling"
    if func.is_view or func.namespace == "prim":
        return "free"
    if torch.Tag.pointwise in func.tags:
        return "elementwise"
    return _PLACES.get(packet.__name__, "unknown")


class Watch(TorchDispatchMode):  # type: ignore[misc, no-untyped-call, unused-ignore]
    """Lists the operators that run without being in `macs`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.calls: dict[str, Counter[str]] = {group: Counter() for group in GROUPS}
        self.sampling: Counter[str] = Counter()  # macs by operator

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator and note it."""
        output, found = shapes.run(func, args, kwargs or {}), place(func)
        if found in self.calls:
            self.calls[found][str(func.overloadpacket)] += 1
        elif found == "sampling":
            formula = SAMPLING[func.overloadpacket.__name__]
            first = output[0] if isinstance(output, tuple) else output
            self.sampling[str(func.overloadpacket)] += formula(args, first)
        return output
