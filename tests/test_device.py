"""The course on a device: what is done in which time, and what is left of it whenever it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.device import __main__ as course
from tests.device import keep, page, plan, results, running
from tests.device.plan import Job, Step
from tests.device.results import Summary
from tests.patience import HANG, wait_for

ROOT = Path(__file__).parents[1]
MEASURED = {
    "environment": {"cpu": {"model": "a|b <CPU>"}, "python": "3.12", "host": "secret"},
    "models": [
        {
            "model": "one, cuda_graph",
            "metrics": {"latency_ms": 2.0, "latency_low_ms": 1.9, "latency_high_ms": 2.1},
            "absent": {"nms_ms": "inside the network", "mAP": "not asked"},
            "caveats": {"latency_ms": "rough"},
        }
    ],
    "samples": {"latency_ms": [1.0, 2.0]},
}


def job(out: Path, device: str = "cuda:0", **changes: object) -> Job:
    return Job(device, "shapes", out)._replace(**changes)


def script(name: str, *codes: str, **changes: object) -> Step:
    step = Step(name, f"does {name}", 1.0, tuple(("-c", code) for code in codes))
    return step._replace(**changes)


def test_on_a_gpu_the_latencies_of_all_come_before_what_is_worth_less(tmp_path: Path) -> None:
    steps = plan.steps(job(tmp_path, weights=tmp_path))
    names = [step.name for step in steps]
    assert names[:4] == ["smoke", "latency_first", "latency_fp32", "latency_fp16"]
    timed = {part for step in steps for part in step.expects}
    for precision in ("fp32", "fp16"):
        for runtime in ("eager", "cuda_graph"):
            assert ("rtdetr_r50", runtime, precision) in timed
    assert steps[0].share == 0.1, "a tenth of the time at most"
    assert {step.name for step in steps if step.lacks} <= {"transformers"}


def test_what_cannot_be_done_says_why(tmp_path: Path) -> None:
    lacks = {step.name: step.lacks for step in plan.steps(job(tmp_path, "cpu")) if step.lacks}
    lacks.pop("transformers", None)  # as may be
    assert lacks == {
        "frontier": "no trained weights: --weights FOLDER",
        "tests": "they need a CUDA device, not cpu",
    }


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    steps = plan.steps(job(tmp_path, weights=tmp_path / "none"))
    assert [step.lacks for step in steps if step.name == "frontier"] == [
        f"no folder {tmp_path / 'none'}"
    ]


def test_a_step_is_done_failed_or_cut(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert running.run(script("fine", "print(1)", "print(2)"), 60.0, log)[:2] == ("done", "")
    failed = running.run(script("bad", "print(3); raise SystemExit('no such thing')"), 60.0, log)
    assert failed[:2] == ("failed", "no such thing")
    child = tmp_path / "child"
    endless = f"""
