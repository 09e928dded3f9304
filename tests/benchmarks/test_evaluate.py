"""Evaluation beside pycocotools: run with `tox -e bench`, with nothing else running."""

import contextlib
import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from harness.analysis.compare import matches
from harness.measure.accuracy.evaluate import match
from tests.harness.detecting import detect, scenes

IMAGES = 500
Case = tuple[dict[str, Any], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def case() -> Case:
    draw = np.random.default_rng(0)
    split = scenes(draw, IMAGES, classes=20)
    found = [item for _ in range(4) for item in detect(draw, split)]
    return split.ground_truth(), found


def ours(truth: dict[str, Any], found: list[dict[str, Any]]) -> Any:
    evaluator = match(truth, found, (1, 10, 100))
    evaluator.accumulate()
    return evaluator.eval


def pycocotools(truth: dict[str, Any], found: list[dict[str, Any]]) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = truth
        known.createIndex()
        evaluator = COCOeval(known, known.loadRes(found), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval


@pytest.mark.benchmark(group=f"evaluate {IMAGES} images, 20 classes")
@pytest.mark.parametrize("engine", [ours, pycocotools])
def test_evaluation(benchmark: Any, case: Case, engine: Callable[..., Any]) -> None:
    truth, found = case

    def fresh() -> tuple[Any, dict[str, Any]]:
        return (truth, copy.deepcopy(found)), {}  # pycocotools writes into what it is given

    result = benchmark.pedantic(engine, setup=fresh, rounds=5, warmup_rounds=1)
    np.testing.assert_array_equal(result["precision"], ours(truth, found)["precision"])


@pytest.mark.benchmark(group=f"AP of a draw of {IMAGES} images, 20 classes")
@pytest.mark.parametrize("engine", ["weighted", "evaluated again"])
def test_draw(benchmark: Any, case: Case, engine: str) -> None:
    truth, found = case
    matched = matches.match(truth, found, (1, 10, 100))
    once = np.ones(IMAGES)
    work: Callable[[], Any] = {
        "weighted": lambda: matched.precision(once),
        "evaluated again": lambda: ours(truth, found)["precision"],
    }[engine]
    result = np.asarray(benchmark.pedantic(work, rounds=5, warmup_rounds=1))
    if engine == "weighted":
        whole = np.asarray(ours(truth, found)["precision"])[:, :, :, 0, -1]
        assert matches.mean(result[0].reshape(-1)) == pytest.approx(whole[whole > -1].mean())
