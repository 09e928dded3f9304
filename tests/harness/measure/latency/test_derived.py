from contextlib import contextmanager

import numpy as np
import pytest
import torch

from harness.machine import conditions, energy
from harness.machine.conditions import Taint
from harness.machine.energy import Energy
from harness.machine.nvml import Unavailable
from harness.machine.trace import Sample
from harness.measure.inputs import Inputs
from harness.measure.latency import WORKLOAD, Bench, bench, limits, measure_prepared, samples
from harness.measure.latency.limits import Limits, Rate
from harness.measure.latency.subjects import Prepared
from harness.measure.latency.timer import CpuTimer, Span
from harness.records import RecordError
from harness.records.latencies import ROUGH
from tests.harness.measure.latency.timing import QUICK, FakeClock, slowed, stage_of, timed


class Watched:
    """Conditions that are read at every call of a stage; heat slows the cores at some of them."""

    def __init__(self, clock, stage, hot):
        self.clock, self.hot, self.calls, self.throttles = clock, hot, 0, 0
        self.samples, self.absent, self.share_of_core = [], {}, 0.0
        stage.register_forward_pre_hook(self.read)

    def __enter__(self):
        self.read()
        return self

    def __exit__(self, *_):
        self.read()

    def read(self, *_):
        self.calls += 1
        self.throttles += self.calls in self.hot
        self.samples.append(Sample(self.clock.now, {"cpu_throttles": float(self.throttles)}))


def test_disturbed_rounds_are_dropped_and_counted_but_their_samples_stay():
    def watched(hot):
        clock = FakeClock()
        subject = slowed(clock, postprocess=0)
        stage = stage_of(subject, "postprocess")
        sampler = Watched(clock, stage, hot)
        stage.register_forward_pre_hook(
            lambda *_: setattr(stage, "milliseconds", 50 if sampler.calls in hot else 0)
        )
        return timed({"a": subject}, clock, sampler=sampler)["a"]

    before = 4 + 1 + 6 * 5  # profile, start, warm-up: a round is one call untimed and four timed
    timing = watched(range(before + 5 + 3, before + 5 + 5))
    counts = timing.details["conditions"]["passes"]["whole"]
    assert counts == {"rounds": 6, "dropped": 1, "tainted": {"windows": 1, "throttled": 1}}
    assert timing.passes["whole"].kept == [0, 2, 3, 4, 5]
    assert timing.samples["latency_ms"].count(51.0) == 2
    assert timing.metrics["latency_high_ms"] == timing.metrics["latency_p95_ms"] == 1.0
    assert timing.caveats["latency_ms"] == "1 of 6 rounds disturbed (throttled 1), dropped"
    assert [stop > start for start, stop in timing.passes["whole"].windows] == [True] * 6

    always = watched(range(1000))
    assert always.details["conditions"]["passes"]["whole"]["dropped"] == 0
    assert "6 of 6 rounds disturbed" in always.caveats["latency_ms"]
    assert "all kept" in always.caveats["latency_ms"]
    assert always.metrics["latency_ms"] == 51.0


def test_where_most_rounds_were_disturbed_all_that_follows_is_rough(monkeypatch):
    def watched(spoilt):
        def taint(windows, samples):
            return [Taint(index, "others", "") for index in range(len(windows))][:spoilt]

        monkeypatch.setattr(conditions, "taint", taint)
        clock = FakeClock()
        subject = slowed(clock, postprocess=0)
        return timed({"a": subject}, clock, sampler=Watched(clock, stage_of(subject, "head"), ()))[
            "a"
        ]

    half, most = watched(3), watched(4)
    assert half.passes["whole"].kept == [3, 4, 5]
    assert half.caveats["latency_ms"] == "3 of 6 rounds disturbed (others 3), dropped"
    assert most.passes["whole"].kept == [0, 1, 2, 3, 4, 5]
    text = f"{ROUGH}4 of 6 rounds disturbed (others 4), most, so all kept"
    of_whole = ("latency_ms", "latency_p95_ms", "latency_low_ms", "latency_high_ms")
    assert {most.caveats[name] for name in of_whole} == {text}
    for name in ("network_ms", "nms_ms", "backbone_ms", "neck_ms", "head_ms"):
        assert most.caveats[name].startswith(ROUGH)  # all 4 rounds of the stages
    assert set(most.caveats) <= set(most.metrics)


