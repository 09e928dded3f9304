"""Classes by name: one table for both splits, and which label of a detector each of them is.

Ids and their order differ between exports of the same images, so that only names say what is what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import numpy as np

from harness.config.data import DataError
from harness.data.dataset import Annotations, Split

IN_ORDER = "in-order"
"""In place of pairs: the classes of a detector are those of the data set, in its order."""
SHOWN = 8  # names in a message


class ClassError(DataError):
    """Classes of a detector and of a data set that do not belong together."""


class Known(NamedTuple):
    """What a detector was trained to find."""

    owner: str  # what it is called in messages
    num_labels: int
    names: tuple[str, ...] | None  # by label; None where nothing tells
    note: str = ""  # what must be said of the names


@dataclass(frozen=True)
class Choice:
    """What the user says of classes."""

    pairs: dict[str, str] = field(default_factory=dict)
    """Class of the data set: the detector's, by its name or by the number of its label."""
    in_order: bool = False
    """Whether both have the same classes in the same order, whatever their names."""
    shared: bool | None = None
    """Whether classes that the detector does not know are left out; None where none can be."""


class Matched(NamedTuple):
    """Which label of a detector each class of a data set is."""

    labels: tuple[int | None, ...]  # by class of the data set; None where the detector has none
    notes: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether the detector knows every class of the data set."""
        return None not in self.labels

    @property
    def is_same(self) -> bool:
        """Whether each class of the data set has the detector's label of the same number."""
        return self.labels == tuple(range(len(self.labels)))


def one_table(train: Split, val: Split) -> Split:
    """Return a validation split with the labels of the training split, whatever its ids are.

    Raises:
        DataError: the names of their classes differ.
    """
    names = [{category.name for category in split.categories} for split in (train, val)]
    different = sorted(names[0] ^ names[1])
    if different:
        raise DataError(
            f"{val.annotation_file}: its categories are not those of {train.annotation_file.name},"
            f" first {different[0]!r}; give both files the same names"
        )
    order = {category.name: label for label, category in enumerate(val.categories)}
    return select(val, [order[category.name] for category in train.categories])


def select(split: Split, labels: Sequence[int]) -> Split:
    """Return a split with some of its classes, in this order, and their annotations alone."""
    if list(labels) == list(range(len(split.categories))):
        return split
    places = np.full(len(split.categories), -1, np.int64)
    places[list(labels)] = np.arange(len(labels))
    table = split.annotations
    kept = places[table.labels] >= 0
    columns = {
        item.name: getattr(table, item.name)[kept]
        for item in fields(table)
        if item.name != "offsets"
    }
    columns["labels"] = places[columns["labels"]]
    before = np.concatenate([[0], np.cumsum(kept)])
    annotations = Annotations(offsets=before[table.offsets], **columns)
    categories = tuple(split.categories[label] for label in labels)
    return replace(split, categories=categories, annotations=annotations)


def seen_by(split: Split, matched: Matched) -> Split:
    """Return a split for a detector of other labels: what it finds gets the split's category ids.

    Classes that the detector does not know are left out, and so is what it finds of classes that
    the split does not have.
    """
    if matched.is_same:
        return split
    ids: dict[int, int] = {
        label: category.id
        for label, category in zip(matched.labels, split.categories, strict=True)
        if label is not None
    }
    kept = [index for index, label in enumerate(matched.labels) if label is not None]
    found_ids = tuple(ids.get(label) for label in range(max(ids) + 1))
    return replace(select(split, kept), found_ids=found_ids)


def read_choice(texts: Sequence[str], *, shared: bool | None = None) -> Choice:
    """Read `--classes`: pairs DATA=MODEL, several separated by commas, or `in-order`.

    Args:
        texts: of the option, each time that it was given. A text with one equals sign is one pair,
            so that a name may hold commas.
        shared: as `Choice` has it.

    Raises:
        ClassError: a text of another form.
    """
    if IN_ORDER in texts:
        if len(texts) > 1:
            raise ClassError(f"--classes: {IN_ORDER} does not go with pairs")
        return Choice(in_order=True, shared=shared)
    pairs: dict[str, str] = {}
    for text in texts:
        for part in [text] if text.count("=") == 1 else text.split(","):
            name, sign, known = part.partition("=")
            if not sign or not name.strip() or not known.strip():
                raise ClassError(
                    f"--classes {text}: expected DATA=MODEL,..., a class of the data set and the"
                    f" model's name or label for it, or {IN_ORDER}"
                )
            pairs[name.strip()] = known.strip()
    return Choice(pairs, shared=shared)


