"""How the command is started: a working directory full of somebody's modules runs none of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.studies import TOY, write

ROOT = Path(__file__).parents[3]
TAKEN = """
    json typing torch yaml rich typer pydantic numpy dataclasses enum socket pickle signal selectors
    threading struct queue contextlib tempfile random secrets uuid reports detectors tests
"""
"""Names of modules that Python, a library or detbench has, too; `harness` itself Python looks for
before any code of ours can run."""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder whose modules leave a file behind when they are imported."""
    folder = tmp_path / "here"
    folder.mkdir()
    for name in TAKEN.split():
        text = f"open({str(tmp_path / 'canary')!r}, 'a').write('{name} ')\nraise SystemExit(3)\n"
        (folder / f"{name}.py").write_text(text, "utf-8")
    (folder / "mymodel.py").write_text("from tests.toy import TOY as CONFIG\n", "utf-8")
    return folder


def started(here: Path, way: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder by `python -m`, or as the script that an installer makes."""
    script = here.parent / "bin" / "detbench"
    script.parent.mkdir(exist_ok=True)
    script.write_text("import sys\nfrom harness.cli import main\nsys.exit(main())\n", "utf-8")
    start = ["-m", "harness.cli"] if way == "module" else [str(script)]
    done = subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    canary = here.parent / "canary"
    assert not canary.exists(), canary.read_text("utf-8")
    return done


@pytest.mark.parametrize(
    ("way", "arguments"),
    [
        *(("module", ("--help",)), ("script", ("--help",))),
        *(("module", ("list", "detectors")), ("script", ("list", "studies"))),
    ],
)
def test_no_module_of_the_working_directory_is_taken_for_ours(
    here: Path, way: str, arguments: tuple[str, ...]
) -> None:
    done = started(here, way, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "quickstart" in done.stdout or "rtmdet_tiny" in done.stdout or "Usage" in done.stdout


def test_a_detector_of_the_working_directory_is_found_by_the_workers_too(here: Path) -> None:
    study = write(here, detector="mymodel:CONFIG", measure=["complexity"], sweep=TOY["sweep"])
    done = started(here, "module", "run", study, "--no-tracking", "--no-report", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert len(list((here / "runs" / "toy").glob("*/record.json"))) == 2


def test_a_module_that_is_taken_by_another_is_told(here: Path) -> None:
    done = started(here, "module", "list", "knobs", "json:CONFIG")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith(
        "detbench: error: detector: cannot load 'json:CONFIG': module 'json' has"
    )
    assert "json.py has the name of a module of" in line


def test_a_module_that_ends_the_program_is_refused(here: Path) -> None:
    (here / "ends.py").write_text("import sys\nsys.exit(0)\n", "utf-8")
    done = started(here, "script", "list", "knobs", "ends:CONFIG")
    assert done.returncode == 2
    assert "it ends the program (0)" in done.stderr
    assert f"{here}/ends.py:2" in done.stderr
