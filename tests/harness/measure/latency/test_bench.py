import gc
import math
import tempfile
import time
from contextlib import contextmanager

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from detectors.config import override
from detectors.interface import Detections
from harness import data
from harness.config.latency import LatencyConfig
from harness.machine import locks
from harness.measure.inputs import Preprocess, read_inputs
from harness.measure.latency import Bench, Subject, bench, measure, measure_prepared, ratio
from harness.measure.latency.subjects import distribution, prepare, profile
from harness.measure.latency.timer import CpuTimer, timer_for
from harness.measure.runtimes import RuntimeConfig, RuntimeUnavailable, Verdict
from tests.harness.data import folders
from tests.harness.measure.latency.timing import (
    QUICK,
    FakeClock,
    inputs,
    ready,
    slowed,
    stage_of,
    timed,
)
from tests.toy import TOY


@pytest.fixture(autouse=True)
def _own_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_every_stage_is_found_and_the_whole_is_their_sum():
    clock = FakeClock()
    subject = slowed(clock, backbone=3, neck=5, head=7, postprocess=11)
    timing = timed({"a": subject}, clock)["a"]
    assert timing.metrics == {
        "latency_ms": 3 + 5 + 7 + 11 + 1,
        "latency_p95_ms": 27,
        "latency_low_ms": 27,
        "latency_high_ms": 27,
        "network_ms": 3 + 5 + 7 + 1,
        "nms_ms": 11 + 1,
        "backbone_ms": 3 + 1,
        "neck_ms": 5 + 1,
        "head_ms": 7 + 1,
        "weight_bytes": sum(part.nbytes for part in TOY.build().deploy().state_dict().values()),
    }
    assert timing.caveats == {}
    assert set(timing.absent) == {
        *("energy_j", "memory_bytes", "candidates", "busy_ms", "latency_p99_ms", "preprocess_ms"),
        *("reference_ratio", "reference_ratio_low", "reference_ratio_high", "roofline_fraction"),
        *("conditions", "uncounted_fraction", "activation_bytes"),
    }


def test_raw_samples_are_kept_in_order_and_whole():
    clock = FakeClock()
    subject, calls = slowed(clock, postprocess=0), [0]
    stage = stage_of(subject, "postprocess")

    def stall_once(*_):
        calls[0] += 1
        stage.milliseconds = 1000 if calls[0] == 4 + 6 * 5 + 4 * 5 + 4 else 0

    stage.register_forward_pre_hook(stall_once)
    samples = timed({"a": subject}, clock)["a"].samples
    expected = [1.0] * 24
    expected[4 * 4 + 2] = 1001.0
    assert samples["latency_ms"] == expected
    assert [len(samples[name]) for name in ("network_ms", "nms_ms", "backbone_ms")] == [16] * 3


def test_ends_at_the_interval_the_maximum_or_the_time():
    def stop(config, noisy=False):
        clock = FakeClock()
        subject = slowed(clock, postprocess=0)
        if noisy:
            stage, draw = stage_of(subject, "postprocess"), torch.Generator().manual_seed(0)
            stage.register_forward_pre_hook(
                lambda *_: setattr(stage, "milliseconds", 100 * torch.rand(1, generator=draw))
            )
        timing = timed({"a": subject}, clock, config)["a"]
        return timing.details["stopped_by"], len(timing.samples["latency_ms"])

    assert stop(QUICK) == ("target_interval", 24)
    assert stop(QUICK, noisy=True) == ("max_samples", 48)
    hurried = QUICK.model_copy(update={"min_samples": 1000, "max_samples": 9000, "seconds": 2.0})
    reason, taken = stop(hurried, noisy=True)
    assert reason == "seconds"
    assert 6 <= taken < 100