def match(known: Known, data_name: str, wanted: Sequence[str], choice: Choice) -> Matched:
    """Find the label of each class of a data set, by name unless the user says otherwise.

    Args:
        known: what the detector was trained to find.
        data_name: of the data set.
        wanted: names of its classes.
        choice: what the user says.

    Raises:
        ClassError: nothing tells the names, a class has no label, or two have the same.
    """
    if choice.in_order:
        return _in_order(known, data_name, wanted)
    labels = _labels(known, data_name, wanted, choice)
    lacking = [name for name, label in zip(wanted, labels, strict=True) if label is None]
    if lacking and known.names is None:
        raise ClassError(_unnamed(known, data_name, wanted))
    if len(lacking) == len(wanted):
        raise ClassError(
            f"{known.owner} knows no class of data set {data_name}: that has {_some(wanted)}, the"
            f" model has {_some(known.names or ())}; say which is which with --classes"
            f" DATA=MODEL,..., or name other weights"
        )
    if lacking and not choice.shared:
        ask = ", --shared-classes leaves them out" if choice.shared is False else ""
        raise ClassError(
            f"{known.owner} does not know {len(lacking)} of the {len(wanted)} classes of data set"
            f" {data_name}: {_some(lacking)}; it knows {_some(known.names or ())}. --classes"
            f" DATA=MODEL,... says which have another name{ask}"
        )
    return Matched(tuple(labels), tuple(_notes(known, data_name, labels, lacking, choice)))


def _in_order(known: Known, data_name: str, wanted: Sequence[str]) -> Matched:
    if known.num_labels != len(wanted):
        raise ClassError(
            f"--classes {IN_ORDER}: {known.owner} tells {known.num_labels} classes apart, data set"
            f" {data_name} has {len(wanted)}; give pairs DATA=MODEL,..."
        )
    said = f"classes are taken to be those of {data_name} in its order, as --classes says"
    return Matched(tuple(range(len(wanted))), (said,))


def _labels(
    known: Known, data_name: str, wanted: Sequence[str], choice: Choice
) -> list[int | None]:
    """Return the label of each class of a data set; None where there is none."""
    counts = Counter(known.names or ())
    places = {name: k for k, name in enumerate(known.names or ()) if counts[name] == 1}
    numbers = {str(label): label for label in range(known.num_labels)}
    for name, other in choice.pairs.items():
        if name not in wanted:
            raise ClassError(
                f"--classes {name}={other}: data set {data_name} has no class {name!r}; it has"
                f" {_some(wanted)}"
            )
        if other not in places and other not in numbers:
            has = _some(known.names) if known.names else f"labels 0 to {known.num_labels - 1}"
            raise ClassError(
                f"--classes {name}={other}: {known.owner} has no class {other!r}; it has {has}"
            )
    by_pair = {name: places.get(other, numbers.get(other)) for name, other in choice.pairs.items()}
    labels = [by_pair.get(name, places.get(name)) for name in wanted]
    found = [label for label in labels if label is not None]
    twice = next((label for label in found if found.count(label) > 1), None)
    if twice is not None:
        both = [name for name, label in zip(wanted, labels, strict=True) if label == twice]
        raise ClassError(
            f"--classes: {both[0]!r} and {both[1]!r} of data set {data_name} are both label"
            f" {twice} of {known.owner}; give each a label of its own"
        )
    return labels


def _unnamed(known: Known, data_name: str, wanted: Sequence[str]) -> str:
    """Say that nothing tells the classes of a detector, and what helps."""
    example = ",".join(f"{name}={label}" for label, name in enumerate(wanted[:3]))
    more = ",..." if len(wanted) > len(wanted[:3]) else ""
    return (
        f"{known.owner} does not say which classes its {known.num_labels} labels are. If they are"
        f" those of data set {data_name} in its order ({_some(wanted)}), add --classes {IN_ORDER};"
        f" else name the label of each, as in --classes {example}{more}"
    )


def _notes(
    known: Known,
    data_name: str,
    labels: Sequence[int | None],
    lacking: Sequence[str],
    choice: Choice,
) -> list[str]:
    """Say what was done beyond matching equal lists."""
    found = [label for label in labels if label is not None]
    notes = [known.note] if known.note else []
    if choice.pairs:
        pairs = [f"{name}={other}" for name, other in choice.pairs.items()]
        notes.append(f"classes are matched as --classes says: {_some(pairs)}")
    elif found != sorted(found):
        notes.append(f"classes are in another order in {data_name}: matched by name")
    names = known.names or tuple(map(str, range(known.num_labels)))
    dropped = [  # a name of several labels is that of gaps between them
        name for label, name in enumerate(names) if label not in found and names.count(name) == 1
    ]
    if dropped:
        notes.append(f"{data_name} does not have, so left out: {_some(dropped)}")
    if lacking:
        notes.append(
            f"results are over {len(found)} of the {len(labels)} classes of {data_name}; the model"
            f" does not know {_some(lacking)}"
        )
    return notes


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
