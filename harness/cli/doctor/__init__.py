"""`detbench doctor`: what this machine can and cannot support, and which claims follow."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from harness.cli import console
from harness.cli.doctor import machine, probe, software
from harness.cli.doctor.finding import Finding

CLAIMS = {  # what one may want to publish: the checks that must be fine for it
    "mAP": ("torch", "evaluators"),
    "parameters and operations": ("torch",),
    "ratios of latencies timed in turns": ("torch", "timer", "one at a time", "threads"),
    "differences of a few percent": ("timer", "one at a time", "threads", "neighbours"),
    "milliseconds": ("clock control", "one at a time", "threads", "neighbours"),
    "that nothing disturbed a run": ("conditions",),
    "latency on a GPU": ("gpu",),
    "energy per image": ("energy counter",),
    "latency compiled": ("torch", "torch.compile"),
    "latency with ONNX Runtime": ("onnxruntime",),
    "latency with TensorRT": ("tensorrt",),
}


class Claim(NamedTuple):
    """Something that a figure from this machine may be said to show, or not."""

    claim: str
    holds: bool
    against: tuple[str, ...]  # the checks that are not fine


def doctor(*, as_json: bool) -> int:
    """Examine the machine and print what was found; 1 if something essential is broken."""
    findings = examine()
    result = claims(findings)
    if as_json:
        console.print_json(
            {
                "findings": [item._asdict() for item in findings],
                "claims": [item._asdict() for item in result],
            }
        )
    else:
        _show(findings, result)
    return int(any(item.severity == "broken" for item in findings))


def examine() -> list[Finding]:
    """Run all checks; without a torch that works, those that do without it."""
    findings = _checked("torch", software.frameworks)
    torch = importlib.import_module("torch") if findings[0].severity == "ok" else None
    device = "cuda:0" if torch and torch.cuda.is_available() else "cpu"
    if torch:
        findings += _checked("gpu", software.gpu)
        findings += _checked("threads", machine.threads)
        findings += _checked("arithmetic", lambda: machine.slow_arithmetic(device))
    for name, check in (
        ("clock control", lambda: machine.clocks(device)),
        ("neighbours", lambda: _probed(device)),
        ("energy counter", lambda: machine.energy_counter(device)),
        ("timer", machine.timer),
        ("one at a time", machine.lock),
        ("disk", machine.disk),
        ("evaluators", software.evaluators),
        ("runtimes", lambda: software.runtimes(device != "cpu")),
        ("extras", software.extras),
    ):
        findings += _checked(name, check)
    return findings


def claims(findings: Sequence[Finding]) -> list[Claim]:
    """Say which claims follow from findings; a check that was not made stands against a claim."""
    fine = {item.check for item in findings if item.severity == "ok"}
    result = []
    for claim, checks in CLAIMS.items():
        against = tuple(check for check in checks if check not in fine)
        result.append(Claim(claim, not against, against))
    return result


def _probed(device: str) -> list[Finding]:
    if device != "cpu":
        torch = importlib.import_module("torch")
        torch.zeros(1, device=device)  # the driver then lists this process, and others beside it
    seen = probe.run(device)
    return [*probe.neighbours(seen), *probe.readings(seen)]


def _checked(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """Run a check; one that fails is a finding, and the others go on."""
    try:
        return check()
    except Exception as error:  # whatever is wrong with this machine is what was asked for
        return [Finding(name, "broken", f"{type(error).__name__}: {error}", "not examined")]


def _show(findings: Sequence[Finding], result: Sequence[Claim]) -> None:
    out = console.stdout()
    columns = {"check": "check", "severity": "state", "found": "found", "follows": "what follows"}
    rows: list[dict[str, Any]] = [
        {**item._asdict(), "follows": _follows(item)} for item in findings
    ]
    out.print(console.table(columns, rows, "This machine"))
    columns = {"claim": "a figure from here", "holds": "holds", "against": "against it"}
    rows = [
        {
            "claim": item.claim,
            "holds": "yes" if item.holds else "no",
            "against": ", ".join(item.against),
        }
        for item in result
    ]
    out.print(console.table(columns, rows, "What can be claimed"))


def _follows(finding: Finding) -> str:
    remedy = finding.remedy and f"remedy: {finding.remedy}"
    return "\n".join(filter(None, (finding.consequence, remedy)))
