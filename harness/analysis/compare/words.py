"""Verdicts on accuracy in words: of detectors over seeds, of weights, or of files of results."""

from __future__ import annotations

from harness.analysis.compare.differences import Difference
from harness.analysis.compare.latency import NO_DIFFERENCE
from harness.records.cells import ONE_SEED, UNTOLD


def of_detectors(found: Difference, *, paired: bool) -> tuple[str, str]:
    """Give the verdict over several trainings, and the sentence that says it.

    Args:
        found: with its interval over images and seeds.
        paired: whether both sides are the same trainings; a note says so.
    """
    if not found.told_apart:
        return NO_DIFFERENCE, f"{NO_DIFFERENCE} between A and B: {_moved_by(found, '')}"
    verdict = "better" if found.difference > 0 else "worse"
    return verdict, f"B is {verdict} than A: {_moved_by(found, '')}"


def of_weights(found: Difference, *, paired: bool) -> tuple[str, str]:
    """Give the verdict on one training a side, and the sentence that says what its images tell.

    Args:
        found: with its interval over images.
        paired: whether both sides are the same weights, as with other thresholds of NMS.
    """
    more = "higher" if found.difference > 0 else "lower"
    if not found.told_apart:
        sides = "A and B with these weights" if paired else "A's weights and B's"
        lead = f"{NO_DIFFERENCE} between {sides}"
    elif paired:
        lead = f"with these weights, B scores {more} than A"
    else:
        lead = f"B's weights score {more} than A's"
    moved = _moved_by(found, " over images")
    rest = f"{ONE_SEED}, so this is about these weights, not about the detectors"
    return UNTOLD, f"{lead}: {moved}; {rest}"


def of_results(found: Difference, *, paired: bool) -> tuple[str, str]:
    """Give the verdict where a side is a file of results: there is no training behind it to repeat.

    Args:
        found: with its interval over images.
        paired: whether both sides are the same trainings, which a file tells nothing of.
    """
    moved = _moved_by(found, " over images")
    if not found.told_apart:
        return NO_DIFFERENCE, f"{NO_DIFFERENCE} between A's detections and B's: {moved}"
    verdict = "better" if found.difference > 0 else "worse"
    return verdict, f"B's detections are {verdict} than A's: {moved}"


def _moved_by(found: Difference, over: str) -> str:
    """Write a difference with its interval, or why it has none."""
    points = f"{100 * found.difference:+.2f} points of mAP"
    if found.low is None or found.high is None:
        return f"{points}, but {found.images} images with objects are too few for an interval"
    low, high = 100 * found.low, 100 * found.high
    return f"{points} (95 % interval{over} {low:+.2f} to {high:+.2f})"
