"""Whether the machine holds still, and what of it can be watched while it is measured."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from harness.cli.doctor.finding import Finding, ok
from harness.config.data import cache_dir
from harness.machine import energy, locks, nvml, procfs

NO_CONTROL = "no clock control: report ratios, not milliseconds"
SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
LEAST_FREE = 2**30  # bytes
CPU = Path("sys/devices/system/cpu")
APPLICATION_CLOCKS = 0x2  # of NVML's clock event reasons: the clocks are those somebody set


def clocks(device: str, root: Path = Path("/")) -> list[Finding]:
    """Check whether the clocks of a device can be held."""
    return [_gpu_clocks(device) if device.startswith("cuda") else _cpu_clocks(root)]


def _cpu_clocks(root: Path) -> Finding:
    check, remedy = "clock control", "as root: cpupower frequency-set --governor performance"
    try:
        governor = (root / CPU / "cpu0/cpufreq/scaling_governor").read_text().strip()
    except OSError:
        found = "the system shows no clocks, as in a virtual machine"
        return Finding(check, "limits", found, NO_CONTROL, "measure on a machine of your own")
    if governor != "performance":
        return Finding(check, "limits", f"governor {governor}", NO_CONTROL, remedy)
    if _turbo(root):
        found = "governor performance, turbo on: clocks follow the heat"
        return Finding(check, "limits", found, NO_CONTROL, "switch turbo off, as root or in BIOS")
    return ok(check, "governor performance, turbo off")


def _turbo(root: Path) -> bool:
    for name, on in (("intel_pstate/no_turbo", "0"), ("cpufreq/boost", "1")):
        path = root / CPU / name
        if path.is_file():
            return path.read_text().strip() == on
    return False


def _gpu_clocks(device: str) -> Finding:
    check, command = "clock control", "nvidia-smi --lock-gpu-clocks=MHZ,MHZ"
    try:
        with nvml.opened(nvml.uuid_of(device)) as gpu:
            held = int(gpu.ask("reasons")) & APPLICATION_CLOCKS
            clock = gpu.ask("clock_mhz")
    except nvml.Unavailable as why:
        return Finding(check, "limits", str(why), NO_CONTROL, "install the driver's libnvidia-ml")
    if held:
        return ok(check, f"held at {clock} MHz")
    if getattr(os, "geteuid", lambda: 1)() == 0:
        found = f"not held ({clock} MHz now), this user may"
        return Finding(check, "limits", found, "unless held: report ratios", command)
    found = f"not held ({clock} MHz now), and only root may"
    return Finding(check, "limits", found, NO_CONTROL, f"ask the administrator for {command}")


def slow_arithmetic(device: str) -> list[Finding]:
    """Check which arithmetic that is meant to be fast is slower than float32."""
    from harness.machine import arithmetic  # imports torch, which is slow

    check = "arithmetic"
    found = {
        f"{name} {what}": arithmetic.slowdown(name, device, training=training)
        for name in arithmetic.HALVES
        for what, training in (("training", True), ("inference", False))
        if not (name == "fp16" and training and device == "cpu")  # which recipes refuse
    }
    told = [f"{name} x{factor:.2g}" for name, factor in found.items() if factor is not None]
    text = f"time as against fp32: {', '.join(told) or 'neither runs'}"
    slow = [name for name, factor in found.items() if (factor or 0) >= arithmetic.SLOWER]
    if not slow:
        return [ok(check, text)]
    consequence = f"slower than in fp32: {', '.join(slow)}"
    remedy = "leave recipe.precision and latency.precision at fp32 here"
    return [Finding(check, "limits", text, consequence, remedy)]


def energy_counter(device: str) -> list[Finding]:
    """Check whether energy can be read."""
    try:
        with energy.opened(device) as counter:
            counter.read()
    except nvml.Unavailable as why:
        remedy = "a GPU from Volta on, or a processor whose RAPL this user may read"
        return [Finding("energy counter", "missing", str(why), "no energy per image", remedy)]
    return [ok("energy counter", type(counter).__name__)]


def timer() -> list[Finding]:
    """Check the steps of the clock that everything is timed with."""
    marks = [time.perf_counter_ns() for _ in range(2000)]
    steps = [after - before for before, after in zip(marks, marks[1:], strict=False)]
    step = min(value for value in steps if value > 0)
    found = f"{step} ns a step"
    if step <= 1000:
        return [ok("timer", found)]
    consequence = f"a call under {step / 1e4:.1f} ms cannot be timed to 1 %"
    remedy = "use a clock source of finer steps, e.g. tsc"
    return [Finding("timer", "limits", found, consequence, remedy)]


def threads() -> list[Finding]:
    """Check the settings that decide how many threads an operator uses."""
    import torch  # slow to import

    used, cores = torch.get_num_threads(), len(procfs.usable_cores())
    quota = procfs.quota_cores()
    usable = min(cores, quota or cores)
    settings = [f"{name}={os.environ[name]}" for name in SETTINGS if name in os.environ]
    found = f"{used} {'thread' if used == 1 else 'threads'} an operator, {usable:g} cores"
    found += f" ({', '.join(settings)})" if settings else ""
    if os.environ.get("OMP_WAIT_POLICY", "").upper() == "ACTIVE":
        consequence = "waiting threads take cores from each other and from the timed calls"
        return [Finding("threads", "limits", found, consequence, "unset OMP_WAIT_POLICY")]
    if used > usable:
        consequence = "every operator waits for its slowest thread: slow and unsteady"
        remedy = f"set OMP_NUM_THREADS={max(1, int(usable))}"
        return [Finding("threads", "limits", found, consequence, remedy)]
    return [ok("threads", found)]


def disk() -> list[Finding]:
    """Check the room for records, weights and caches."""
    found, short = [], []
    for name, folder in (("here", Path.cwd()), ("cache", cache_dir()), ("temporary", _temp())):
        free = shutil.disk_usage(_existing(folder)).free
        found.append(f"{name} {free / 2**30:.1f} GiB")
        if free < LEAST_FREE:
            short.append(name)
    if short:
        consequence = f"little room ({', '.join(short)}): weights and curves may not fit"
        return [Finding("disk", "limits", ", ".join(found), consequence, "free some, or use --out")]
    return [ok("disk", ", ".join(found))]


def _temp() -> Path:
    return Path(tempfile.gettempdir())


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def lock() -> list[Finding]:
    """Check that measurements can keep each other out."""
    check = "one at a time"
    try:
        with locks.measuring("doctor"):
            pass
    except OSError as error:
        consequence = "nothing can be measured or trained"
        remedy = "point TMPDIR to a local folder of your own"
        return [Finding(check, "broken", f"no lock: {error}", consequence, remedy)]
    if locks.PAUSES_WORK:
        return [ok(check, "measurements pause whatever of detbench trains on the device")]
    return [
        Finding(
            check,
            "limits",
            "no fcntl on this platform",
            "training on a device is not paused while it is measured",
            "measure while nothing trains, or use Linux or macOS",
        )
    ]
