"""ONNX files as detectors: each layout by a small file whose detections are known."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detectors.config import KnobError, flatten, override
from harness import adapters
from harness import study as studies
from harness.measure import complexity
from tests.harness.adapters import graphs
from tests.harness.adapters.graphs import SIZE, array, cells

pytest.importorskip("onnx", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs the extra export")

NEGATIVE = -20.0  # a logit whose score is nothing
BOX, OTHER = [8.0, 16, 24, 48], [40.0, 4, 60, 20]
CENTRE = [16.0, 32, 16, 32]  # of BOX: centre and size, pixels
SHARES = [0.25, 0.5, 0.25, 0.5]  # of BOX: centre and size, of 64 x 64
OTHER_SHARES = [50 / 64, 12 / 64, 20 / 64, 16 / 64]


def logit(score: float) -> float:
    return float(np.log(score / (1 - score)))


def rows8() -> Any:
    """Return [1, 4 + 3, N] of boxes in pixels and scores."""
    rows = np.zeros((1, 84, 7), np.float32)
    rows[..., 2:4] = 1
    rows[0, 3] = [*CENTRE, 0, 0, 0.8]
    rows[0, 70] = [50, 12, 20, 16, 0.6, 0, 0]
    return rows.transpose(0, 2, 1).copy()


LOGITS = array([NEGATIVE, NEGATIVE, logit(0.8)], [logit(0.6), NEGATIVE, NEGATIVE], [NEGATIVE] * 3)
THREE = array(BOX, OTHER, [0, 0, 1, 1])
SHARED = array(SHARES, OTHER_SHARES, [0.5, 0.5, 0.1, 0.1])
SOFT = np.log(array([0.1, 0.05, 0.8, 0.05], [0.6, 0.1, 0.1, 0.2], [0.01, 0.01, 0.01, 0.97]))
RAW = cells(
    3,
    {
        3: ([-1, 4, np.log(2), np.log(4)], 2, 0.8),  # fourth place of the first row of stride 8
        70: ([1.125, -0.25, np.log(1.25), 0], 0, 0.6),  # third of the second row of stride 16
    },
)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "logits_boxes": (
        {"logits": LOGITS, "boxes": THREE, "points": np.zeros((3, 2), np.float32)},
        {},
        {"input": "rtmdet"},
    ),
    "query_logits_boxes": (
        {"logits": LOGITS, "boxes": THREE},
        {"metadata": {"outputs": "logits before sigmoid"}},
        {"input": "rtdetr"},
    ),
    "logits_pred_boxes": (
        {"logits": LOGITS, "pred_boxes": SHARED},
        {},
        {"outputs": "logits_pred_boxes", "input": "rtdetr"},
    ),
    "softmax_pred_boxes": (
        {"logits": SOFT, "pred_boxes": SHARED},
        {},
        {"outputs": "softmax_pred_boxes", "input": "own"},
    ),
    "dets_labels": (
        {
            "dets": array([*BOX, 0.8], [*OTHER, 0.6], [0] * 5),
            "labels": array(2, 0, -1, kind="int64"),
        },
        {},
        {"input": "rtmdet", "labels": 3},
    ),
    "labels_boxes_scores": (
        {
            "labels": array(0, 2, kind="int64"),
            "boxes": array(OTHER, BOX),
            "scores": array(0.6, 0.8),
        },
        {"sizes": "orig_target_sizes"},
        {"labels": 3},
    ),
    "yolox": ({"output": RAW}, {}, {"input": "yolox"}),
    "yolov5": (
        {"output": cells(3, {3: (CENTRE, 2, 0.8), 70: ([50, 12, 20, 16], 0, 0.6)})},
        {"exp": True},
        {"input": "yolov7"},
    ),
    "yolov8": ({"output0": rows8()}, {}, {}),
    "rows": ({"output0": array([*OTHER, 0.6, 0], [*BOX, 0.8, 2], [0] * 6)}, {}, {"labels": 3}),
    "num_dets": (
        {
            "num_dets": array(2, kind="int32").reshape(1, 1),
            "det_boxes": array(BOX, OTHER, BOX),
            "det_scores": array(0.8, 0.6, 0.9),
            "det_classes": array(2, 0, 1, kind="int32"),
        },
        {},
        {"input": "yolov7", "labels": 3},
    ),
}  # fmt: skip
"""Layout to outputs, how the file is, and what has to be said of it."""


def made(name: str, folder: Path, **more: Any) -> Any:
    """Return the config of a layout's file, with all that has to be said."""
    outputs, how, said = CASES[name]
    how = dict(how)
    if how.pop("exp", False):
        from onnx import helper  # an extra

        how["between"] = [helper.make_node("Exp", ["plain"], ["grown"])]
    file = graphs.write(folder / f"{name}.onnx", outputs, **how)
    return override(adapters.resolve(file), {**said, **more})


