import itertools
import os
import threading
import time
import types

import pytest
import torch

from harness.machine import conditions, energy, nvml, procfs
from harness.machine.conditions import Sampler, Taint, keep, taint, tally
from harness.machine.energy import Reading
from harness.machine.nvml import Unavailable
from harness.machine.trace import Sample
from tests.patience import HANG

MS = 1_000_000
SECOND = 1000 * MS


def trace(seconds=10, **changes):
    """Samples at 10 Hz of a still machine, readings changed for a while: name=(from, to, value)."""
    samples = []
    for step in range(seconds * 10 + 1):
        now = step / 10
        values = {"cpu_busy_s": now, "cpu_own_s": now, "cpu_steal_s": 0.0, "cpu_waited_s": 0.0}
        values |= {"gpu_clock_mhz": 1980.0, "gpu_reasons": 0.0, "gpu_foreign_use": 0.0}
        for name, (start, stop, value) in changes.items():
            if name.endswith("_s") or name == "cpu_throttles":
                values[name] = values.get(name, 0.0) + value * min(
                    max(now - start, 0), stop - start
                )
            elif start <= now <= stop:
                values[name] = value
        samples.append(Sample(step * 100 * MS, values))
    return samples


WINDOWS = [(second * SECOND + 250 * MS, second * SECOND + 750 * MS) for second in range(10)]


def kinds(samples, **options):
    return [(item.window, item.kind) for item in taint(WINDOWS, samples, cores=2, **options)]


def test_a_still_machine_taints_nothing():
    assert taint(WINDOWS, trace(), cores=2) == []
    assert taint(WINDOWS, []) == []


@pytest.mark.parametrize(
    ("name", "value", "kind", "words"),
    [
        ("gpu_reasons", 0x40, "slowdown", "thermal slowdown by the hardware"),
        ("gpu_reasons", 0x80 + 0x4, "slowdown", "power brake"),
        ("gpu_clock_mhz", 1500.0, "clock", "gpu_clock_mhz 1500 against 1980"),
        ("gpu_foreign_use", 0.4, "foreign", "used 40% of the GPU"),
        ("cpu_busy_s", 1.0, "others", "50% of 2 cores"),
        ("cpu_steal_s", 0.5, "steal", "25% of 2 cores"),
        ("cpu_waited_s", 0.2, "waited", "20% of the time"),
        ("cpu_throttles", 10.0, "throttled", "slowed cores down"),
    ],
)
def test_each_cause_taints_its_windows_and_no_others(name, value, kind, words):
    found = taint(WINDOWS, trace(**{name: (3.0, 4.9, value)}), cores=2)
    assert [(item.window, item.kind) for item in found] == [(3, kind), (4, kind)]
    assert all(words in item.detail for item in found)


def test_little_of_a_cause_taints_nothing():
    little = trace(
        gpu_reasons=(3.0, 5.0, 0x4),  # a power cap is how some GPUs always run
        gpu_clock_mhz=(3.0, 5.0, 1900.0),
        cpu_busy_s=(3.0, 5.0, 0.1),
        cpu_waited_s=(3.0, 5.0, 0.02),
    )
    assert kinds(little) == []
    assert kinds(little, tolerance=conditions.Tolerance(waited=0.01)) == [
        (3, "waited"),
        (4, "waited"),
    ]


def test_what_was_read_seldom_is_about_the_time_before():
    def told(second, use):
        return Sample(second * SECOND, {"gpu_foreign_use": use} if use is not None else {})

    samples = [told(0, 0.0), told(1, None), told(2, 0.0), told(3, None), told(4, 0.9)]
    samples += [told(5, None), told(6, 0.0)]
    found = taint([(second * SECOND + 1, second * SECOND + 9) for second in range(6)], samples)
    assert [item.window for item in found] == [2, 3]


def test_absent_readings_taint_nothing():
    samples = [Sample(sample.time_ns, {}) for sample in trace()]
    assert kinds(samples) == []


def test_short_windows_are_judged_over_more_than_the_kernels_ticks():
    tick = trace(cpu_busy_s=(5.0, 5.1, 0.3))  # one tick of somebody else's in a tenth of a second
    window = (5 * SECOND + 20 * MS, 5 * SECOND + 80 * MS)
    assert taint([window], tick, cores=2) == []
    assert taint([window], trace(cpu_busy_s=(4.0, 6.0, 0.3)), cores=2)[0].kind == "others"


