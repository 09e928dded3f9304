"""A second counter, fvcore, and where in a model the two disagree."""

from __future__ import annotations

import importlib.metadata
import logging
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

TOLERANCE = 0.005  # relative difference between the two counters that needs a word
_PRODUCTS = ("conv", "linear", "matmul", "addmm", "bmm", "baddbmm", "einsum", "mv")
_ATTENTION = "attention"  # in the names of operators whose products fvcore has no formula for


class Counted(NamedTuple):
    """What fvcore counts of one call of a model."""

    by_module: dict[str, int]  # multiply-accumulates by dotted name, the whole under the empty one
    whole: int  # with norms, pooling and upsampling, as `mmengine` has it
    missed: dict[str, int]  # calls of operators that hold products and that have no formula


def cross_check(
    ready: Callable[[], tuple[nn.Module, Tensor]], ours: Mapping[str, int], stages: Collection[str]
) -> dict[str, Any]:
    """Count a model with fvcore, and compare.

    Args:
        ready: makes the model and what it is called with, on the CPU, where tensors have storage,
            since fvcore traces.
        ours: multiply-accumulates by module, as in `Counted`.
        stages: modules whose figures are told whatever they are.

    Returns:
        The figures, and under `modules` those of modules whose own operators are counted
        differently, most first; only a `reason` where fvcore fails.
    """
    counter = f"fvcore {importlib.metadata.version('fvcore')}"
    try:
        theirs = _fvcore(*ready())
    except Exception as error:  # tracing fails in many ways
        lines = str(error).strip().splitlines() or [""]
        return {"counter": counter, "reason": f"{type(error).__name__}: {lines[0]}"}
    macs = theirs.by_module[""]
    by_stage = {stage: theirs.by_module.get(stage, 0) for stage in stages}
    return {
        "counter": counter,
        "macs": macs,
        "whole": theirs.whole,
        "relative_difference": _relative(macs, ours[""]),
        "by_stage": by_stage,
        "difference_by_stage": {
            stage: _relative(found, ours.get(stage, 0)) for stage, found in by_stage.items()
        },
        "modules": _own_differences(ours, theirs.by_module),
        "missed": theirs.missed,
    }


def remark(check: Mapping[str, Any]) -> str:
    """Say where the counters disagree and why; empty where they agree."""
    if "reason" in check:
        return f"not cross-checked: {check['counter']} failed with {check['reason']}"
    if abs(check["relative_difference"]) <= TOLERANCE:
        return ""
    return f"{check['counter']} counts {check['relative_difference']:+.1%}, {reason(check)}"


def reason(check: Mapping[str, Any]) -> str:
    """Name the modules in which the counters differ, and what the second one has no formula for."""
    modules = list(check["modules"])
    if not modules:
        return "no module does"
    others = f" and {len(modules) - 1} more" if len(modules) > 1 else ""
    missed = ", ".join(check["missed"])
    why = f"fvcore has no formula for {missed}" if missed else "unexplained"
    return f"in {modules[0]}{others}: {why}"


def _relative(other: int, ours: int) -> float:
    return (other - ours) / ours if ours else float(other != ours)


def _own_differences(ours: Mapping[str, int], theirs: Mapping[str, int]) -> dict[str, int]:
    """Return by how much fvcore differs in each module, without what differs in its children.

    Containers, which are never called themselves, are in its counts alone.
    """
    parts = [name.split(".") for name in (*ours, *theirs)]
    around = {".".join(part[:length]) for part in parts for length in range(len(part))}
    names = {*ours, *(name for name in theirs if name not in around)}
    own = {name: theirs.get(name, 0) - ours.get(name, 0) for name in names}
    for name in filter(None, names):
        own[_parent(name, names)] -= theirs.get(name, 0) - ours.get(name, 0)
    apart = {name: value for name, value in own.items() if value}
    return dict(sorted(apart.items(), key=lambda item: (-abs(item[1]), item[0])))


def _outer(name: str) -> str:
    return name.rpartition(".")[0]


def _parent(name: str, names: Collection[str]) -> str:
    """Return the nearest of the named modules around another."""
    name = _outer(name)
    while name and name not in names:
        name = _outer(name)
    return name


def _fvcore(model: nn.Module, images: Tensor) -> Counted:
    with _silence():
        from fvcore.nn import FlopCountAnalysis  # slow to import

        analysis = FlopCountAnalysis(model.eval(), (images,))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.tracer_warnings("none")
        counts = analysis.by_module_and_operator()
        by_module = {
            name: sum(int(found.get(operator, 0)) for operator in _PRODUCTS)
            for name, found in counts.items()
        }
        unsupported = analysis.unsupported_ops().items()
        missed = {name: calls for name, calls in unsupported if _ATTENTION in name}
        called = {name: macs for name, macs in by_module.items() if macs or not name}
        return Counted(called, int(sum(counts[""].values())), missed)


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
