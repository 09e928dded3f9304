"""Is the difference between two detectors real: in accuracy, over images and seeds, and in time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis.compare import differences, matches, words
from harness.analysis.compare.differences import Difference, Measured
from harness.analysis.compare.latency import compare_latency
from harness.analysis.compare.matches import ERRORS, Matches
from harness.analysis.compare.runs import CompareError, Run, same_trainings
from harness.data import Split
from harness.measure.accuracy.evaluate import Score, max_detections, score
from harness.records.progress import OnProgress, Progress, ignore
from harness.records.turns import Latency

FIGURES = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")
IMAGES_SHOWN = 10

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Moved(NamedTuple):
    """An image that one side does better on."""

    file_name: str
    image_id: int
    a: float  # AP of the image by itself
    b: float
    difference: float


class Cost(NamedTuple):
    """What AP at IoU 0.5 would gain if the errors of one of TIDE's kinds were mended."""

    name: str
    a: float
    b: float
    difference: float


@dataclass(frozen=True)
class Comparison:
    """What differs between A and B, and how sure that is."""

    verdict: str
    """better, worse, or no significant difference: B against A; "unknown: one seed" where each side
    was trained once: the interval over images is about these weights, not about the detectors.
    Files of results are compared as they are."""
    words: str
    accuracy: Difference
    figures: list[Difference]
    """The other figures of COCO; exploratory."""
    classes: list[Difference]
    """mAP by class, what moved most first; exploratory."""
    errors: list[Difference]
    """Numbers of errors by TIDE's kinds; exploratory."""
    costs: list[Cost]
    """What the errors of each kind cost; no interval is known."""
    images: list[Moved]
    """What moved most, first."""
    latency: Latency
    sides: dict[str, list[dict[str, Any]]]
    method: dict[str, Any]
    notes: list[str]

    def plain(self) -> dict[str, Any]:
        """Return JSON values."""
        groups = ("figures", "classes", "errors", "costs", "images")
        listed = {name: [item._asdict() for item in getattr(self, name)] for name in groups}
        single = {"accuracy": self.accuracy._asdict(), "latency": self.latency._asdict()}
        return asdict(self) | listed | single


class _Seen(NamedTuple):
    """What the comparison needs of one run; F figures are FIGURES and the classes."""

    classes: tuple[str, ...]
    image_ids: tuple[int, ...]
    score: Score
    whole: Floats  # [F]
    drawn: Floats  # [draws, F]
    errors: Integers  # [images, kinds]
    alone: Floats  # [images]
    with_objects: Integers  # [F] number of images


def compare(
    a: Sequence[Run],
    b: Sequence[Run],
    split: Split,
    *,
    draws: int = 500,
    seed: int = 0,
    notes: Sequence[str] = (),
    on_progress: OnProgress = ignore,
) -> Comparison:
    """Compare two sides, each of one run or of several that differ by the seed.

    Images are drawn with replacement, the same ones for every run of both sides; the interval is
    that of `harness.analysis.compare.differences`.

    Args:
        a: the side that is compared with.
        b: the side that is judged.
        split: what all runs were evaluated on.
        draws: of the images.
        seed: of the draws.
        notes: said beside the result, as `check` returns them.
        on_progress: called now and then, phase `compare`, counting draws.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), sec. 8.4, on pairs.
    """
    seen = _look_at_all((*a, *b), split, draws, seed, on_progress)
    first, places = seen[: len(a)], same_trainings([r.record for r in a], [r.record for r in b])
    second, paired = [seen[len(a) + n] for n in places or range(len(b))], places is not None
    accuracy, figures, classes = _accuracy(first, second, paired=paired)
    if any("results" in run.record.details for run in (*a, *b)):
        told = words.of_results
    else:
        told = words.of_weights if len(a) == len(b) == 1 else words.of_detectors
    verdict, sentence = told(accuracy, paired=paired)
    return Comparison(
        verdict,
        sentence,
        accuracy,
        figures,
        sorted(classes, key=lambda item: -abs(item.difference)),
        _errors(first, second, paired=paired),
        _costs(first, second),
        _moved(first, second, split),
        compare_latency(a[0].record, b[0].record),
        {"A": [_name(run) for run in a], "B": [_name(run) for run in b]},
        _method(len(a), len(b), len(split.images), draws, paired=paired),
        [*notes, *_contradictions((*a, *b), seen), *_remarks(len(a), len(b), paired=paired)],
    )


