"""Trials on a Ray cluster, and the arithmetic of what a node offers."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.engine import ray, ray_task
from harness.engine.post import Post, Reply
from harness.study import StudyError

ROOT = Path(__file__).parents[2]
SPACES = ("--net", "--pid", "--fork", "--kill-child", "--mount-proc")
ALONE = ("unshare", *SPACES, "sh", "-c", 'ip link set lo up && "$@"; exit $?', "sh")
"""Runs a command where loopback is the only network, else Ray would use the machine's own, and ends
with it whatever it started: a node that came too late leaves processes that nobody knows."""
PATIENT = {"RAY_agent_register_timeout_ms": "600000"}  # else a node gives up after 30 s


def inside(*arguments: str) -> None:
    """Run cases of `ray_cases.py` in a process of their own."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed; install the extra `cluster`")
    try:
        subprocess.run([*ALONE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no network of the test's own: `unshare` is not permitted here")
    cases = str(ROOT / "tests" / "cluster" / "ray_cases.py")
    options = ["-q", "--show-capture=no", "-p", "no:cacheprovider"]  # Ray talks too much
    command = [*ALONE, sys.executable, "-m", "pytest", *options, cases]
    done = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env=os.environ | PATIENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_a_study_outlives_a_node() -> None:
    inside("-k", "outlives_a_node")


@pytest.mark.slow
def test_everything_else_on_a_cluster() -> None:
    inside("-k", "not outlives_a_node")


NODES = [
    {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0, "fast": 1.0, "node:10.0.0.1": 1.0}},
    {"Alive": True, "Resources": {"CPU": 3.0, "memory": 1e9}},
    {"Alive": False, "Resources": {"CPU": 100.0}},
]


@pytest.mark.parametrize(
    ("wanted", "jobs"),
    [
        ({"CPU": 1, "GPU": 0}, 11),
        ({"CPU": 2, "GPU": 0}, 5),
        ({"CPU": 1, "GPU": 1}, 2),
        ({"CPU": 1, "GPU": 0.5}, 4),
        ({"CPU": 1, "GPU": 0, "fast": 0.001}, 8),
        ({"CPU": 9, "GPU": 0}, 0),
    ],
)
def test_jobs_that_fit_are_counted_on_living_nodes(wanted: dict[str, float], jobs: int) -> None:
    assert ray._room(wanted, NODES) == jobs


def test_a_trial_takes_a_core_and_a_gpu_if_there_is_one() -> None:
    assert ray._completed({}, NODES) == {"CPU": 1, "GPU": 1}
    assert ray._completed({"CPU": 4, "GPU": 0}, NODES) == {"CPU": 4, "GPU": 0}
    assert ray._completed({}, NODES[1:]) == {"CPU": 1, "GPU": 0}
    assert ray._offers(NODES) == "CPU=8, GPU=2, fast=1; CPU=3"


def test_resources_are_read_as_ray_names_them() -> None:
    assert ray.demand(None, None, None) == {}
    assert ray.demand("CPU=4, GPU=0.5", "h100", None) == {"CPU": 4, "GPU": 0.5, "h100": 0.001}
    assert ray.demand("h100=1", "h100", "cpu") == {"GPU": 0, "h100": 1}
    assert ray.demand(None, None, "cuda") == {"GPU": 1}
    with pytest.raises(StudyError, match="--resources CPU: expected NAME=AMOUNT"):
        ray.demand("CPU", None, None)


def test_a_folder_survives_packing(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "record.json").write_bytes(b"{}")
    (tmp_path / "a" / "b" / "weights").write_bytes(b"\0\1")
    ray_task.unpack(ray_task.pack(tmp_path / "a"), tmp_path / "c")
    assert ray_task.pack(tmp_path / "c") == {"record.json": b"{}", "b/weights": b"\0\1"}


def test_the_post_passes_on_what_is_said_asked_and_answered() -> None:
    async def talk() -> None:
        post = Post()
        assert await post.hear(0.01) == []
        assert await post.say(1, b"step") is False
        question = asyncio.create_task(post.ask(2, b"question"))
        await asyncio.sleep(0)
        assert await post.hear(0.01) == [(1, b"step"), (2, b"question")]
        await post.answer(2, "too large")
        assert await question == Reply("too large", stop=False)
        waiting = asyncio.create_task(post.ask(3, b"question"))
        await asyncio.sleep(0)
        await post.stop(3)
        assert await waiting == Reply(None, stop=True)
        assert await post.say(3, b"step") is True
        assert await post.ask(3, b"question") == Reply(None, stop=True)
        await post.answer(4, "nobody asked")

    asyncio.run(talk())
