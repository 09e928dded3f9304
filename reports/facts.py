"""What a reader must know before the numbers: data, detector, recipe, machine, mixtures."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import NamedTuple

from harness.records import Record, origins
from harness.records.protocols import letters, unexplained
from reports import tables

RECIPE = ("epochs", "batch_size", "lr", "schedule", "ema_decay", "precision")
LINEAR = "linear"  # how pixels are resized unless it is said
LATENCY = ("batch_size", "precision", "threads")
PACKAGES = ("detbench", "torch", "torchvision", "opencv-python-headless", "hotcoco")


class Fact(NamedTuple):
    """One thing to know, in words, and what stands behind it."""

    name: str
    text: str
    hint: str = ""


def facts(records: Sequence[Record]) -> list[Fact]:
    """Collect what holds for these trials; where they differ, every value is named."""
    found = [
        Fact("data", _each(records, data), _each(records, fingerprint)),
        Fact("detector", _each(records, lambda record: record.detector)),
        Fact("input", _each(records, input_size)),
        Fact("recipe", _each(records, lambda record: _settings(record, "recipe", RECIPE))),
        Fact("weights", _each(records, weights)),
        Fact("latency", _each(records, lambda record: _settings(record, "latency", LATENCY))),
        Fact("device", _each(records, device)),
        Fact("software", _each(records, software)),
        Fact("code", "; ".join(filter(None, (_each(records, code), unknown_code(records))))),
        Fact("trials", states(records)),
        Fact("date", dates(records)),
        Fact("protocol", _each(records, lambda record: record.protocol_hash)),
    ]
    return [fact for fact in found if fact.text]


def _each(records: Sequence[Record], describe: Callable[[Record], str]) -> str:
    texts = dict.fromkeys(describe(record) for record in records)
    return "; ".join(text for text in texts if text)


def data(record: Record) -> str:
    """Name a trial's data set, its size, and the start of its fingerprint."""
    sizes = [
        f"{record.data[split]['images']:,} {split}"
        for split in ("train", "val")
        if isinstance(record.data.get(split), dict) and "images" in record.data[split]
    ]
    classes = record.data.get("classes")
    if isinstance(classes, list):
        sizes.append(f"{len(classes)} classes")
    name = str(record.data.get("name", ""))
    details = ", ".join([*sizes, *_mark(fingerprint(record))])
    return f"{name} ({details})" if details else name


def _mark(text: str) -> list[str]:
    return [f"fingerprint {text[:12]}"] if text else []


def fingerprint(record: Record) -> str:
    """Return the fingerprint of a trial's data set."""
    return str(record.data.get("fingerprint", ""))


def weights(record: Record) -> str:
    """Say which weights a trial started from, or evaluates, and what was taken of them."""
    start = record.details.get("start")
    if start is None:
        return ""
    return f"{record.config.get('weights.from', '')} ({start.get('taken', '')})"


def input_size(record: Record) -> str:
    """Write the size of a trial's input, height by width, and how images become it."""
    size = record.config.get("detector.input.size")
    if not isinstance(size, list | tuple):
        return ""
    resize = str(record.config.get("detector.input.resize", ""))
    how = str(record.config.get("detector.input.interpolation", LINEAR))
    words = filter(None, (resize, "" if how == LINEAR else how))
    return " × ".join(map(str, size)) + f" pixels {', '.join(words)}".rstrip()


def _settings(record: Record, root: str, names: Sequence[str]) -> str:
    """Write a trial's settings under a root, those that are swept left out."""
    found = [
        f"{name.replace('_', ' ')} {tables.plain(record.config[path])}"
        for name in names
        if (path := f"{root}.{name}") in record.config
        and path not in record.overrides
        and record.config[path] is not None
    ]
    return ", ".join(found)


