import copy
import dataclasses
import logging

import pytest
import torch
from torch import nn

import detectors
from detectors.interface import DenseOutputs, Detector, InputConfig
from harness.measure import complexity
from harness.measure.complexity import crosscheck, products, shapes
from tests.detectors.small import SMALL
from tests.toy import TOY


class Feed(nn.Module):
    """Pass a tensor of a given shape through a layer, several times."""

    def __init__(self, layer, shape, times):
        super().__init__()
        self.layer, self.shape, self.times = layer, shape, times

    def forward(self, images):
        return [self.layer(images.new_zeros(self.shape)) for _ in range(self.times)]


class NoHead(nn.Module):
    def forward(self, features):
        nothing = features[0].new_zeros(1, 0, 4)
        return DenseOutputs(nothing, nothing, nothing[0, :, :2], nothing[0, :, 0])


class Around(Detector):
    """A detector whose backbone is one layer."""

    def __init__(self, layer, shape, times=1):
        super().__init__()
        self.config = type("Config", (), {"input": InputConfig(size=(32, 32))})
        self.backbone = Feed(layer, shape, times)
        self.neck, self.head, self.postprocess = nn.Identity(), NoHead(), nn.Identity()
        self.criterion = None


def counted(layer, shape, times=1):
    return complexity.count(Around(layer, shape, times), (32, 32))


@pytest.mark.parametrize(
    ("layer", "shape", "macs", "params"),
    [
        (nn.Conv2d(8, 16, 3, padding=1), (1, 8, 20, 20), 20 * 20 * 16 * 8 * 9, 16 * 8 * 9 + 16),
        (nn.Conv2d(8, 16, 3, 2, groups=4), (1, 8, 21, 21), 10 * 10 * 16 * 2 * 9, 16 * 2 * 9 + 16),
        (nn.Conv2d(8, 8, 5, 1, 2, groups=8), (1, 8, 20, 20), 20 * 20 * 8 * 25, 8 * 25 + 8),
        (nn.Linear(32, 64, bias=False), (1, 10, 32), 10 * 32 * 64, 32 * 64),
        (nn.Sequential(nn.BatchNorm2d(8), nn.SiLU()), (1, 8, 20, 20), 0, 16),
    ],
    ids=["conv", "grouped", "depthwise", "linear", "no products"],
)
def test_closed_forms(layer, shape, macs, params):
    result = counted(layer, shape)
    assert result.metrics["macs"] == macs
    assert result.metrics["flops"] == 2 * macs
    assert result.metrics["params"] == params
    assert result.details["training"]["by_stage"]["backbone"]["macs"] == macs
    assert result.details["cross_check"]["relative_difference"] == 0
    assert result.caveats == {}


