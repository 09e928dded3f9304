"""Sessions of ONNX Runtime, with the threads that torch has here."""

from __future__ import annotations

import os
from typing import Any

import torch

CPU, CUDA, TENSORRT = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))
Options = dict[str, Any]
Providers = list[tuple[str, Options]]


class SessionError(ValueError):
    """A graph that ONNX Runtime cannot run here; says why in one line."""


def cuda_options(device: str) -> Options:
    """Return the options that put work on torch's stream of a GPU, where its events see it."""
    stream = torch.cuda.current_stream(device)
    return {
        "device_id": str(torch.device(device).index or 0),
        "user_compute_stream": str(stream.cuda_stream),
    }


def open_session(
    library: Any, model: bytes | str, providers: Providers, *, profile: str | None = None
) -> Any:
    """Open a session, and see to it that the provider asked for is the one that runs.

    ONNX Runtime passes on to the next provider without a word but on stderr.

    Args:
        library: `onnxruntime`.
        model: the graph, or its file.
        providers: with their options, the one that is to run it first.
        profile: how the file's name begins that a profile is written to; None for none.

    Raises:
        SessionError: it cannot run the graph, or the provider cannot be started.
    """
    options = library.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", _spinning())
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    try:
        session = library.InferenceSession(model, options, providers=providers)
    except Exception as error:  # pybind maps the library's failures to types of its own
        lines = str(error).strip().splitlines() or [""]
        raise SessionError(f"{type(error).__name__}: {lines[0]}") from error
    wanted, got = providers[0][0], session.get_providers()
    if got[0] != wanted:
        raise SessionError(
            f"{wanted} could not be started, {got[0]} took its place; install the CUDA, cuDNN and"
            " TensorRT libraries that this onnxruntime was built for"
        )
    return session


def _spinning() -> str:
    """Let idle threads spin as torch's do, which OpenMP's own switch says."""
    return "0" if os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE" else "1"
