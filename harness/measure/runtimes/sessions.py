"""Runtimes that take an exported graph: ONNX Runtime, and TensorRT by way of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from detectors.interface import Detector
from harness.config.runtime import RuntimeConfig, RuntimeUnavailable
from harness.machine.sessions import (
    CPU,
    CUDA,
    TENSORRT,
    Providers,
    SessionError,
    cuda_options,
    open_session,
)
from harness.measure.inputs import Inputs
from harness.measure.runtimes import export
from harness.measure.runtimes.precision import DTYPES
from harness.measure.runtimes.runtime import Runtime
from harness.measure.runtimes.torched import counter, in_float32

BUILDER_LEVEL = 3  # of TensorRT's search for kernels, its default


def onnxruntime(
    detector: Detector, inputs: Sequence[Inputs], config: RuntimeConfig, device: str
) -> Runtime:
    """Run by ONNX Runtime, on the CPU or by its own kernels for CUDA."""
    kind = torch.device(device).type
    if kind == "cpu" and config.precision != "fp32":
        raise RuntimeUnavailable(
            f"onnxruntime computes {config.precision} in float32 on a CPU; use precision fp32"
        )
    if kind not in ("cpu", "cuda"):
        raise RuntimeUnavailable(f"onnxruntime runs on cpu and cuda, not on {device}")
    if kind == "cpu":
        return _session(detector, inputs, config, device, [(CPU, {})])
    use_tf32 = str(int(config.precision == "tf32"))
    options = {**cuda_options(device), "use_tf32": use_tf32, "cudnn_conv_algo_search": "EXHAUSTIVE"}
    return _session(detector, inputs, config, device, [(CUDA, options), (CPU, {})])


def tensorrt(
    detector: Detector, inputs: Sequence[Inputs], config: RuntimeConfig, device: str
) -> Runtime:
    """Run by TensorRT, by way of ONNX Runtime's provider; what it leaves runs by CUDA's."""
    if torch.device(device).type != "cuda":
        raise RuntimeUnavailable(
            f"tensorrt needs an NVIDIA GPU, and this is {device}; use runtime onnxruntime"
        )
    if config.precision == "fp32":
        raise RuntimeUnavailable(
            "tensorrt takes TF32 for float32, which onnxruntime cannot turn off; use precision tf32"
        )
    options = {
        **cuda_options(device),
        "trt_fp16_enable": str(config.precision == "fp16"),
        "trt_bf16_enable": str(config.precision == "bf16"),
        "trt_builder_optimization_level": str(BUILDER_LEVEL),
    }
    runtime = _session(
        detector,
        inputs,
        config,
        device,
        [(TENSORRT, options), (CUDA, cuda_options(device)), (CPU, {})],
    )
    runtime.details["builder_optimization_level"] = BUILDER_LEVEL
    return runtime


def _session(
    detector: Detector,
    inputs: Sequence[Inputs],
    config: RuntimeConfig,
    device: str,
    providers: Providers,
) -> Runtime:
    """Export a detector and open a session of it."""
    if config.channels_last:
        raise RuntimeUnavailable(
            f"{config.runtime} chooses its own memory layout; leave channels_last off"
        )
    library = _library(config.runtime, providers[0][0])
    casts = config.runtime == "onnxruntime"  # TensorRT itself rounds a graph in float32
    dtype = DTYPES[config.precision] if casts else torch.float32
    deployed = detector.deploy().to(dtype=dtype)
    moved = tuple(
        item._replace(images=item.images.to(device, dtype), sizes=item.sizes.to(device))
        for item in inputs
    )
    graph = _graph(deployed, moved[0].images.cpu(), config)
    session = _open(library, graph.SerializeToString(), providers, config)
    outputs = _outputs(deployed, moved[0].images)
    call = _on_cpu if providers[0][0] == CPU else _on_gpu
    return Runtime(
        config,
        moved,
        network=call(session, outputs, device),
        postprocess=in_float32(deployed.postprocess.to(device)),
        candidates=counter(deployed.postprocess),
        details={
            "onnxruntime": library.__version__,
            "opset": export.opset_of(graph),
            "providers": session.get_providers(),
        },
    )


def _library(runtime: str, provider: str) -> ModuleType:
    """Import ONNX Runtime.

    Raises:
        RuntimeUnavailable: it is not installed, or without what the device needs.
    """
    try:
        library = export.require("onnxruntime")
    except export.ExportError as error:
        raise RuntimeUnavailable(f"{runtime}: {error}") from error
    if provider not in library.get_available_providers():
        raise RuntimeUnavailable(
            f"{runtime}: onnxruntime {library.__version__} is installed without {provider}; "
            "install onnxruntime-gpu in place of onnxruntime"
        )
    return library


def _graph(deployed: Detector, images: Tensor, config: RuntimeConfig) -> Any:
    try:
        return export.to_graph(deployed, images)
    except export.ExportError as error:
        raise RuntimeUnavailable(f"{config.runtime}: {error}") from error


def _open(library: Any, model: bytes, providers: Providers, config: RuntimeConfig) -> Any:
    """Open a session of a graph.

    Raises:
        RuntimeUnavailable: it cannot be run here.
    """
    try:
        return open_session(library, model, providers)
    except SessionError as error:
        raise RuntimeUnavailable(
            f"{config.runtime} cannot run this detector in {config.precision}: {error}"
        ) from error


@torch.inference_mode()
def _outputs(deployed: Detector, images: Tensor) -> Any:
    """Return what a detector predicts, as room for what a session will."""
    outputs = deployed(images.cpu())
    return type(outputs)(*(part.to(images.device) for part in outputs))


def _on_cpu(session: Any, outputs: Any, device: str) -> Callable[[Tensor], Any]:
    """Call a session with tensors that lie on the CPU, without copying them."""
    kind, names = type(outputs), list(outputs._fields)

    def network(images: Tensor) -> Any:
        found = session.run(names, {export.INPUT: images.numpy()})
        return kind(*map(torch.from_numpy, found))

    return network


def _on_gpu(session: Any, outputs: Any, device: str) -> Callable[[Tensor], Any]:
    """Call a session with tensors that lie on a GPU, into the room that `outputs` gives."""
    index = torch.device(device).index or 0
    kinds = export.element_types()

    def place(tensor: Tensor) -> tuple[str, int, int, tuple[int, ...], int]:
        return "cuda", index, kinds[tensor.dtype], tuple(tensor.shape), tensor.data_ptr()

    binding = session.io_binding()
    for name, part in outputs._asdict().items():
        binding.bind_output(name, *place(part))

    def network(images: Tensor) -> Any:
        binding.bind_input(export.INPUT, *place(images))
        session.run_with_iobinding(binding)
        return outputs

    return network