class Drawn(NamedTuple):
    """The figures of a run over draws of the images, the same draws for every run on them."""

    figures: Floats  # [draws, F] of FIGURES
    images: Integers  # [F] that have something to say


def draw(run: Run, split: Split, *, draws: int = 500, seed: int = 0) -> Drawn:
    """Evaluate a run on draws of the images, as `compare` does; arguments are its."""
    matched = matches.match(split.ground_truth(), run.detections, max_detections(run.record))
    found = [_figures(matched, row) for row in _weights(len(split.images), draws, seed)]
    count = len(FIGURES)
    return Drawn(np.array(found)[:, :count], _with_objects(matched.objects)[:count])


def _weights(images: int, draws: int, seed: int) -> Floats:
    """Return how often each image is in each draw, [draws, images]."""
    found = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), draws)
    return found.astype(np.float64)


class _Steps(NamedTuple):
    """Tells how far the draws are."""

    on_progress: OnProgress
    before: int
    total: int

    def tell(self, done: int) -> None:
        self.on_progress(Progress("compare", self.before + done, self.total, {}))


def _look_at_all(
    every: Sequence[Run], split: Split, draws: int, seed: int, on_progress: OnProgress
) -> list[_Seen]:
    """Evaluate each run on the same draws of the images, one run in memory at a time."""
    truth = split.ground_truth()
    weights = _weights(len(truth["images"]), draws, seed)
    seen: list[_Seen] = []
    for run in every:
        limits = max_detections(run.record)
        matched = matches.match(truth, run.detections, limits)
        steps = _Steps(on_progress, len(seen) * draws, len(every) * draws)
        seen.append(_look(matched, score(truth, run.detections, limits), weights, steps))
    return seen


def _look(matched: Matches, scored: Score, weights: Floats, steps: _Steps) -> _Seen:
    drawn = []
    for number, row in enumerate(weights, start=1):
        drawn.append(_figures(matched, row))
        steps.tell(number)
    return _Seen(
        matched.classes,
        matched.image_ids,
        scored,
        _figures(matched, np.ones(len(matched.image_ids))),
        np.array(drawn),
        matched.errors,
        matched.precision_alone(),
        _with_objects(matched.objects),
    )


def _figures(matched: Matches, weights: Floats) -> Floats:
    """Return FIGURES and the mAP of each class."""
    precision = matched.precision(weights)
    every = precision[0]
    sizes = matches.mean(precision[1:].reshape(3, -1))
    means = [matches.mean(part.reshape(-1)) for part in (every, every[0], every[5])]
    return np.concatenate([means, sizes, matches.mean(every.T)])


def _with_objects(objects: Integers) -> Integers:
    """Count the images that have objects of a figure, from [images, areas, classes]."""
    there = objects > 0
    by_area = there.any(axis=2).sum(axis=0)
    return np.concatenate([by_area[[0, 0, 0]], by_area[1:], there[:, 0].sum(axis=0)])


def _accuracy(
    a: Sequence[_Seen], b: Sequence[_Seen], *, paired: bool
) -> tuple[Difference, list[Difference], list[Difference]]:
    """Compare mAP by itself, then the other figures, then the classes."""
    drawn = _mean([run.drawn for run in b]) - _mean([run.drawn for run in a])
    names, edge = (*FIGURES, *a[0].classes), len(FIGURES)
    whole = Measured(
        names,
        np.array([run.whole for run in a]),
        np.array([run.whole for run in b]),
        differences.drawn_variance(drawn),
        a[0].with_objects,
        paired,
    )
    main = differences.compare(_part(whole, slice(0, 1)))
    if not main:
        raise CompareError("the validation split has no object, so there is no mAP to compare")
    others = differences.compare(_part(whole, slice(1, edge)))
    return main[0], others, differences.compare(_part(whole, slice(edge, None)))


