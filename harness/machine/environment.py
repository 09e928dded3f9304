"""The machine and the software that a figure was measured with."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from harness.machine import nvml, procfs

LIBRARIES = (  # that compute results
    *("torch", "torchvision", "numpy", "hotcoco", "opencv-python", "opencv-python-headless"),
)
PACKAGES = ("detbench", *LIBRARIES, "onnxruntime", "timm", "transformers")
VARIABLES = (  # that change how fast operators are
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "GOMP_CPU_AFFINITY", "GOMP_SPINCOUNT"),
    *("KMP_BLOCKTIME", "KMP_AFFINITY", "MKL_NUM_THREADS", "LD_PRELOAD", "CUDA_LAUNCH_BLOCKING"),
)
DRIVER = (  # what it is asked about a GPU
    *("driver", "clock_mhz", "clock_memory_mhz", "clock_max_mhz"),
    *("power_w", "power_limit_w", "temperature_c"),
)
GIT_SECONDS = 0.25


def capture(device: str) -> dict[str, Any]:
    """Describe the machine, the software and a device; what cannot be found out is absent.

    Args:
        device: as torch spells it, e.g. `cpu` or `cuda:0`.

    Returns:
        JSON values by topic. Memory is in bytes, clocks in MHz, power in watts, temperature in
        degrees Celsius. The host's name is hashed.
    """
    facts = {
        "device": device,
        "host": hashlib.sha256(platform.node().encode()).hexdigest()[:12],
        "os": platform.platform(),
        "python": platform.python_version(),
        "packages": _packages(),
        "cpu": _cpu(),
        "memory_bytes": _memory(),
        "threads": torch.get_num_threads(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "torch": _torch(),
        "gpu": _gpu(device) if torch.device(device).type == "cuda" else None,
        "git": _git(Path(__file__).resolve().parents[2]),
    }
    return _present(facts)


def versions(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions of Python and of the libraries that compute results.

    Args:
        facts: from `capture`; a record's, be it an older one, which lacks some.
    """
    packages = facts.get("packages", {})
    found = {name: packages[name] for name in LIBRARIES if name in packages}
    return found | ({"python": facts["python"]} if "python" in facts else {})


def other_versions(before: Mapping[str, str]) -> list[str]:
    """Name what has another version now, as `torch 2.13.0, now 2.14.1`.

    Args:
        before: from `versions`.
    """
    now = _versions_now()
    known = sorted(before.keys() & now.keys())
    return [f"{n} {before[n]}, now {now[n]}" for n in known if before[n] != now[n]]


@cache
def _versions_now() -> dict[str, str]:
    return versions({"python": platform.python_version(), "packages": _packages()})


def identity(facts: Mapping[str, Any]) -> str:
    """Hash what of a machine, its software and a device makes a latency what it is.

    Args:
        facts: from `capture`. What changes from one moment to the next does not count, such as
            clocks and load, nor which one of several equal GPUs it was.
    """
    cpu, gpu = facts.get("cpu", {}), facts.get("gpu", {})
    parts = {
        "kind": str(facts.get("device", "")).partition(":")[0],
        "host": facts.get("host"),
        "cpu": {name: value for name, value in cpu.items() if name != "load"},
        "gpu": {name: gpu[name] for name in ("name", "memory_bytes", "driver") if name in gpu},
        "variables": facts.get("variables", {}),
        "torch": [facts.get("packages", {}).get("torch"), facts.get("torch", {})],
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _present(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in (None, "", {})}


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu() -> dict[str, Any]:
    facts = {
        "model": _cpu_model(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "cores_usable": _usable_cores(),
        "quota_cores": procfs.quota_cores(),
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    return _present(facts)


def _cpu_model() -> str | None:
    for line in (_text("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string")
    return platform.processor() or None


def _usable_cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _memory() -> int | None:
    """Return the memory in bytes, a container's limit included."""
    try:
        installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    limit = _text("/sys/fs/cgroup/memory.max") or ""
    return min(installed, int(limit)) if limit.isdigit() else installed


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _torch() -> dict[str, Any]:
    facts = {
        "threads_interop": torch.get_num_interop_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkldnn": _quiet(torch.backends.mkldnn.is_available),
        "cuda": torch.version.cuda,
        "cudnn": _quiet(torch.backends.cudnn.version),
        "matmul_precision": _quiet(torch.get_float32_matmul_precision),
        "matmul_tf32": _quiet(lambda: torch.backends.cuda.matmul.allow_tf32),
        "cudnn_tf32": _quiet(lambda: torch.backends.cudnn.allow_tf32),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    return _present(facts)


def _quiet(ask: Callable[[], Any]) -> Any:
    """Ask torch for a switch; some refuse once their successor has been set."""
    try:
        return ask()
    except RuntimeError:
        return None


def _gpu(device: str) -> dict[str, Any] | None:
    if not torch.cuda.is_available():  # type: ignore[no-untyped-call, unused-ignore]
        return None
    properties = torch.cuda.get_device_properties(device)
    facts = {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_bytes": properties.total_memory,
        "multiprocessors": properties.multi_processor_count,
    }
    return _present(facts | _nvml(nvml.uuid_of(device)))


def _nvml(uuid: str) -> dict[str, Any]:
    """Ask the driver about a GPU, as far as it answers."""
    answers = {}
    try:
        with nvml.opened(uuid) as gpu:
            for name in DRIVER:
                with suppress(nvml.Unavailable):
                    answers[name] = gpu.ask(name)
    except nvml.Unavailable:
        return {}
    return answers


def _git(root: Path) -> dict[str, Any] | None:
    """Return the commit of the checkout that the code runs from, and whether it was changed."""
    if not (root / ".git").exists():
        return None
    status = ("status", "--porcelain=v2", "--branch", "--", "detectors", "harness")
    text = _output("git", "-C", str(root), *status)
    if text is None:
        return None
    lines = text.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), None)
    if commit in (None, "(initial)"):
        return None
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}


def _output(*command: str) -> str | None:
    """Return what a command prints, None when it fails or takes too long."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
            timeout=GIT_SECONDS,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