def test_a_disturbed_device_is_not_said_to_wait_for_launches(monkeypatch):
    monkeypatch.setattr(conditions, "taint", lambda windows, samples: everything(windows))
    clock = FakeClock()
    subject = slowed(clock, postprocess=0)
    bench = Bench("cpu", Gpu(clock, 0.1), Watched(clock, stage_of(subject, "head"), ()))
    timing = measure_prepared({"a": subject}, QUICK, bench)["a"]
    assert timing.metrics["busy_ms"] == 0.1
    assert not {"idle_share", "launch_bound"} & timing.details.keys()
    assert "launch-bound" not in timing.caveats["latency_ms"]


def everything(windows):
    return [Taint(index, "foreign", "") for index in range(len(windows))]


def rates(flops, bytes_a_second):
    def limits(*_, **__):
        compute, memory = (Rate(value, value, value, 9) for value in (flops, bytes_a_second))
        return Limits("fp32", compute, memory, {"side": 8}, {"memory": "cached"})

    return limits


@pytest.fixture
def _small_workload(monkeypatch):
    monkeypatch.setattr(limits, "measure", rates(2e6, 1e12))
    nothing = Inputs(torch.zeros(1), torch.zeros(1))
    monkeypatch.setattr(
        bench, "workload", lambda device: Prepared(lambda *_: None, (nothing,), True)
    )


REFERENCE = QUICK.model_copy(update={"reference": True})


@pytest.mark.usefixtures("_small_workload")
def test_every_result_is_compared_with_the_workload_and_with_the_limits():
    clock = FakeClock()
    subjects = {"a": slowed(clock, head=9), "b": slowed(clock, head=3)}
    subjects["b"] = subjects["b"]._replace(macs=None)
    timings = timed(subjects, clock, REFERENCE)
    assert set(timings) == {"a", "b", WORKLOAD}
    assert timings[WORKLOAD].metrics == {"latency_ms": 1.0}
    ratios = [timings["b"].metrics[f"reference_ratio{end}"] for end in ("_low", "", "_high")]
    assert ratios == [4.0, 4.0, 4.0]
    assert timings["a"].details["workload"] == {"name": "reference-1", "latency_ms": 1.0}
    # 2 x 1000 operations at 2e6 a second last 1 ms, the network takes 10 ms
    assert timings["a"].metrics["roofline_fraction"] == pytest.approx(0.1)
    assert timings["a"].details["roofline"]["bound"] == "compute"
    assert timings["a"].details["limits"]["flop_per_s"]["value"] == 2e6
    assert timings["a"].caveats["roofline_fraction"] == "cached"
    assert "not counted" in timings["b"].absent["roofline_fraction"]


@pytest.mark.usefixtures("_small_workload")
def test_the_roofline_counts_all_images_of_a_call_and_the_bytes_that_move():
    clock = FakeClock()
    subject = slowed(clock, head=9)
    both = tuple(Inputs(i.images.repeat(2, 1, 1, 1), i.sizes.repeat(2, 1)) for i in subject.inputs)
    found = timed({"a": subject._replace(inputs=both)}, clock, REFERENCE)["a"].details["roofline"]
    assert found["macs"] == 2000
    weights = sum(p.numel() for p in subject.network.parameters())
    points = 8 * 8
    outputs = 2 * points * (6 + 4) + points * (2 + 1)  # logits and boxes, points and strides
    assert found["least_bytes"] == 4 * (weights + both[0].images.numel() + outputs)


