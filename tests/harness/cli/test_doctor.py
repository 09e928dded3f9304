import importlib
import json
import sys
import tempfile
import types

import pytest

from harness.cli import doctor
from harness.cli.doctor import machine, probe, software
from harness.cli.doctor.finding import Finding, ok
from harness.cli.doctor.probe import Probe
from harness.machine import locks, nvml
from harness.machine.trace import Sample


@pytest.fixture(autouse=True)
def _quick(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(probe.run, "__kwdefaults__", probe.run.__kwdefaults__ | {"seconds": 0.05})


def severities(findings):
    return {item.check: item.severity for item in findings}


def test_json_has_findings_and_claims(capsys):
    assert doctor.doctor(as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    checks = {item["check"] for item in told["findings"]}
    assert {"torch", "gpu", "clock control", "neighbours", "timer", "one at a time"} <= checks
    assert all(set(names) <= checks for names in doctor.CLAIMS.values())
    by_name = {item["claim"]: item for item in told["claims"]}
    assert by_name["mAP"] == {"claim": "mAP", "holds": True, "against": []}
    for item in told["findings"]:
        assert item["found"]
        assert item["severity"] == "ok" or item["consequence"]


def test_the_table_shows_everything(capsys):
    assert doctor.doctor(as_json=False) == 0
    out = capsys.readouterr().out
    assert "This machine" in out
    assert "What can be claimed" in out
    assert all(name in out for name in doctor.CLAIMS)


def test_something_broken_sets_the_exit_status_and_spares_the_others(monkeypatch, capsys):
    def fail():
        raise OSError("read-only")

    monkeypatch.setattr(machine, "disk", fail)
    assert doctor.doctor(as_json=True) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    broken = [item for item in findings if item["severity"] == "broken"]
    assert [(item["check"], item["found"]) for item in broken] == [("disk", "OSError: read-only")]


def test_without_torch_the_rest_is_examined(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = severities(doctor.examine())
    assert found["torch"] == "broken"
    assert found["timer"] == "ok"
    assert "gpu" not in found


def test_claims_follow_from_findings():
    fine = {name for names in doctor.CLAIMS.values() for name in names}
    every = [ok(name, "fine") for name in fine]
    assert all(item.holds for item in doctor.claims(every))
    without = [item for item in every if item.check != "clock control"]
    floating = [*without, Finding("clock control", "limits", "powersave", "ratios")]
    for findings in (without, floating):
        lost = [item for item in doctor.claims(findings) if not item.holds]
        assert [(item.claim, item.against) for item in lost] == [
            ("milliseconds", ("clock control",))
        ]


def files(root, **texts):
    for name, text in texts.items():
        path = root / machine.CPU / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def test_clocks_of_a_processor(tmp_path):
    def look():
        (finding,) = machine.clocks("cpu", tmp_path)
        return finding.severity, finding.found

    assert look() == ("limits", "the system shows no clocks, as in a virtual machine")
    files(tmp_path, cpu0__cpufreq__scaling_governor="powersave\n")
    assert look() == ("limits", "governor powersave")
    files(tmp_path, cpu0__cpufreq__scaling_governor="performance\n", intel_pstate__no_turbo="0\n")
    assert look() == ("limits", "governor performance, turbo on: clocks follow the heat")
    files(tmp_path, intel_pstate__no_turbo="1\n")
    assert look() == ("ok", "governor performance, turbo off")


class FakeGpu:
    def __init__(self, **answers):
        self.answers = answers

    def __call__(self, uuid):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, name):
        if name not in self.answers:
            raise nvml.Unavailable(f"no {name}")
        return self.answers[name]


def test_clocks_of_a_gpu(monkeypatch):
    def look(root, **answers):
        monkeypatch.setattr(nvml, "opened", FakeGpu(**answers))
        monkeypatch.setattr(machine.os, "geteuid", lambda: 0 if root else 1000, raising=False)
        (finding,) = machine.clocks("cuda:0")
        return finding

    monkeypatch.setattr(nvml, "uuid_of", lambda device: "1-2")
    assert look(False, reasons=0x2, clock_mhz=1500) == ok("clock control", "held at 1500 MHz")
    user = look(False, reasons=0, clock_mhz=1980)
    assert user.consequence == machine.NO_CONTROL
    assert "administrator" in user.remedy
    assert "--lock-gpu-clocks" in look(True, reasons=0, clock_mhz=1980).remedy
    assert look(True).found == "no reasons"


def test_energy_of_a_gpu_without_counter_is_missing(monkeypatch):
    monkeypatch.setattr(nvml, "uuid_of", lambda device: "1-2")
    monkeypatch.setattr(nvml, "opened", FakeGpu())
    assert severities(machine.energy_counter("cuda:0")) == {"energy counter": "missing"}
    monkeypatch.setattr(nvml, "opened", FakeGpu(energy_j=7.0))
    assert severities(machine.energy_counter("cuda:0")) == {"energy counter": "ok"}


def watched(milliseconds, others=0.0, absent=(), **readings):
    """A probe of two seconds on two cores."""
    still = {"cpu_busy_s": 0.0, "cpu_own_s": 0.0, "cpu_steal_s": 0.0, **readings}
    after = still | {"cpu_busy_s": 2.0 + others * 4, "cpu_own_s": 2.0}
    samples = [Sample(0, still), Sample(2 * 10**9, after)]
    return Probe(milliseconds, types.SimpleNamespace(samples=samples, absent=dict.fromkeys(absent)))


@pytest.mark.parametrize(
    ("seen", "severity"),
    [
        (watched([1.0] * 100), "ok"),
        (watched([1.0] * 80 + [2.0] * 20), "limits"),
        (watched([1.0] * 50 + [1.1] * 50), "limits"),
        (watched([1.0] * 100, others=0.3), "limits"),
        (watched([1.0] * 100, gpu_utilization=0.3), "limits"),
        (watched([1.0] * 100, gpu_utilization=0.0), "ok"),
    ],
)
def test_neighbours(seen, severity):
    assert probe.neighbours(seen, cores=2)[0].severity == severity


def test_conditions_that_cannot_be_watched_are_named():
    (finding,) = probe.readings(watched([1.0, 1.0], absent=["cpu_clock_mhz"]))
    assert finding.severity == "limits"
    assert "others on the CPU" in finding.found
    assert "CPU clock" in finding.consequence
    assert severities(probe.readings(watched([1.0, 1.0]))) == {"conditions": "ok"}
    assert "GPU clock" in probe.readings(watched([1.0, 1.0], absent=["gpu"]))[0].consequence


def test_threads_beyond_the_cores_and_threads_that_spin(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    monkeypatch.setattr(machine.procfs, "usable_cores", lambda: [0, 1])
    (finding,) = machine.threads()
    assert finding.remedy == "set OMP_NUM_THREADS=2"
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    assert severities(machine.threads()) == {"threads": "ok"}
    monkeypatch.setattr("harness.machine.procfs.quota_cores", lambda: 1.5)
    assert machine.threads()[0].remedy == "set OMP_NUM_THREADS=1"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert machine.threads()[0].remedy == "unset OMP_WAIT_POLICY"


def test_a_coarse_clock_limits(monkeypatch):
    marks = iter(range(0, 10**9, 50_000))
    monkeypatch.setattr(machine.time, "perf_counter_ns", lambda: next(marks))
    (finding,) = machine.timer()
    assert finding.consequence == "a call under 5.0 ms cannot be timed to 1 %"


def test_a_full_disk_limits(monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=2**20))
    assert severities(machine.disk()) == {"disk": "limits"}


def test_locks(monkeypatch):
    assert severities(machine.lock()) == {"one at a time": "ok"}
    monkeypatch.setattr(locks, "PAUSES_WORK", False)
    assert severities(machine.lock()) == {"one at a time": "limits"}

    def refuse(device):
        raise PermissionError(device)

    monkeypatch.setattr(locks, "measuring", refuse)
    assert severities(machine.lock()) == {"one at a time": "broken"}


def test_missing_packages_are_named_with_their_remedy(monkeypatch):
    monkeypatch.setattr(software, "_has", lambda module: False)
    monkeypatch.setattr(software.shutil, "which", lambda name: None)
    assert software.evaluators()[0].remedy == "pip install pycocotools hotcoco"
    found = {item.check: item for item in [*software.runtimes(False), *software.extras()]}
    assert set(severities(found.values()).values()) == {"missing"}
    assert found["onnxruntime"].remedy == "pip install 'detbench[export]'"
    assert "a C++ compiler" in found["torch.compile"].remedy
    assert found["kaleido"].remedy == "pip install 'detbench[static-plots]'"
    assert software.runtimes(True)[1].remedy == "pip install 'detbench[gpu]'"


def test_onnxruntime_without_cuda_limits_on_a_gpu(monkeypatch):
    runtime = types.SimpleNamespace(get_available_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(software, "_has", lambda module: True)
    monkeypatch.setattr(importlib, "import_module", lambda name: runtime)
    assert severities(software.runtimes(True))["onnxruntime"] == "limits"
    assert severities(software.runtimes(False))["onnxruntime"] == "ok"


@pytest.mark.parametrize(
    ("cuda", "remedy"), [(None, "install torch for CUDA"), ("13.0", "update the driver")]
)
def test_a_gpu_that_torch_cannot_use_is_told(monkeypatch, cuda, remedy):
    torch = types.SimpleNamespace(
        __version__="9.9",
        version=types.SimpleNamespace(cuda=cuda),
        cuda=types.SimpleNamespace(is_available=lambda: False),
    )
    monkeypatch.setattr(importlib, "import_module", lambda name: torch)
    monkeypatch.setattr(nvml, "device_count", lambda: 2)
    (finding,) = software.gpu()
    assert finding.found == "the driver has 2, torch 9.9 cannot use any"
    assert finding.remedy.startswith(remedy)
