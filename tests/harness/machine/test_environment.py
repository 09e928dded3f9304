import json
import platform
import sys
import types

import pytest
import torch

from harness.machine import environment


def test_capture_is_json_and_holds_no_blank():
    facts = environment.capture("cpu")
    assert json.loads(json.dumps(facts)) == facts
    assert facts["python"] == platform.python_version()
    assert facts["packages"]["torch"] == torch.__version__.split("+")[0]
    assert facts["threads"] == torch.get_num_threads()
    assert facts["cpu"]["cores"] >= 1
    assert facts["device"] == "cpu"
    assert "gpu" not in facts
    blanks = [part for part in (facts, facts["cpu"], facts["torch"]) if None in part.values()]
    assert blanks == []


def test_the_host_is_told_apart_and_not_named(monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "a-very-telling-name")
    first = environment.capture("cpu")
    monkeypatch.setattr(platform, "node", lambda: "another-telling-name")
    assert "telling" not in json.dumps(first)
    assert first["host"] != environment.capture("cpu")["host"]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()

    def answer(text):
        monkeypatch.setattr(environment, "_output", lambda *command: text)
        return environment._git(tmp_path)

    return answer


def test_git(checkout, tmp_path):
    head = "# branch.oid 0123abc\n# branch.head main"
    assert checkout(head) == {"commit": "0123abc", "dirty": False}
    assert checkout(head + "\n? harness/new.py") == {"commit": "0123abc", "dirty": True}
    assert checkout("# branch.oid (initial)") is None
    assert checkout(None) is None
    assert environment._git(tmp_path / "elsewhere") is None


def test_a_command_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(environment, "GIT_SECONDS", 0.05)
    hang = (sys.executable, "-c", "import time; time.sleep(30)")
    assert environment._output(*hang) is None
    assert environment._output("no-such-command-anywhere") is None


class NVMLError(Exception):
    pass


def unsupported(*_):
    raise NVMLError


@pytest.fixture
def nvml(monkeypatch):
    module = types.SimpleNamespace(
        NVMLError=NVMLError,
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlSystemGetDriverVersion=lambda: "580.1",
        nvmlDeviceGetClockInfo=lambda handle, kind: {1: 1980, 2: 2619}[kind],
        nvmlDeviceGetMaxClockInfo=lambda handle, kind: 1980,
        nvmlDeviceGetPowerUsage=lambda handle: 350_000,
        nvmlDeviceGetEnforcedPowerLimit=unsupported,
        nvmlDeviceGetTemperature=lambda handle, kind: 41,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


def test_nvml_answers_what_it_can(nvml):
    assert environment._nvml("1-2") == {
        "driver": "580.1",
        "clock_mhz": 1980,
        "clock_memory_mhz": 2619,
        "clock_max_mhz": 1980,
        "power_w": 350.0,
        "temperature_c": 41,
    }


@pytest.mark.parametrize("name", ["nvmlInit", "nvmlDeviceGetHandleByUUID"])
def test_nvml_that_does_not_answer_is_absent(nvml, name):
    setattr(nvml, name, unsupported)
    assert environment._nvml("1-2") == {}


@pytest.mark.gpu
def test_capture_of_a_gpu():
    facts = environment.capture("cuda:0")
    assert facts["gpu"]["name"] == torch.cuda.get_device_name(0)
    assert facts["gpu"]["memory_bytes"] > 0
    json.dumps(facts)


def test_what_steers_threads_is_kept(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setenv("HOME_OF_SECRETS", "x")
    found = environment.capture("cpu")["variables"]
    assert found["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "HOME_OF_SECRETS" not in found
