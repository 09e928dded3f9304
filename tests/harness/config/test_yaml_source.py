"""YAML of strangers: refused in one line before it grows, nests or makes objects."""

import os
from pathlib import Path

import pytest

from harness.config import yaml_source
from harness.config.yaml_source import DEEPEST, StudyError

TEN = ", ".join(["x"] * 10)
GROWS = f"a: &a [{TEN}]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GROWS, "more than 100000 parts, named ones each time they occur"),
        ("a: " + "[" * 200_000, ":1: more than 50 parts within parts"),
        ("a:\n  " + "- " * 100_000 + "x", ":2: more than 50 parts within parts"),
        ("a: &a [*a]", "a.0.0: more than 50 parts within parts"),
        ("a: !!python/object/apply:os.system [id]", ":1: not plain YAML: could not determine"),
        ("a: 2026-13-45", "not plain YAML: month must be in 1..12"),
        ("? [a, b]\n: c", ":1: not plain YAML: found unhashable key"),
        ("a: 1\nb: 0x" + "f" * 9000, ":2: not plain YAML: a whole number of more than 64 bits"),
        ("a: 1" + "0" * 9000, "not plain YAML: Exceeds the limit"),
        ("a: 1\nb: {c: 1,\n c: 2}", ":3: 'c' stands here a second time"),
    ],
)
def test_what_is_no_plain_file_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(StudyError) as caught:
        yaml_source.read(file)
    assert str(caught.value).startswith(str(file))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(StudyError):
        yaml_source.value(text)


def test_parts_may_be_named_and_nested(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    deep = "[" * (DEEPEST - 1) + "1" + "]" * (DEEPEST - 1)
    file.write_text(f"a: &sizes [320, 640]\nb: *sizes\nc: {deep}\nd: {2**63}\n", "utf-8")
    found = yaml_source.read(file)
    assert found.value["b"] == [320, 640]
    assert found.value["d"] == 2**63
    assert found.place("b", "1") == f"{file}:1"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "study.yaml")
    with pytest.raises(StudyError, match="cannot be read: it is no file"):
        yaml_source.read(tmp_path / "study.yaml")


def test_numbers_stay_as_they_are_written_on_request(tmp_path: Path) -> None:
    file = tmp_path / "paper.yaml"
    file.write_text("{a: 8.10, b: 1e-3, c: true, d: null, e: [0x10, 2026-01-02], f: '7'}", "utf-8")
    found = yaml_source.read(file, as_text=True).value
    assert found == {
        "a": "8.10", "b": "1e-3", "c": "true", "d": None, "e": ["0x10", "2026-01-02"], "f": "7",
    }  # fmt: skip
    assert yaml_source.read(file).value["a"] == 8.1