import pathlib, subprocess, sys, time
one = subprocess.Popen([sys.executable, "-c", "import time; time.sleep({HANG})"])
pathlib.Path({str(child)!r}).write_text(str(one.pid))
time.sleep({HANG})
"""
    cut = running.run(script("long", endless, "print('never')"), 3.0, log)
    assert (cut.state, cut.reason) == ("cut", "its 3 s were over")
    assert "never" not in log.read_text("utf-8").split("== long")[-1].split("\n", 1)[-1]
    if child.exists():  # else it was cut before its child was there
        pid = int(child.read_text())
        wait_for(lambda: not alive(pid), "the end of the child")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def timed(tmp_path: Path) -> tuple[Summary, Step, Path]:
    step = Step("latency", "latency in turns", 1.0, expects=(("one", "cuda_graph", "fp16"),))
    other = Step("later", "is not reached", 1.0, expects=(("two", "eager", "fp32"),))
    out, found = tmp_path / "out", tmp_path / "found" / "latency"
    out.mkdir()
    found.mkdir(parents=True)
    summary = Summary.begin(job(tmp_path), [step, other], 8.0, out)
    (found / "measure.json").write_text(json.dumps(MEASURED), "utf-8")
    (found / "model.safetensors").write_bytes(b"weights")
    return summary, step, found


def test_figures_stand_beside_the_reasons_of_what_has_none(
    timed: tuple[Summary, Step, Path],
) -> None:
    summary, step, found = timed
    summary.ended(step, running.Ending("done", "", 2.0), found)
    facts = json.loads((summary.out / results.SUMMARY).read_text("utf-8"))
    one, two = facts["models"]
    assert (one["latency_ms"], one["latency_low_ms"]) == (2.0, 1.9)
    assert one["precision"] == "fp16"
    assert one["absent"] == {"nms_ms": "inside the network"}
    assert two["absent"] == {"latency_ms": "not reached"}
    assert page.cells(facts)[0][3:] == ("2.000 (1.900 to 2.100)", "–", "–", "NMS: inside the"
                                        " network; rough")  # fmt: skip
    with tarfile.open(summary.out / results.RECORDS) as tar:
        assert tar.getnames() == ["latency/measure.json"], "and no weights"
    text = (summary.out / results.PAGE).read_text("utf-8")
    assert "a|b &lt;CPU&gt;" in text


def test_what_does_not_fit_is_named(
    timed: tuple[Summary, Step, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    summary, step, found = timed
    (found / "large.json").write_bytes(b" " * 5000)
    monkeypatch.setattr(results, "MOST_BYTES", 5000)
    summary.ended(step, running.Ending("done", "", 2.0), found)
    assert summary.facts["left_out"] == ["latency/large.json"]


def test_a_step_that_is_cut_leaves_its_reason(timed: tuple[Summary, Step, Path]) -> None:
    summary, step, _ = timed
    summary.ended(step, running.Ending("cut", "its 9 s were over", 9.0))
    assert summary.facts["models"][0]["absent"] == {"latency_ms": "cut: its 9 s were over"}
    assert not summary.any_failed()


def test_what_came_back_becomes_a_folder_of_measured(
    timed: tuple[Summary, Step, Path], tmp_path: Path
) -> None:
    summary, step, found = timed
    summary.ended(step, running.Ending("done", "", 2.0), found)
    readme = keep.keep(summary.out, tmp_path / "measured" / "device")
    text = readme.read_text("utf-8")
    assert "| one | cuda_graph | fp16 | 2.000 (1.900 to 2.100) |" in text
    assert "a/b <CPU>" in text or "a|b <CPU>" in text
    kept = json.loads((readme.parent / "latency" / "measure.json").read_text("utf-8"))
    assert kept["samples"] == {}
    assert "secret" not in (readme.parent / "summary.json").read_text("utf-8")


COURSE = """
import sys
from pathlib import Path
from tests.device import __main__ as course, plan
from tests.device.plan import Step
def steps(job):
    write = "from pathlib import Path; Path({!r}).write_text('found')"
    hang = "import time; time.sleep(600)"
    made = []
    for name in ("first", "second", "third"):
        code = write.format(str(job.out / name / "found.json"))
        made.append(Step(name, name, 1.0, (("-c", code), ("-c", hang, sys.argv[3]))
                         if name == sys.argv[2] else (("-c", code),)))
    return made
plan.steps = steps
course.main(["--out", sys.argv[1], "--device", "cpu", "--minutes", "9"])
"""


@pytest.mark.parametrize("at", ["first", "second", "third"])
def test_killed_at_any_moment_what_was_done_can_be_read(tmp_path: Path, at: str) -> None:
    out = tmp_path / "out"
    marker = f"hangs for {tmp_path}"
    process = subprocess.Popen([sys.executable, "-c", COURSE, str(out), at, marker], cwd=ROOT)
    try:
        wait_for(lambda: reached(out, at), f"step {at}")
    finally:
        process.kill()
        process.wait()
        for pid in hanging(marker):  # the step is in a session of its own
            os.kill(pid, signal.SIGKILL)
    facts = json.loads((out / results.SUMMARY).read_text("utf-8"))
    done = [step["name"] for step in facts["steps"] if step["state"] == "done"]
    assert done == ["first", "second", "third"][: ["first", "second", "third"].index(at)]
    kept = []
    if (out / results.RECORDS).is_file():
        with tarfile.open(out / results.RECORDS) as tar:
            kept = tar.getnames()
    assert kept == [f"{name}/found.json" for name in done]
    assert at in (out / results.LOG).read_text("utf-8")


def reached(out: Path, step: str) -> bool:
    """Tell whether a step's second command is running."""
    summary, log = out / results.SUMMARY, out / results.LOG
    return log.is_file() and log.read_text("utf-8").count(f"== {step}") == 2 and summary.is_file()


def hanging(marker: str) -> list[int]:
    """Return the processes of a test's course whose command line ends with a text."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                words = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                found += [int(entry.name)] if words[-1] == marker.encode() else []
    return found


def test_the_shortest_form_times_a_detector_on_the_cpu(tmp_path: Path) -> None:
    """Both steps that come first, in processes of their own, as on a device."""
    status = course.main(
        [
            *("--device", "cpu", "--minutes", "60", "--size", "64", "--seconds", "0.05"),
            *("--each", str(HANG), "--models", "tests.toy:TOY", "--only", "smoke", "latency_first"),
            *("--out", str(tmp_path)),
        ]
    )
    facts = json.loads((tmp_path / results.SUMMARY).read_text("utf-8"))
    log = (tmp_path / results.LOG).read_text("utf-8")
    assert [step["state"] for step in facts["steps"]] == ["done", "done"], log
    assert status == 0
    (row,) = facts["models"]
    assert 0 < row["latency_low_ms"] <= row["latency_ms"] <= row["latency_high_ms"]
    assert row["nms_ms"] > 0
    assert facts["environment"]["python"]
