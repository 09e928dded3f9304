"""Whether the tests would notice: make small changes one at a time, and list those they miss.

`python -m tests.mutations statistics timer` draws 24 changes of each module by the seed, runs the
module's own tests against each, and lists the changes that left them green. Files are not edited:
a process is forked for each change and loads the changed source in place of that on the disk.
Processes that tests start themselves (a command line, say) load the unchanged source.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib
import importlib.machinery
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import pytest

# Module: its files or folders, and the tests that must notice, as pytest is told of them. The
# largest of the reference data sets and long simulations are left out: they notice no more.
MODULES: dict[str, tuple[list[str], list[str]]] = {
    "statistics": (
        ["harness/measure/latency/statistics.py"],
        ["tests/harness/measure/latency/test_statistics.py"],
    ),
    "timer": (
        ["harness/measure/latency/timer.py"],
        ["tests/harness/measure/latency/test_timer.py"],
    ),
    "compare": (
        ["harness/analysis/compare"],
        [
            "tests/harness/analysis/compare/test_compare_by_hand.py",
            "tests/harness/analysis/compare/test_compare.py",
            "tests/harness/cli/test_compare.py",
            "-k not coco549 and not forty",
        ],
    ),
    "frontier": (
        ["harness/analysis/frontier"],
        [
            "tests/harness/analysis/frontier/test_frontier_by_hand.py",
            "tests/harness/analysis/frontier/test_frontier.py",
            "tests/harness/analysis/frontier/test_recommended.py",
        ],
    ),
    "assigners": (
        ["detectors/assigners"],
        [
            "tests/detectors/test_assigner_borders.py",
            "tests/detectors/test_assigner_places.py",
            "tests/detectors/test_assigners.py",
            "tests/detectors/test_assigners_by_hand.py",
        ],
    ),
    "suppression": (
        ["detectors/suppression.py"],
        ["tests/detectors/test_suppression.py", "tests/detectors/test_postprocess.py"],
    ),
    "postprocess": (
        ["detectors/postprocess.py"],
        ["tests/detectors/test_postprocess_limits.py", "tests/detectors/test_postprocess.py"],
    ),
    "evaluation": (
        ["harness/measure/accuracy/evaluate.py", "harness/measure/accuracy/detections.py"],
        [
            "tests/harness/measure/accuracy/test_evaluate.py",
            "tests/harness/measure/accuracy/test_detections.py",
            "-k not coco549 and not cocoapi",
        ],
    ),
    "dominance": (
        [
            "harness/study/search/judge.py",
            "harness/study/search/objectives.py",
            "harness/records/fronts.py",
            "harness/study/search/pruning.py",
        ],
        [
            "tests/harness/study/search/test_pruning.py",
            "tests/harness/study/search/test_objectives.py",
            "tests/harness/records/test_fronts.py",
            "tests/harness/study/search/test_judge.py",
        ],
    ),
}

# Changes that no test can notice, as they are printed: why they change nothing.
EQUIVALENT: dict[str, str] = {
    "groups = torch.zeros_like(labels) if self.confi -> groups = torch.ones_like(labels)"
    " if self.confi": "all boxes are of one group, whatever its number",
    "groups = torch.zeros_like(found.labels) if self -> groups = torch.ones_like(found.labels)"
    " if self": "all boxes are of one group, whatever its number",
    "if start + block < end: -> if start + block <= end:": "no box remains, and none is spared",
    "if start + block < end: -> if start - block < end:": "no box remains, and none is spared",
    "limits = size.flip(0).repeat(2).to(boxes) -> limits = size.flip(-1).repeat(2).to(boxes)": (
        "a size has one dimension"
    ),
    "_zeros((len(values), most + 1, *values.shape[2:])) ->"
    " _zeros((len(values), most + 2, *values.shape[2:]))": "the column is cut off",
    "_zeros((len(places), most + 1)) -> _zeros((len(places), most + 2))": "the column is cut off",
    "((len(found), predictions + 1), BACKGROUND) -> ((len(found), predictions + 2), BACKGROUND)": (
        "the column is cut off"
    ),
    "return row.metrics.get('mAP', 0.0) -> return row.metrics.get('mAP', -1.0)": (
        "mAP is absent from all rows, which are then equal, or from none"
    ),
    "[[] for _ in range(count)], 0.0, []) -> [[] for _ in range(count)], -1.0, [])": (
        "the seconds are replaced at the end"
    ),
    "ll_ms, [0.0] * len(order), [0] * len(order)) -> "
    "ll_ms, [0.0] * len(order), [1] * len(order))": "every place is filled afterwards",
    "shold: float, block: int=1024) -> Tensor: -> shold: float, block: int=1023) -> Tensor:": (
        "blocks of any size find the same"
    ),
    "ero(np.diff(group, prepend=-1)) -> ero(np.diff(group, prepend=-2))": (
        "groups are counted from 0: the first differs from either"
    ),
    "if self.iou_weight > 0: -> if self.iou_weight > -1:": "a weight of 0 adds nothing",
    "astype(np.float64).reshape(-1, 4)), score=_narrow(columns -> "
    "astype(np.float64).reshape(-2, 4)), score=_narrow(columns": (
        "NumPy works out a side whatever negative number stands for it"
    ),
    "COCO_LIMITS = [1, 10, 100] -> COCO_LIMITS = [0, 10, 100]": (
        "mAP is that at the last of them, and the others are only told"
    ),
    "trial.report(value[0], epoch) -> trial.report(value[-1], epoch)": (
        "Optuna's pruners are asked about one objective only"
    ),
    "found = (spans[0].wall_ms, [0.0] * len(order), [0] * len( -> "
    "found = (spans[0].wall_ms, [1.0] * len(order), [0] * len(": "every place is filled afterwards",
}

# Loaded once, before the processes are forked; nothing of the project may be among them.
WARM = ("numpy", "scipy.optimize", "scipy.stats", "torch", "torchvision", "torch.profiler",
        "pydantic", "pandas", "optuna", "hotcoco", "pycocotools.cocoeval", "cv2", "typer", "rich",
        "jinja2", "yaml", "lightning_fabric", "plotly", "sqlalchemy", "fvcore.nn")  # fmt: skip

ROOT = Path(__file__).parents[1]
ALLOWED = 0.1  # share of the changes that may be missed
ROOM = 30.0  # seconds that a change may take beyond five times what the unchanged source takes

OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPPOSITES = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt}
NAMES = dict(
    pair
    for one, other in [("min", "max"), ("any", "all"), ("floor", "ceil"), ("argmin", "argmax"),
                       ("minimum", "maximum"), ("zeros", "ones"), ("amin", "amax"),
                       ("cummin", "cummax"), ("zeros_like", "ones_like"), ("sum", "max")]
    for pair in [(one, other), (other, one)]
)  # fmt: skip
NAMES["max"] = "min"
SAID = {"print", "echo", "debug", "info", "warning", "error", "exception", "say"}  # to a reader


class Change(NamedTuple):
    """One small change of a file."""

    file: str  # from the root
    line: int
    text: str  # what stood there -> what stands there now
    tree: ast.Module


def changes(file: str) -> list[list[Change]]:
    """Return the changes that each place of a file offers, from top to bottom."""
    tree = ast.parse((ROOT / file).read_text())
    before = ast.unparse(tree).splitlines()
    found = []
    for node, put in _places(tree):
        offered = []
        for new in _alternatives(node):
            put(ast.copy_location(new, node))
            after = ast.unparse(tree).splitlines()
            text = next(_shortened(a, b) for a, b in zip(before, after, strict=True) if a != b)
            changed = ast.fix_missing_locations(copy.deepcopy(tree))
            line = getattr(node, "iter", node).lineno  # a comprehension has none of its own
            offered.append(Change(file, line, text, changed))
            put(node)
        if offered:
            found.append(offered)
    return found


def _places(node: ast.AST) -> Iterator[tuple[Any, Callable[[ast.AST], None]]]:
    """Walk through what decides results; yield each node and what replaces it."""
    for name, field in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_comment"}:
            continue
        for index, child in enumerate(field if isinstance(field, list) else [field]):
            if not isinstance(child, ast.AST) or _idle(child):
                continue

            def put(new: Any, name: str = name, field: Any = field, index: int = index) -> None:
                if isinstance(field, list):
                    field[index] = new
                else:
                    setattr(node, name, new)

            yield child, put
            yield from _places(child)


def _idle(node: ast.AST) -> bool:
    """Say whether a change of a node is only words: messages, docstrings, aliases of types."""
    match node:
        case ast.Raise() | ast.JoinedStr() | ast.Import() | ast.ImportFrom():
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name))):
            return name in SAID
        case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.keyword(arg="strict"):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript() | ast.BinOp()):
            return name[0].isupper() and not name.isupper()
    return False


def _alternatives(node: Any) -> Iterator[ast.AST]:
    """Return what a node could be instead."""
    yield from _other_operators(node)
    yield from _other_conditions(node)
    yield from _other_values(node)


def _other_operators(node: Any) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=[operator, *rest]):
            for table in (OPERATORS, OPPOSITES):
                if type(operator) in table:
                    changed = [table[type(operator)](), *rest]
                    yield ast.Compare(node.left, changed, node.comparators)
        case ast.BinOp(op=operator) if type(operator) in OPERATORS:
            yield ast.BinOp(node.left, OPERATORS[type(operator)](), node.right)
        case ast.AugAssign(op=operator) if type(operator) in OPERATORS:
            yield ast.AugAssign(node.target, OPERATORS[type(operator)](), node.value)
        case ast.BoolOp(op=operator):
            other = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield ast.BoolOp(other, node.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield node.operand


def _other_conditions(node: Any) -> Iterator[ast.AST]:
    match node:
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            changed = copy.copy(node)
            changed.test = ast.UnaryOp(ast.Not(), test)
            yield changed
        case ast.comprehension(ifs=[test, *rest]):
            changed = copy.copy(node)
            changed.ifs = [ast.UnaryOp(ast.Not(), test), *rest]
            yield changed
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()


def _other_values(node: Any) -> Iterator[ast.AST]:
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.Constant(value=float(value)):
            yield ast.Constant(value * 1.25 if value else 1.0)
            yield ast.Constant(value * 0.8 if value else -1.0)
        case ast.Subscript(slice=ast.Name() as index, ctx=ast.Load()):
            yield ast.Subscript(node.value, ast.BinOp(index, ast.Add(), ast.Constant(1)), node.ctx)
        case ast.Call(func=ast.Name(id=name)) if name in NAMES:
            yield ast.Call(ast.Name(NAMES[name], ast.Load()), node.args, node.keywords)
        case ast.Call(func=ast.Attribute(attr=name) as func) if name in NAMES:
            swapped = ast.Attribute(func.value, NAMES[name], ast.Load())
            yield ast.Call(swapped, node.args, node.keywords)
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()


def _shortened(before: str, after: str, around: int = 28) -> str:
    """Show where two lines differ, with a little of what surrounds it."""
    before, after = before.strip(), after.strip()
    start = len(os.path.commonprefix([before, after]))
    left, right = before[start:], after[start:]
    end = len(os.path.commonprefix([left[::-1], right[::-1]]))
    first = max(0, start - around) if start > around + 8 else 0
    return " -> ".join(line[first : len(line) - end + around] for line in (before, after))


def drawn(module: str, count: int, seed: int) -> list[Change]:
    """Draw changes of a module's files, at most one at each place."""
    places: list[list[Change]] = []
    for name in MODULES[module][0]:
        path = ROOT / name
        for file in sorted(path.glob("**/*.py")) if path.is_dir() else [path]:
            places += changes(file.relative_to(ROOT).as_posix())
    draw = random.Random(f"{seed} {module}")
    chosen = [draw.choice(place) for place in draw.sample(places, min(count, len(places)))]
    return sorted(chosen, key=lambda change: (change.file, change.line))


