"""One trial: build, count, train, evaluate and time a detector, and write its record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch

import detectors
from detectors import weights
from detectors.config import canonical
from harness import data
from harness.config.data import DataError
from harness.data import Split, fingerprint
from harness.machine import arithmetic, environment, locks
from harness.machine.locks import sharing
from harness.measure import complexity
from harness.measure.accuracy import detections, precision, queries
from harness.records import METRICS, Record
from harness.records.learning import NOTHING
from harness.records.precision import ARTIFACT
from harness.records.progress import Judge, OnProgress, Progress, ignore
from harness.study.specification import TrialSpec
from harness.study.start import seen_by
from harness.training import processes
from harness.trials import longer, reuse, speed, timing, trainings
from harness.trials.epochs import Epochs
from harness.trials.learn import Learner, Stopped, build, seed_all, validated_by, validated_with
from harness.trials.outcome import blank, close, failure
from harness.trials.state import Trial
from harness.trials.trainings import Story

LONG_PHASES = ("cheap", "train", "evaluate", "queries", "latency")
UNTRAINED = "of the untrained network, timed briefly"


def run(
    spec: TrialSpec,
    folder: Path,
    *,
    device: str = "cpu",
    reference: Path | None = None,
    find_reference: Callable[[], Path | None] = lambda: None,
    share: int = 1,
    on_progress: OnProgress = ignore,
    shelf: Path | None = None,
    judge: Judge | None = None,
) -> Record:
    """Run one trial in this process; what goes wrong in it is a record, too.

    Under `torchrun` its processes train together, and the first does the rest.

    Args:
        spec: the trial.
        folder: where the record, the weights and the detections go.
        device: as torch spells it.
        reference: folder of the finished trial that latency is compared with; None for the first.
        find_reference: asked, if there was none, when it is time to measure.
        share: number of trials that run at a time, and share the processor's cores.
        on_progress: called at every step of every phase.
        shelf: where trainings stand that trials share; its folder holds the studies whose results
            are taken over where they are the same. None for a shelf of the trial's own, which is
            gone once the trial is done.
        judge: may give the trial up before and during training; None never does.
    """
    threads, own = torch.get_num_threads(), folder / trainings.OWN_SHELF
    trial = Trial(
        spec=spec,
        record=blank(spec),
        folder=folder,
        device=device,
        reference=reference,
        find_reference=find_reference,
        shelf=shelf or own,
        shared=shelf is not None,
        judge=judge,
        on_progress=on_progress,
        all_threads=threads,
        share=share,
    )
    torch.set_num_threads(max(1, threads // share))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        seed_all(spec.seed)
        for phase, work in _phases(trial):
            with _timed(trial, phase), _beside_others(trial, phase):
                work(trial)
        trial.record.state = "done"
        if processes.is_first():
            trainings.discard(own, spec.training)
    except Stopped as stop:
        trial.record.state, trial.record.stopped = "pruned", str(stop)
    except Exception as error:  # whatever a trial runs into, the study goes on
        trial.record.failure = failure(error, trial.phase)
    torch.set_num_threads(threads)
    close(trial.spec, trial.record)
    if processes.is_first():
        trial.record.write(folder)
    return trial.record


def _phases(trial: Trial) -> Iterator[tuple[str, Callable[[Trial], None]]]:
    spec, reused = trial.spec, trial.record.details
    yield "data", _open_data
    if "reused" in reused and ("latency" not in spec.measure or reused["reused"]["latency"]):
        return
    yield "build", _build
    if "complexity" in spec.measure and "reused" not in reused:
        yield "complexity", _count
    if "accuracy" in spec.measure and "reused" not in reused:
        if trial.judge is not None:
            yield "cheap", _judge_cheaply
        if spec.trains:
            yield "train", _train
        if not processes.is_first():
            return
        yield "evaluate", _evaluate
        if "queries" in spec.measure:
            yield "queries", _look_at_queries
    if "latency" in spec.measure:
        yield "latency", timing.measure


def _beside_others(trial: Trial, phase: str) -> AbstractContextManager[None]:
    """Keep a short phase from disturbing a measurement; a long one sees to that at every step."""
    return nullcontext() if phase in LONG_PHASES else locks.working(trial.device)


@contextmanager
def _timed(trial: Trial, phase: str) -> Iterator[None]:
    trial.phase = phase
    trial.on_progress(Progress(phase, 0, 1, {}))
    start = time.perf_counter()
    try:
        yield
    finally:
        trial.record.timings[phase] = time.perf_counter() - start


def _open_data(trial: Trial) -> None:
    trial.record.environment = environment.capture(trial.device)
    trial.dataset = data.load(trial.spec.data)
    planned = trial.spec.dataset["fingerprint"]
    if trial.dataset.fingerprint != planned:
        raise DataError(
            f"data set {trial.dataset.name} changed since the study was started: fingerprint "
            f"{trial.dataset.fingerprint}, planned {planned}; run the study again"
        )
    _look_at_arithmetic(trial)
    out = trial.shelf.parent
    earlier = reuse.find(trial.spec, out, trial.record.environment) if trial.shared else None
    if earlier is not None:
        reuse.adopt(earlier, trial.record, trial.folder, trial.reference)


def _look_at_arithmetic(trial: Trial) -> None:
    """Say of an arithmetic that a trial asks for how much slower than float32 it is here."""
    for knob, wanted in trial.spec.arithmetic.items():
        found = arithmetic.slowdown(wanted, trial.device, training=knob == arithmetic.RECIPE)
        if found is not None:
            trial.record.environment.setdefault("slowdown", {})[f"{knob} {wanted}"] = found
        told = arithmetic.warning(knob, wanted, trial.device)
        if told is not None:
            trial.on_progress(Progress("data", 0, 1, {}, told))


def _build(trial: Trial) -> None:
    config = trial.spec.setup.detector
    if "weights" in trial.record.artifacts:
        trial.detector = detectors.create(config, weights=trial.folder).eval()
    else:
        trial.detector = build(trial.spec, config).eval()
    if trial.spec.start is not None and not trial.spec.trains:
        timing.keep_weights(trial)


def _count(trial: Trial) -> None:
    counted = complexity.count(trial.detector, trial.detector.config.input.largest)
    trial.record.metrics |= counted.metrics
    trial.record.details["complexity"] = counted.details
    trial.record.absent |= counted.absent
    trial.record.caveats |= counted.caveats


def _judge_cheaply(trial: Trial) -> None:
    """Ask the judge before anything is trained: about counts, then about time where it matters."""
    known = dict(trial.record.metrics)
    _ask(trial, known)
    if trial.spec.cheap_latency:
        timed = timing.bound(trial)
        try:
            _ask(trial, known | timed)
        except Stopped:
            timed.pop("latency_ms", None)
            trial.record.metrics |= timed
            trial.record.caveats |= dict.fromkeys(timed, UNTRAINED)
            raise


def _ask(trial: Trial, metrics: dict[str, float]) -> None:
    assert trial.judge is not None
    reason = trial.judge("cheap", metrics, [])
    if reason is not None:
        raise Stopped(reason)


def _train(trial: Trial) -> None:
    """Take the weights from the shelf, or train them and put them there."""
    spec = trial.spec
    told = Epochs(trial.on_progress, trial.judge, spec.recipe.epochs if spec.recipe else 1)
    learner = Learner(
        spec,
        trial.dataset,
        trial.device,
        told.show,
        judge=told.ask,
        measured=trial.record.metrics,
        environment=trial.record.environment,
        share=trial.share,
    )

    def make(folder: Path) -> Story:
        seed_all(spec.seed)
        with sharing(trial.device, told.show) as learner.on_progress:
            return learner.learn(folder)

    def wait() -> None:
        trial.on_progress(Progress("wait", 0, 1, {}))

    if not processes.is_first():  # which keeps what comes out, unless it has that already
        if trainings.find(trial.shelf, spec.training) is None:
            make(trainings.partial_folder(trial.shelf, spec.training))
        return
    keep = () if trial.shared else longer.needed(spec)
    stored = trainings.obtain(trial.shelf, spec.training, make, wait, _accepts(spec), keep)
    weights.fill(trial.detector, stored.folder)
    trial.detector.eval()
    if canonical(spec.setup.detector) == spec.setup.detector:
        trial.evaluation = learner.evaluation
    trial.record.curves = stored.story.curves
    trial.record.details["training"] = {
        **stored.story.model_dump(include={"training", "made_by", "seconds", "details"}),
        "validated_with": validated_with(spec, stored),
        "validated_by_other_code": validated_by(spec, stored),
        "versions": environment.versions(stored.story.environment),
    }
    speed.note(stored.story, trial.record)
    trainings.share(stored, trial.folder)
    longer.keep(stored.folder, trial.folder, keep)
    weights.save_config(trial.detector.config, trial.folder, spec.detector, spec.classes)
    timing.name_weights(trial)


def _accepts(spec: TrialSpec) -> Callable[[Story], bool]:
    """Return what says whether a training on the shelf is as good as one that is made now."""

    def accepts(story: Story) -> bool:
        before = environment.versions(story.environment)
        return not (spec.fresh and environment.other_versions(before))

    return accepts


def _evaluate(trial: Trial) -> None:
    """Keep the training's last validation, if it was made with the trial's own knobs."""
    if trial.evaluation is None:
        with sharing(trial.device, trial.on_progress) as on_progress:
            learner = Learner(
                trial.spec, trial.dataset, trial.device, on_progress, share=trial.share
            )
            trial.evaluation = learner.look(trial.detector)
    fingerprint.check_unchanged(trial.dataset)
    trial.record.metrics |= trial.evaluation.metrics
    trial.record.details["accuracy"] = trial.evaluation.details
    start = trial.spec.start
    if start is not None and start.shared is not None:
        total = len(trial.spec.dataset["classes"])
        only = f"over {len(start.shared)} of the data set's {total} classes, which the weights know"
        _caution(trial, only)
    learnt = trial.record.details.get("training", {}).get("details", {})
    if "doubt" in learnt:
        _caution(trial, f"{NOTHING}{learnt['doubt']}")
    names = {category.id: category.name for category in trial.dataset.val.categories}
    stored = detections.write(trial.evaluation.detections, trial.folder, names)
    trial.record.artifacts["detections"] = stored.name
    found = precision.measure(_seen(trial).ground_truth(), trial.evaluation.detections)
    if found is not None:
        trial.record.artifacts[ARTIFACT] = found.write(trial.folder).name


def _seen(trial: Trial) -> Split:
    """Return what the trial is evaluated on: all classes, or those that its weights know."""
    split, start = trial.dataset.val, trial.spec.start
    return seen_by(split, start) if start is not None and start.evaluated else split


def _look_at_queries(trial: Trial) -> None:
    """Measure what the detector's selected features are worth, if it selects any."""
    with sharing(trial.device, trial.on_progress) as on_progress:
        learner = Learner(trial.spec, trial.dataset, trial.device, on_progress, share=trial.share)
        found = learner.look_at_queries(trial.detector)
    if found is None:
        trial.record.absent |= dict.fromkeys(METRICS["queries"], queries.NO_QUERIES)
    else:
        trial.record.metrics |= found.metrics
        trial.record.details["queries"] = found.details


def _caution(trial: Trial, caveat: str) -> None:
    """Have a caveat stand beside all that was evaluated."""
    assert trial.evaluation is not None
    for name in trial.evaluation.metrics:
        known = trial.record.caveats.get(name)
        trial.record.caveats[name] = "; ".join(filter(None, (known, caveat)))
