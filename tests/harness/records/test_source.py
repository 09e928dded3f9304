"""What a file of Python computes, and what it imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.records import source
from harness.records.source import Import


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("x = 1", "x = 2", False),
        ("x = 1", "x = 1.0", False),
        ("x = 1", "x = True", False),
        ("x = 'a'", 'x = ("a")  # why', True),
        ("x = f'{a:>3}'", "x = f'{a:>4}'", False),
        ("x = ['', 'a']", "x = ['a']", False),
        ("def f():\n    'doc'\n    return 1", "def f():\n    return 1", True),
        ("def f(): pass", "def f():\n    'doc'", True),
        ("class A:\n    x: int = 1\n    'what it is'", "class A:\n    x: int = 1", True),
        ("f(a, b)", "f(\n    a,\n    b,\n)", True),
        ("f(a, b)", "f(b, a)", False),
        ("x = a.b", "x = b.a", False),
        ("x = {None: 1, **a}", "x = {**a, None: 1}", False),
        ("t: float = inference_only(0.1)", "t: float = config.inference_only(0.2)", True),
        ("t: float = inference_only(0.1)", "t: float = 0.1", False),
        ("match x:\n    case None: y", "match x:\n    case True: y", False),
        ("if a:\n    b", "if a:\n    pass\n    b", True),
        ("x = 1 if a else 2", "x = 2 if a else 1", False),
        ("# -*- coding: latin-1 -*-\nx = 'ä'", "x = 'Ã¤'", True),
        ("x = (", "x = (  ", False),  # no Python: what it says counts
    ],
)
def test_what_a_text_computes(one: str, other: str, same: bool) -> None:
    prints = [source.read(text.encode()).fingerprint for text in (one, other)]
    assert (prints[0] == prints[1]) is same


IMPORTS = """
from __future__ import annotations
import own.deep
import own as mine
import json
from typing import TYPE_CHECKING
from own.kinds import Kind, Other
from own import helper, unused
from . import beside
from ..above import *
if TYPE_CHECKING:
    from own import never

def f(x: Kind) -> Kind:
    from own import late
    return helper.work(late, own.deep.value, mine.a, mine.b, Other)
"""


def test_what_a_text_imports() -> None:
    found = {item.binding: item for item in source.read(IMPORTS.encode()).imports}
    assert set(found) == {
        *("own.deep", "mine", "Kind", "Other", "helper", "unused", "beside", "*", "late"),
    }
    assert found["own.deep"] == Import("own.deep", "own.deep", None, None, True)
    assert found["mine"] == Import("mine", "own", None, ["a", "b"], True)
    assert found["helper"] == Import("helper", "own", "helper", ["work"], True)
    assert found["Other"] == Import("Other", "own.kinds", "Other", None, True)
    assert found["late"] == Import("late", "own", "late", None, True)
    assert found["*"] == Import("*", "..above", "*", None, True)
    assert found["beside"].module == "."
    assert not found["Kind"].used  # in annotations alone
    assert not found["unused"].used


def test_files_together(tmp_path: Path) -> None:
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("x = 1")
    other.write_text("x = 2")
    assert source.fingerprint(one, other) != source.fingerprint(other, one)
    before = source.fingerprint(one, other)
    one.write_text("x = 1  # said")
    assert source.fingerprint(one, other) == before
