"""Whether the software that measurements need is there, and fits together."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sysconfig
from pathlib import Path
from typing import Any

from harness.cli.doctor.finding import Finding, ok
from harness.machine import nvml

EXTRAS = {  # module: extra, what is impossible without it
    "onnx": ("export", "no export to ONNX"),
    "kaleido": ("static-plots", "no PNG or PDF of plots; the pages work"),
    "ray": ("cluster", "no trials on several machines"),
}


def frameworks() -> list[Finding]:
    """Check Python, torch and torchvision."""
    try:
        importlib.import_module("torch")
        importlib.import_module("torchvision.ops")
    except (ImportError, OSError, RuntimeError) as error:
        return [
            Finding(
                "torch",
                "broken",
                f"{_versions('torch', 'torchvision')}: {error}",
                "nothing can be built, trained or timed",
                "install torch and torchvision of the same release",
            )
        ]
    return [ok("torch", f"Python {platform.python_version()}, {_versions('torch', 'torchvision')}")]


def gpu() -> list[Finding]:
    """Check whether torch can use a GPU, and if not, why."""
    torch: Any = importlib.import_module("torch")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return [ok("gpu", f"{', '.join(names)}; torch for CUDA {torch.version.cuda}")]
    try:
        count = nvml.device_count()
    except nvml.Unavailable:
        return [
            Finding(
                "gpu",
                "limits",
                "none",
                "figures are those of this CPU: no latency, memory or energy of a GPU",
                "run on a machine with an NVIDIA GPU",
            )
        ]
    remedy = "install torch for CUDA"
    if torch.version.cuda:
        remedy = (
            f"update the driver to one for CUDA {torch.version.cuda}, or install an older torch"
        )
    return [
        Finding(
            "gpu",
            "limits",
            f"the driver has {count}, torch {torch.__version__} cannot use any",
            "everything runs on the CPU",
            remedy,
        )
    ]


def evaluators() -> list[Finding]:
    """Check the engine and the oracle of mAP."""
    missing = [name for name in ("pycocotools", "hotcoco") if not _has(name)]
    if missing:
        return [
            Finding(
                "evaluators",
                "broken",
                f"no {' and no '.join(missing)}",
                "no mAP",
                f"pip install {' '.join(missing)}",
            )
        ]
    return [ok("evaluators", _versions("hotcoco", "pycocotools"))]


def runtimes(has_gpu: bool) -> list[Finding]:
    """Check what a detector can run with beside eager torch."""
    return [_compiler(has_gpu), _onnxruntime(has_gpu), _tensorrt(has_gpu)]


def _compiler(has_gpu: bool) -> Finding:
    """Check what torch.compile builds its kernels with."""
    compilers = [os.environ.get("CXX", ""), "g++", "clang++", "cl"]
    compiler = next((name for name in compilers if name and shutil.which(name)), None)
    header = Path(sysconfig.get_path("include"), "Python.h")
    lacks = []
    if compiler is None:
        lacks.append("a C++ compiler")
    if not header.is_file():
        lacks.append("Python's headers")
    if has_gpu and not _has("triton"):
        lacks.append("triton")
    if not lacks:
        return ok("torch.compile", f"{compiler} and Python's headers")
    remedy = "install " + " and ".join(lacks) + ", e.g. apt install g++ python3-dev"
    found = "no " + ", no ".join(lack.removeprefix("a ") for lack in lacks)
    return Finding("torch.compile", "missing", found, "no figures of compiled models", remedy)


def _onnxruntime(has_gpu: bool) -> Finding:
    check, package = "onnxruntime", "detbench[gpu]" if has_gpu else "detbench[export]"
    remedy = f"pip install '{package}'"
    if not _has("onnxruntime"):
        return Finding(check, "missing", "none", "no figures of ONNX Runtime", remedy)
    providers = importlib.import_module("onnxruntime").get_available_providers()
    found = f"{_versions('onnxruntime')}: {', '.join(providers)}"
    if has_gpu and "CUDAExecutionProvider" not in providers:
        return Finding(check, "limits", found, "ONNX Runtime is timed on the CPU only", remedy)
    return ok(check, found)


def _tensorrt(has_gpu: bool) -> Finding:
    if has_gpu and _has("tensorrt"):
        return ok("tensorrt", _versions("tensorrt"))
    remedy = "pip install tensorrt" if has_gpu else "needs an NVIDIA GPU"
    return Finding("tensorrt", "missing", "none", "no figures of TensorRT", remedy)


def extras() -> list[Finding]:
    """Check what only some commands need."""
    return [
        ok(name, _versions(name))
        if _has(name)
        else Finding(name, "missing", "none", consequence, f"pip install 'detbench[{extra}]'")
        for name, (extra, consequence) in EXTRAS.items()
    ]


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _versions(*packages: str) -> str:
    found = []
    for name in packages:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(name if _has(name) else f"no {name}")
    return ", ".join(found)
