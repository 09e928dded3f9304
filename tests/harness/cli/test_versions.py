"""A study is what its file says now: a recipe is edited, and nothing is pooled with the old."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.cli import run as command
from harness.cli import versions
from harness.config.data import DataError
from harness.engine.executor import Job
from harness.records import Record, effects, record, snapshot
from harness.study import present
from harness.trials import folders
from tests.harness.engine import instant
from tests.harness.engine.instant import Inline
from tests.harness.studies import TOY, write

Run = Callable[..., dict[str, Any]]
BEFORE, AFTER = {"4": 0.40, "8": 0.30}, {"4": 0.50, "8": 0.54}  # mAP by width, by 2 and 3 epochs
EARLIER = "of an earlier version of this study or of its code"


def work(job: Job) -> Record:
    """Make a record whose accuracy follows from width, epochs and seed."""
    spec = job.spec
    assert spec.recipe is not None
    known = BEFORE if spec.recipe.epochs == 2 else AFTER
    accuracy = known.get(str(spec.knobs["width"]), 0.2) + 0.001 * spec.seed
    made = instant.made(spec, started=1.0)
    what = {"config": spec.config, "protocol": spec.protocol, "data": spec.dataset}
    what["code"] = spec.code
    return made.model_copy(update={"metrics": {**made.metrics, "mAP": accuracy}, **what})


@pytest.fixture
def detbench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in a folder of its own; trials take no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "_executor", lambda options: Inline(work))

    def call(*arguments: object) -> tuple[int, str, str]:
        status = cli.main([str(item) for item in arguments])
        return (status, *capsys.readouterr())

    return call


def edit(epochs: int, **changes: Any) -> Path:
    tree: dict[str, Any] = {"measure": ["complexity", "accuracy"], "seeds": [0, 1]}
    return write(Path(), set={**TOY["set"], "recipe.epochs": epochs}, **{**tree, **changes})


def ran(detbench: Run, *arguments: object) -> dict[str, Any]:
    status, out, err = detbench(
        "run", "toy.yaml", "--no-tracking", "--device", "cpu", "--json", *arguments
    )
    assert status == 0, err
    return {"err": err, **json.loads(out)}


def test_an_edited_study_stands_apart_from_its_earlier_version(detbench: Run) -> None:
    edit(epochs=2)
    old = {item["trial"] for item in ran(detbench)["trials"]}
    edit(epochs=3)
    status, out, _ = detbench("status", "toy.yaml", "--json")
    counts = json.loads(out)["counts"]
    assert (counts["done"], counts["waiting"], json.loads(out)["earlier"]) == (0, 4, 4)
    told = ran(detbench)
    new = {item["trial"] for item in told["trials"]}
    assert (len(new), new & old, told["earlier"]) == (4, set(), 4)
    assert told["skipped"] == 0
    shows = "`detbench report STUDY --earlier --out DIR` shows them"
    assert f"4 trials {EARLIER} are left out; {shows}" in told["err"]
    for name in ("toy.yaml", "runs/toy"):  # with the study's file, and without it
        found = json.loads(detbench("status", name, "--json")[1])
        assert {key: value for key, value in found["counts"].items() if value} == {"done": 4}
        assert found["earlier"] == 4
    assert f"toy: 4 done\n4 trials {EARLIER}" in detbench("status", "toy.yaml")[1]
    asked = versions.of_folder(Path("runs/toy"))
    shown, earlier = asked.split(record.read_all(Path("runs/toy")))
    assert ({item.trial for item in shown}, {item.trial for item in earlier}) == (new, old)
    assert estimate(shown) == pytest.approx(4.0)
    assert estimate([*shown, *earlier]) == pytest.approx(-3.0), "which was shown, pooled"


def estimate(records: list[Record]) -> float:
    """Return the effect of the width on mAP, in points."""
    found = effects.effects(records, "mAP")
    assert found is not None
    (effect,) = found.effects
    return effect.estimate


@pytest.mark.parametrize("name", ["toy.yaml", "runs/toy"])
def test_pages_hold_the_present_trials_and_the_others_on_request(detbench: Run, name: str) -> None:
    edit(epochs=2)
    old = {item["trial"] for item in ran(detbench)["trials"]}
    edit(epochs=3)
    new = {item["trial"] for item in ran(detbench)["trials"]}
    page = Path("runs/toy/report.html").read_text("utf-8")
    assert (set(filter(page.__contains__, new)), set(filter(page.__contains__, old))) == (
        new,
        set(),
    )
    status, _, err = detbench("report", name, "--out", "pages")
    assert status == 0
    assert f"4 trials {EARLIER} are left out" in err
    page = Path("pages/toy.html").read_text("utf-8")
    assert (set(filter(page.__contains__, new)), set(filter(page.__contains__, old))) == (
        new,
        set(),
    )
    assert "Does width matter?" in page
    status, _, err = detbench("report", name, "--out", "pages", "--earlier")
    assert (status, EARLIER in err) == (0, False)
    page = Path("pages/toy.html").read_text("utf-8")
    above, _, below = page.partition('id="earlier"')
    assert below
    assert "40.0" not in above
    assert "40.0" in below.partition("</section>")[0], "mAP of an earlier trial, in its own table"


def test_a_study_that_was_edited_and_not_run_has_nothing_to_show(detbench: Run) -> None:
    edit(epochs=2)
    ran(detbench)
    edit(epochs=3)
    status, _, err = detbench("report", "toy.yaml", "--out", "pages")
    assert status == 2
    assert "none of 4 records is of the study as its file and code are now" in err
    assert "run the study, or --earlier shows them" in err
    assert detbench("report", "toy.yaml", "--out", "pages", "--earlier")[0] == 0


def by_other_code(folder: Path) -> None:
    """Make the records of a study's folder those of a detector that has been edited since."""
    for item in record.read_all(folder):
        code = {**item.code, "detector": {**item.code["detector"], "tests/toy.py": "0"}}
        other = item.model_copy(update={"code": code, "trial": item.trial[::-1]})
        shutil.rmtree(folder / item.trial)
        other.write(folder / other.trial)