def test_a_runtime_in_one_piece_has_its_whole_timed_and_nothing_else():
    clock, entered = FakeClock(), []

    @contextmanager
    def active():
        entered.append(True)
        yield

    eager = slowed(clock, head=9)
    subject = Prepared(eager.detect, eager.inputs, True, active=active)
    timing = timed({"a": subject}, clock)["a"]
    assert timing.metrics["latency_ms"] == 10
    assert not {"network_ms", "nms_ms", "head_ms"} & set(timing.metrics)
    assert "apart from NMS" in timing.absent["nms_ms"]
    assert "stages apart" in timing.absent["head_ms"]
    assert entered


class Gpu(CpuTimer):
    """A device that computes for some milliseconds of each call."""

    def __init__(self, clock, busy_ms):
        super().__init__(clock)
        self.busy_ms = busy_ms

    def time(self, steps, value):
        value, spans = super().time(steps, value)
        return value, [Span(span.wall_ms, span.wall_ms - 0.5) for span in spans]

    def busy(self, steps, value):
        return self.busy_ms


@pytest.mark.parametrize(("busy_ms", "launch_bound"), [(6.0, True), (8.0, False), (None, None)])
def test_a_device_that_idles_over_a_third_of_the_time_is_launch_bound(busy_ms, launch_bound):
    clock = FakeClock()
    bench = Bench("cpu", Gpu(clock, busy_ms))
    timing = measure_prepared({"a": slowed(clock, head=9)}, QUICK, bench)["a"]
    assert timing.metrics["latency_device_ms"] == 9.5
    assert timing.details.get("launch_bound") == launch_bound
    assert ("launch-bound" in timing.caveats.get("latency_ms", "")) == bool(launch_bound)
    if busy_ms is None:
        assert timing.absent["busy_ms"] == "the device does not tell when it computes"
    else:
        assert timing.metrics["busy_ms"] == busy_ms
        assert timing.details["idle_share"] == pytest.approx(1 - busy_ms / 10)


def test_energy_is_an_images_or_absent_with_a_reason(monkeypatch):
    asked = []

    @contextmanager
    def opened(device):
        yield "counter"

    @contextmanager
    def closed(device):
        raise Unavailable("no counter here")
        yield

    def joules(call, counter, *, images, seconds):
        call()
        asked.append((counter, images, seconds))
        return Energy(0.5, 0.1, 10.0, 60.0, seconds, images)

    def weak(*_, **__):
        raise Unavailable("it does not stand out")

    def measured():
        clock = FakeClock()
        config = QUICK.model_copy(update={"batch_size": 2})
        bench = Bench("cpu", CpuTimer(clock), energy=True)
        return measure_prepared({"a": slowed(clock, head=9)}, config, bench)["a"]

    monkeypatch.setattr(energy, "opened", closed)
    assert measured().absent["energy_j"] == "no counter here"
    monkeypatch.setattr(energy, "opened", opened)
    monkeypatch.setattr(energy, "measure", weak)
    assert measured().absent["energy_j"] == "it does not stand out"
    monkeypatch.setattr(energy, "measure", joules)
    timing = measured()
    assert asked == [("counter", 2, 2.0)]
    assert timing.metrics["energy_j"] == 0.5
    assert timing.details["energy"]["uncertainty_j"] == 0.1
    assert "energy_j" not in timing.absent


def test_raw_samples_beside_a_record_give_its_figures_again(tmp_path):
    clock = FakeClock()
    subject = slowed(clock, head=2)
    sampler = Watched(clock, stage_of(subject, "head"), range(40, 45))
    timings = timed({"trial": subject}, clock, sampler=sampler)
    stored = samples.read(samples.write(timings, tmp_path).parent)
    blocks, kept = stored["trial/whole/latency_ms"], stored["trial/whole/kept"]
    assert blocks.shape == (6, 4)
    assert not kept.all()
    assert np.median(blocks[kept]) == timings["trial"].metrics["latency_ms"]
    assert (np.diff(stored["trial/whole/windows_ns"]) > 0).all()
    assert stored["trial/parts/nms_ms"].size == stored["trial/stages/head_ms"].size == 16
    assert len(stored["conditions/time_ns"]) == len(stored["conditions/cpu_throttles"])
    with pytest.raises(RecordError, match="no samples are stored"):
        samples.read(tmp_path / "elsewhere")
