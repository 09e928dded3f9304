"""Files of weights as people have them, those that attack, and those that are damaged."""

import argparse
import json
import os
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import detectors
from detectors import containers
from detectors.config import override
from detectors.interface import Detector, WeightsError
from detectors.unpickling import Opaque
from detectors.unwrap import unwrap
from detectors.weights import WEIGHTS_FILE, fill, read, save
from tests.detectors import golden
from tests.toy import TOY

GOLDEN = Path(golden.__file__).parents[1] / "golden"
CONFIG = override(TOY, {"num_classes": 3, "width": 2})


def toy(seed: int = 0) -> Detector:
    torch.manual_seed(seed)
    return CONFIG.build()


class Hook:
    """An object of somebody's trainer."""

    def __init__(self) -> None:
        self.log = [1.0, 2.0]


State = dict[str, Tensor]


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def other(state: State) -> State:
    """Weights that are not to be taken."""
    return {key: value + 1 for key, value in state.items()}


CONTAINERS: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "ddp": lambda state: under("module.", state),
    "mmengine": lambda state: {
        "meta": {"dataset_meta": {"classes": ("a", "b", "c")}, "hook": Hook()},
        "message_hub": {"log": Hook()},
        "state_dict": state,
        "ema_state_dict": {"steps": torch.tensor(4), **under("module.", other(state))},
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(9)}}},
    },
    "mmengine of ddp": lambda state: {"state_dict": under("module.", state)},
    "mmengine, average alone": lambda state: {"ema_state_dict": under("module.", state)},
    "rt-detr": lambda state: {
        "model": other(state),
        "ema": {"module": state, "updates": 9},
        "args": argparse.Namespace(lr=1e-4),
        "last_epoch": 3,
    },
    "rt-detr of ddp": lambda state: {
        "model": under("module.", other(state)),
        "ema": {"module": under("module.", state)},
    },
    "rt-detr without average": lambda state: {"model": state, "ema": None},
    "lightning": lambda state: {
        "state_dict": {**under("net.detector.", state), "loss.weight": torch.ones(1)},
        "pytorch-lightning_version": "2.6.0",
        "hyper_parameters": {"lr": 1e-3, "hook": Hook()},
        "callbacks": {"ModelCheckpoint": {"best": torch.tensor(1.0)}},
    },
    "lightning with average": lambda state: {
        "state_dict": {**under("model.", other(state)), **under("ema.module.", state)}
    },
    "timm": lambda state: {"state_dict": other(state), "state_dict_ema": state},
    "compiled": lambda state: under("_orig_mod.", state),
    "half": lambda state: {key: value.half() for key, value in state.items()},
    "parameters": lambda state: OrderedDict(
        (key, nn.Parameter(value, requires_grad=value.is_floating_point()))
        for key, value in state.items()
    ),
    "deep": lambda state: {"trainer": {"averaged": {"net": state}, "raw": {"net": other(state)}}},
}


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin"])
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_works_for_the_smallest_detector(
    tmp_path: Path, container: str, suffix: str
) -> None:
    source, model = toy(), toy(1)
    torch.save(CONTAINERS[container](source.state_dict()), tmp_path / f"file{suffix}")
    taken = fill(model, tmp_path / f"file{suffix}")
    tolerance = 1e-3 if container == "half" else 0
    assert taken.fresh == ()
    found = model.state_dict()
    for key, value in source.state_dict().items():
        torch.testing.assert_close(found[key], value, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module", params=[("rtmdet_tiny", "rtmdet_tiny"), ("rtdetr_r18", "hf_r18")])
def upstream(request: pytest.FixtureRequest) -> tuple[Detector, State, dict[str, Any]]:
    """Return a detector without memory, weights under upstream's keys, and the same under ours."""
    name, source = request.param
    with torch.device("meta"):
        model = detectors.create(name)
    theirs = dict(golden.upstream_weights(source))
    return model, theirs, dict(model.translate(theirs))


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_works_with_upstreams_keys(
    upstream: tuple[Detector, State, dict[str, Any]], container: str
) -> None:
    model, theirs, expected = upstream
    found = unwrap(model, CONTAINERS[container](theirs)).state
    assert found.keys() == expected.keys() == model.state_dict().keys()
    for key, value in expected.items():
        wanted = value.half() if container == "half" else value
        assert torch.equal(found[key], wanted), key


def test_the_file_of_mmengines_own_runner_loads_with_its_average() -> None:
    """Made by mmengine 0.10.7, see tests/golden/mmengine_runner.py."""
    file, model = GOLDEN / "mmengine_runner.pth", toy()
    content = read(file)
    assert isinstance(content["message_hub"]["log_scalars"]["train/loss"], Opaque)
    fill(model, file)
    sums = json.loads((GOLDEN / "mmengine_runner.json").read_text("utf-8"))
    assert sums.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert float(value.double().sum()) == pytest.approx(sums[key], rel=1e-12)
    assert detectors.class_names(file, CONFIG) == (("bolt", "nut", "washer"), False)


def test_what_torchs_ddp_saves_loads_also_as_an_average(tmp_path: Path) -> None:
    model, averaged = toy(), toy(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1
    )
    try:
        ddp = nn.parallel.DistributedDataParallel(model)
        mean = torch.optim.swa_utils.AveragedModel(nn.parallel.DistributedDataParallel(averaged))
        torch.save({"model": ddp.state_dict(), "epoch": 3}, tmp_path / "ddp.pth")
        both = {"model": ddp.state_dict(), "ema": mean.state_dict()}
        torch.save(both, tmp_path / "ema.ckpt")
    finally:
        torch.distributed.destroy_process_group()
    for name, source in (("ddp.pth", model), ("ema.ckpt", averaged)):
        filled_one = toy(2)
        fill(filled_one, tmp_path / name)
        expected = source.state_dict()
        assert all(torch.equal(v, expected[k]) for k, v in filled_one.state_dict().items()), name


def test_files_from_before_torch_used_zip_load(tmp_path: Path) -> None:
    source, model = toy(), toy(1)
    content = CONTAINERS["mmengine"](source.state_dict())
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    fill(model, tmp_path / "old.pth")
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in model.state_dict().items())