class OnCpu(nn.Module):
    """Asks for a value, so that the layer inside is counted on the CPU and its fused kernels."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.register_buffer("one", torch.tensor(1))

    def forward(self, x):
        return self.layer(x[: int(self.one)])


@pytest.mark.parametrize(("place", "device"), [(nn.Sequential, "meta"), (OnCpu, "cpu")])
def test_attention_is_counted_whole(place, device):
    layer = place(nn.TransformerEncoderLayer(256, 8, 1024, batch_first=True))
    tokens, width, hidden = 400, 256, 1024
    products = 4 * tokens * width * width + 2 * tokens * tokens * width
    expected = products + 2 * tokens * width * hidden
    assert expected == 396_492_800
    result = counted(layer, (1, tokens, width))
    assert result.details["device"] == device
    assert result.metrics["macs"] == expected
    assert result.metrics["macs_deployed"] == expected


def test_every_count_runs_without_fused_attention():
    seen = set()

    def look(*_):
        fast, flash = torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda
        seen.add((fast, flash.flash_sdp_enabled(), flash.mem_efficient_sdp_enabled()))

    layer = nn.Linear(4, 4)
    layer.register_forward_pre_hook(look)
    counted(layer, (1, 4))
    assert seen == {(False, False, False)}


def test_a_disagreement_of_the_counters_names_the_module():
    layer = nn.TransformerEncoderLayer(256, 8, 1024, batch_first=True)
    result = counted(layer, (1, 400, 256))
    check = result.details["cross_check"]
    assert check["relative_difference"] < -crosscheck.TOLERANCE
    assert check["missed"] == {"aten::scaled_dot_product_attention": 1}
    for metric in ("macs", "flops"):
        assert "in backbone.layer.self_attn: fvcore has" in result.caveats[metric]
        assert "no formula for aten::scaled_dot_product_attention" in result.caveats[metric]


def test_a_shared_convolution_counts_for_each_level_and_is_stored_once():
    class Levels(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(64, 64, 3, padding=1, bias=False)
            self.again = self.conv

        def forward(self, images):
            return [self.conv(images.new_zeros(1, 64, size, size)) for size in (64, 32, 16)]

    class Shared(Around):
        def __init__(self):
            super().__init__(nn.Identity(), (1,))
            self.backbone = Levels()

    result = complexity.count(Shared(), (32, 32))
    assert result.metrics["macs"] == 198_180_864
    assert result.metrics["params"] == 64 * 64 * 9
    assert result.details["training"]["by_operator"] == {"aten.convolution": 198_180_864}


def test_frozen_parameters_are_told_apart():
    model = TOY.build()
    model.backbone.requires_grad_(False)
    training = complexity.count(model, (64, 64)).details["training"]
    assert training["params"] == 1634
    assert training["params_trainable"] == 90
    assert training["by_stage"]["backbone"]["params_trainable"] == 0


def test_the_toy_by_stage():
    result = complexity.count(TOY.build(), (64, 64))
    stages = {name: part["macs"] for name, part in result.details["deployed"]["by_stage"].items()}
    assert stages == {"backbone": 64 * 3 * 64 * 8, "neck": 0, "head": 64 * 8 * 10}
    assert list(result.details["stages_not_counted"]) == ["postprocess"]
    assert result.details["deployed"]["params_trainable"] == 0
    assert result.metrics["macs"] == sum(stages.values())


def test_the_training_graph_alone():
    detector = TOY.build()
    whole = complexity.count(detector, (64, 64)).metrics
    expected = {name: whole[name] for name in ("params", "macs", "flops")}
    assert complexity.count_training(detector, (64, 64)) == expected


@pytest.mark.parametrize("name", SMALL)
def test_a_plan_counts_the_same(name):
    detector = detectors.create(name, SMALL[name])
    expected = complexity.count_training(detector, (64, 64))
    assert products.count(detector, (64, 64)) == expected
    assert detector.training


def test_a_plan_counts_a_model_that_asks_for_values():
    assert products.count(Around(Asking(), (1, 4)), (32, 32))["macs"] == 3 * 16


class Odd(nn.Module):
    def forward(self, x):
        return torch.fft.rfft2(x).abs() + x.softmax(-1).sigmoid().sum()


def test_what_has_no_formula_is_listed():
    result = counted(Odd(), (1, 8, 8, 8), times=2)
    missing = result.details["training"]["not_counted"]
    assert missing["elementwise"]["aten.sigmoid"] == 2
    assert missing["cheap"]["aten._softmax"] == 2
    assert missing["unknown"] == {"aten._fft_r2c": 2}
    assert "_fft_r2c" in result.caveats["macs"]
    assert "_fft_r2c" in result.caveats["flops_deployed"]


class Asking(nn.Module):
    """Computes as often as its values say."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("times", torch.tensor(3))

    def forward(self, x):
        for _ in range(int(self.times)):
            x = self.linear(x)
        return x


def test_a_model_that_asks_for_values_is_counted_with_values():
    result = counted(Asking(), (1, 4))
    assert result.details["device"] == "cpu"
    assert result.metrics["macs"] == 3 * 16
    assert counted(nn.Linear(4, 4), (1, 4)).details["device"] == "meta"


def test_a_second_counter_that_fails_leaves_a_caveat(monkeypatch):
    def fail(*_):
        raise RuntimeError("no trace\nof anything")

    monkeypatch.setattr(crosscheck, "_fvcore", fail)
    result = counted(nn.Linear(4, 4), (1, 4))
    assert result.metrics["macs"] == 16
    assert "RuntimeError: no trace" in result.caveats["macs"]


def test_a_model_that_cannot_run_raises_its_own_error():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied|size mismatch"):
        counted(nn.Linear(4, 4), (1, 5))


@pytest.mark.parametrize("training", [True, False])
def test_the_model_and_torch_stay_as_they_are(training):
    model = TOY.build().train(training)
    state = copy.deepcopy(model.state_dict())
    identities = [id(parameter) for parameter in model.parameters()]
    fast, level = torch.backends.mha.get_fastpath_enabled(), logging.getLogger("fvcore").level
    complexity.count(model, (64, 64))
    assert model.training is training
    assert model.criterion is not None
    assert [id(parameter) for parameter in model.parameters()] == identities
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert logging.getLogger("fvcore").level == level


