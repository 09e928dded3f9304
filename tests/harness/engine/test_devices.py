"""How many trials run at a time where nobody said so."""

import pytest

from harness.engine import devices

GIB = 1 << 30


def machine(monkeypatch: pytest.MonkeyPatch, cores: int, gib: int) -> None:
    monkeypatch.setattr(devices, "usable_cores", lambda: list(range(cores)))
    monkeypatch.setattr(devices, "_memory", lambda: gib * GIB)


@pytest.mark.parametrize(
    ("cores", "gib", "trials", "expected"),
    [
        (4, 24, 4, 2),  # two cores each
        (3, 24, 4, 1),
        (1, 24, 4, 1),
        (16, 128, 100, 4),  # no more than MOST_BESIDE
        (16, 128, 3, 3),  # no worker without a trial
        (16, 9, 100, 2),  # as many as the memory holds
        (16, 1, 100, 1),
        (2, 24, 0, 1),  # racing may add trials later
    ],
)
def test_a_sweep_on_a_processor_runs_side_by_side(
    monkeypatch: pytest.MonkeyPatch, cores: int, gib: int, trials: int, expected: int
) -> None:
    machine(monkeypatch, cores, gib)
    assert devices.side_by_side(["cpu"], trials) == ["cpu"] * expected


@pytest.mark.parametrize("given", [["cuda:0"], ["cuda:0", "cuda:1"]])
def test_a_gpu_has_one_trial_at_a_time(monkeypatch: pytest.MonkeyPatch, given: list[str]) -> None:
    machine(monkeypatch, 16, 128)
    assert devices.side_by_side(given, 100) == given


def test_the_memory_of_this_machine_is_read() -> None:
    assert devices._memory() > GIB // 4
