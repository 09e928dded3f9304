"""The changes that `tests.mutations` makes: of what decides, and the same ones for a seed."""

from pathlib import Path

import pytest

from tests import mutations

SOURCE = '''
"""A docstring."""
__all__ = ["f"]
Floats = list[float]

def f(a: "int | None", b: int = 3) -> bool:
    """Another."""
    if a > 5 and not b:
        raise ValueError(f"{a + 1} is too much")
    print("a message")
    return max(a, b) == b
'''


@pytest.fixture
def offered(tmp_path: Path) -> list[str]:
    file = tmp_path / "module.py"
    file.write_text(SOURCE)
    return [change.text for place in mutations.changes(str(file)) for change in place]


def test_what_decides_is_changed_and_words_are_not(offered: list[str]) -> None:
    after = {text.split(" -> ")[-1].removesuffix(":") for text in offered if "bool" not in text}
    assert after == {
        *("if not (a > 5 and (not b))", "if a > 5 or not b", "if a >= 5 and (not b)"),
        *("if a <= 5 and (not b)", "if a > 6 and (not b)", "if a > 4 and (not b)"),
        *("if a > 5 and b", "return max(a, b) != b", "return min(a, b) == b"),
    }
    assert len(offered) == len(after) + 2  # the default of `b`, one more and one less


def test_a_seed_draws_the_same_changes_from_other_places() -> None:
    first, again = (mutations.drawn("timer", 24, 1) for _ in range(2))
    assert [change[:3] for change in first] == [change[:3] for change in again]
    assert [change[:3] for change in first] != [
        change[:3] for change in mutations.drawn("timer", 24, 2)
    ]
    assert len(first) == 24


def test_the_table_names_files_that_are_there() -> None:
    for files, tests in mutations.MODULES.values():
        for name in (*files, *(name for name in tests if not name.startswith("-"))):
            assert (mutations.ROOT / name).exists(), name