@pytest.mark.parametrize("name", CASES)
def test_each_layout_is_recognised_and_decoded(name: str, tmp_path: Path) -> None:
    config = made(name, tmp_path)
    assert (config.lacks(), config.outputs, config.num_classes) == (None, name, 3)
    assert override(config, flatten(config)) == config
    model = config.build().deploy()
    sizes = torch.tensor([SIZE, SIZE])
    for found in model.detect(torch.zeros(2, 3, *SIZE), sizes):  # of a graph for one image
        best = [part[:2] for part in found]
        torch.testing.assert_close(best[0], torch.tensor([BOX, OTHER]), atol=1e-3, rtol=0)
        torch.testing.assert_close(best[1], torch.tensor([0.8, 0.6]), atol=1e-3, rtol=0)
        assert best[2].tolist() == [2, 0]
        assert (found.scores[2:] < 0.2).all()


@pytest.mark.parametrize("name", CASES)
def test_what_a_layout_predicts_keeps_the_contract(name: str, tmp_path: Path) -> None:
    model = made(name, tmp_path).build().deploy()
    outputs = model(torch.zeros(2, 3, *SIZE))
    if hasattr(model.postprocess, "inside"):
        assert not hasattr(outputs, "logits")
        return
    assert outputs.boxes.shape[:2] == outputs.logits.shape[:2] == outputs.scores().shape[:2]
    torch.testing.assert_close(outputs.logits.sigmoid(), outputs.scores())


def test_a_layout_that_is_told_brings_what_follows_it(tmp_path: Path) -> None:
    """Names and shapes leave two layouts open, so nothing is taken."""
    config = adapters.resolve(
        graphs.write(tmp_path / "a.onnx", {"logits": LOGITS, "pred_boxes": SHARED})
    )
    lacking = str(config.lacks())
    assert "--set detector.outputs=NAME, one of logits_pred_boxes:" in lacking
    assert "softmax_pred_boxes" in lacking
    assert "logits float32 [1, 3, 3]" in lacking
    told = override(config, {"outputs": "logits_pred_boxes", "input": "rtdetr"})
    assert type(told.postprocess).__name__ == "TopKConfig"
    with pytest.raises(KnobError, match=r"outputs yolox are .*; the file has .*pred_boxes"):
        override(config, {"outputs": "yolox"}).lacks()


def test_outputs_of_other_names_are_told_by_their_shapes(tmp_path: Path) -> None:
    """Boxes have four sides, and logits another number."""
    named = CASES["labels_boxes_scores"][0]
    renamed = {f"out{number}": values for number, values in enumerate(named.values())}
    file = graphs.write(tmp_path / "a.onnx", renamed, sizes="size")
    assert adapters.resolve(file).outputs == "labels_boxes_scores"
    pair = {"a": SHARED, "b": LOGITS}
    lacking = str(adapters.resolve(graphs.write(tmp_path / "b.onnx", pair)).lacks())
    assert "one of logits_pred_boxes: " in lacking
    dets = CASES["dets_labels"][0]
    pair = {"y": dets["labels"], "x": dets["dets"]}
    file = graphs.write(tmp_path / "c.onnx", pair, shapes={"x": ["b", "k", "c"], "y": ["b", "k"]})
    assert adapters.resolve(file).outputs == "dets_labels"


def test_outputs_like_nothing_known_are_refused_with_all_layouts(tmp_path: Path) -> None:
    config = adapters.resolve(
        graphs.write(tmp_path / "a.onnx", {"x": np.zeros((1, 7), np.float32)})
    )
    lacking = str(config.lacks())
    assert "x float32 [1, 7]" in lacking
    assert all(f"{name}: " in lacking for name in CASES)