def test_tainted_windows_are_dropped_unless_they_are_the_rule():
    one = [Taint(1, "others", ""), Taint(1, "steal", "")]
    assert keep(4, one) == [0, 2, 3]
    assert keep(4, [Taint(index, "others", "") for index in range(3)]) == [0, 1, 2, 3]
    assert tally([*one, Taint(3, "others", "")]) == {"windows": 2, "others": 2, "steal": 1}
    assert tally([]) == {"windows": 0}


def test_summary_is_json_and_tells_gauges_from_counters():
    told = conditions.summary(trace(gpu_reasons=(1.0, 2.0, 0x20), gpu_clock_mhz=(1.0, 2.0, 990.0)))
    assert told["samples"] == 101
    assert told["seconds"] == 10
    assert told["readings"]["gpu_clock_mhz"] == {"min": 990.0, "median": 1980.0, "max": 1980.0}
    assert told["readings"]["cpu_busy_s"] == {"growth": 10.0}
    assert told["slowdowns"] == ["thermal slowdown by the driver"]
    assert conditions.summary([]) == {"samples": 0}


class Counting:
    def __init__(self, enough=4):
        self.absent, self.reads = {"heat": "no sensor"}, 0
        self.enough, self.was_read = enough, threading.Event()

    def read(self):
        self.reads += 1
        if self.reads == self.enough:
            self.was_read.set()
        return {"reads": float(self.reads)}


class Failing(Counting):
    def read(self):
        if self.reads:
            raise OSError("gone")
        return super().read()


def test_the_sampler_reads_from_beginning_to_end_by_the_timers_clock():
    before, source = time.perf_counter_ns(), Counting()
    with Sampler("cpu", period_s=0.002, sources=[source]) as sampler:
        assert source.was_read.wait(HANG)
    times = [sample.time_ns for sample in sampler.samples]
    assert before < times[0]
    assert times == sorted(times)
    assert times[-1] < time.perf_counter_ns()
    assert len(times) >= 4
    assert [sample.values["reads"] for sample in sampler.samples] == [
        float(number + 1) for number in range(len(times))
    ]
    assert sampler.absent == {"heat": "no sensor"}
    assert not any(thread.name == "conditions" for thread in threading.enumerate())


def test_a_source_that_fails_is_absent_with_its_reason_and_the_others_go_on():
    source = Counting()
    with Sampler("cpu", period_s=0.002, sources=[Failing(), source]) as sampler:
        assert source.was_read.wait(HANG)
    assert sampler.absent["Failing"] == "reading failed: gone"
    assert sampler.samples[-1].values["reads"] >= 2


def test_a_block_that_raises_leaves_no_thread():
    with pytest.raises(ZeroDivisionError), Sampler("cpu", sources=[Counting()]):
        1 / 0  # noqa: B018
    assert not any(thread.name == "conditions" for thread in threading.enumerate())


def test_the_sampler_says_what_share_of_a_core_it_took(monkeypatch):
    now, used = itertools.count(0, 2), itertools.count(0, 0.01)
    clocks = {"perf_counter": lambda: next(now), "thread_time": lambda: next(used)}
    monkeypatch.setattr(conditions, "time", types.SimpleNamespace(**clocks))
    with Sampler("cpu", sources=[Counting()], clock=time.perf_counter_ns) as sampler:
        pass
    assert sampler.share_of_core == pytest.approx(0.005)


def test_sampling_a_processor_reads_a_few_lines_however_large_the_machine(root, monkeypatch):
    """What that takes of a core is measured in tests/benchmarks."""
    system = root / "sys/devices/system/cpu"
    for core in range(256):
        clock, heat = (
            system / f"cpu{core}" / name
            for name in ("cpufreq/scaling_cur_freq", "thermal_throttle/core_throttle_count")
        )
        for file in clock, heat:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("1\n", "utf-8")
    monkeypatch.setattr(procfs, "usable_cores", lambda: list(range(256)))
    source, opened, head = procfs.ProcSource(root), list[str](), procfs._head
    monkeypatch.setattr(procfs, "_head", lambda path: opened.append(path) or head(path))
    for _ in range(procfs.SELDOM):
        source.read()
    always, seldom = 1 + 1 + procfs.CLOCKS, procfs.CLOCKS + 1
    assert len(opened) == procfs.SELDOM * always + seldom
    assert max(map(len, map(head, opened))) <= procfs.HEAD