@pytest.mark.parametrize(
    ("name", "params", "macs", "mmengine"),
    [
        ("rtmdet_tiny", 4_896_168, 8_036_087_040, 8_089_002_240),
        *(
            pytest.param(*of_a_size, marks=pytest.mark.slow)
            for of_a_size in (
                ("rtmdet_s", 8_886_924, 14_760_693_760, 14_834_933_760),
                ("rtmdet_m", 24_709_188, 39_066_485_760, 39_205_493_760),
                ("rtmdet_l", 52_315_804, 79_898_787_840, 80_120_995_840),
                ("rtmdet_x", 94_855_572, 141_189_760_000, 141_513_600_000),
            )
        ),
    ],
)
def test_rtmdet(name, params, macs, mmengine):
    result = complexity.count(detectors.create(name), (640, 640))
    assert result.metrics["params"] == params
    assert result.metrics["macs"] == macs
    assert result.metrics["macs_deployed"] == macs
    assert result.metrics["flops"] == 2 * macs
    assert result.details["device"] == "meta"
    assert result.details["cross_check"]["macs"] == macs
    assert result.details["cross_check"]["modules"] == {}
    assert result.details["training"]["conventions"]["mmengine"] == mmengine
    assert result.details["training"]["not_counted"]["unknown"] == {}
    assert result.caveats == {}


def test_the_second_counter_misses_the_attention_of_rtdetr_and_says_so():
    result = complexity.count(detectors.create("rtdetr_r18"), (320, 320))
    check, ours = result.details["cross_check"], result.metrics["macs"]
    encoder, decoder = 2 * (10 * 10) ** 2 * 256, 3 * 2 * 300**2 * 256
    assert ours - check["macs"] == encoder + decoder
    assert check["missed"] == {"aten::scaled_dot_product_attention": 4}
    assert "in head.layers.0.self_attn and 3 more: fvcore has no" in result.caveats["macs"]
    assert "no formula for aten::scaled_dot_product_attention" in result.caveats["macs"]
    products = {"neck.intra.0.0.self_attn": -encoder}
    products |= {f"head.layers.{layer}.self_attn": -decoder // 3 for layer in range(3)}
    assert check["modules"] == products
    # Four corners of 12 points for each of 300 queries, 256 channels and 3 layers, as fvcore has it
    sampled = 3 * 300 * 256 * 12 * 4
    assert result.details["training"]["sampling"] == {"aten.grid_sampler_2d": sampled}
    assert list(result.caveats) == ["macs", "flops"]


MAP = torch.empty(2, 8, 20, 20, device="meta")
GRID = torch.empty(2, 5, 6, 2, device="meta", dtype=torch.float32)
NORM = [torch.empty(8, device="meta") for _ in range(4)]


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("_native_batch_norm_legit_no_training", (MAP, *NORM, 0.1, 1e-5), {}),
        ("grid_sampler_2d", (MAP, GRID, 0, 0, False), {}),
        ("add.Tensor", (MAP, 1), {}),
        ("add.Tensor", (MAP.int(), 1), {}),
        ("add.Tensor", (MAP.int(), 1.0), {}),
        ("sum.dim_IntList", (MAP, [1, 2]), {"dtype": torch.float64}),
        ("cat", ([MAP, MAP], 1), {}),
        ("cat", ([MAP, MAP], 2), {}),
        ("clone", (MAP.permute(0, 2, 3, 1),), {}),
        ("clone", (MAP,), {"memory_format": torch.channels_last}),
    ],
)
def test_a_remembered_operator_gives_what_it_gave(name, args, kwargs):
    packet, _, overload = name.partition(".")
    func = getattr(getattr(torch.ops.aten, packet), overload or "default")
    plain = func(*args, **kwargs)
    for _ in range(3):
        found = shapes.run(func, args, kwargs)
        for ours, theirs in zip(
            *(x if type(x) is tuple else (x,) for x in (found, plain)), strict=True
        ):
            assert ours is not theirs
            assert ours.device == theirs.device
            assert (ours.shape, ours.stride()) == (theirs.shape, theirs.stride())
            assert ours.dtype == theirs.dtype


def test_what_has_values_or_shares_a_tensor_runs_each_time():
    one, two = torch.ones(3), torch.full((3,), 2.0)
    add, relu, view = torch.ops.aten.add.Tensor, torch.ops.aten.relu_.default, torch.ops.aten.view
    for _ in range(2):
        assert shapes.run(add, (one, one), {}).tolist() == [2, 2, 2]
        assert shapes.run(add, (one, two), {}).tolist() == [3, 3, 3]
        assert shapes.run(relu, (MAP,), {}) is MAP
        assert shapes.run(view.default, (MAP, [-1]), {})._base is MAP


def test_counts_of_inputs_as_large_as_their_photographs_say_at_which_size():
    input = InputConfig(size=(64, 100), resize="shortest_edge")
    model = dataclasses.replace(TOY, input=input).build()
    found = complexity.count(model, input.largest)
    same = complexity.count(TOY.build(), (64, 128))
    assert found.metrics == same.metrics
    words = "at 128 x 64, the largest input; smaller photographs take less"
    assert words in found.caveats["macs"]
    assert words in found.caveats["flops_deployed"]
    assert "params" not in found.caveats
    assert not any("largest input" in text for text in same.caveats.values())