def test_the_input_is_never_guessed_where_several_fit(tmp_path: Path) -> None:
    outputs = CASES["yolox"][0]
    config = adapters.resolve(graphs.write(tmp_path / "a.onnx", outputs))
    assert "a wrong guess halves mAP" in str(config.lacks())
    assert "--set detector.input=NAME: yolox, yolox_legacy lay" in str(config.lacks())
    assert override(config, {"input": "own", "input.channels": "bgr"}).lacks() is None


def test_the_input_of_a_layout_of_one_family_is_taken_and_named(tmp_path: Path) -> None:
    config = made("labels_boxes_scores", tmp_path)
    known = config.input
    assert (known.channels, known.std, known.resize) == ("rgb", (255.0,) * 3, "stretch")
    assert "prepared as rtdetr wants them" in " ".join(config.notes())


@pytest.mark.parametrize(
    ("metadata", "channels", "classes"),
    [
        ({"names": "{0: 'a', 1: 'b', 2: 'c'}", "stride": "32", "imgsz": "[64, 64]",
          "task": "detect"}, "rgb", ("a", "b", "c")),
        ({"resize": "stretch", "mean": "[1, 2, 3]", "std": "[4, 5, 6]", "channels": "bgr",
          "pad_value": "0", "classes": '["a", "b", "c"]'}, "bgr", ("a", "b", "c")),
    ],
)  # fmt: skip
def test_a_file_that_says_how_images_are_prepared_is_believed(
    metadata: Mapping[str, str], channels: str, classes: tuple[str, ...], tmp_path: Path
) -> None:
    file = graphs.write(tmp_path / "a.onnx", CASES["yolox"][0], metadata=metadata)
    config = adapters.resolve(file)
    assert config.lacks() is None
    assert (config.input.channels, config.classes) == (channels, classes)
    assert config.prepared_as == "file"


def test_a_graph_for_any_size_has_to_be_told_one(tmp_path: Path) -> None:
    outputs, _, said = CASES["dets_labels"]
    file = graphs.write(tmp_path / "a.onnx", outputs, images=("batch", 3, "height", "width"))
    config = override(adapters.resolve(file), said)
    assert "images of any size; say which with --set detector.input.size=[H, W]" in str(
        config.lacks()
    )
    assert override(config, {"input.size": [32, 96]}).lacks() is None
    fixed = override(made("dets_labels", tmp_path), {"input.size": [32, 96]})
    assert "takes images of [64, 64] (h, w) alone" in str(fixed.lacks())


def test_classes_have_to_be_told_where_nothing_tells_them(tmp_path: Path) -> None:
    config = override(made("dets_labels", tmp_path), {"labels": 0})
    assert "--set detector.classes=[person]" in str(config.lacks())
    assert override(config, {"classes": ["person"]}).lacks() is None
    of_three = override(made("yolox", tmp_path), {"classes": ["person"]})
    assert "tells 3 classes apart, and detector.classes names 1" in str(of_three.lacks())