def _run(change: Change | None, tests: Sequence[str], folder: Path, shown: bool) -> None:
    """Run tests in a process of their own, with a change in place, and exit as pytest does."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not shown:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
    if change is not None:
        path, tree = str(ROOT / change.file), change.tree
        code = importlib.machinery.SourceFileLoader.get_code

        def get_code(loader: Any, name: str) -> Any:
            if loader.path == path:
                return compile(tree, path, "exec", dont_inherit=True)
            return code(loader, name)

        importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
    options = ["-x", "-q", "--benchmark-disable", "-p", "no:cacheprovider", f"--basetemp={folder}"]
    status = 1
    try:
        status = int(pytest.main([*options, *tests]))
    finally:
        sys.stdout.flush()
        os._exit(status)


def _end(process: Any) -> None:
    """End tests and what they left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()


def passes(
    cases: Sequence[Change | None],
    tests: Sequence[str],
    *,
    jobs: int,
    limit: float | None = None,
    shown: bool = False,
) -> list[bool]:
    """Say for each change whether the tests pass with it; None is the unchanged source.

    Args:
        cases: the changes.
        tests: files, from the root, and options of pytest's.
        jobs: how many run at a time.
        limit: seconds after which tests count as hanging, which is noticed.
        shown: whether the tests' output is.
    """
    fork = multiprocessing.get_context("fork")
    waiting, running, found = list(enumerate(cases)), {}, [False] * len(cases)
    with tempfile.TemporaryDirectory() as folder:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    number, change = waiting.pop(0)
                    own = Path(folder) / str(number)
                    process = fork.Process(target=_run, args=(change, tests, own, shown))
                    process.start()
                    running[process.sentinel] = number, process, time.monotonic()
                wait(list(running), timeout=1.0)
                for sentinel, (number, process, start) in list(running.items()):
                    late = limit is not None and time.monotonic() - start > limit
                    if not process.is_alive() or late:
                        found[number] = process.exitcode == 0
                        del running[sentinel]
                        _end(process)
        finally:
            for _, process, _ in running.values():
                _end(process)
    return found


