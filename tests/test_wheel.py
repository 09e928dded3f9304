"""What `pip install` gives to those who have no checkout: a wheel that is whole and works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

import detectors
from harness.config import library, recipe

ROOT = Path(__file__).parents[1]
PACKAGES = ("detectors", "harness", "reports", "studies")
FOR_READERS = ("reports/measured/*", "studies/papers/STATUS.md", "*/README.md")
"""What the repository holds beside the package."""
PIP = (sys.executable, "-m", "pip", "--isolated", "--quiet", "--disable-pip-version-check")
SMALL = {
    "sweep": "{detector.backbone.expand_ratio: [0.25, 0.5]}",
    "data.shapes.train_images": "8",
    "data.shapes.val_images": "4",
    "recipe.epochs": "1",
    "recipe.validate_every": "1",
    "recipe.workers": "0",
    "latency.seconds": "0.2",
    "latency.warmup_seconds": "0.1",
    "latency.images": "2",
    "latency.together_seconds": "0.2",
}
"""What makes seconds of the quickstart's minutes."""


class Installed(NamedTuple):
    """The package where it was put, away from the checkout."""

    wheel: Path
    folder: Path
    elsewhere: Path  # an empty folder to work in

    def run(self, *arguments: str) -> str:
        """Run a command that ends with status 0, and return what it prints."""
        done = subprocess.run(
            arguments,
            cwd=self.elsewhere,
            env=os.environ | {"PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    def detbench(self, *arguments: str) -> str:
        return self.run(str(self.folder / "bin" / "detbench"), *arguments)


def tracked() -> Sequence[str]:
    """List the files that the repository holds, or would hold once all is added."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("git knows what belongs into a wheel, and there is no checkout of git")
    command = ["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel from what git knows, as pip does without a network, and install it."""
    folder = tmp_path_factory.mktemp("wheel")
    source, built, target, elsewhere = (folder / name for name in ("source", "a", "b", "c d"))
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    offline = ("--no-deps", "--no-index")
    build = [*PIP, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(built), "."]
    subprocess.run(build, cwd=source, check=True)
    (wheel,) = built.iterdir()
    subprocess.run([*PIP, "install", *offline, "--target", str(target), str(wheel)], check=True)
    shutil.rmtree(source)
    elsewhere.mkdir()
    return Installed(wheel, target, elsewhere)


def test_it_holds_what_the_packages_hold(installed: Installed) -> None:
    names = [name for name in tracked() if name.split("/")[0] in PACKAGES]
    expected = {name for name in names if not any(fnmatch(name, own) for own in FOR_READERS)}
    with zipfile.ZipFile(installed.wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
    assert held == expected
    assert {"harness/py.typed", "studies/papers/rtmdet.yaml", "reports/templates/study.js"} <= held


def test_it_is_not_the_checkout_that_is_tested(installed: Installed) -> None:
    code = "import harness, reports; print(harness.__file__, reports.__file__, sep='\\n')"
    files = installed.run(sys.executable, "-c", code).splitlines()
    assert [Path(file).parents[1] for file in files] == [installed.folder] * 2


def test_it_lists_what_the_checkout_lists(installed: Installed) -> None:
    kinds = {"studies": library.names(), "recipes": recipe.names(), "detectors": detectors.names()}
    for kind, names in kinds.items():
        listed = json.loads(installed.detbench("list", kind, "--json"))
        assert [item["name"] if isinstance(item, dict) else item for item in listed] == names


@pytest.mark.slow
def test_its_studies_pass_their_check(installed: Installed) -> None:
    printed = installed.detbench("check", "rtdetr/quickstart", "--no-probe", "--json")
    assert [item["study"] for item in json.loads(printed)] == ["rtdetr_quickstart"]


@pytest.mark.parametrize("tracked", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_runs_a_study_to_its_end(
    installed: Installed, empty_tracker: Path, tmp_path: Path, tracked: bool
) -> None:
    shutil.copy(empty_tracker, tmp_path / "mlflow.db")
    tracker = f"--tracking-uri=sqlite:///{tmp_path / 'mlflow.db'}" if tracked else "--no-tracking"
    sets = [word for knob, value in SMALL.items() for word in ("--set", f"{knob}={value}")]
    installed.detbench(
        *("run", "quickstart", "--device", "cpu", "--out", str(tmp_path / "runs"), tracker), *sets
    )
    folder = tmp_path / "runs" / "quickstart"
    records = [json.loads(file.read_text()) for file in folder.glob("*/record.json")]
    assert [item["state"] for item in records] == ["done", "done"]
    assert all({"mAP", "latency_ms", "macs"} <= set(item["metrics"]) for item in records)
    assert (folder / "report.html").is_file()
    assert len(list(folder.glob("*/mlflow.json"))) == 2 * tracked