def device(record: Record) -> str:
    """Name the device of a trial: the GPU's model, or the processor's and its threads."""
    environment = record.environment
    name = str(environment.get("device", ""))
    gpu, cpu = environment.get("gpu"), environment.get("cpu")
    if isinstance(gpu, dict) and gpu.get("name"):
        return f"{gpu['name']} ({name})"
    if isinstance(cpu, dict) and cpu.get("model"):
        threads = environment.get("threads")
        return f"{cpu['model']} ({name}{f', threads {threads}' if threads else ''})"
    return name


def software(record: Record) -> str:
    """Name the versions that matter."""
    packages = record.environment.get("packages", {})
    parts = [f"{name} {packages[name]}" for name in PACKAGES if name in packages]
    if python := record.environment.get("python"):
        parts.insert(0, f"Python {python}")
    return ", ".join(parts)


def code(record: Record) -> str:
    """Name the commit that a trial ran from."""
    git = record.environment.get("git")
    if not isinstance(git, dict) or not git.get("commit"):
        return ""
    return f"commit {str(git['commit'])[:12]}" + (
        ", with local changes" if git.get("dirty") else ""
    )


def states(records: Sequence[Record]) -> str:
    """Count trials by how they ended."""
    order = ("done", "failed", "pruned")
    counts = {state: sum(record.state == state for record in records) for state in order}
    return ", ".join(f"{n} {state}" for state, n in counts.items() if n) or "none"


def dates(records: Sequence[Record]) -> str:
    """Return the days from the first start to the last end, UTC."""
    found = [
        datetime.fromtimestamp(record.timings[key], timezone.utc).strftime("%Y-%m-%d")
        for record in records
        for key in ("started", "finished")
        if key in record.timings
    ]
    if not found:
        return ""
    first, last = min(found), max(found)
    return first if first == last else f"{first} to {last}"


def warnings(records: Sequence[Record]) -> list[str]:
    """Say in what way trials on this page cannot be compared as they stand."""
    found = []
    done = [record for record in records if record.state == "done"]
    if keys := ", ".join(unexplained(records)):
        count = len(set(letters(records).values()))
        found.append(
            f"Trials of {count} protocols share this page; they differ in {keys}. "
            "Figures that depend on it mean different things; a letter marks the rows of each."
        )
    if keys := ", ".join(origins.edited(done)):
        found.append(
            f"Trials of several versions of the study share this page; they differ in {keys},"
            " which no trial overrides."
        )
    if files := ", ".join(origins.other_code(done)):
        found.append(f"Trials of several versions of the code share this page: {files} changed.")
    for name, describe, consequence in (
        ("devices", device, "Latencies cannot be compared across them."),
        ("data sets", fingerprint, "Accuracies cannot be compared across them."),
    ):
        texts = {describe(record) for record in done}
        if len(texts) > 1:
            listed = "; ".join(sorted(text or "unknown" for text in texts))
            found.append(f"Trials of {len(texts)} {name} share this page: {listed}. {consequence}")
    if libraries := _libraries(records, done):
        found.append(
            f"Trials of several versions of libraries share this page: {libraries}."
            " Some differences may come from it."
        )
    return found


def _libraries(records: Sequence[Record], done: Sequence[Record]) -> str:
    """Name the libraries whose versions differ, with the numbers of the trials of each."""
    numbers = {id(record): f"#{number}" for number, record in enumerate(records, 1)}
    return "; ".join(
        f"{name} "
        + ", ".join(
            f"{version} ({', '.join(numbers[id(record)] for record in group)})"
            for version, group in versions.items()
        )
        for name, versions in origins.libraries(done).items()
    )


def unknown_code(records: Sequence[Record]) -> str:
    """Say how many trials do not tell the source that computed them; empty if all do."""
    count = sum(record.state == "done" and not record.code for record in records)
    total = sum(record.state == "done" for record in records)
    of = f"{count} of {total} trials" if count < total else "these trials"
    return f"unknown for {of}, recorded before the source was kept with a result" if count else ""


def command(records: Sequence[Record]) -> str:
    """Return the command that a trial kept in its environment, empty where none did."""
    kept = next((record.environment.get("command") for record in records), None)
    if isinstance(kept, list):
        return shlex.join(map(str, kept))
    return str(kept or "")
