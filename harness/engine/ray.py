"""Carries out jobs as tasks of a Ray cluster that runs already."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from harness.config.yaml_source import StudyError
from harness.engine import own_code, ray_task
from harness.engine.executor import Job, Lost, Message
from harness.engine.local import failure_of
from harness.engine.post import Post
from harness.engine.ray_task import Outcome, Sent
from harness.records import Failure
from harness.trials.folders import ClaimLost, partial_folder, place

TOUCH = 0.001  # of a resource that only says which kind of node a trial is to run on
SECONDS_TO_LISTEN = 30.0
SECONDS_BETWEEN_COUNTS = 2.0
AT_A_TIME = 10_000  # questions and messages under way
Resources = Mapping[str, float]


class _Task(NamedTuple):
    job: Job
    attempt: int
    promise: Any  # of an `Outcome`


class RayExecutor:
    """A task a job; Ray places it, and the driver decides whether one that is lost runs again."""

    def __init__(self, demand: Resources, most: int | None = None) -> None:
        """Connect to the cluster at $RAY_ADDRESS, else to the one that this machine belongs to.

        Its nodes get the user's own modules that are imported by now, as they are here.

        Args:
            demand: what a job takes of a node, by the names of Ray's resources.
            most: jobs at a time; None for as many as the nodes offer.

        Raises:
            StudyError: there is no such cluster, none of its nodes offers that much, or the user's
                own code is too large to send.
        """
        self.ray, self.most = _connected(), most
        self.demand = _completed(demand, self.ray.nodes())
        self.counted, self.room = 0.0, 0
        if not _room(self.demand, self.ray.nodes()):
            offered = _offers(self.ray.nodes())
            self.ray.shutdown()
            raise StudyError(
                f"no node of the Ray cluster offers {_listed(self.demand)}; there are {offered};"
                " see --resources and --measure-on"
            )
        self.post, self.task = self._post(), self._task()
        self.news = self.post.hear.remote(SECONDS_TO_LISTEN)
        self.attempts = count(1)
        self.busy: dict[str, _Task] = {}
        self.references: dict[Path, Any] = {}

    @property
    def slots(self) -> int:
        """Number of jobs that the nodes have room for; one for a node to come if none has any."""
        now = time.monotonic()
        if now - self.counted > SECONDS_BETWEEN_COUNTS:
            self.counted, self.room = now, _room(self.demand, self.ray.nodes())
        return max(1, min(self.room, self.most or self.room))

    def submit(self, job: Job) -> None:
        """Hand a job to Ray."""
        job = replace(
            job,
            folder=job.folder.resolve(),
            reference=job.reference and job.reference.resolve(),
            shelf=job.shelf and job.shelf.resolve(),
        )
        attempt = next(self.attempts)
        sent = Sent(
            job,
            attempt,
            token=ray_task.token(job.folder) or "",
            reference=[self._packed(job.reference)] if job.reference else [],
            place=Path.cwd(),
        )
        self.busy[job.trial] = _Task(job, attempt, self.task.remote(sent, self.post))

    def wait(self, timeout: float) -> list[Message]:
        """Return what the tasks say, and what became of those that are over."""
        over = {task.promise: task for task in self.busy.values()}
        waited = [self.news, *over]
        self.ray.wait(waited, timeout=timeout)
        ready, _ = self.ray.wait(waited, num_returns=len(waited), timeout=0)
        messages = self._heard() if self.news in ready else []
        return messages + [self._ended(over[promise]) for promise in ready if promise in over]

    def answer(self, trial: str, reason: str | None) -> None:
        """Answer a task that waits."""
        self.post.answer.remote(self.busy[trial].attempt, reason)

    def stop(self, trial: str) -> None:
        """Ask a task to end at its next step."""
        self.post.stop.remote(self.busy[trial].attempt)

    def kill(self, trial: str) -> None:
        """End a task."""
        self.ray.cancel(self.busy.pop(trial).promise, force=True)

    def close(self) -> None:
        """End all tasks and leave the cluster."""
        for trial in list(self.busy):
            self.kill(trial)
        self.ray.kill(self.post)
        self.ray.shutdown()

    def _post(self) -> Any:
        """Start the actor that messages go through, on this node: nothing else is sure to last."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # optional

        here = NodeAffinitySchedulingStrategy(
            self.ray.get_runtime_context().get_node_id(), soft=False
        )
        options = {"num_cpus": 0, "max_concurrency": AT_A_TIME, "scheduling_strategy": here}
        return self.ray.remote(Post).options(**options).remote()

    def _task(self) -> Any:
        """Return what a job is handed to; Ray does not repeat it, since the driver sees to that."""
        special = {key: value for key, value in self.demand.items() if key not in ("CPU", "GPU")}
        return self.ray.remote(ray_task.work).options(
            num_cpus=self.demand["CPU"],
            num_gpus=self.demand["GPU"],
            resources=special,
            max_retries=0,
        )

    def _packed(self, folder: Path) -> Any:
        """Put a folder where nodes that do not share it can fetch it."""
        if folder not in self.references:
            self.references[folder] = self.ray.put(ray_task.pack(folder))
        return self.references[folder]

    def _heard(self) -> list[Message]:
        heard = self.ray.get(self.news)
        self.news = self.post.hear.remote(SECONDS_TO_LISTEN)
        known = {task.attempt for task in self.busy.values()}
        return [pickle.loads(message) for attempt, message in heard if attempt in known]

    def _ended(self, task: _Task) -> Message:
        """Return how a task ended, its folder in place."""
        del self.busy[task.job.trial]
        try:
            outcome: Outcome = self.ray.get(task.promise)
        except Exception as error:
            return Lost(task.job.trial, _failure(error))
        try:
            if outcome.files is not None:
                job = task.job
                partial = partial_folder(job.folder, job.trial, job.token)
                shutil.rmtree(partial, ignore_errors=True)
                ray_task.unpack(outcome.files, partial)
                place(partial, job.folder / job.trial, job.token)
        except (OSError, ClaimLost) as error:
            return Lost(task.job.trial, failure_of(error))
        return outcome.message