@pytest.fixture
def root(tmp_path):
    """The files of a machine with clocks and a sensor."""
    core = procfs.usable_cores()[0]
    task = f"proc/self/task/{threading.get_native_id()}/schedstat"
    system = f"sys/devices/system/cpu/cpu{core}"
    files = {
        "proc/stat": "cpu  100 20 30 4000 5 6 7 8 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n",
        task: "5000000000 250000000 12\n",
        f"{system}/cpufreq/scaling_cur_freq": "2400000\n",
        f"{system}/thermal_throttle/core_throttle_count": "3\n",
        "sys/class/hwmon/hwmon0/name": "nvme\n",
        "sys/class/hwmon/hwmon0/temp1_input": "99000\n",
        "sys/class/hwmon/hwmon1/name": "coretemp\n",
        "sys/class/hwmon/hwmon1/temp1_input": "51000\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return tmp_path


def test_what_linux_tells(root):
    source = procfs.ProcSource(root)
    values = source.read()
    ticks = os.sysconf("SC_CLK_TCK")
    assert values["cpu_own_s"] > 0
    assert {name: value for name, value in values.items() if name != "cpu_own_s"} == {
        "cpu_busy_s": (100 + 20 + 30 + 6 + 7) / ticks,
        "cpu_steal_s": 8 / ticks,
        "cpu_waited_s": 0.25,
        "cpu_clock_mhz": 2400.0,
        "cpu_temperature_c": 51.0,
        "cpu_throttles": 3.0,
    }
    assert source.absent == {}


def test_what_linux_does_not_tell_is_absent_with_a_reason(tmp_path):
    source = procfs.ProcSource(tmp_path)
    assert set(source.read()) == {"cpu_own_s"}
    assert set(source.absent) == {
        *("cpu_busy_s", "cpu_steal_s", "cpu_waited_s"),
        *("cpu_clock_mhz", "cpu_temperature_c", "cpu_throttles"),
    }
    assert "virtual machine" in source.absent["cpu_clock_mhz"]


class NVMLError(Exception):
    value = 3


class NotFoundError(NVMLError):
    value = nvml.NOT_FOUND


def driver(**answers):
    """An NVML that knows one busy GPU; answers that are exceptions are raised."""

    def process(pid, use=0):
        return types.SimpleNamespace(pid=pid, smUtil=use)

    known = {
        "nvmlDeviceGetClockInfo": 1980,
        "nvmlDeviceGetPowerUsage": 350_000,
        "nvmlDeviceGetTemperature": 41,
        "nvmlDeviceGetUtilizationRates": types.SimpleNamespace(gpu=80),
        "nvmlDeviceGetCurrentClocksEventReasons": 0x44,
        "nvmlDeviceGetTotalEnergyConsumption": 5000,
        "nvmlDeviceGetComputeRunningProcesses": [process(7), process(8)],
        "nvmlDeviceGetGraphicsRunningProcesses": [process(8), process(9)],
        "nvmlDeviceGetProcessUtilization": [process(7, 60), process(8, 30), process(8, 20)],
    }

    def answer(value):
        def ask(*_):
            if isinstance(value, Exception):
                raise value
            return value

        return ask

    functions = {name: answer(value) for name, value in (known | answers).items()}
    constants = {"NVML_CLOCK_SM": 1, "NVML_CLOCK_MEM": 2, "NVML_TEMPERATURE_GPU": 0}
    return nvml.Gpu(types.SimpleNamespace(NVMLError=NVMLError, **constants, **functions), "handle")


def test_what_a_gpus_driver_tells():
    source = nvml.GpuSource(driver(), pid=7)
    assert source.read() == {
        "gpu_clock_mhz": 1980.0,
        "gpu_clock_memory_mhz": 1980.0,
        "gpu_power_w": 350.0,
        "gpu_temperature_c": 41.0,
        "gpu_utilization": 0.8,
        "gpu_reasons": 0x44,
        "gpu_foreign": 2.0,
        "gpu_foreign_use": 0.3,
    }
    assert source.absent == {}


def test_what_a_driver_does_not_tell_is_absent_and_not_asked_again():
    gpu = driver(
        nvmlDeviceGetPowerUsage=NVMLError("Not Supported"),
        nvmlDeviceGetProcessUtilization=NotFoundError("nobody"),
    )
    source = nvml.GpuSource(gpu, pid=7)
    values = source.read()
    assert values["gpu_foreign_use"] == 0
    assert "gpu_power_w" not in values
    assert "gpu_foreign_use" not in source.read()
    assert source.absent == {"gpu_power_w": "NVML does not tell power_w: Not Supported"}


def test_others_are_not_told_apart_where_numbers_of_processes_do_not_match():
    source = nvml.GpuSource(driver(), pid=4242)
    assert "gpu_foreign" not in source.read()
    assert "container" in source.absent["gpu_foreign"]
    assert "container" in source.absent["gpu_foreign_use"]


@pytest.mark.gpu
def test_a_gpu_is_sampled_and_its_own_process_is_not_foreign():
    matrix = torch.rand(4096, 4096, device="cuda:0")
    with Sampler("cuda:0") as sampler:
        until = time.perf_counter() + 1
        while time.perf_counter() < until:
            matrix @ matrix  # noqa: B018
            torch.cuda.synchronize()
    assert sampler.samples[-1].values["gpu_clock_mhz"] > 0
    assert sampler.share_of_core < 0.05


class Board:
    """A counter that goes up by its power, in steps."""

    period_s = 0.1

    def __init__(self, idle_w=50.0, call_w=150.0):
        self.now, self.joules, self.idle_w, self.call_w = 0, 0.0, idle_w, call_w

    def clock(self):
        return self.now

    def read(self):
        return self.joules

    def sleep(self, seconds):
        self.now += int(seconds * 1e9)
        self.joules += self.idle_w * seconds

    def call(self):
        self.now += 20 * MS
        self.joules += self.call_w * 0.02


def measured(board, **options):
    return energy.measure(board.call, board, clock=board.clock, sleep=board.sleep, **options)


def test_energy_an_image_is_above_idle():
    found = measured(Board(), images=4)
    assert found.images == 400
    assert found.seconds == pytest.approx(2.0)
    assert (found.idle_w, found.busy_w) == (pytest.approx(50), pytest.approx(150))
    assert found.energy_j == pytest.approx((150 - 50) * 2.0 / 400)
    assert found.uncertainty_j == pytest.approx(0.1 * (150 + 50) / 400)


def test_energy_that_does_not_stand_out_or_was_read_too_briefly_is_absent():
    with pytest.raises(Unavailable, match=r"do not stand out from 50\.0 W idle"):
        measured(Board(call_w=52))
    idle, busy = (Reading(0, 0), Reading(3 * SECOND, 60)), (Reading(0, 0), Reading(SECOND, 99))
    with pytest.raises(Unavailable, match=r"busy window of 1\.00 s is below 2\.00 s"):
        energy.per_image(idle, busy, 10, 0.1)


def rapl(root, name, joules, most=1000):
    folder = root / "sys/class/powercap" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{int(joules * 1e6)}\n", "utf-8")
    (folder / "max_energy_range_uj").write_text(f"{int(most * 1e6) - 1}\n", "utf-8")


def test_packages_are_summed_and_wrap(tmp_path):
    rapl(tmp_path, "intel-rapl:0", 990)
    rapl(tmp_path, "intel-rapl:1", 5)
    rapl(tmp_path, "intel-rapl:0:0", 500)  # a part of the first
    counter = energy.Rapl(tmp_path)
    assert counter.read() == 0
    rapl(tmp_path, "intel-rapl:0", 10)
    rapl(tmp_path, "intel-rapl:1", 8)
    assert counter.read() == pytest.approx(20 + 3)


def test_no_counter_is_absent_with_a_reason(tmp_path, monkeypatch):
    with pytest.raises(Unavailable, match="no energy counter"):
        energy.Rapl(tmp_path)
    rapl(tmp_path, "intel-rapl:0", 1)

    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr(energy, "_number", refuse)
    with pytest.raises(Unavailable, match="only root"):
        energy.Rapl(tmp_path)
    assert energy.NvmlCounter(driver()).read() == 5.0
    with pytest.raises(Unavailable, match="Not Supported"):
        energy.NvmlCounter(
            driver(nvmlDeviceGetTotalEnergyConsumption=NVMLError("Not Supported"))
        ).read()
