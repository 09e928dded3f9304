"""What is done on the device, in the order of its worth."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from detectors.configs import CONFIGS

FIRST = ("rtmdet_tiny", "rtdetr_r18")
OURS = (
    "rtmdet_tiny",
    "rtmdet_s",
    "rtmdet_m",
    "rtmdet_l",
    "rtdetr_r18",
    "rtdetr_r50_m",
    "rtdetr_r50",
)
PEERS = ("yolox_tiny", "yolox_s", "yolox_m", "yolox_l", "rtdetrv2_r18", "dfine_s", "dfine_m")
HERE = Path(__file__).parent
TESTS = HERE.parent
SMALLER = (
    *("data.shapes.size=64", "data.shapes.train_images=8", "data.shapes.val_images=4"),
    *("detector.input.size=[64, 64]", "recipe.batch_size=4"),
)
SHORTER = ("recipe.epochs=1", "data.shapes.train_images=32", "data.shapes.val_images=16")
"""What makes the studies small enough for a CPU."""
DETBENCH = ("-m", "harness.cli")


class Step(NamedTuple):
    """One thing that is done; what it finds lies in a folder of its name."""

    name: str
    about: str
    share: float
    """Of all the time, that it may take at most. Shares need not add up to 1: what a step leaves,
    later ones have."""
    commands: tuple[tuple[str, ...], ...] = ()
    """Arguments for Python, one command after the other."""
    expects: tuple[tuple[str, str, str], ...] = ()
    """Models, runtimes and precisions that it is to time."""
    lacks: str = ""
    """Why it cannot be done on this machine."""


class Job(NamedTuple):
    """What the command line asks for."""

    device: str
    data: str  # a folder of photographs in COCO layout, or `shapes`
    out: Path
    weights: Path | None = None  # a folder of ours: of a network that detects
    models: tuple[str, ...] = ()  # in place of all that are to be timed
    size: int = 640  # of the inputs, pixels
    seconds: float = 2.0  # for the calls of each model
    each: float = 10.0  # seconds in which each model has to run once


def steps(job: Job) -> list[Step]:
    """Return what is to be done, most worthy first."""
    present = [name for name in (*OURS, *PEERS) if name in CONFIGS]
    names = job.models or tuple(present)
    first = job.models[:2] or FIRST
    on_gpu = job.device.startswith("cuda")
    quick = ("eager", "cuda_graph") if on_gpu else ("eager",)
    built = ("compile", "onnxruntime", "tensorrt")
    return [
        smoke(job, names),
        timed(job, "latency_first", first, "fp32", ("eager",), 0.3),
        timed(job, "latency_fp32", names, "fp32", quick, 0.35),
        timed(job, "latency_fp16", names, "fp16" if on_gpu else "bf16", quick, 0.35),
        beside_transformers(job, quick[:1] + built[:1]),
        frontier(job),
        gpu_tests(job),
        timed(job, "runtimes", first, "fp16" if on_gpu else "fp32", built, 0.3),
        study(job, "papers", HERE / "papers.yaml", 0.25),
        study(job, "training", HERE / "training.yaml", 0.3, () if on_gpu else SMALLER),
        study(job, "quickstart", "quickstart", 0.5, () if on_gpu else SHORTER),
    ]


def smoke(job: Job, names: Sequence[str]) -> Step:
    """Run each detector once: forwards, detections, losses and gradients."""
    out = str(job.out / "smoke")
    where = ("--device", job.device, "--each", str(job.each), "--out", out)
    command = ("-m", "tests.device.smoke", *where, *names)
    return Step("smoke", "versions, clocks, and each detector run once", 0.1, (command,))


def timed(
    job: Job,
    name: str,
    models: Sequence[str],
    precision: str,
    runtimes: Sequence[str],
    share: float,
) -> Step:
    """Time models in turns, at batch 1, NMS included, with stages, diagnosis and roofline."""
    command = (
        *(*DETBENCH, "measure", *models, "--runtimes", ",".join(runtimes)),
        *("--device", job.device, "--data", job.data, "--size", str(job.size), str(job.size)),
        *("--set", f"latency.precision={precision}", "--set", f"latency.seconds={job.seconds}"),
        *("--set", f"latency.warmup_seconds={job.seconds}", "--out", str(job.out / name)),
    )
    about = f"latency in turns, {precision}, {' and '.join(runtimes)}"
    expects = tuple((model, runtime, precision) for model in models for runtime in runtimes)
    return Step(name, about, share, (command,), expects)


def beside_transformers(job: Job, runtimes: Sequence[str]) -> Step:
    """Time RT-DETR beside that of transformers, on the same images in the same rounds."""
    models = ("rtdetr_r50", "transformers:rt_detr")
    step = timed(job, "transformers", models, "fp32", runtimes, 0.2)
    lacks = "" if find_spec("transformers") else "transformers is not installed"
    return step._replace(about=f"RT-DETR beside transformers' own: {step.about}", lacks=lacks)


def frontier(job: Job) -> Step:
    """Try settings of NMS on the scores of a network that detects."""
    about = "mAP against the time of NMS, on a trained network"
    if job.weights is None or not job.weights.is_dir():
        lacks = (
            f"no folder {job.weights}" if job.weights else "no trained weights: --weights FOLDER"
        )
        return Step("frontier", about, 0.2, lacks=lacks)
    page = str(job.out / "frontier" / "nms_frontier.html")
    command = (
        *(*DETBENCH, "measure", str(job.weights), "--nms-frontier", "--shared-classes"),
        *("--device", job.device, "--data", job.data, "--out", page),
    )
    return Step("frontier", about, 0.2, (command,))


def gpu_tests(job: Job) -> Step:
    """Run the tests that need the device."""
    about = "the tests that need a CUDA device"
    if not job.device.startswith("cuda"):
        return Step("tests", about, 0.25, lacks=f"they need a CUDA device, not {job.device}")
    junit = f"--junitxml={job.out / 'tests' / 'junit.xml'}"
    command = ("-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "--tb=short", junit)
    files = map(str, gpu_files())  # no others, which import what is not there
    return Step("tests", about, 0.25, ((*command, "--benchmark-disable", *files),))


def gpu_files() -> list[Path]:
    """Return the files of tests of which some need a CUDA device."""
    found = (path for path in TESTS.rglob("test_*.py") if "mark.gpu" in path.read_text("utf-8"))
    return sorted(found)


def study(job: Job, name: str, file: Path | str, share: float, sets: Sequence[str] = ()) -> Step:
    """Run a study of rendered scenes to its page, without a tracker."""
    command = (
        *(*DETBENCH, "run", str(file), "--no-tracking", "--device", job.device),
        *("--out", str(job.out / name), *(part for text in sets for part in ("--set", text))),
    )
    about = {
        "papers": "latency as the papers measured it: TensorRT, float16, batch 1",
        "training": "images a second of training, float32 and bfloat16",
        "quickstart": "a study from its start to its page",
    }
    return Step(name, about[name], share, (command,))
