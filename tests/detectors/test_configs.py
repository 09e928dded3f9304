"""Names of detectors: what one that is odd, or whose module fails, is told."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import detectors
from detectors.config import KnobError

MODULES = {
    "raises": "x = 1\nx = 1 / 0\n",
    "ends": "import sys\n\n\nsys.exit(0)\n",
    "asks": "import nothing_of_this_name\n",
    "errs": "def (:\n",
    "deep": "import json\njson.loads('{')\n",
    "holds": "from tests.toy import ToyConfig\nTHING = 5\nTOY = ToyConfig()\n",
}


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in MODULES.items():
        (tmp_path / f"odd_{name}.py").write_text(text, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in {name for name in sys.modules if name.startswith("odd_")} - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    "name",
    [":X", "..a:B", "a..b:C", ".a:B", "a:", "a:b.c", "a:b:c", "a/b:C", "1a:B", "a :B", "a\n:B"],
)
def test_what_is_no_name_is_not_looked_for(name: str) -> None:
    with pytest.raises(KnobError, match="is no name; expected package.module:ATTRIBUTE"):
        detectors.resolve(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("odd_raises:X", "ZeroDivisionError: division by zero ({folder}/odd_raises.py:2)"),
        ("odd_ends:X", "it ends the program (0) ({folder}/odd_ends.py:4)"),
        ("odd_asks:X", "No module named 'nothing_of_this_name' ({folder}/odd_asks.py:1)"),
        (
            "odd_errs:X",
            "SyntaxError: invalid syntax (odd_errs.py, line 1) ({folder}/odd_errs.py:1)",
        ),
        ("odd_deep:X", "({folder}/odd_deep.py:2)"),
        ("odd_nowhere:X", "cannot load 'odd_nowhere:X': No module named 'odd_nowhere'"),
        ("odd_holds:THING", "expected a dataclass with a method build"),
        (
            "odd_holds:ToyConfig",
            "'odd_holds:ToyConfig' is a class; name a config that was made of it",
        ),
        ("odd_holds:NONE", "module 'odd_holds' has no attribute 'NONE'"),
    ],
)
def test_a_module_that_fails_is_told_in_one_line(modules: Path, name: str, said: str) -> None:
    with pytest.raises(KnobError) as caught:
        detectors.resolve(name)
    text = str(caught.value)
    assert text.endswith(said.format(folder=modules))
    assert "\n" not in text
    assert detectors.resolve("odd_holds:TOY").build() is not None


@pytest.mark.parametrize("module", ["string", "sys"])
def test_a_file_that_is_passed_over_is_told(modules: Path, module: str) -> None:
    Path(f"{module}.py").write_text("from tests.toy import TOY\n", "utf-8")
    with pytest.raises(
        KnobError, match=rf"; {module}\.py has the name of a module of .*: rename it$"
    ):
        detectors.resolve(f"{module}:TOY")


def test_only_code_that_somebody_else_names_needs_trust() -> None:
    assert detectors.is_trusted("rtmdet_tiny", ())
    assert detectors.is_trusted("no_such_detector", ())  # which runs nothing, and is refused
    assert not detectors.is_trusted("tests.toy:TOY", ())
    assert not detectors.is_trusted("tests.toy:TOY", ("tests.toy:OTHER",))
    assert detectors.is_trusted("tests.toy:TOY", ("tests.toy:TOY",))
