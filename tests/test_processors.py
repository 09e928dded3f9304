"""The script that runs the tests as other processors would compute them."""

from pathlib import Path

import pytest

from tests import processors

CASES = """
import os

import pytest


def test_the_imitation_arrives():
    assert os.environ["ATEN_CPU_CAPABILITY"] == "default"
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_another():
    pass


@pytest.mark.skip
def test_left_out():
    pass
"""


def test_kernels_follow_the_imitation() -> None:
    imitated = processors.IMITATIONS["aten-default"] | processors.IMITATIONS["threads-2"]
    assert processors.ask_torch(processors.environment(imitated)) == ("DEFAULT", "2")


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    file = tmp_path / "test_small.py"
    file.write_text(CASES)
    return file


def test_each_imitation_is_run_and_one_failure_is_enough(
    cases: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # of the caller's; each imitation has its own
    monkeypatch.setattr(processors, "ask_torch", lambda variables: ("SOME", "7"))
    chosen = ["--only", "aten-default", "threads-2", "--workers", "0", "--", str(cases)]
    assert processors.main(chosen) == 1
    rows = [line.split() for line in capfd.readouterr().out.splitlines()]
    first = rows.index(processors.HEADER)
    good, bad = rows[first + 1 : first + 3]
    assert good[:6] == ["aten-default", "SOME", "7", "2", "0", "1"]
    assert good[7:] == ["passed"]
    assert bad[0] == "threads-2"
    assert bad[2:6] == ["7", "1", "1", "1"]
    assert bad[7] == "FAILED"
    assert rows[-1][0] == "threads-2:"
    assert rows[-1][1].endswith("test_small::test_the_imitation_arrives")


def test_a_run_without_tests_is_no_success(cases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "ask_torch", lambda variables: ("SOME", "7"))
    chosen = ["--only", "threads-1", "--workers", "0", "--", str(cases), "-k", "nothing"]
    assert processors.main(chosen) == 1


def test_imitations_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert processors.main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(processors.IMITATIONS)
    assert listed[2].split() == ["onednn-sse41", "ONEDNN_MAX_CPU_ISA=SSE41"]