def broken(path: Path, how: str) -> str:
    """Write a file that cannot be run, and return how it is named."""
    outputs = CASES["yolox"][0]
    if how == "text":
        path.write_text("a text\nof two lines\n", encoding="utf-8")
    elif how == "operator":
        return graphs.write(path, outputs, operator=("EfficientNMS_TRT", "TRT"))
    elif how == "unknown":
        return graphs.write(path, outputs, operator=("Identical", ""))
    elif how == "large":
        path.touch()
        os.truncate(path, 2**31 + 1)  # without taking the room
    elif how == "external":
        import onnx  # an extra

        graphs.write(path, {"output": np.zeros((1, 84, 800), np.float32)})
        onnx.save(
            onnx.load(path), path, save_as_external_data=True, location="beside.bin",
            size_threshold=0,
        )  # fmt: skip
        path.with_name("beside.bin").unlink()
    return f"onnx:{path}"


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("missing", "no such file"),
        ("text", "no ONNX file, "),
        ("operator", "ONNX Runtime has no operator TRT::EfficientNMS_TRT"),
        ("unknown", "ONNX Runtime has no operator Identical"),
        ("large", "over 2 GB, which no ONNX file in one piece can be"),
        ("external", "beside.bin, which is not there"),
    ],
)
def test_a_file_that_cannot_be_run_is_refused_in_a_line(
    how: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(KnobError) as error:
        adapters.resolve(broken(tmp_path / "a.onnx", how))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_library_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    file = graphs.write(tmp_path / "a.onnx", CASES["yolox"][0])
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(KnobError, match=r"onnx cannot be imported .*pip install 'detbench\[export"):
        adapters.resolve(file)


def test_inputs_that_are_no_images_are_refused_with_what_was_seen(tmp_path: Path) -> None:
    file = graphs.write(tmp_path / "a.onnx", CASES["yolox"][0], images=(1, 7, *SIZE))
    assert "takes no images [B, 3, H, W]" in str(adapters.resolve(file).lacks())
    assert "images float32 [1, 7, 64, 64]" in str(adapters.resolve(file).lacks())


def test_a_file_that_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    config = made("yolox", tmp_path)
    made("yolov5", tmp_path)
    os.replace(tmp_path / "yolov5.onnx", tmp_path / "yolox.onnx")
    with pytest.raises(KnobError, match="the file has changed since it was named"):
        override(config, {"postprocess.iou_threshold": 0.5}).build()


def test_weights_beside_a_file_are_a_part_of_what_it_is(tmp_path: Path) -> None:
    import onnx  # an extra

    path = tmp_path / "a.onnx"
    graphs.write(path, CASES["yolox"][0])
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="beside.bin", size_threshold=0
    )
    first = adapters.resolve(f"onnx:{path}").sha256
    content = bytearray((tmp_path / "beside.bin").read_bytes())
    content[-1] ^= 1
    (tmp_path / "beside.bin").write_bytes(content)
    os.utime(path, ns=(1, 1))
    assert adapters.resolve(f"onnx:{path}").sha256 != first


def test_files_in_half_precision_and_quantised_are_named_so(tmp_path: Path) -> None:
    outputs, _, said = CASES["yolox"]
    half = {"output": outputs["output"].astype(np.float16)}
    config = override(
        adapters.resolve(graphs.write(tmp_path / "half.onnx", half, kind="float16")), said
    )
    assert "its numbers are float16" in " ".join(config.notes())
    found = config.build().deploy().detect(torch.zeros(1, 3, *SIZE), torch.tensor([SIZE]))[0]
    assert found.boxes.dtype == torch.float32
    torch.testing.assert_close(found.boxes[0], torch.tensor(BOX), atol=0.1, rtol=0)
    whole = override(adapters.resolve(quantised(tmp_path)), said)
    assert "its numbers are int8" in " ".join(whole.notes())
    assert whole.build().deploy().detect(torch.zeros(1, 3, *SIZE), torch.tensor([SIZE]))


def quantised(folder: Path) -> str:
    from onnx import TensorProto, helper  # an extra

    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["plain"], ["q", "scale", "zero_point"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero_point"], ["again"]),
    ]
    assert TensorProto.UINT8
    return graphs.write(folder / "int8.onnx", CASES["yolox"][0], between=nodes)