def test_safetensors_load_with_and_without_metadata(tmp_path: Path) -> None:
    source = toy()
    for number, metadata in enumerate((None, {"format": "pt"})):
        file, model = tmp_path / f"{number}.safetensors", toy(1)
        save_file(under("module.", source.state_dict()), file, metadata)
        fill(model, file)
        assert all(torch.equal(v, source.state_dict()[k]) for k, v in model.state_dict().items())


def test_what_a_file_is_its_content_tells(tmp_path: Path) -> None:
    source = toy().state_dict()
    torch.save(source, tmp_path / "zip.safetensors")
    save_file(source, tmp_path / "flat.pth")
    for name in ("zip.safetensors", "flat.pth"):
        assert read(tmp_path / name).keys() == source.keys()


def test_views_share_their_storage_and_keep_their_shape(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    content = {"a": whole, "b": whole.T[1:4], "c": whole[2, 1:3], "d": torch.zeros(0, 3)}
    content |= {"e": torch.tensor(3), "f": torch.tensor([True, False]), "g": whole.bfloat16()}
    torch.save(content, tmp_path / "views.pt")
    found = read(tmp_path / "views.pt")
    assert all(torch.equal(found[key], value) for key, value in content.items())


class Call:
    """Pickles as a call of a function with these arguments, and a state for what it returns."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.told = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.told


def attacks(mark: Path) -> dict[str, Any]:
    """Contents that would make a file, if any of what they name were called."""
    code = f"open({str(mark)!r}, 'w').close()"
    rebuild, load = torch._utils._rebuild_tensor_v2, torch.load
    return {
        "system": Call(os.system, f"touch {mark}"),
        "eval": Call(eval, code),
        "exec": Call(exec, code),
        "getattr": Call(getattr, Call(__import__, "os"), "system"),
        "mkdir": Call(os.mkdir, str(mark)),
        "odd arguments": Call(rebuild, Call(eval, code), 0, (1,), (1,), False, OrderedDict()),
        "from type": Call(torch._tensor._rebuild_from_type_v2, eval, dict, (code,), {}),
        "load": Call(load, Call(open, str(mark), "w")),
        "state": Call(argparse.Namespace, state={"__setstate__": Call(eval, code)}),
        "in a list": [[[Call(eval, code)]]],
        "key": {"a": {Call(eval, code): 1}},
    }


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("name", attacks(Path()))
def test_a_file_that_attacks_does_nothing(tmp_path: Path, name: str, protocol: int) -> None:
    mark, file = tmp_path / "mark", tmp_path / "attack.pth"
    state = toy().state_dict()
    content = {"state_dict": state, "hook": attacks(mark)[name]}
    torch.save(content, file, pickle_protocol=protocol)
    model = toy(1)
    fill(model, file)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not mark.exists()


@pytest.mark.parametrize("name", ["system", "eval", "exec", "mkdir"])
def test_the_attacks_are_real(tmp_path: Path, name: str) -> None:
    torch.save(attacks(tmp_path / "mark")[name], tmp_path / "attack.pth")
    torch.load(tmp_path / "attack.pth", weights_only=False)
    assert (tmp_path / "mark").exists()


def archive(file: Path, pickled: bytes, numbers: bytes = bytes(16)) -> Path:
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("x/data.pkl", pickled)
        opened.writestr("x/data/0", numbers)
    return file


def tensor(count: int, size: str, stride: str) -> bytes:
    """A pickle of protocol 0 of a dict with one tensor."""
    storage = f"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nL{count}L\ntQ"
    rebuild = f"ctorch._utils\n_rebuild_tensor_v2\n({storage}I0\n({size}t({stride}tI00\nNtR"
    return f"(dS'w'\n{rebuild}s.".encode()


HUGE = 2**40
CLAIMS = {
    "more numbers than there are": tensor(HUGE, f"L{HUGE}L\n", "I1\n"),
    "more than its storage has": tensor(4, f"L{HUGE}L\n", "I1\n"),
    "long text": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "long bytes": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
    "a far place in the memo": b"\x80\x02}r\xff\xff\xff\xff1.",
    "a long number": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
    "an instruction for buffers": b"\x80\x05\x97.",
    "nothing on the stack": b"\x80\x02R.",
    "no end": b"\x80\x02}",
    "below a mark": b"\x80\x02}(0R.",
    "numbers for a mapping": b"\x80\x02}(K\x01u.",
    "a storage of nothing": b"\x80\x02K\x01Q.",
}


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_beyond_the_file_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match=r"attack\.pth: not a file that torch") as caught:
        read(archive(tmp_path / "attack.pth", CLAIMS[name]))
    assert "\n" not in str(caught.value)


def test_a_tensor_that_repeats_numbers_without_end_is_never_made(tmp_path: Path) -> None:
    content = read(archive(tmp_path / "wide.pth", tensor(4, f"L{HUGE}L\n", "I0\n")))
    assert isinstance(content["w"], Opaque)


def test_values_that_contain_themselves_are_no_trap(tmp_path: Path) -> None:
    """Thirty dicts, each twice in the next, would be walked a thousand million times."""
    state = toy().state_dict()
    nested: dict[str, Any] = {}
    for _ in range(60):
        nested = {"a": nested, "b": nested}
    loop: dict[str, Any] = {}
    loop["self"] = loop
    torch.save({"loop": loop, "nested": nested, "net": state}, tmp_path / "loop.pth")
    model = toy(1)
    fill(model, tmp_path / "loop.pth")
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("memo", [False, True])
def test_numbers_that_all_collide_are_not_kept(tmp_path: Path, memo: bool) -> None:
    """Each of them has the hash of all others, so that a dict of them takes the square of time."""
    numbers = [str((2**61 - 1) * k).encode() for k in range(1, 100_000)]
    if memo:
        content = b"}" + b"".join(b"p" + number + b"\n" for number in numbers) + b"."
    else:
        content = b"}(" + b"".join(b"L" + number + b"L\nN" for number in numbers) + b"u."
    file = archive(tmp_path / "file.pth", b"\x80\x02" + content)
    if memo:
        with pytest.raises(WeightsError, match="notes more values than any has"):
            read(file)
    else:
        assert read(file) == {}


def test_compressed_records_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("x/data.pkl", bytes(10_000_000))
    with pytest.raises(WeightsError, match=r"a record is compressed"):
        read(tmp_path / "bomb.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>", "a web page, not weights"),
        (b"weights", "a text file, not weights"),
        (b"", "the file is empty"),
        (b"\x00\x01\x02", r"not a file that torch\.save wrote"),
        (pickle.dumps({"a": 1}), r"not a file that torch\.save wrote"),
    ],
)
def test_what_is_no_weights_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read(tmp_path / "file.pth")


def damaged(content: bytes, seed: int) -> bytes:
    """Flip one to four bits or bytes, cut the end off, or take some bytes out."""
    draw = random.Random(seed)
    data = bytearray(content)
    kind = draw.choice(["bit", "bit", "bytes", "end", "hole"])
    if kind == "end":
        return bytes(data[: draw.randrange(len(data))])
    if kind == "hole":
        start = draw.randrange(len(data))
        return bytes(data[:start] + data[start + draw.randint(1, 64) :])
    for _ in range(1 if kind == "bit" else draw.randint(1, 4)):
        place = draw.randrange(len(data))
        data[place] = (
            data[place] ^ (1 << draw.randrange(8)) if kind == "bit" else draw.randrange(256)
        )
    return bytes(data)


def of_torch(folder: Path) -> Path:
    torch.save(CONTAINERS["mmengine"](toy().state_dict()), folder / "theirs.pth")
    return folder / "theirs.pth"


def of_ours(folder: Path) -> Path:
    return save(toy(), folder / "ours", "tests.toy:TOY") / WEIGHTS_FILE


def filled(file: Path) -> State | str:
    """Return the weights that a model takes from a file, or the line that refuses it."""
    model = toy(1)
    try:
        fill(model, file)
    except WeightsError as error:
        return str(error)
    return model.state_dict()


@pytest.mark.parametrize("make", [of_torch, of_ours])
def test_damaged_files_are_one_line_or_the_same_weights(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    file = make(tmp_path)
    whole, expected, refused = file.read_bytes(), toy().state_dict(), 0
    for seed in range(300):
        file.write_bytes(damaged(whole, seed))
        found = filled(file)
        if isinstance(found, str):
            refused += 1
            assert "\n" not in found, seed
            assert len(found) < 600, seed
        else:
            assert all(torch.equal(value, expected[key]) for key, value in found.items()), seed
    assert refused > 200


def test_damaged_safetensors_of_others_are_refused_where_it_can_be_told(tmp_path: Path) -> None:
    """They have no checksum: what is left are wrong values of the right size."""
    file, expected, refused = tmp_path / "theirs.safetensors", toy().state_dict(), 0
    save_file(expected, file)
    whole = file.read_bytes()
    for seed in range(300):
        file.write_bytes(damaged(whole, seed))
        found = filled(file)
        if isinstance(found, str):
            refused += 1
            assert "\n" not in found, seed
        else:
            assert all(torch.isfinite(value).all() for value in found.values()), seed
            wrong = sum(int((value != expected[key]).sum()) for key, value in found.items())
            assert wrong <= 4, seed
    assert refused > 100


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e30])
def test_weights_that_are_no_numbers_are_refused(value: float) -> None:
    state = toy().state_dict()
    state["head.predict.weight"][1, 0] = value
    with pytest.raises(WeightsError, match=r"head\.predict\.weight: holds numbers that are not"):
        fill(toy(), state)


def test_whole_numbers_are_no_weights() -> None:
    state = toy().state_dict()
    state["head.predict.bias"] = state["head.predict.bias"].to(torch.int8)
    with pytest.raises(WeightsError, match=r"head\.predict\.bias: expected numbers like"):
        fill(toy(), state)


def test_ours_have_a_checksum_and_older_ones_without_it_load(tmp_path: Path) -> None:
    file = of_ours(tmp_path)
    state = toy().state_dict()
    changed = {**state, "head.predict.bias": state["head.predict.bias"] * 1.5}
    save_file(changed, file, {containers.CHECKSUM: containers.checksum(state)})
    with pytest.raises(WeightsError, match=r"weights\.safetensors: damaged: its tensors do not"):
        read(file.parent)
    save_file(changed, file)
    assert torch.equal(read(file.parent)["head.predict.bias"], changed["head.predict.bias"])
