"""Parameters and operations of a detector, as it is trained and as it is deployed."""

from __future__ import annotations

import copy
import importlib.metadata
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from detectors.interface import STAGES, Detector
from harness import conventions

COUNTED_STAGES = STAGES[:-1]
ResultT = TypeVar("ResultT")
TOLERANCE = 0.005  # relative difference between the two counters that needs a word

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
    upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d grid_sampler_2d cat stack
    index index_select index_put index_put_ gather scatter scatter_ copy_ _to_copy clone fill_
    masked_fill masked_fill_ constant_pad_nd roll flip repeat sort topk argmax argmin nonzero
    cumsum embedding _unsafe_index
"""
_GROUPS = dict.fromkeys(_CHEAP.split(), "cheap") | dict.fromkeys(_FREE.split(), None)
_FVCORE_OPERATORS = ("conv", "linear", "matmul", "addmm", "bmm", "baddbmm", "einsum", "mv")
_PRODUCTS = "attention"  # in the names of operators whose products fvcore has no formula for


class Complexity(NamedTuple):
    """What a detector costs to store and to run once.

    A multiply-accumulate counts one in `macs`; `flops` is twice that.
    """

    metrics: dict[str, float]
    details: dict[str, Any]
    absent: dict[str, str]
    caveats: dict[str, str]


class _Count(NamedTuple):
    """Operations of one call of `forward`."""

    by_stage: dict[str, int]  # macs
    by_operator: dict[str, int]  # macs
    not_counted: dict[str, dict[str, int]]  # group -> operator -> calls
    conventions: dict[str, int]  # name -> count


def count(detector: Detector, size: tuple[int, int]) -> Complexity:
    """Count the parameters and operations of a detector, which stays as it is.

    Convolutions, linear layers and matrix products count, attention included; `postprocess` does
    not. Tensors without storage run through a copy, so that no weights are needed; only the second
    counter computes.

    Args:
        detector: the model as it is trained.
        size: height and width of the input, one image, pixels.

    Returns:
        `params`, `macs`, `flops` of the training graph, and the same of the deployed graph under
        the suffix `_deployed`; in the details both by stage and by operator, what was executed
        without being counted, the counts by conventions of others (see `harness.conventions`), and
        a second counter's figure.
    """
    (training, deployed), device = _without_memory(_pair, detector, size)
    metrics = _metrics(training) | {f"{k}_deployed": v for k, v in _metrics(deployed).items()}
    check = _cross_check(detector, size, training)
    details = {
        "size": list(size),
        "batch_size": 1,
        "device": device,
        "stages_not_counted": {"postprocess": "it selects and compares, and depends on the image"},
        "training": training,
        "deployed": deployed,
        "cross_check": check,
    }
    return Complexity(metrics, details, {}, _caveats(training, deployed, check))


def count_training(detector: Detector, size: tuple[int, int]) -> dict[str, float]:
    """Return `params`, `macs` and `flops` of the training graph alone, in half the time."""
    return _metrics(_without_memory(_describe, detector, size)[0])


def count_parameters(module: nn.Module) -> dict[str, int]:
    """Count a module's parameters, each once however often it is used."""
    unique = list(module.parameters())
    return {
        "params": sum(parameter.numel() for parameter in unique),
        "params_trainable": sum(p.numel() for p in unique if p.requires_grad),
    }


def _metrics(graph: dict[str, Any]) -> dict[str, float]:
    return {name: graph[name] for name in ("params", "macs", "flops")}


def _without_memory(
    work: Callable[[Detector, tuple[int, int], str], ResultT],
    detector: Detector,
    size: tuple[int, int],
) -> tuple[ResultT, str]:
    """Do something with a copy on `meta`, or on the CPU where the model does not allow that."""
    try:
        return work(_copy_to("meta", detector), size, "meta"), "meta"
    except (RuntimeError, TypeError):  # it asks for values, or mixes devices
        return work(_copy_to("cpu", detector), size, "cpu"), "cpu"


