"""Which runtime a detector is run by."""

from __future__ import annotations

from typing import Literal

from harness.config.settings import Settings

Name = Literal["eager", "compile", "cuda_graph", "onnxruntime", "tensorrt"]


class RuntimeUnavailable(ValueError):
    """A runtime that is not installed, or that cannot run this detector on this device."""


class RuntimeConfig(Settings):
    """How a network is run; postprocessing is always in float32."""

    runtime: Name = "eager"
    """Who runs the network: torch operator by operator, torch.compile, a CUDA graph, ONNX Runtime
    on its CPU or CUDA provider, or TensorRT by way of ONNX Runtime."""
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the network; `fp32` keeps TF32 off, `tf32` is float32 with TF32 products."""
    channels_last: bool = False
    """Whether images and weights lie in memory with channels last."""
    compile_mode: Literal["default", "max-autotune"] = "default"
    """What torch.compile optimises for; the second tries kernels, and takes CUDA graphs."""