def test_subjects_that_are_compared_are_timed_until_their_ratios_are_known():
    def stop(against, noisy=0.0):
        clock, draw = FakeClock(), torch.Generator().manual_seed(0)
        subjects = {name: slowed(clock, postprocess=0) for name in "abc"}

        def swing(stage, share):
            """Let both slow down and recover together, one of them with noise of its own."""
            common = 100 + 60 * math.sin(clock.now / 30e9)
            own = 1 + share * float(torch.rand(1, generator=draw))
            stage.milliseconds = common * own

        for name, subject in subjects.items():
            stage, share = stage_of(subject, "postprocess"), noisy if name == "b" else 0.0
            stage.register_forward_pre_hook(lambda *_, s=stage, w=share: swing(s, w))
        found = timed(subjects, clock, against=against)["a"].details
        return found["stopped_by"], found["rounds"]

    assert stop(None) == ("max_samples", 12)
    assert stop("a") == ("target_interval", 7)
    assert stop("a", noisy=4.0) == ("max_samples", 12)


def test_blocks_shrink_for_slow_detectors_and_say_that_samples_are_few():
    clock = FakeClock()
    config = LatencyConfig(images=4, seconds=2.0, warmup_seconds=0, reference=False)
    timing = timed({"a": slowed(clock, backbone=500)}, clock, config)["a"]
    assert timing.details["block"] == 1
    assert timing.details["rounds"] == 6
    assert "only 6 samples fit into the time" in timing.caveats["latency_ms"]
    assert "not steady after" in timing.caveats["latency_ms"]


def test_warms_up_until_the_trace_is_steady():
    def warm_up(calls):
        clock = FakeClock()
        subject, left = slowed(clock, backbone=0), [calls]
        stage = stage_of(subject, "backbone")

        def settle(*_):
            left[0] = max(0, left[0] - 1)
            stage.milliseconds = left[0]

        stage.register_forward_pre_hook(settle)
        config = QUICK.model_copy(update={"warmup_seconds": 1e6})
        return timed({"a": subject}, clock, config)["a"]

    short, long = warm_up(0), warm_up(100)
    assert short.details["warmup_samples"] == 24
    assert long.details["warmup_samples"] > 80
    assert long.details["steady"]
    assert max(long.samples["latency_ms"]) < 20


def test_subjects_take_turns_in_an_order_drawn_each_round():
    def order(seed):
        clock, calls = FakeClock(), []
        subjects = {n: slowed(clock, calls, n, head=1) for n in "abc"}
        timings = timed(subjects, clock, seed=seed)
        assert len({len(timing.samples["latency_ms"]) for timing in timings.values()}) == 1
        start = 3 * 4 + timings["a"].details["warmup_rounds"] * 15
        taken = calls[start : start + timings["a"].details["rounds"] * 15]
        return ["".join(taken[i : i + 15 : 5]) for i in range(0, len(taken), 15)]

    first = order(0)
    assert {"".join(sorted(turn)) for turn in first} == {"abc"}
    assert len(set(first)) > 1
    assert order(0) == first
    assert order(1) != first


def test_ratio_is_paired_by_round():
    clock = FakeClock()
    subjects = {"a": slowed(clock, head=21), "b": slowed(clock, head=10)}
    timings = timed(subjects, clock)
    assert ratio(timings["a"], timings["b"]) == (2.0, 2.0, 2.0)
    assert ratio(timings["a"], timings["a"]).tie


def test_an_untrained_detector_says_nothing_about_nms():
    timing = timed({"a": ready(trained=False)}, FakeClock())["a"]
    assert "untrained" in timing.caveats["nms_ms"]
    assert "untrained" in timing.caveats["latency_ms"]
    assert timing.metrics["nms_ms"] > 0


def test_candidates_and_detections_are_counted():
    subject = ready()
    details = timed({"a": subject}, FakeClock())["a"].details
    outputs = [subject.network(item.images) for item in subject.inputs]
    candidates = [int(subject.candidates(item)) for item in outputs]
    assert details["candidates"] == distribution(candidates)
    assert details["candidates"]["images"] == details["detections"]["images"] == 4
    assert details["detections"]["max"] <= min(100, details["candidates"]["max"])
    assert distribution([4, 1, 1]) == {"images": 3, "min": 1, "median": 1, "mean": 2, "max": 4}


