"""Weights on disk: ours, upstream's, and everything that is neither."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import detectors
from detectors.config import KnobError
from detectors.interface import Detector
from detectors.rtmdet.releases import CHECKPOINTS
from detectors.rtmdet.weights import DROPPED, rename
from detectors.weights import WEIGHTS_FILE, WeightsError, load, read, save
from tests.detectors import golden
from tests.toy import TOY

NAMES = [name for name in golden.TOLERANCES if name.startswith("rtmdet")]
TINY = "rtmdet_tiny"


def upstream() -> dict[str, Tensor]:
    return dict(golden.upstream_weights(TINY))


def assert_loaded(model: Detector) -> None:
    expected = golden.upstream_weights(TINY)
    ours = model.state_dict()
    for key, theirs in {
        "backbone.stages.3.1.final.conv.weight": "backbone.stage4.1.conv2.conv.weight",
        "neck.reduce.1.norm.running_var": "neck.reduce_layers.0.bn.running_var",
        "head.classify.convs.1.conv.weight": "bbox_head.cls_convs.2.1.conv.weight",
        "head.regress.convs.0.norms.2.bias": "bbox_head.reg_convs.2.0.bn.bias",
        "head.regress.predict.1.weight": "bbox_head.rtm_reg.1.weight",
    }.items():
        assert torch.equal(ours[key], expected[theirs]), key


@pytest.mark.parametrize("name", NAMES)
def test_every_upstream_key_has_its_place(name: str) -> None:
    layers = golden.read_json("rtmdet.json")[name]["layers"]
    with torch.device("meta"):
        wanted = detectors.create(name).state_dict()
    renamed = {rename(key): list(shape) for key, shape, _ in golden.entries(layers)}
    assert renamed == {key: list(value.shape) for key, value in wanted.items()}


WRAPPERS: dict[str, Callable[[dict[str, Tensor]], dict[str, Any]]] = {
    "bare": lambda state: state,
    "released": lambda state: {"meta": {"epoch": 300}, "state_dict": state},
    "average only": lambda state: {
        "ema_state_dict": {"steps": torch.tensor(9)} | {f"module.{k}": v for k, v in state.items()}
    },
    "training": lambda state: {
        "state_dict": state,
        "ema_state_dict": {f"module.{key}": value + 1 for key, value in state.items()},
    },
    "preprocessor": lambda state: {
        "state_dict": state | {"data_preprocessor.mean": torch.zeros(3, 1, 1)}
    },
}


@pytest.mark.parametrize("layout", WRAPPERS)
def test_upstream_layouts_load(layout: str, tmp_path: Path) -> None:
    content = WRAPPERS[layout](upstream())
    assert_loaded(detectors.create(TINY, weights=content))
    torch.save(content, tmp_path / "checkpoint.pth")
    assert_loaded(detectors.create(TINY, weights=tmp_path / "checkpoint.pth"))


def test_our_state_dict_loads() -> None:
    model = detectors.create(TINY, weights=upstream())
    assert_loaded(detectors.create(TINY, weights=model.state_dict()))


def test_levels_that_should_share_must_agree() -> None:
    state = upstream()
    key = "bbox_head.reg_convs.1.0.conv.weight"
    state[key] = state[key] + 1
    with pytest.raises(WeightsError, match=r"bbox_head\.reg_convs\.1\.0\.conv\.weight: differs"):
        detectors.create(TINY, weights=state)


def test_missing_and_unknown_keys_are_refused() -> None:
    state = upstream()
    state["bbox_head.extra.weight"] = state.pop("bbox_head.rtm_cls.0.bias")
    with pytest.raises(WeightsError) as caught:
        detectors.create(TINY, weights=state)
    assert "missing head.classify.predict.0.bias" in str(caught.value)
    assert "unknown bbox_head.extra.weight" in str(caught.value)


def test_long_lists_of_keys_are_cut_short() -> None:
    with pytest.raises(WeightsError, match=r"missing (\S+ ){3}and \d+ more; unknown none; no"):
        detectors.create(TINY, weights={})


def test_other_shapes_are_refused_with_a_remedy() -> None:
    with pytest.raises(WeightsError) as caught:
        detectors.create(TINY, {"num_classes": 3}, weights=upstream())
    assert str(caught.value) == (
        "head.classify.predict.0.weight: the weights have shape [80, 96, 1, 1], the detector "
        "[3, 96, 1, 1]; they fit with num_classes: 80"
    )


def test_a_value_that_is_no_tensor_is_refused() -> None:
    state = TOY.build().state_dict() | {"head.predict.bias": 3}
    with pytest.raises(WeightsError, match=r"head\.predict\.bias: expected a tensor, got a int"):
        detectors.create(TOY, weights=state)


def test_save_and_load_keep_every_knob(tmp_path: Path) -> None:
    model = detectors.create("tests.toy:TOY", {"width": 4, "assigner.type": "Inside"})
    save(model, tmp_path / "new" / "folder", "tests.toy:TOY")
    description = json.loads((tmp_path / "new/folder/config.json").read_text())
    assert description["detector"] == "tests.toy:TOY"
    assert description["knobs"]["assigner.type"] == "Inside"
    loaded = load(tmp_path / "new/folder", trusted=("tests.toy:TOY",))
    assert loaded.config == model.config
    assert read(tmp_path / "new/folder").keys() == model.state_dict().keys()
    assert read(tmp_path / "new/folder/weights.safetensors").keys() == model.state_dict().keys()


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"config\.json: no config of a saved detector"):
        load(tmp_path)
    save(TOY.build(), tmp_path, "tests.toy:TOY")
    (tmp_path / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="a text file, not weights"):
        load(tmp_path, trusted=("tests.toy:TOY",))
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(WeightsError, match="no such file"):
        load(tmp_path, trusted=("tests.toy:TOY",))
    (tmp_path / "config.json").write_text('{"detector": "rtmdet_xs", "knobs": {}}')
    with pytest.raises(KnobError, match="rtmdet_xs"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(WeightsError, match="no config of a saved detector"):
        load(tmp_path)


class Unsafe:
    """What a pickle may hold and a state dict does not."""


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        read(tmp_path / "absent.pth")
    (tmp_path / "text.txt").write_text("weights")
    with pytest.raises(WeightsError, match=r"read from \.safetensors, \.pth, \.pt, \.ckpt or"):
        read(tmp_path / "text.txt")
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(WeightsError):
        read(tmp_path / "text.pth")
    (tmp_path / "empty.pth").write_text("")
    with pytest.raises(WeightsError, match="the file is empty"):
        read(tmp_path / "empty.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="holds a list, expected a state dict"):
        read(tmp_path / "list.pth")
    torch.save(Unsafe(), tmp_path / "object.pth")
    with pytest.raises(WeightsError, match=r"holds an object of .*; save its state_dict\(\) alone"):
        read(tmp_path / "object.pth")


def test_provenance_is_complete() -> None:
    assert list(CHECKPOINTS) == NAMES
    for name, checkpoint in CHECKPOINTS.items():
        assert checkpoint.url.endswith(f"-{checkpoint.sha256}.pth")
        assert f"/{name}_8xb32-300e_coco/" in checkpoint.url
        assert len(bytes.fromhex(checkpoint.sha256)) == 4
    assert all(prefix.endswith(".") for prefix in DROPPED)


def test_saving_leaves_alone_what_another_folder_links_to(tmp_path: Path) -> None:
    model = TOY.build()
    save(model, tmp_path / "a", "tests.toy:TOY")
    before = (tmp_path / "a" / WEIGHTS_FILE).read_bytes()
    (tmp_path / "b").mkdir()
    os.link(tmp_path / "a" / WEIGHTS_FILE, tmp_path / "b" / WEIGHTS_FILE)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    save(model, tmp_path / "b", "tests.toy:TOY")
    assert (tmp_path / "a" / WEIGHTS_FILE).read_bytes() == before
    assert (tmp_path / "b" / WEIGHTS_FILE).read_bytes() != before


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_weights_have_the_rights_that_the_user_gives_to_new_files(
    tmp_path: Path, mask: int
) -> None:
    """As in a folder that a group shares."""
    before = os.umask(mask)
    try:
        save(TOY.build(), tmp_path / "toy", "tests.toy:TOY")
    finally:
        os.umask(before)
    rights = {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "toy").iterdir()}
    assert rights == {0o666 & ~mask}
