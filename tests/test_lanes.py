"""The lanes of tests/README.md hold what they say."""

import pytest

from tests.conftest import TESTS, UNIT_FILES


def test_the_unit_lane_holds_several_hundred_tests(request: pytest.FixtureRequest) -> None:
    assert [file for file in UNIT_FILES if not file.is_file()] == []
    collected = {item.path for item in request.session.items}
    if not collected >= UNIT_FILES:
        pytest.skip("only a part of the tests was collected")
    assert sum(item.get_closest_marker("unit") is not None for item in request.session.items) >= 300


def test_every_lane_is_told() -> None:
    text = (TESTS / "README.md").read_text(encoding="utf-8")
    for lane in ("unit", "slow", "bench", "gpu", "browser", "cluster"):
        assert f"| {lane} |" in text, lane
