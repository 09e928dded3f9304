"""Which devices a command uses, and how many trials at a time."""

from __future__ import annotations

import torch

from harness.config.yaml_source import StudyError


def device(given: str | None) -> str:
    """Return the device to use: a GPU when there is one, unless said otherwise.

    Raises:
        StudyError: torch knows no such device, or this machine has none.
    """
    if given is None:
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        wanted = torch.device(given)
    except RuntimeError as error:
        raise StudyError(f"--device {given}: expected cpu or cuda:N") from error
    if wanted.type not in ("cpu", "cuda"):
        raise StudyError(f"--device {given}: expected cpu or cuda:N")
    count = torch.cuda.device_count()
    if wanted.type == "cuda" and (wanted.index or 0) >= count:
        raise StudyError(f"--device {given}: there are {count} CUDA devices here; use cpu")
    return "cuda:0" if given == "cuda" else given


def slots(given: str | None, workers: int | None) -> list[str]:
    """Return the device of each worker.

    Args:
        given: one device for all; None to go round all GPUs, or the processor where there is none.
        workers: None for one a device.

    Raises:
        StudyError: torch knows no such device, or this machine has none.
    """
    if given is not None or not torch.cuda.is_available():
        devices = [device(given)]
    else:
        devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [devices[number % len(devices)] for number in range(workers or len(devices))]
