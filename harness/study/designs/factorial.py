"""Fractional factorials: many knobs of two values each, in a well-chosen part of their grid."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

MOST_RUNS = 128
FULL = 99  # resolution of a whole grid, in which nothing is aliased

Word = int  # a set of factors, one bit each


class DesignError(ValueError):
    """A sweep that a design cannot have."""


class Fraction(NamedTuple):
    """A regular two-level fraction of a grid.

    The first factors make a full grid, and each other one is the product of some of them. A
    resolution of 3 keeps main effects apart from each other, 4 also from interactions of two, 5
    also interactions of two from each other.

    Source: Box, Hunter and Hunter, Statistics for Experimenters (2nd ed.), ch. 6.
    """

    factors: int
    basic: int  # factors of the full grid, so that there are 2**basic runs
    generators: tuple[Word, ...]  # of each further factor: the basic ones whose product it is

    @property
    def words(self) -> list[Word]:
        """Return the defining relation: products of factors that are the same in every run."""
        rows = [word | 1 << self.basic + i for i, word in enumerate(self.generators)]
        chosen = itertools.product((0, 1), repeat=len(rows))
        products = (_product(itertools.compress(rows, mask)) for mask in chosen)
        return sorted(
            (word for word in products if word), key=lambda word: (word.bit_count(), word)
        )

    @property
    def resolution(self) -> int:
        """Return the number of factors in the shortest word."""
        return self.words[0].bit_count() if self.generators else FULL

    def runs(self) -> list[tuple[int, ...]]:
        """Return each run's level of each factor, 0 or 1; the first run has all at 0."""
        rows = []
        for bits in itertools.product((0, 1), repeat=self.basic):
            levels = sum(bit << i for i, bit in enumerate(bits))
            further = ((levels & word).bit_count() & 1 for word in self.generators)
            rows.append((*bits, *further))
        return rows

    def aliases(self, effect: Word, order: int = 2) -> list[Word]:
        """Return the effects of at most so many factors that cannot be told from one."""
        found = {effect ^ word for word in self.words}
        return sorted(other for other in found if 0 < other.bit_count() <= order)


def fraction(factors: int, resolution: int) -> Fraction:
    """Choose the fewest runs that reach a resolution, and among those the best resolution.

    Raises:
        DesignError: it would take over 128 runs.
    """
    for basic in range(1, min(factors, MOST_RUNS.bit_length() - 1) + 1):
        found = _best(factors, basic, resolution)
        if found is not None:
            return found
    raise DesignError(
        f"{factors} knobs at resolution {resolution} take over {MOST_RUNS} runs; sweep fewer knobs"
        " or set a lower `resolution:`"
    )


def variants(sweep: Mapping[str, Sequence[Any]], resolution: int) -> list[dict[str, Any]]:
    """Return the overrides of each run; the first value of a knob is its low level.

    Raises:
        DesignError: a knob without two values, or too many knobs.
    """
    for path, values in sweep.items():
        if len(values) != 2:
            raise DesignError(
                f"{path} has {len(values)} values; a fractional factorial takes two of each knob,"
                " so name the two ends, or use `design: grid`"
            )
    paths = list(sweep)
    runs = fraction(len(paths), resolution).runs()
    return [{p: sweep[p][level] for p, level in zip(paths, run, strict=True)} for run in runs]


def describe(paths: Sequence[str], resolution: int) -> list[str]:
    """Say in lines what a fraction cannot tell apart, main effects and interactions of two."""
    chosen = fraction(len(paths), resolution)
    lines, seen = [], set()
    singles = [1 << i for i in range(len(paths))]
    pairs = [a | b for a, b in itertools.combinations(singles, 2)]
    for effect in [*singles, *pairs]:
        others = chosen.aliases(effect)
        if others and effect not in seen:
            lines.append(" = ".join(_named(word, paths) for word in (effect, *others)))
        seen |= {effect, *others}
    return lines


def _best(factors: int, basic: int, resolution: int) -> Fraction | None:
    """Return the fraction of the highest resolution with so many runs, if it is high enough."""
    further = factors - basic
    if not further:
        return Fraction(factors, basic, ())
    found = None
    for wanted in range(resolution, factors + 1):
        words = [word for word in range(1, 1 << basic) if word.bit_count() >= wanted - 1]
        words.sort(key=lambda word: (-word.bit_count(), word))
        generators = _extend((), [0], words, further, wanted)
        if generators is None:
            break
        found = Fraction(factors, basic, generators)
    return found


def _extend(
    taken: tuple[Word, ...], group: list[Word], words: list[Word], left: int, wanted: int
) -> tuple[Word, ...] | None:
    """Add generators, one after the other, so that no product of any is shorter than wanted.

    Args:
        taken: generators so far.
        group: their products, the basic factors' part, each with the number of generators in it.
        words: what is left to choose from.
        left: how many are still needed.
        wanted: the shortest length of a product, the further factors counted.
    """
    if not left:
        return taken
    for index, word in enumerate(words[: max(0, len(words) - left + 1)]):
        place = 1 << 32 + len(taken)
        grown = [other ^ word | place for other in group]
        if all(other.bit_count() >= wanted for other in grown):
            rest = words[index + 1 :]
            found = _extend((*taken, word), [*group, *grown], rest, left - 1, wanted)
            if found is not None:
                return found
    return None


def _product(words: Iterator[Word]) -> Word:
    result = 0
    for word in words:
        result ^= word
    return result


def _named(word: Word, paths: Sequence[str]) -> str:
    return " x ".join(path for i, path in enumerate(paths) if word >> i & 1)
