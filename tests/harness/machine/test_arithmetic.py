"""Arithmetic that is slower than float32 here is found, by the fastest of a few calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from harness.cli.doctor import machine
from harness.machine import arithmetic


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    measured = arithmetic.slowdown
    measured.cache_clear()
    yield
    measured.cache_clear()


def test_the_fastest_calls_count() -> None:
    """Whatever disturbs some of them; the first makes things ready, and does not count."""
    now = 0.0

    def taking(*seconds: float) -> Callable[[], None]:
        left = iter(seconds)

        def call() -> None:
            nonlocal now
            now += next(left)

        return call

    first, second = taking(0.1, 5, 2, 9, 3), taking(0.2, 20, 18, 40, 30)
    assert arithmetic.ROUNDS == 4
    assert arithmetic.ratio(first, second, lambda: now) == pytest.approx(9)


@pytest.mark.parametrize("training", [False, True])
def test_it_is_measured_and_nothing_else_is_touched(training: bool) -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    found = arithmetic.slowdown("bf16", "cpu", training=training)
    assert found is not None
    assert found > 0
    assert torch.equal(torch.get_rng_state(), before), "seeds of a training"
    assert torch.get_num_threads() == threads
    assert arithmetic.slowdown("fp32", "cpu", training=training) is None
    assert arithmetic.slowdown("tf32", "cpu", training=training) is None


def slow(monkeypatch: pytest.MonkeyPatch, factor: float | None) -> None:
    def found(precision: str, device: str, *, training: bool = False) -> float | None:
        return factor if precision in arithmetic.HALVES else None

    monkeypatch.setattr(arithmetic, "slowdown", found)


@pytest.mark.parametrize(
    ("factor", "told"),
    [(9.2, "9 times"), (1.5, "1.5 times"), (1.1, None), (0.5, None), (None, None)],
)
def test_a_warning_has_the_factor(
    monkeypatch: pytest.MonkeyPatch, factor: float | None, told: str | None
) -> None:
    slow(monkeypatch, factor)
    text = arithmetic.warning("recipe.precision", "bf16", "cpu")
    assert arithmetic.warning("recipe.precision", "fp32", "cpu") is None
    assert (text is None) == (told is None)
    if told is not None and text is not None:
        assert text.startswith("recipe.precision bf16: a training step takes about ")
        assert f" {told} as long as in fp32 on this cpu" in text


@pytest.mark.parametrize(("factor", "severity"), [(9.2, "limits"), (0.5, "ok"), (None, "ok")])
def test_doctor_says_so(
    monkeypatch: pytest.MonkeyPatch, factor: float | None, severity: str
) -> None:
    slow(monkeypatch, factor)
    (finding,) = machine.slow_arithmetic("cpu")
    assert (finding.check, finding.severity) == ("arithmetic", severity)
    assert ("bf16 training x9.2" in finding.found) == (factor == 9.2)
    assert ("bf16" in finding.consequence) == (severity == "limits")
