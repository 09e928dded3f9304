"""Run each detector once on a device, each in a process of its own: `python -m tests.device.smoke`.

A network that ends its process, or leaves the device unusable, takes no other along.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
import traceback
from pathlib import Path
from typing import Any

import torch

import detectors
from detectors.interface import Target
from harness.machine import environment
from harness.records import record

SIZE = 256  # of the input, pixels


def main() -> int:
    """Write what the machine is, then of each detector whether it runs, as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m tests.device.smoke", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--each", type=float, default=10.0, help="seconds for each")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    _in_process(given.each, _describe, given.device, given.out / "environment.json")
    failed = 0
    for name in given.names:
        found = _in_process(given.each, _try, name, given.device, given.out / f"{name}.json")
        print(f"{name}: {found}", flush=True)
        failed += found != "done"
    return int(failed > 0)


def _in_process(seconds: float, work: Any, *arguments: Any) -> str:
    """Do something in a process that has torch already, and no device yet."""
    process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        return f"ended after {seconds:.0f} s"
    return "done" if process.exitcode == 0 else f"exit status {process.exitcode}"


def _describe(device: str, file: Path) -> None:
    record.write_whole(file, json.dumps(environment.capture(device), indent=1))


def _try(name: str, device: str, file: Path) -> None:
    """Run a detector forwards and backwards; write how long it took, or what went wrong."""
    start = time.perf_counter()
    try:
        facts: dict[str, Any] = _run(name, device)
    except Exception:
        facts = {"error": traceback.format_exc()}
    record.write_whole(file, json.dumps(facts | {"seconds": time.perf_counter() - start}))
    raise SystemExit(int("error" in facts))


def _run(name: str, device: str) -> dict[str, Any]:
    torch.manual_seed(0)
    detector = detectors.create(name, {"input.size": (SIZE, SIZE)}).to(device)
    images = torch.randn(2, 3, SIZE, SIZE, device=device)
    box = torch.tensor([[20.0, 30.0, 120.0, 150.0]], device=device)
    targets = [Target(box, torch.tensor([1], device=device))] * 2
    losses = detector.losses(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    norms = [p.grad.norm() for p in detector.parameters() if p.grad is not None]
    detector.eval()
    with torch.inference_mode():
        found = detector.detect(images, torch.tensor([[SIZE, SIZE]] * 2, device=device))
        half = detector.half() if device.startswith("cuda") else detector.bfloat16()
        outputs = half(images.to(next(half.parameters()).dtype))
    loss, norm = float(sum(losses.values())), float(torch.stack(norms).norm())
    finite = {
        "loss": torch.tensor(loss).isfinite().item(),
        "gradient": torch.tensor(norm).isfinite().item(),
        "half": outputs.logits.isfinite().all().item() and outputs.boxes.isfinite().all().item(),
    }
    if not all(finite.values()):
        raise FloatingPointError(f"not finite: {', '.join(k for k, v in finite.items() if not v)}")
    return {"loss": loss, "gradient_norm": norm, "detections": [len(d.scores) for d in found]}


if __name__ == "__main__":
    raise SystemExit(main())
