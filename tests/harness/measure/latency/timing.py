"""Subjects of latency tests: toy stages that claim to take some time of a clock that they set."""

import torch
from torch import nn

from harness.config.latency import LatencyConfig
from harness.measure.inputs import Inputs
from harness.measure.latency import Bench, measure_prepared
from harness.measure.latency.subjects import Prepared
from harness.measure.latency.timer import CpuTimer
from tests.toy import TOY

QUICK = LatencyConfig(
    images=4, min_samples=16, max_samples=48, block=4, seconds=1e6, reference=False
)


class FakeClock:
    """Goes on by one millisecond a reading, and by what a stage claims to take."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        self.now += 1_000_000
        return self.now


class Claims(nn.Module):
    """A stage that claims to take some milliseconds more."""

    def __init__(self, inner, clock, milliseconds, calls=None, name=""):
        super().__init__()
        self.inner, self.clock, self.milliseconds = inner, clock, milliseconds
        self.calls, self.name = calls, name

    def forward(self, *arguments):
        self.clock.now += int(self.milliseconds * 1e6)
        if self.calls is not None:
            self.calls.append(self.name)
        return self.inner(*arguments)


def inputs(count=4, size=64):
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([[size, size]])
    images = (torch.rand(1, 3, size, size, generator=generator) for _ in range(count))
    return tuple(Inputs(image, sizes) for image in images)


def of_stages(model, images, trained, macs=None):
    """Return a deployed detector as it is called eagerly, stage by stage."""
    return Prepared(
        model.detect,
        images,
        trained,
        network=model,
        postprocess=model.postprocess,
        stages=(model.backbone, model.neck, model.head),
        candidates=getattr(model.postprocess, "candidates", None),
        macs=macs,
        weight_bytes=sum(4 * weight.numel() for weight in model.state_dict().values()),
    )


def ready(trained=True, **stages):
    model = TOY.build().deploy()
    for stage, module in stages.items():
        setattr(model, stage, module)
    return of_stages(model, inputs(), trained, macs=1000.0)


def slowed(clock, calls=None, name="", **milliseconds):
    model = TOY.build().deploy()
    stages = {
        stage: Claims(getattr(model, stage), clock, extra, calls, name)
        for stage, extra in milliseconds.items()
    }
    return ready(**stages)


def stage_of(subject, name):
    return getattr(subject.network, name)


def timed(subjects, clock, config=QUICK, sampler=None, **options):
    bench = Bench("cpu", CpuTimer(clock), sampler)
    return measure_prepared(subjects, config, bench, **options)