def _part(whole: Measured, part: slice) -> Measured:
    return Measured(
        whole.names[part],
        whole.a[:, part],
        whole.b[:, part],
        whole.variance[part],
        whole.images[part],
        whole.paired,
    )


def _errors(a: Sequence[_Seen], b: Sequence[_Seen], *, paired: bool) -> list[Difference]:
    """Compare the numbers of errors, which are sums over images."""
    by_image = _mean([run.errors for run in b]) - _mean([run.errors for run in a])
    images = len(by_image)
    measured = Measured(
        ERRORS,
        np.array([run.errors.sum(axis=0) for run in a], np.float64),
        np.array([run.errors.sum(axis=0) for run in b], np.float64),
        images * by_image.var(axis=0),
        np.full(len(ERRORS), images),
        paired,
    )
    return differences.compare(measured)


def _costs(a: Sequence[_Seen], b: Sequence[_Seen]) -> list[Cost]:
    found = []
    for name in ERRORS:
        before, after = (
            float(np.mean([run.score.details["tide"]["delta_ap"][name] for run in side]))
            for side in (a, b)
        )
        found.append(Cost(name, before, after, after - before))
    return found


def _contradictions(side: Sequence[Run], seen: Sequence[_Seen]) -> list[str]:
    """Say where a record gives another mAP than its detections do."""
    return [
        f"the record of trial {run.record.trial} says mAP {run.record.metrics['mAP']:.4f}, its"
        f" detections give {item.score.metrics['mAP']:.4f}, which is compared here"
        for run, item in zip(side, seen, strict=True)
        if run.record.metrics.get("mAP", item.score.metrics["mAP"]) != item.score.metrics["mAP"]
    ]


def _mean(arrays: Sequence[NDArray[Any]]) -> Floats:
    return np.asarray(np.mean(np.array(arrays), axis=0), np.float64)


def _moved(a: Sequence[_Seen], b: Sequence[_Seen], split: Split) -> list[Moved]:
    """Return the images whose AP by themselves moved most."""
    names = {image.id: image.file_name for image in split.images}
    before, after = (_mean([run.alone for run in side]) for side in (a, b))
    rows = zip(a[0].image_ids, before.tolist(), after.tolist(), strict=True)
    found = [Moved(names[key], key, old, new, new - old) for key, old, new in rows]
    moved = [item for item in found if math.isfinite(item.difference) and item.difference]
    return sorted(moved, key=lambda item: -abs(item.difference))[:IMAGES_SHOWN]


def _name(run: Run) -> dict[str, Any]:
    item = run.record
    return {"study": item.study, "trial": item.trial, "name": item.name, "seed": item.seed}


def _method(seeds_a: int, seeds_b: int, images: int, draws: int, *, paired: bool) -> dict[str, Any]:
    return {
        "level": differences.LEVEL,
        "images": images,
        "draws": draws,
        "seeds": {"A": seeds_a, "B": seeds_b},
        "same_trainings": paired,
        "interval": "Student's, with the variance over images drawn in pairs"
        + (" plus that over seeds" if seeds_a + seeds_b > 2 else ""),
    }


def _remarks(seeds_a: int, seeds_b: int, *, paired: bool) -> list[str]:
    if seeds_a == seeds_b == 1:
        return []  # the words say it
    if paired:
        return ["both sides are the same trainings: what scatters is how they differ"]
    if 1 in (seeds_a, seeds_b):
        return ["one side has a single training: it is taken to vary with the seed as the other"]
    return []
