"""The setting to deploy: about as good as the best, the fastest of those, and what it finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness.measure.accuracy.precision import follow
from harness.records.precision import Counts, Precision

Metrics = Mapping[str, float]  # of a setting, as `Row.metrics`
DIGITS = 9  # to which differences of mAP are told, so that 0.4 - 0.399 is 0.001
NO_OBJECT = "no setting is recommended: the validation split has no object"
UNTRAINED = "no setting is recommended: the detector is untrained"
NOTHING_FOUND = "no setting is recommended: none finds an object"
RULE = (
    "Recommended is the fastest setting, network and NMS, whose mAP is at most {within:g} points"
    " below the best; of equally fast ones, that of the greatest mAP. Precision, recall and F1 are"
    " of all classes together at IoU 0.5: a box is right if it finds an object of its class that"
    " no surer box has found. The score of the greatest F1 is chosen on the images that it is told"
    " for, so other images give a little less."
)


class Choice(NamedTuple):
    """A setting among others."""

    place: int  # among all
    near: int  # how many are about as good as the best, this one included
    tied: int  # how many others of these may be as fast: their intervals of NMS meet this one's
    best: float  # the greatest mAP of all, in [0, 1]
    within: float  # points of mAP below the best that count as about as good


class Recommended(NamedTuple):
    """The setting to deploy, and what it finds."""

    choice: Choice
    sentence: str  # what it is and what it brings
    rule: str  # how it was chosen
    as_set: Counts  # all that it finds; the score is its threshold
    precision: Precision  # of what it finds, counted from the score of the greatest F1 on
    detections: list[dict[str, Any]]  # all that it finds, as COCO results

    def plain(self) -> dict[str, Any]:
        """Return JSON values: of the detections, their number."""
        return {
            **self.choice._asdict(),
            "sentence": self.sentence,
            "rule": self.rule,
            "as_set": _plain(self.as_set),
            "at_best_f1": _plain(self.precision.counts),
            "precision": self.precision.model_dump(by_alias=True),
            "boxes": len(self.detections),
        }


def _plain(counts: Counts) -> dict[str, float]:
    shares = {name: getattr(counts, name) for name in ("precision", "recall", "f1")}
    return {**counts._asdict(), **shares}


def why_none(found: Sequence[Metrics], *, trained: bool) -> str:
    """Say why no setting can be recommended; empty where one can."""
    if "mAP" not in found[0]:
        return NO_OBJECT
    if not trained:
        return UNTRAINED
    return "" if any(each["mAP"] > 0 for each in found) else NOTHING_FOUND


def choose(found: Sequence[Metrics], within: float) -> Choice:
    """Choose the fastest setting that is about as good as the best.

    Args:
        found: `mAP` in [0, 1], of one at least above 0, `latency_ms` and `nms_ms` of each setting,
            and the latter's interval where there is one.
        within: points of mAP, of 100, that it may be below the best.
    """
    best = max(each["mAP"] for each in found)
    behind = [round(100 * (best - each["mAP"]), DIGITS) for each in found]
    near = [n for n, points in enumerate(behind) if points <= within and found[n]["mAP"] > 0]
    chosen = min(near, key=lambda place: (found[place]["latency_ms"], behind[place]))
    high = found[chosen].get("nms_high_ms", found[chosen]["nms_ms"])
    lows = [found[place].get("nms_low_ms", found[place]["nms_ms"]) for place in near]
    return Choice(chosen, len(near), sum(low <= high for low in lows) - 1, best, within)


def recommend(
    choice: Choice,
    setting: Mapping[str, Any],
    metrics: tuple[Metrics, Metrics],
    threshold: float,
    ground_truth: Mapping[str, Any],
    detections: list[dict[str, Any]],
) -> Recommended:
    """Count what the chosen setting finds.

    Args:
        choice: it.
        setting: its knobs.
        metrics: its own, and those of the setting that the detector is configured with.
        threshold: its score threshold.
        ground_truth: a COCO annotation file's content, with objects.
        detections: all that it finds, as COCO results.
    """
    most = max(Counter(each["image_id"] for each in detections).values())
    found = follow(ground_truth, detections, most)
    assert found is not None
    as_set = found.whole._replace(score=threshold)
    told = _sentence(choice, setting, *metrics, as_set, found.precision.counts)
    rule = RULE.format(within=choice.within)
    return Recommended(choice, told, rule, as_set, found.precision, detections)


def _sentence(
    choice: Choice,
    setting: Mapping[str, Any],
    own: Metrics,
    configured: Metrics,
    as_set: Counts,
    best: Counts,
) -> str:
    """Say which setting is recommended, and what it brings."""
    knobs = ", ".join(f"{_spell(name)} {value}" for name, value in setting.items())
    others = f"the fastest of {choice.near} settings" if choice.near > 1 else "the only setting"
    tied = f"; {choice.tied} more of these may be as fast" if choice.tied else ""
    same = "This is the configured setting" if own == configured else ""
    return (
        f"Recommended: {knobs}. It has {_brings(own)}, and is {others} within {choice.within:g}"
        f" points of the best mAP ({100 * choice.best:.1f} %){tied}."
        f" {same or f'As configured: {_brings(configured)}'}."
        f" All that it finds, from score {as_set.score:.3g} on: {_shares(as_set)}."
        f" From score {best.score:.3g} on, where F1 is greatest: {_shares(best)}."
    )


def _spell(knob: str) -> str:
    return knob.replace("iou", "IoU").replace("_", " ")


def _brings(metrics: Metrics) -> str:
    return f"mAP {100 * metrics['mAP']:.1f} % in {metrics['latency_ms']:.4g} ms"


def _shares(counts: Counts) -> str:
    shares = {"precision": counts.precision, "recall": counts.recall, "F1": counts.f1}
    return ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items())