def demand(text: str | None, measure_on: str | None, device: str | None) -> dict[str, float]:
    """Return what a trial takes of a node.

    Args:
        text: such as `CPU=4,GPU=1`.
        measure_on: a resource of the nodes that trials are to run on.
        device: `cpu` for no GPU, `cuda` for one; None for one if some node has any.

    Raises:
        StudyError: the text is not of that form.
    """
    found: dict[str, float] = {} if device is None else {"GPU": float(device != "cpu")}
    for part in filter(None, (text or "").split(",")):
        name, _, amount = part.partition("=")
        try:
            found[name.strip()] = float(amount)
        except ValueError as error:
            raise StudyError(f"--resources {text}: expected NAME=AMOUNT,..., as CPU=4") from error
    return {measure_on: TOUCH, **found} if measure_on else found


def _completed(demand: Resources, nodes: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Add what was not said: one core, and a GPU if some node has one."""
    gpus = any(node["Alive"] and node["Resources"].get("GPU") for node in nodes)
    return {"CPU": 1.0, "GPU": 1.0 if gpus else 0.0, **demand}


def _room(demand: Resources, nodes: Sequence[Mapping[str, Any]]) -> int:
    """Count the jobs that fit on all living nodes at a time."""
    wanted = {name: amount for name, amount in demand.items() if amount > 0}
    alive = (node["Resources"] for node in nodes if node["Alive"])
    return sum(
        min((int(offered.get(name, 0) / amount + 1e-9) for name, amount in wanted.items()))
        for offered in alive
    )


def _offers(nodes: Sequence[Mapping[str, Any]]) -> str:
    """List what the nodes offer, without what Ray counts for itself."""
    hidden = ("memory", "object_store_memory")
    kept = (
        {
            k: v
            for k, v in node["Resources"].items()
            if k not in hidden and not k.startswith("node:")
        }
        for node in nodes
        if node["Alive"]
    )
    return "; ".join(map(_listed, kept))


def _listed(resources: Resources) -> str:
    return (
        ", ".join(f"{name}={amount:g}" for name, amount in sorted(resources.items())) or "nothing"
    )


def _connected() -> Any:
    """Connect to the cluster and return Ray.

    Raises:
        StudyError: Ray is not installed, there is no cluster, or it does not take our code.
    """
    try:
        import ray  # optional
    except ImportError as error:
        raise StudyError(
            "--executor ray needs the extra: pip install 'detbench[cluster]'"
        ) from error
    address = os.environ.get("RAY_ADDRESS", "auto")
    code = {"py_modules": own_code.loaded()}
    try:
        with _quiet():
            ray.init(
                address=address,
                runtime_env=code,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except ray.exceptions.RuntimeEnvSetupError as error:
        ray.shutdown()
        raise StudyError(
            f"{' '.join(str(error).split())}; a .gitignore in a folder of one's own code names"
            " what nodes do not need, as data and weights"
        ) from error
    except Exception as error:
        text = str(error).strip().partition("\n")[0]
        raise StudyError(
            f"no Ray cluster at {address}: {text}; `ray start --head` starts one here, and"
            " RAY_ADDRESS names another"
        ) from error
    return ray


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _failure(error: Exception) -> Failure:
    """Say by Ray's words why a task left nothing."""
    from ray import exceptions  # optional

    text = str(error).strip().partition("\n")[0]
    details = "".join(traceback.format_exception(error))
    if isinstance(error, exceptions.OutOfMemoryError):
        cause = "out_of_memory"
    elif isinstance(error, exceptions.WorkerCrashedError):
        cause = "crash"
    elif isinstance(error, exceptions.RayTaskError):
        cause, text = "error", str(error).strip().rpartition("\n")[2]
    else:  # a node that died, or that took the outcome along
        cause = "lost_worker"
    return Failure(cause=cause, message=text, details=details)