def convolution(folder: Path) -> str:
    """Write a graph that holds a convolution of known size, and something that is not counted."""
    import onnx
    from onnx import helper, numpy_helper  # an extra

    kernel = numpy_helper.from_array(np.zeros((5, 3, 3, 3), np.float32), "kernel")
    bias = numpy_helper.from_array(np.zeros(5, np.float32), "bias")
    nodes = [
        helper.make_node("Conv", ["images", "kernel", "bias"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Einsum", ["features", "features"], ["odd"], equation="abcd,abcd->ab"),
    ]
    path = folder / "conv.onnx"
    graphs.write(path, CASES["yolox"][0], images=("b", 3, *SIZE))
    model = onnx.load(path)
    model.graph.initializer.extend([kernel, bias])
    model.graph.node.extend(nodes)
    onnx.save(model, path)
    return f"onnx:{path}"


def test_parameters_and_operations_are_those_of_the_graph(tmp_path: Path) -> None:
    config = override(adapters.resolve(convolution(tmp_path)), CASES["yolox"][2])
    found = complexity.count(config.build(), SIZE)
    assert found.metrics["params"] == 5 * 27 + 5
    assert found.metrics["macs_deployed"] == 64 * 64 * 5 * 27
    assert found.metrics["flops"] == 2 * found.metrics["macs"]
    assert "no formula for Einsum" in found.caveats["macs"]
    assert found.details["training"]["by_stage"] == {}


def suppressing(folder: Path, threshold: float = 0.5) -> str:
    """Write a graph whose suppression keeps scores above a threshold, as mmdeploy's do."""
    import onnx  # an extra
    from onnx import TensorProto, helper, numpy_helper  # an extra

    numbers: dict[str, Any] = {
        "boxes": array(BOX, OTHER), "scores": np.array([[[0.8, 0.3]]], np.float32),
        "most": np.array([10], np.int64), "overlap": np.array([0.5], np.float32),
        "threshold": np.array([threshold], np.float32), "zero": np.array(0, np.float32),
        "last": np.array(2, np.int64), "first_axis": np.array([0], np.int64),
        "row": np.array(0, np.int64), "two": np.array([2], np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["scores", "nothing"], ["given"]),
        helper.make_node(
            "NonMaxSuppression", ["boxes", "given", "most", "overlap", "threshold"], ["chosen"]
        ),
        helper.make_node("Gather", ["chosen", "last"], ["places"], axis=1),
        helper.make_node("Gather", ["boxes", "places"], ["kept"], axis=1),
        helper.make_node("Gather", ["given", "places"], ["kept_scores"], axis=2),
        helper.make_node("Transpose", ["kept_scores"], ["column"], perm=[0, 2, 1]),
        helper.make_node("Concat", ["kept", "column"], ["dets"], axis=2),
        helper.make_node("Squeeze", ["column", "two"], ["flat"]),
        helper.make_node("Mul", ["flat", "zero"], ["none"]),
        helper.make_node("Cast", ["none"], ["labels"], to=TensorProto.INT64),
    ]
    ports = [
        helper.make_tensor_value_info("dets", TensorProto.FLOAT, [1, "k", 5]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, [1, "k"]),
    ]
    given = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *SIZE])]
    stored = [numpy_helper.from_array(value, name) for name, value in numbers.items()]
    graph = helper.make_graph(nodes, "suppressing", given, ports, stored)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", graphs.OPSET)], ir_version=graphs.IR
    )
    onnx.save(model, folder / "suppressing.onnx")
    return f"onnx:{folder / 'suppressing.onnx'}"


def test_thresholds_of_suppression_inside_a_graph_can_be_changed(tmp_path: Path) -> None:
    config = override(adapters.resolve(suppressing(tmp_path)), {"input": "rtmdet"})
    assert config.num_classes == 1  # as its scores [B, C, N] say
    counts = []
    for changes in ({}, {"inside.score_threshold": 0.1}):
        model = override(config, changes).build().deploy()
        found = model.detect(torch.zeros(2, 3, *SIZE), torch.tensor([SIZE, SIZE]))
        counts.append([len(item.scores) for item in found])
    assert counts == [[1, 1], [2, 2]]
    other = override(made("yolox", tmp_path), {"inside.iou_threshold": 0.3})
    assert "has no NonMaxSuppression in it" in str(other.lacks())


def test_the_share_of_suppression_in_the_time_is_told(tmp_path: Path) -> None:
    model = override(adapters.resolve(suppressing(tmp_path)), {"input": "rtmdet"}).build()
    told = model.runtime()
    assert 0 < told["suppression_share"] < 1
    assert made("yolox", tmp_path).build().runtime()["suppression_share"] is None


def test_a_config_that_lacks_something_is_refused_before_it_is_built(tmp_path: Path) -> None:
    config = adapters.resolve(graphs.write(tmp_path / "a.onnx", CASES["yolox"][0]))
    with pytest.raises(KnobError, match="does not say how images are prepared"):
        studies.check_size(config)
    with pytest.raises(KnobError, match="does not say how images are prepared"):
        config.build()
