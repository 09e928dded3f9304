"""Parameters and operations of a detector, as it is trained and as it is deployed."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from detectors.interface import STAGES, Detector, RunsItself
from harness.measure.complexity import conventions
from harness.measure.complexity.crosscheck import cross_check, remark
from harness.measure.complexity.exported import GraphMacs, count_graph
from harness.measure.complexity.operators import Watch

COUNTED_STAGES = STAGES[:-1]
ResultT = TypeVar("ResultT")


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
    by_module: dict[str, int]  # macs by dotted name, the whole under the empty one
    by_operator: dict[str, int]  # macs
    sampling: dict[str, int]  # macs by operator, which `macs` leaves out
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
        without being counted (`sampling` of deformable attention by formulas of its own), the
        counts by conventions of others (see `conventions`), and a second counter's figure. Of a
        detector that runs itself, both graphs are the one in its file.
    """
    if isinstance(detector, RunsItself):
        return _of_graph(count_graph(detector.graph(size)), size)
    (training, deployed), device = _without_memory(_pair, detector, size)
    metrics = _metrics(training) | {f"{k}_deployed": v for k, v in _metrics(deployed).items()}
    by_module = training.pop("by_module")
    del deployed["by_module"]
    with _countable():
        check = cross_check(partial(_on_cpu, detector, size), by_module, by_itself(detector))
    if "whole" in check:
        training["conventions"]["mmengine"] = check["whole"]
    details = {
        "size": list(size),
        "batch_size": 1,
        "device": device,
        "stages_not_counted": {"postprocess": "it selects and compares, and depends on the image"},
        "training": training,
        "deployed": deployed,
        "cross_check": check,
    }
    caveats = _caveats(training, deployed, check)
    if detector.config.input.varies:
        words = f"at {size[1]} x {size[0]}, the largest input; smaller photographs take less"
        names = (name for name in metrics if not name.startswith("params"))
        caveats |= {name: "; ".join(filter(None, (caveats.get(name), words))) for name in names}
    return Complexity(metrics, details, {}, caveats)


def _of_graph(found: GraphMacs, size: tuple[int, int]) -> Complexity:
    """Return what is known of a network that is no module of torch."""
    metrics = {"params": found.params, "macs": found.macs, "flops": 2 * found.macs}
    graph = {
        **metrics,
        "by_stage": {},
        "by_operator": found.by_operator,
        "sampling": {},
        "not_counted": {"unknown": found.not_counted},
        "conventions": {},
    }
    details = {
        "size": list(size),
        "batch_size": 1,
        "device": "file",
        "stages_not_counted": dict.fromkeys(STAGES, "the network is one graph"),
        "training": graph,
        "deployed": graph,
        "cross_check": {"reason": "torch's counters do not see into the file"},
    }
    both = metrics | {f"{name}_deployed": value for name, value in metrics.items()}
    names = [name for name in both if found.not_counted and not name.startswith("params")]
    told = dict.fromkeys(names, f"no formula for {', '.join(found.not_counted)}")
    return Complexity(dict(both), details, {}, told)


def count_training(detector: Detector, size: tuple[int, int]) -> dict[str, float]:
    """Return `params`, `macs` and `flops` of the training graph alone, in half the time."""
    return _metrics(describe_training(detector, size))


def describe_training(detector: Detector, size: tuple[int, int]) -> dict[str, Any]:
    """Return what `count` tells of the training graph in its details, but for `mmengine`."""
    return _without_memory(_describe, detector, size)[0]


def count_mmengine(detector: Detector, size: tuple[int, int]) -> int | None:
    """Count as `mmengine` does, which computes with the weights; None where fvcore fails."""
    with _countable():
        found: int | None = cross_check(partial(_on_cpu, detector, size), {"": 0}, ()).get("whole")
    return found


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


def _on_cpu(detector: Detector, size: tuple[int, int]) -> tuple[Detector, Tensor]:
    return _copy_to("cpu", detector), _images(size, "cpu")


def _describe(model: Detector, size: tuple[int, int], device: str) -> dict[str, Any]:
    counted = _operations(model.eval(), size, device)
    macs = sum(counted.by_operator.values())
    by_stage: dict[str, dict[str, int]] = {
        stage: {
            **count_parameters(getattr(model, stage)),
            "macs": counted.by_stage.get(stage, 0),
            "flops": 2 * counted.by_stage.get(stage, 0),
        }
        for stage in by_itself(model)
    }
    return {
        **count_parameters(model),
        "macs": macs,
        "flops": 2 * macs,
        "by_stage": by_stage,
        "by_module": counted.by_module,
        "by_operator": counted.by_operator,
        "sampling": counted.sampling,
        "not_counted": counted.not_counted,
        "conventions": counted.conventions,
    }


def _operations(model: Detector, size: tuple[int, int], device: str) -> _Count:
    """Run a model once under the counter."""
    from torch.utils.flop_counter import FlopCounterMode  # slow to import: it loads triton

    watch, counter = Watch(), FlopCounterMode(display=False)
    by_stage: Counter[str] = Counter()
    images = _images(size, device)
    with ExitStack() as stack:
        stack.enter_context(_countable())
        stack.enter_context(torch.device(device))
        stack.enter_context(watch)  # below the counter: sees what it has decomposed
        stack.enter_context(counter)
        others = stack.enter_context(conventions.counting(model))
        for stage in by_itself(model):
            stack.enter_context(_watch_stage(model, stage, counter.get_total_flops, by_stage))
        model(images)
    flops = counter.get_flop_counts().get("Global", {})
    return _Count(
        by_stage={stage: total // 2 for stage, total in by_stage.items()},
        by_module=_by_module(counter.get_flop_counts(), type(model).__name__),
        by_operator={str(operator): total // 2 for operator, total in flops.items()},
        sampling=dict(watch.sampling),
        not_counted={group: dict(sorted(calls.items())) for group, calls in watch.calls.items()},
        conventions=dict(others),
    )


def _by_module(counts: Mapping[str, Mapping[Any, int]], root: str) -> dict[str, int]:
    """Return multiply-accumulates by dotted name, as `named_modules` has them.

    Args:
        counts: operations by operator, of what the counter names.
        root: its name of the whole.
    """
    named = {
        name.removeprefix(root).removeprefix("."): sum(operators.values()) // 2
        for name, operators in counts.items()
        if name == root or name.startswith(f"{root}.")
    }
    return {**named, "": sum(counts.get("Global", {}).values()) // 2}


def by_itself(detector: Detector) -> tuple[str, ...]:
    """Return the stages of a detector's network that are counted one by one."""
    return tuple(stage for stage in COUNTED_STAGES if stage in detector.stages)


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


def _caveats(
    training: dict[str, Any], deployed: dict[str, Any], check: dict[str, Any]
) -> dict[str, str]:
    """Say what must be known to read the counts."""
    caveats = {}
    for graph, suffix in ((training, ""), (deployed, "_deployed")):
        unknown = graph["not_counted"]["unknown"]
        if unknown:
            caveats[f"macs{suffix}"] = f"no formula for {', '.join(unknown)}"
    words = remark(check)
    if words:
        caveats["macs"] = "; ".join(filter(None, (caveats.get("macs"), words)))
    return caveats | {name.replace("macs", "flops"): reason for name, reason in caveats.items()}