def test_a_postprocess_that_does_not_tell_candidates():
    clock = FakeClock()
    timing = timed({"a": slowed(clock, postprocess=1)}, clock)["a"]
    assert "candidates" not in timing.details
    assert "candidates" in timing.absent


def test_profiling_ends_with_its_time():
    assert profile(ready(), "cpu", FakeClock(), 1e-9).details["detections"]["images"] == 1


class Sleeps(nn.Module):
    def forward(self, outputs, sizes):
        time.sleep(0.005)
        nothing = outputs.boxes.new_zeros(0)
        return [Detections(nothing.reshape(0, 4), nothing, nothing.long()) for _ in sizes]


def test_the_real_clock_sees_a_sleeping_postprocess():
    subject = ready(postprocess=Sleeps())
    config = LatencyConfig(min_samples=12, max_samples=12, block=2, seconds=5, warmup_seconds=0.1)
    metrics = measure_prepared({"a": subject}, config, Bench("cpu", CpuTimer()))["a"].metrics
    assert metrics["nms_ms"] >= 5
    assert metrics["network_ms"] > 0
    assert metrics["latency_ms"] >= 5


def test_calls_run_in_inference_mode_without_garbage_collection_and_with_the_threads():
    class Watches(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.seen = inner, set()

        def forward(self, images):
            state = (torch.is_inference_mode_enabled(), gc.isenabled(), torch.get_num_threads())
            self.seen.add(state)
            return self.inner(images)

    threads = torch.get_num_threads()
    backbone = Watches(TOY.build().backbone)
    subject = ready(backbone=backbone)
    timed({"a": subject}, FakeClock(), QUICK.model_copy(update={"threads": threads + 1}))
    assert backbone.seen == {(True, False, threads + 1)}
    assert gc.isenabled()
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_ends_before_postprocessing(precision):
    original = TOY.build()
    config = RuntimeConfig(precision=precision)
    subject = prepare(Subject(original, True), inputs(1), config, "cpu")
    assert {p.dtype for p in subject.network.parameters()} == {subject.inputs[0].images.dtype}
    assert subject.weight_bytes == sum(2 * p.numel() for p in subject.network.state_dict().values())
    assert next(original.parameters()).dtype == torch.float32
    details = timed({"a": subject}, FakeClock())["a"].details
    assert details["candidates"]["images"] == 1
    found = subject.detect(*subject.inputs[0])[0]
    assert found.scores.dtype == torch.float32


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        shapes = {"train_images": 2, "val_images": 3, "size": 128}
        yield data.load(data.DataConfig(source="shapes", shapes=shapes)).val


def test_measure_times_the_deployed_detector_on_the_splits_images(split):
    model = TOY.build().train()
    told = []
    timings = measure(
        {"a": Subject(model, True), "b": Subject(TOY.build(), False)},
        split,
        LatencyConfig(images=2, min_samples=12, max_samples=12, block=2, warmup_seconds=0),
        device="cpu",
        on_progress=told.append,
    )
    assert model.training
    assert model.criterion is not None
    assert timings["a"].details["detections"]["images"] == 2
    assert timings["a"].details["waited_seconds"] >= 0
    assert len(timings["b"].samples["latency_ms"]) == 12
    assert [(step.phase, step.done) for step in told] == [("latency", 2 * n) for n in range(1, 7)]
    assert told[-1].done == told[-1].total
    assert set(told[-1].values) == {"a", "b"}


def test_a_measurement_is_alone_on_its_device(split, monkeypatch):
    held = []
    monkeypatch.setattr(
        bench, "measure_prepared", lambda *_, **__: held.append(dict(locks._held)) or {}
    )
    measure({"a": Subject(TOY.build(), True)}, split, QUICK, device="cpu")
    assert list(held[0].values()) == ["measuring"]
    assert locks._held == {}


def test_inputs_are_the_first_images_and_the_last_batch_is_full(split):
    batches = read_inputs(split, TOY.input, images=3, batch_size=2)
    assert [tuple(item.images.shape) for item in batches] == [(2, 3, 64, 64)] * 2
    assert torch.equal(batches[1].images[1], batches[0].images[0])
    assert batches[0].images.dtype == torch.float32
    assert batches[0].images.max() <= 1
    assert len(read_inputs(split, TOY.input, images=1, batch_size=1)) == 1


def test_inputs_as_large_as_their_photographs_are_timed_and_told(tmp_path):
    changes = {"input.resize": "shortest_edge", "input.size": [32, 48], "input.pad_to": 8}
    detector = override(TOY, changes).build()
    lying = {"id": 1, "file_name": "1.png", "height": 40, "width": 60}
    square = {"id": 2, "file_name": "2.png", "height": 50, "width": 50}
    content = folders.document() | {"images": [lying, square], "annotations": []}
    split = data.load(data.DataConfig(source=str(folders.write(tmp_path, val=content)))).val
    one, two = (read_inputs(split, detector.config.input, images=2, batch_size=n) for n in (1, 2))
    assert [tuple(item.images.shape) for item in one] == [(1, 3, 32, 48), (1, 3, 32, 32)]
    assert [tuple(item.images.shape) for item in two] == [(2, 3, 32, 48)]
    for batches in (one, two):
        anew = Preprocess(split, detector.config.input, 2, batches)
        assert all(torch.equal(anew(index), item.images) for index, item in enumerate(batches))
    subjects = {"a": Subject(detector, True)}
    timing = measure(subjects, split, CALLS, device="cpu")["a"]
    assert timing.details["input_sizes"] == {"smallest": (32, 32), "largest": (32, 48)}
    assert "of inputs of 32 x 32 to 48 x 32" in timing.caveats["latency_ms"]
    with pytest.raises(RuntimeUnavailable, match="runtime compile is made for one size"):
        measure(subjects, split, CALLS.model_copy(update={"runtime": "compile"}), device="cpu")


def test_knobs_are_documented_and_checked():
    fields = LatencyConfig.model_fields
    assert [name for name, field in fields.items() if not field.description] == []
    with pytest.raises(ValidationError, match="max_samples 5 is below min_samples 10"):
        LatencyConfig(min_samples=10, max_samples=5)
    with pytest.raises(ValidationError, match="precision"):
        LatencyConfig(precision="int3")


def test_the_machine_is_watched(split):
    config = LatencyConfig(images=2, min_samples=12, max_samples=12, block=2, warmup_seconds=0)
    quick = config.model_copy(update={"reference": False})
    timing = measure({"a": Subject(TOY.build(), True)}, split, quick, device="cpu")["a"]
    seen = timing.details["conditions"]
    assert seen["samples"] >= 2
    assert seen["passes"]["whole"]["rounds"] == 6
    assert len(timing.watched) == seen["samples"]


def test_preprocessing_makes_the_same_images_in_a_pass_of_its_own(split):
    config = LatencyConfig(
        images=2, min_samples=12, max_samples=12, block=2, warmup_seconds=0, reference=False
    )
    asked = config.model_copy(update={"preprocess": True})
    without = measure({"a": Subject(TOY.build(), True)}, split, config, device="cpu")["a"]
    timing = measure({"a": Subject(TOY.build(), True)}, split, asked, device="cpu")["a"]
    assert timing.metrics["preprocess_ms"] > 0
    assert "latency.preprocess" in without.absent["preprocess_ms"]
    for images, batch_size in ((3, 1), (3, 2)):
        read = read_inputs(split, TOY.input, images=images, batch_size=batch_size)
        anew = Preprocess(split, TOY.input, images, read)
        for index, item in enumerate(read):
            assert torch.equal(anew(index), item.images)


CALLS = LatencyConfig(
    images=2, min_samples=12, max_samples=12, block=2, warmup_seconds=0, reference=False
)


def test_another_runtime_is_timed_in_turns_once_it_passed_the_gate(split):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, threads = TOY.build(), torch.get_num_threads()
    subjects = {"a": Subject(model, False), "b": Subject(model, False, runtime="onnxruntime")}
    config = CALLS.model_copy(update={"threads": threads + 1})
    timings = measure(subjects, split, config, device="cpu")
    plain, other = timings["a"], timings["b"]
    assert "gate" not in plain.details
    assert plain.details["runtime"]["runtime"] == "eager"
    assert other.details["runtime"]["providers"] == ["CPUExecutionProvider"]
    assert other.details["runtime"]["threads"] == threads + 1
    assert other.details["gate"]["passed"]
    assert other.details["gate"]["figures"]["apart"] == 0
    assert {"latency_ms", "network_ms", "nms_ms"} <= set(other.metrics)
    assert "stages" in other.absent["neck_ms"]
    assert ratio(other, plain).ratio > 0
    assert torch.get_num_threads() == threads


def test_what_fails_the_gate_has_no_latency_and_the_others_do(split, monkeypatch):
    asked = []

    def gate(runtime, detector, inputs, split, *, device, trained):
        asked.append((runtime.config.precision, len(inputs), split, trained))
        return Verdict(False, "it sees ghosts", {"apart": 7}, {})

    monkeypatch.setattr(bench, "gate", gate)
    ours = Subject(TOY.build(), True)
    config = CALLS.model_copy(update={"channels_last": True})
    told = []
    timings = measure({"a": ours}, split, config, device="cpu", on_progress=told.append)
    assert asked == [("fp32", 2, None, True)]  # it tells other classes apart than the split
    assert timings["a"].metrics == {}
    assert set(timings["a"].absent.values()) == {"it sees ghosts"}
    assert {"latency_ms", "nms_ms", "energy_j"} <= set(timings["a"].absent)
    assert timings["a"].details["gate"]["figures"] == {"apart": 7}
    assert timings["a"].details["runtime"]["channels_last"]
    assert [step.phase for step in told] == ["deploy"]

    other = TOY.build()
    monkeypatch.setattr(bench, "_is_gated", lambda config: len(asked) == 1)
    monkeypatch.setattr(
        bench, "gate", lambda *_, **__: asked.append(0) or Verdict(False, "no", {}, {})
    )
    both = measure({"a": ours, "b": Subject(other, True)}, split, CALLS, device="cpu")
    assert both["a"].absent["latency_ms"] == "no"
    assert both["b"].metrics["latency_ms"] > 0


def test_an_unavailable_runtime_is_refused_or_left_out(split):
    model = TOY.build()
    subject = Subject(model, True, runtime="tensorrt")
    with pytest.raises(RuntimeUnavailable, match="NVIDIA GPU"):
        measure({"a": Subject(model, True), "b": subject}, split, CALLS, device="cpu")
    subject = subject._replace(optional=True)
    found = measure({"a": Subject(model, True), "b": subject}, split, CALLS, device="cpu")
    assert found["a"].metrics["latency_ms"] > 0
    assert "NVIDIA GPU" in found["b"].absent["latency_ms"]
    with pytest.raises(RuntimeUnavailable, match="NVIDIA GPU"):
        measure({"b": subject}, split, CALLS, device="cpu")


def test_calls_are_made_under_the_switches_of_their_runtime():
    inside, seen = [], set()

    @contextmanager
    def active():
        inside.append(True)
        yield
        inside.pop()

    subject = ready()._replace(active=active)
    stage_of(subject, "neck").register_forward_pre_hook(lambda *_: seen.add(len(inside)))
    timed({"a": subject}, FakeClock())
    assert seen == {1}


@pytest.mark.gpu
def test_a_gpu_is_timed_by_both_clocks():
    subject = prepare(Subject(TOY.build(), True), inputs(), RuntimeConfig(), "cuda:0")
    config = LatencyConfig(min_samples=32, max_samples=64)
    bench = Bench("cuda:0", timer_for("cuda:0"))
    timing = measure_prepared({"a": subject}, config, bench)["a"]
    walls, devices = timing.samples["latency_ms"], timing.samples["latency_device_ms"]
    assert len(walls) == len(devices)
    assert timing.metrics["latency_device_ms"] > 0
    assert 0 < timing.metrics["busy_ms"] < timing.metrics["latency_ms"]
    assert timing.metrics["memory_bytes"] > 1634 * 4
