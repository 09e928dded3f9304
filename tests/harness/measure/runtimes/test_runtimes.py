"""Each runtime predicts what eager does; one that does not is caught; what is missing is named."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from detectors import postprocess
from detectors.interface import DenseOutputs, Detections, QueryOutputs
from harness import data
from harness.config.data import DataConfig, ShapesConfig
from harness.data import Split
from harness.measure import runtimes
from harness.measure.runtimes import (
    Runtime,
    RuntimeConfig,
    RuntimeUnavailable,
    agreement,
    gate,
    torched,
    verdict,
)
from harness.measure.runtimes.agreement import TOLERANCES
from tests import lanes
from tests.harness.measure.runtimes.deploying import SIZE, SMALL, detector, inputs

TOY = "tests.toy:TOY"
ORT = "onnxruntime"


def prepare(name: str, **settings: Any) -> Runtime:
    return runtimes.prepare(detector(name), inputs(), RuntimeConfig(**settings), "cpu")


def judge(runtime: Runtime, name: str = TOY) -> verdict.Verdict:
    return gate(runtime, detector(name), inputs(), None, device="cpu")


def switches() -> tuple[bool, bool, bool, int]:
    return (
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.is_inference_mode_enabled(),
        torch.get_num_threads(),
    )


EAGER = [(n, p, c) for n in SMALL for p in ("fp32", "bf16", "fp16") for c in (False, True)]
OF_EACH = [
    each for each in EAGER if each[0] == TOY or each[1:] in (("fp32", False), ("bf16", True))
]


@pytest.mark.parametrize(
    ("name", "precision", "channels_last"),
    [pytest.param(*each, marks=[] if each in OF_EACH else pytest.mark.slow) for each in EAGER],
)
def test_eager_passes_the_gate(name: str, precision: str, channels_last: bool) -> None:
    runtime = prepare(name, precision=precision, channels_last=channels_last)
    found = judge(runtime, name)
    assert found.passed, found.sentence
    images = runtime.inputs[0].images
    assert images.dtype == runtimes.precision.DTYPES[precision]
    assert images.is_contiguous(memory_format=torch.channels_last) == channels_last
    with runtime.active():
        (detections,) = runtime.detect(*runtime.inputs[0])
    assert detections.boxes.dtype == detections.scores.dtype == torch.float32
    assert runtime.detector is runtime.network


@pytest.mark.parametrize("name", lanes.split(SMALL, (TOY,)))
def test_onnxruntime_passes_the_gate(name: str) -> None:
    _need_export()
    runtime = prepare(name, runtime=ORT)
    found = judge(runtime, name)
    assert found.passed, found.sentence
    assert runtime.details["providers"] == ["CPUExecutionProvider"]
    assert runtime.details["threads"] == torch.get_num_threads()
    assert runtime.detector is None
    with runtime.active():
        assert len(runtime.detect(*runtime.inputs[0])) == 1
    runtime.close()
    with pytest.raises(RuntimeError, match="closed"):
        runtime.network(inputs()[0].images)


@pytest.mark.parametrize("name", lanes.split(SMALL, (TOY,)))
def test_compile_passes_the_gate_and_is_not_compiled_again(name: str) -> None:
    runtime = prepare(name, runtime="compile")
    found = judge(runtime, name)
    assert found.passed, found.sentence
    other = torch.cat([runtime.inputs[0].images] * 2)
    with runtime.active(), pytest.raises(RuntimeError, match="recompile"):
        runtime.network(other)


def test_detectors_of_one_class_do_not_share_what_was_compiled() -> None:
    first, second = (torched._own_code(detector(TOY)) for _ in range(2))
    assert first.__code__ is not second.__code__  # type: ignore[attr-defined]


class _FakeGpu:
    """Records work by remembering it, and does it again into the same tensors."""

    def __init__(self) -> None:
        self.replays = 0

    def record(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        result = work()

        def again() -> None:
            self.replays += 1
            for old, new in zip(_tensors(result), _tensors(work()), strict=True):
                old.copy_(new)

        return result, again


def _tensors(result: Any) -> list[Tensor]:
    return torch.utils._pytree.tree_leaves(result)


@pytest.mark.parametrize("reason", [None, "it counts"])
def test_a_graph_replays_into_the_same_tensors(reason: str | None) -> None:
    name, gpu = "rtdetr_r18", _FakeGpu()
    eager, runtime = prepare(name), prepare(name)
    torched.replay(runtime, gpu.record, lambda work: reason)
    before = gpu.replays
    for item in runtime.inputs:
        with runtime.active():
            outputs = runtime.network(item.images)
            found = runtime.postprocess(outputs, item.sizes)
        with eager.active():
            expected = eager.detect(*item)
        for ours, theirs in zip(_tensors(found), _tensors(expected), strict=True):
            torch.testing.assert_close(ours, theirs)
    calls = 1 if reason else 2
    assert gpu.replays - before == calls * len(runtime.inputs)
    assert judge(runtime, name).passed
    assert (runtime.details["postprocess"] == "recorded") == (reason is None)
    with runtime.active(), pytest.raises(ValueError, match=r"recorded for \[1, 3, 64, 96\]"):
        runtime.network(runtime.inputs[0].images[..., :64])


@pytest.mark.parametrize("crowded", [False, True])
def test_nms_that_waits_is_recorded_in_tensors_of_fixed_size(
    crowded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if crowded:
        monkeypatch.setattr(postprocess, "MOST_PAIRED", 3)
    name, gpu = "rtmdet_tiny", _FakeGpu()
    eager, runtime = prepare(name), prepare(name)
    answers = iter(["it counts", None])
    torched.replay(runtime, gpu.record, lambda work: next(answers))
    assert runtime.details["postprocess"] == torched.FIXED
    before = gpu.replays
    for item in runtime.inputs:
        with runtime.active():
            found = runtime.detect(*item)
        with eager.active():
            expected = eager.detect(*item)
        assert sum(len(image.scores) for image in expected) > 3
        for ours, theirs in zip(_tensors(found), _tensors(expected), strict=True):
            torch.testing.assert_close(ours, theirs)
    assert gpu.replays - before == 2 * len(runtime.inputs)


def test_other_outputs_than_the_recorded_ones_are_not_replayed() -> None:
    runtime, gpu = prepare("rtdetr_r18"), _FakeGpu()
    torched.replay(runtime, gpu.record, lambda work: None)
    with runtime.active():
        outputs = runtime.network(runtime.inputs[0].images)
        before = gpu.replays
        copied = type(outputs)(*(part.clone() for part in outputs))
        runtime.postprocess(copied, runtime.inputs[0].sizes)
    assert gpu.replays == before


@pytest.mark.gpu
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("runtime", ["eager", "compile", "cuda_graph", ORT, "tensorrt"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_runtimes_of_a_gpu_pass_the_gate(name: str, runtime: str, precision: str) -> None:
    config = RuntimeConfig(runtime=runtime, precision=precision)
    try:
        prepared = runtimes.prepare(detector(name), inputs(), config, "cuda")
    except RuntimeUnavailable as error:
        pytest.skip(str(error))
    found = gate(prepared, detector(name), inputs(), None, device="cuda")
    assert found.passed, found.sentence


def test_switches_are_set_inside_and_put_back() -> None:
    before = switches()
    config = RuntimeConfig(precision="tf32")
    with torched.eager(detector(TOY), inputs(), config, "cpu").active():
        assert switches() == (True, True, True, before[3])
        with prepare(TOY).active():
            assert switches() == (False, False, True, before[3])
        assert switches() == (True, True, True, before[3])
    assert switches() == before


def test_switches_are_put_back_after_an_error() -> None:
    before = switches()
    broken = _perturbed(prepare(TOY), lambda outputs: outputs.nothing)
    with pytest.raises(AttributeError, match="nothing"):
        judge(broken)
    assert switches() == before


def _perturbed(runtime: Runtime, change: Callable[[Any], Any]) -> Runtime:
    network = runtime.network
    runtime.network = lambda images: change(network(images))
    return runtime


BROKEN = {
    "logits": lambda outputs: outputs._replace(logits=outputs.logits + 0.05),
    "boxes": lambda outputs: outputs._replace(boxes=outputs.boxes + 3),
    "not a number": lambda outputs: outputs._replace(boxes=outputs.boxes * float("nan")),
    "one class": lambda outputs: outputs._replace(logits=outputs.logits.roll(1, -1)),
    "one for all": lambda outputs: outputs._replace(
        logits=outputs.logits[:, :1].expand_as(outputs.logits),
        boxes=outputs.boxes[:, :1].expand_as(outputs.boxes),
    ),
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("change", BROKEN)
def test_a_broken_runtime_does_not_pass(name: str, change: str) -> None:
    found = judge(_perturbed(prepare(name), BROKEN[change]), name)
    assert not found.passed
    assert found.sentence.startswith("eager fp32 predicts something else than eager fp32: ")
    assert found.figures["apart"] > 0.01 * found.figures["compared"]
    assert found.absent == {"mAP_difference": "predictions differ already"}


def test_the_order_of_queries_is_free_and_that_of_rows_is_not() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, corners = torch.randn(1, 60, 3, generator=draw), torch.rand(1, 60, 2, generator=draw)
    boxes = torch.cat((corners * 50, corners * 50 + 20), dim=-1)
    order = torch.randperm(60, generator=draw)

    def holds(ours: Any, theirs: Any) -> bool:
        return agreement.compare([(ours, theirs)], TOLERANCES["fp32"]).holds

    queries = QueryOutputs(logits, boxes), QueryOutputs(logits[:, order], boxes[:, order])
    assert holds(*queries)
    points = torch.zeros(60, 2), torch.zeros(60)
    rows = [DenseOutputs(*each, *points) for each in queries]
    assert holds(rows[0], rows[0])
    assert not holds(*rows)


def test_differences_are_in_logits_and_shares_of_a_side() -> None:
    logits = torch.tensor([[[2.0, -9.0], [1.0, -1.0]]])
    boxes = torch.tensor([[[0.0, 0.0, 100.0, 50.0], [0.0, 0.0, 2.0, 2.0]]])
    moved = boxes + torch.tensor([[[0.0, 0.0, 5.0, 0.0], [0.0, 0.4, 0.0, 0.0]]])
    below = logits + torch.tensor([[[0.0, 1.0], [0.0, 0.25]]])  # -9 and -8: nobody looks there
    found = agreement.compare(
        [(QueryOutputs(logits, boxes), QueryOutputs(below, moved))], TOLERANCES["bf16"]
    )
    assert found.compared == 4  # both best ones of both sides
    assert found.logits == 0.25
    assert found.boxes == pytest.approx(0.05)  # 5 of 100 pixels, and 0.4 of the 8 of a short side
    assert found.apart == 0


@pytest.fixture(scope="module")
def split() -> Split:
    config = DataConfig(shapes=ShapesConfig(train_images=1, val_images=10, size=64))
    return data.load(config).val


def test_map_is_compared_on_the_same_images(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([{"mAP": 0.5}, {"mAP": 0.4985}, {"mAP": 0.5}, {"mAP": 0.4975}, {"mAP": 0.5}, {}])
    seen = []

    def evaluate(stand_in: Any, part: Split, **_: Any) -> Any:
        seen.append(len(part))
        return type("Evaluation", (), {"metrics": next(scores)})

    monkeypatch.setattr(verdict.evaluate, "evaluate", evaluate)
    monkeypatch.setattr(verdict, "IMAGES", 7)
    runtime, model = prepare(TOY), detector(TOY)
    near, far, none = (gate(runtime, model, inputs(), split, device="cpu") for _ in range(3))
    assert near.passed
    assert near.figures["mAP_difference"] == pytest.approx(-0.0015)
    assert not far.passed
    assert "differs from eager fp32: mAP 0.4975 against 0.5000 on 7 images" in far.sentence
    assert none.absent == {"mAP_difference": "the images hold no objects"}
    assert seen == [7] * 6


def test_an_untrained_detector_has_no_map(split: Split) -> None:
    found = gate(prepare(TOY), detector(TOY), inputs(), split, device="cpu", trained=False)
    assert found.passed
    assert "untrained" in found.absent["mAP_difference"]
    assert "mAP" not in found.figures


def test_the_first_images_of_a_split(split: Split) -> None:
    part = verdict.first(split, 7)
    assert part.images == split.images[:7]
    assert len(part.annotations.offsets) == 8
    assert len(part.annotations.labels) == split.annotations.offsets[7]
    assert len(verdict.first(split, 100)) == 10


def test_a_short_batch_is_filled_up() -> None:
    model, config = detector(TOY), RuntimeConfig(channels_last=True)
    runtime = runtimes.prepare(model, inputs(1, batch_size=4), config, "cpu")
    stand_in: Any = verdict._StandIn(runtime, model)
    images, sizes = torch.randn(3, 3, *SIZE), torch.tensor([SIZE] * 3)
    found: list[Detections] = stand_in.detect(images, sizes)
    expected = model.deploy().detect(images, sizes)
    assert len(found) == 3
    for ours, theirs in zip(_tensors(found), _tensors(expected), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("settings", "device", "message"),
    [
        ({"runtime": "cuda_graph"}, "cpu", "a CUDA graph needs a GPU, and this is cpu; use"),
        ({"runtime": "tensorrt"}, "cpu", "tensorrt needs an NVIDIA GPU, and this is cpu; use"),
        ({"precision": "tf32"}, "cpu", "tf32 is arithmetic of NVIDIA GPUs, cpu has none"),
        ({"runtime": ORT, "precision": "fp16"}, "cpu", "computes fp16 in float32 on a CPU; use"),
        ({"runtime": ORT, "channels_last": True}, "cpu", "chooses its own memory layout; leave"),
        ({"runtime": "tensorrt"}, "cuda", "takes TF32 for float32, .* use precision tf32"),
        ({"runtime": ORT}, "meta", "onnxruntime runs on cpu and cuda, not on meta"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    settings: dict[str, Any], device: str, message: str
) -> None:
    with pytest.raises(RuntimeUnavailable, match=message) as caught:
        runtimes.prepare(detector(TOY), inputs(), RuntimeConfig(**settings), device)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["onnxruntime", "onnxscript", "onnx"])
def test_a_missing_library_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _need_export()
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(RuntimeUnavailable, match=rf"^onnxruntime: {missing} cannot be imported"):
        prepare(TOY, runtime=ORT)


def test_a_missing_provider_is_named() -> None:
    _need_export()
    with pytest.raises(RuntimeUnavailable, match="is installed without TensorrtExecutionProvider"):
        runtimes.sessions._library("tensorrt", runtimes.sessions.TENSORRT)


def test_a_provider_that_gives_way_to_another_is_refused() -> None:
    class Session:
        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    class Library:
        InferenceSession = staticmethod(lambda *_, **__: Session())

        class SessionOptions:
            def add_session_config_entry(self, *_: str) -> None:
                pass

    with pytest.raises(RuntimeUnavailable, match="CPUExecutionProvider took its place; install"):
        runtimes.sessions._open(
            Library, b"", [(runtimes.sessions.CUDA, {})], RuntimeConfig(runtime=ORT)
        )


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeUnavailable, match="there is no no-such-compiler; install"):
        prepare(TOY, runtime="compile")
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeUnavailable, match=r"there is no c\+\+; install"):
        prepare(TOY, runtime="compile")


def test_a_detector_that_does_not_compile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise TypeError("no such thing\nand a long story")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.raises(RuntimeUnavailable, match="TypeError: no such thing; use runtime eager$"):
        prepare(TOY, runtime="compile")


def test_details_can_be_written() -> None:
    details = prepare(TOY, channels_last=True).details
    assert json.loads(json.dumps(details)) == details
    assert details["build_seconds"] > 0
    assert details["channels_last"] is True


def _need_export() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="needs detbench[export]")
