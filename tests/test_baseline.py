"""The stored ratios of benchmarks are those of today's, and one that doubles is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import baseline
from tests.benchmarks.test_refusals import LINES


def written(folder: Path, **ratios: float | None) -> str:
    """Write what pytest-benchmark writes; None is a benchmark without a ratio."""
    benchmarks: list[dict[str, Any]] = [
        {"name": name, "extra_info": {} if ratio is None else {"ratio": ratio}}
        for name, ratio in ratios.items()
    ]
    (folder / "now.json").write_text(json.dumps({"benchmarks": benchmarks}), "utf-8")
    return str(folder / "now.json")


def test_every_refusal_is_stored() -> None:
    assert {"test_check", *(f"test_refusal[{line}]" for line in LINES)} <= baseline.stored().keys()


def test_what_takes_over_twice_as_much_has_doubled() -> None:
    now = {"same": 4.0, "twice": 8.0, "more": 8.1, "new": 99.0}
    assert baseline.doubled(now, {"same": 4.0, "twice": 4.0, "more": 4.0, "gone": 1.0}) == ["more"]


def test_a_run_is_kept_and_the_next_compared_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(baseline, "FILE", tmp_path / "baseline.json")
    assert baseline.main([written(tmp_path, one=2.004, other=5.0, plain=None), "--keep"]) == 0
    assert baseline.stored() == {"one": 2.0, "other": 5.0}
    assert baseline.main([written(tmp_path, one=3.9, added=1.0)]) == 0
    assert baseline.main([written(tmp_path, one=4.1)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "    3.90     2.00  one",
        "    1.00      new  added",
        "    4.10     2.00  one  DOUBLED",
    ]