def test_results_of_other_code_are_told_and_shown_on_request(detbench: Run) -> None:
    edit(epochs=2)
    ran(detbench)
    by_other_code(Path("runs/toy"))
    status, _, err = detbench("report", "toy.yaml", "--out", "pages")
    assert status == 2
    assert "none of 4 records" in err
    assert "--keep-stale shows them" in err
    status, out, err = detbench("report", "toy.yaml", "--out", "pages", "--keep-stale")
    assert (status, err) == (0, "")
    assert "of other code: tests/toy.py changed" in Path("pages/toy.html").read_text("utf-8")
    told = json.loads(detbench("status", "toy.yaml", "--json")[1])
    assert (len(told["out_of_date"]), told["earlier"]) == (4, 0)
    ran(detbench)
    status, _, err = detbench("report", "toy.yaml", "--out", "pages")
    assert (status, "--keep-stale" in err) == (0, False)


def test_a_longer_list_of_seeds_keeps_what_is_done(detbench: Run) -> None:
    edit(epochs=2)
    ran(detbench)
    edit(epochs=2, seeds=[0, 1, 2])
    told = ran(detbench)
    assert (told["skipped"], len(told["trials"]), told["earlier"]) == (4, 6, 0)


def test_what_the_command_line_changed_is_changed_again(detbench: Run) -> None:
    edit(epochs=2)
    ran(detbench, "--set", "recipe.epochs=3")
    found = json.loads(detbench("status", "toy.yaml", "--json")[1])
    assert (found["counts"]["done"], found["earlier"]) == (4, 0)
    assert detbench("report", "toy.yaml", "--out", "pages")[0] == 0
    other = detbench("status", "toy.yaml", "--set", "recipe.epochs=2", "--json")[1]
    assert json.loads(other)["earlier"] == 4


def test_a_search_shows_the_points_of_its_space(detbench: Run) -> None:
    axis = {"low": 4, "high": 40}
    search = {"space": {"detector.width": axis}, "objectives": {"mAP": "maximize"}, "trials": 4}
    edit(epochs=2, sweep=None, search=search, seeds=[0])
    old = ran(detbench)["trials"]
    axis["high"] = sorted(item["overrides"]["detector.width"] for item in old)[1]
    edit(epochs=2, sweep=None, search=search, seeds=[0])
    told = ran(detbench)
    widths = {item["overrides"]["detector.width"] for item in told["trials"]}
    assert max(widths) <= axis["high"]
    assert (told["skipped"], told["earlier"], len(widths)) == (2, 2, 4)
    assert json.loads(detbench("status", "toy.yaml", "--json")[1])["counts"]["done"] == 4


def test_a_folder_from_before_shows_all_and_says_so(detbench: Run) -> None:
    edit(epochs=2)
    ran(detbench)
    (Path("runs/toy") / snapshot.FILE).unlink()
    status, _, err = detbench("report", "runs/toy", "--out", "pages")
    assert status == 0
    assert "does not tell which records are of the study as its file is now: all are shown" in err


def test_where_the_data_is_away_the_last_run_tells(
    detbench: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(epochs=2)
    ran(detbench)

    def away(*arguments: object) -> None:
        raise DataError("no data here")

    monkeypatch.setattr(present, "expand", away)
    _, out, _ = detbench("status", "toy.yaml")
    assert out.splitlines()[:2] == ["toy: 4 done", "no data here; taken from the last run"]


def test_latencies_are_not_compared_with_an_earlier_versions_trial(tmp_path: Path) -> None:
    for number, trial in enumerate(("old", "new")):
        made = Record(
            **{"study": "toy", "trial": trial, "name": "", "detector": "", "overrides": {}},
            **{"config": {}, "seed": 0, "state": "done", "artifacts": {"weights": "w"}},
            timings={"started": number, "finished": number},
        )
        made.write(tmp_path / trial)
    assert folders.first_done(tmp_path) == tmp_path / "old"
    now = snapshot.Snapshot(study="toy", total=1, version="two", trials=["new"])
    snapshot.update(tmp_path, now)
    assert folders.first_done(tmp_path) == tmp_path / "new"