def _pair(
    model: Detector, size: tuple[int, int], device: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Describe the training graph and the deployed graph."""
    with torch.device(device), torch.no_grad():
        deployed = model.deploy()
    return _describe(model, size, device), _describe(deployed, size, device)


def _copy_to(device: str, detector: Detector) -> Detector:
    """Copy a model to a device; weights that are there already are not copied but shared."""
    memo: dict[int, Any] = {}
    for parameter in detector.parameters():
        moved = parameter.detach().to(device)
        memo[id(parameter)] = nn.Parameter(moved, requires_grad=parameter.requires_grad)
    for buffer in detector.buffers():
        memo[id(buffer)] = buffer.detach().to(device)
    return copy.deepcopy(detector, memo)


def _describe(model: Detector, size: tuple[int, int], device: str) -> dict[str, Any]:
    counted = _operations(model.eval(), size, device)
    macs = sum(counted.by_operator.values())
    by_stage: dict[str, dict[str, int]] = {
        stage: {
            **count_parameters(getattr(model, stage)),
            "macs": counted.by_stage.get(stage, 0),
            "flops": 2 * counted.by_stage.get(stage, 0),
        }
        for stage in COUNTED_STAGES
    }
    return {
        **count_parameters(model),
        "macs": macs,
        "flops": 2 * macs,
        "by_stage": by_stage,
        "by_operator": counted.by_operator,
        "not_counted": counted.not_counted,
        "conventions": counted.conventions,
    }


def _operations(model: Detector, size: tuple[int, int], device: str) -> _Count:
    """Run a model once under the counter."""
    watch, counter = _Watch(), FlopCounterMode(display=False)
    by_stage: Counter[str] = Counter()
    images = _images(size, device)
    with ExitStack() as stack:
        stack.enter_context(_countable())
        stack.enter_context(torch.device(device))
        stack.enter_context(watch)  # below the counter: sees what it has decomposed
        stack.enter_context(counter)
        others = stack.enter_context(conventions.counting(model))
        for stage in COUNTED_STAGES:
            stack.enter_context(_watch_stage(model, stage, counter.get_total_flops, by_stage))
        model(images)
    flops = counter.get_flop_counts().get("Global", {})
    return _Count(
        by_stage={stage: total // 2 for stage, total in by_stage.items()},
        by_operator={str(operator): total // 2 for operator, total in flops.items()},
        not_counted={group: dict(sorted(calls.items())) for group, calls in watch.calls.items()},
        conventions=dict(others),
    )


def _images(size: tuple[int, int], device: str) -> Tensor:
    """Make a batch of one image, [1, 3, H, W]."""
    if device == "meta":
        return torch.empty(1, 3, *size, device="meta")
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))


@contextmanager
def _countable() -> Iterator[None]:
    """Keep torch from fusing attention into kernels that no counter has a formula for.

    Source: github.com/pytorch/pytorch issue 195460.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _watch_stage(
    model: nn.Module, stage: str, total: Callable[[], int], by_stage: Counter[str]
) -> Iterator[None]:
    """Add the operations of every call of a stage to `by_stage`."""
    module, before = getattr(model, stage), [0]

    def enter(*_: Any) -> None:
        before[0] = total()

    def leave(*_: Any) -> None:
        by_stage[stage] += total() - before[0]

    hooks = (module.register_forward_pre_hook(enter), module.register_forward_hook(leave))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Watch(TorchDispatchMode):  # type: ignore[misc, no-untyped-call, unused-ignore]
    """Lists the operators that run and have no formula."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.calls: dict[str, Counter[str]] = {
            "elementwise": Counter(),
            "cheap": Counter(),
            "unknown": Counter(),
        }

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note the operator and run it."""
        group = _group(func)
        if group:
            self.calls[group][str(func.overloadpacket)] += 1
        return func(*args, **(kwargs or {}))


def _group(func: Any) -> str | None:
    """Sort an operator: None for what has a formula and for what costs nothing."""
    name = func.overloadpacket.__name__
    if func.overloadpacket in flop_registry or func.is_view or func.namespace == "prim":
        return None
    if torch.Tag.pointwise in func.tags:
        return "elementwise"
    return _GROUPS.get(name, "unknown")


def _cross_check(
    detector: Detector, size: tuple[int, int], training: dict[str, Any]
) -> dict[str, Any]:
    """Count the training graph with fvcore, whole and by stage."""
    counter = f"fvcore {importlib.metadata.version('fvcore')}"
    try:
        by_stage, missed = _fvcore(_copy_to("cpu", detector), size)
    except Exception as error:  # tracing fails in many ways
        lines = str(error).strip().splitlines() or [""]
        return {"counter": counter, "reason": f"{type(error).__name__}: {lines[0]}"}
    macs = by_stage.pop("")
    ours = {stage: part["macs"] for stage, part in training["by_stage"].items()}
    return {
        "counter": counter,
        "macs": macs,
        "relative_difference": _difference(macs, training["macs"]),
        "by_stage": by_stage,
        "difference_by_stage": {s: _difference(by_stage[s], ours[s]) for s in COUNTED_STAGES},
        "missed": missed,
    }


def _difference(other: int, ours: int) -> float:
    return (other - ours) / ours if ours else float(other != ours)


def _fvcore(model: Detector, size: tuple[int, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Count with fvcore, which traces: the model is on the CPU, where tensors have storage.

    Returns:
        Multiply-accumulates by stage, the whole under the empty name; and the calls of operators
        that hold products and that it has no formula for.
    """
    with _silence(), _countable():
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(model.eval(), (_images(size, "cpu"),))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.tracer_warnings("none")
        counts = analysis.by_module_and_operator()
        by_stage = {
            name: int(sum(counts[name][operator] for operator in _FVCORE_OPERATORS))
            for name in ("", *COUNTED_STAGES)
        }
        unsupported = analysis.unsupported_ops().items()
        return by_stage, {name: calls for name, calls in unsupported if _PRODUCTS in name}


@contextmanager
def _silence() -> Iterator[None]:
    """Keep fvcore and the tracer under it from warning and logging."""
    logger = logging.getLogger("fvcore")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _caveats(
    training: dict[str, Any], deployed: dict[str, Any], check: dict[str, Any]
) -> dict[str, str]:
    """Say what must be known to read the counts."""
    caveats = {}
    for graph, suffix in ((training, ""), (deployed, "_deployed")):
        unknown = graph["not_counted"]["unknown"]
        if unknown:
            caveats[f"macs{suffix}"] = f"no formula for {', '.join(unknown)}"
    remark = _remark(check)
    if remark:
        caveats["macs"] = "; ".join(filter(None, (caveats.get("macs"), remark)))
    return caveats | {name.replace("macs", "flops"): reason for name, reason in caveats.items()}


def _remark(check: dict[str, Any]) -> str:
    if "reason" in check:
        return f"not cross-checked: {check['counter']} failed with {check['reason']}"
    if abs(check["relative_difference"]) <= TOLERANCE:
        return ""
    worst = max(check["difference_by_stage"].items(), key=lambda item: abs(item[1]))
    remark = (
        f"{check['counter']} counts {check['relative_difference']:+.1%}, "
        f"most of it in the {worst[0]} ({worst[1]:+.1%})"
    )
    if check["missed"]:
        remark += f"; it has no formula for {', '.join(check['missed'])}"
    return remark
