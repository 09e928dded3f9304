import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli
from harness.cli import console, streams
from harness.cli.board import Board
from harness.machine import locks
from harness.records import record
from tests.harness.studies import TOY, write
from tests.patience import HANG

ROOT = Path(__file__).parents[3]
FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")


def shell(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command with streams as a shell gives them."""
    command = f"{sys.executable} -m harness.cli {text}"
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, shell=True, cwd=folder, env=variables, capture_output=True, text=True, timeout=HANG
    )


@pytest.mark.parametrize("command", ["clean --out .", "clean --out . --json", "--help"])
@pytest.mark.parametrize(
    ("stream", "reason"), [(">/dev/full", "No space left on device"), (">&-", "it is closed")]
)
def test_a_result_that_cannot_be_shown_is_one_line(
    command: str, stream: str, reason: str, tmp_path: Path
) -> None:
    done = shell(f"{command} {stream}", tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        f"detbench: error: stdout: {reason}; the result is not shown, and what was done stands\n"
    )


def test_who_has_seen_enough_is_told_nothing(tmp_path: Path) -> None:
    done = shell("clean --out . | exec true", tmp_path)
    assert done.stderr == ""


def test_without_any_stream_the_numbers_of_streams_stay_taken(tmp_path: Path) -> None:
    code = (
        "import os, sys; from harness import cli; s = cli.main(['clean', '--out', '.']);"
        "f = open('f', 'w'); f.write(str(f.fileno())); os.write(1, b'x'); sys.exit(s)"
    )
    command = f'{sys.executable} -c "{code}" <&- >&- 2>&-'
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=variables, timeout=HANG)
    assert done.returncode == 1
    assert int((tmp_path / "f").read_text("utf-8")) > 2


def test_a_study_whose_table_cannot_be_shown_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(locks, "_folder", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    shapes = {key: value for key, value in TOY["set"].items() if key.startswith("data.")}
    file = write(tmp_path, measure=["complexity"], recipe=None, set=shapes)
    with FULL.open("w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        patch.setattr(sys, "stderr", full)
        assert cli.main(["run", str(file), "--device", "cpu", "--no-tracking"]) == 1
    assert len(record.read_all(tmp_path / "runs" / "toy")) == 2
    assert (tmp_path / "runs" / "toy" / "report.html").is_file()
    assert "Traceback" not in capfd.readouterr().err


def test_a_full_disk_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device", "runs/toy")

    monkeypatch.setattr(cli, "app", fail)
    assert cli.main([]) == 1
    assert capfd.readouterr().err == (
        "detbench: error: runs/toy: No space left on device; see to that, and run again\n"
    )

    def mistake(*arguments: object, **options: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "ours")

    monkeypatch.setattr(cli, "app", mistake)
    with pytest.raises(FileNotFoundError):
        cli.main([])


def test_what_is_told_meanwhile_may_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        with Board(console.stderr()) as board:
            for _ in range(3):
                board.say("x" * 100_000)
        assert streams.Careless(full).writable()
        monkeypatch.undo()
        streams.Careless(full).give_up()