def survivors(module: str, count: int, seed: int, jobs: int) -> int:
    """Print the changes of a module that its tests miss; return how many have no known reason.

    Raises:
        SystemExit: the tests fail with the source as it is.
    """
    files, tests = MODULES[module]
    start = time.monotonic()
    if not all(passes([None], tests, jobs=1, shown=False)):
        passes([None], tests, jobs=1, shown=True)
        raise SystemExit(f"{module}: its tests fail unchanged")
    took = time.monotonic() - start
    chosen = drawn(module, count, seed)
    missed = passes(chosen, tests, jobs=jobs, limit=5 * took * jobs + ROOM)
    left = [change for change, green in zip(chosen, missed, strict=True) if green]
    print(f"{module}: {len(left)} of {len(chosen)} changes are missed, seed {seed}")
    for change in left:
        reason = EQUIVALENT.get(change.text)
        print(f"  {change.file}:{change.line}: {change.text}")
        if reason:
            print(f"      cannot be noticed: {reason}")
    sys.stdout.flush()
    return len([change for change in left if change.text not in EQUIVALENT])


def main() -> int:
    """Read the command line; return 1 when more than one change in ten is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(MODULES))
    parser.add_argument("--count", type=int, default=24, help="changes of each module")
    parser.add_argument("--seed", type=int, default=0, help="that they are drawn by")
    parser.add_argument("--jobs", type=int, default=1, help="tests that run at a time")
    given = parser.parse_args()
    unknown = set(given.modules) - MODULES.keys()
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(MODULES)}")
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no tests are left behind
    for name in WARM:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    missed = {
        module: survivors(module, given.count, given.seed, given.jobs)
        for module in given.modules or MODULES
    }
    return int(any(count > ALLOWED * given.count for count in missed.values()))


if __name__ == "__main__":
    sys.exit(main())
