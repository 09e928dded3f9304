"""Which devices a command uses, and how many trials at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from harness.config.yaml_source import StudyError
from harness.machine.procfs import usable_cores

CORES_A_TRIAL = 2  # one trial at a time shows its result sooner where there are no more
MOST_BESIDE = 4  # trials of a sweep at a time on a processor, unless said otherwise
BYTES_A_TRIAL = 4 << 30  # of memory, so that trials that train side by side don't run out of it

_NAME = re.compile(r"(?P<kind>cpu|cuda)(:(?P<index>0|[1-9]\d{0,2}))?")


def check(given: str | None) -> None:
    """Refuse what is the name of no device, whether or not this machine has it.

    Raises:
        StudyError: it is none.
    """
    if given is not None and _NAME.fullmatch(given) is None:
        raise StudyError(f"--device {given}: expected cpu or cuda:N")


def device(given: str | None) -> str:
    """Return the device to use: a GPU when there is one, unless said otherwise.

    Raises:
        StudyError: there is no such device, or this machine has none.
    """
    check(given)
    import torch  # slow to import

    if given is None:
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    found = _NAME.fullmatch(given)
    assert found is not None
    count = torch.cuda.device_count()
    if found["kind"] == "cuda" and int(found["index"] or 0) >= count:
        raise StudyError(f"--device {given}: there are {count} CUDA devices here; use cpu")
    return "cuda:0" if given == "cuda" else given


def slots(given: str | None, workers: int | None) -> list[str]:
    """Return the device of each worker.

    Args:
        given: one device for all; None to go round all GPUs, or the processor where there is none.
        workers: None for one a device.

    Raises:
        StudyError: there is no such device, or this machine has none.
    """
    import torch  # slow to import

    if given is not None or not torch.cuda.is_available():
        devices = [device(given)]
    else:
        devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [devices[number % len(devices)] for number in range(workers or len(devices))]


def side_by_side(devices: Sequence[str], trials: int) -> list[str]:
    """Return the device of each worker of a sweep, where their number was not given.

    Trials on one processor train side by side, since threads of small operators wait for each other
    more than they gain. They are measured alone all the same.

    Args:
        devices: one a device.
        trials: of the whole sweep, so that a part of it is run with as many threads.
    """
    if list(devices) != ["cpu"]:
        return list(devices)
    cores, memory = len(usable_cores()) // CORES_A_TRIAL, _memory() // BYTES_A_TRIAL
    fitting = min(trials, cores, memory, MOST_BESIDE)
    return ["cpu"] * max(fitting, 1)


def _memory() -> int:
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
