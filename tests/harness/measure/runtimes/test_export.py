"""An exported detector predicts what the detector does, and says what it is."""

import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn

import detectors
from detectors.interface import DenseOutputs, Detector
from harness.measure import complexity
from harness.measure.complexity.exported import GraphMacs, count_macs
from harness.measure.runtimes import export
from harness.measure.runtimes.export import Exported, ExportError
from tests import lanes
from tests.harness.measure.runtimes.deploying import SIZE, SMALL, detector, inputs

onnx = pytest.importorskip("onnx", reason="needs detbench[export]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs detbench[export]")
pytest.importorskip("onnxscript", reason="needs detbench[export]")


@pytest.fixture(scope="module", params=lanes.split(SMALL, ("tests.toy:TOY", "rtdetr_r18")))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def exported(name: str, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    return export.export(detector(name), SIZE, path, name=name, inputs=inputs())


@pytest.fixture(scope="module")
def counted(exported: Exported) -> GraphMacs:
    return count_macs(exported.path)


def test_predicts_what_the_detector_does(name: str, exported: Exported) -> None:
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    images = inputs()[0].images
    with torch.inference_mode():
        expected = detector(name).deploy()(images)
    assert [output.name for output in session.get_outputs()] == list(expected._fields)
    for part, found in zip(expected, session.run(None, {"images": images.numpy()}), strict=True):
        torch.testing.assert_close(torch.from_numpy(found), part, rtol=1e-4, atol=1e-4)


def test_says_what_it_is(name: str, exported: Exported) -> None:
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    facts = {item.key: item.value for item in model.metadata_props}
    config = detector(name).config
    assert facts["detector"] == name
    assert json.loads(facts["input_size"]) == list(SIZE)
    assert json.loads(facts["num_classes"]) == config.num_classes
    assert json.loads(facts["mean"]) == list(config.input.mean)
    assert facts["resize"] == config.input.resize
    assert json.loads(facts["knobs"])["num_classes"] == config.num_classes
    assert sum(exported.operators.values()) == len(model.graph.node)
    assert exported.opset == model.opset_import[0].version
    assert exported.agreement.compared > 0
    deployed = detector(name).deploy()
    weights = sum(parameter.numel() for parameter in deployed.parameters())
    assert exported.parameters == weights


def test_counts_what_the_deployed_graph_has(name: str, counted: GraphMacs) -> None:
    deployed = complexity.count(detector(name), SIZE).details["deployed"]
    assert counted.macs == deployed["macs"]
    assert counted.macs == sum(counted.by_operator.values())
    assert counted.by_stage == {
        stage: part["macs"] for stage, part in deployed["by_stage"].items() if part["macs"]
    }
    assert counted.not_counted == {}


def test_counts_the_parameters_of_the_file(
    name: str, exported: Exported, counted: GraphMacs
) -> None:
    """The exporter leaves out biases that are zero."""
    deployed = detector(name).deploy()
    kept = [part for part in deployed.parameters() if part.dim() > 1 or part.any()]
    stored = counted.params
    assert 0 < stored <= exported.parameters
    assert stored == pytest.approx(sum(part.numel() for part in kept), rel=0.01)


def test_a_file_tells_nothing_of_the_machine_it_was_made_on(exported: Exported) -> None:
    content = exported.path.read_bytes()
    assert b"stack_trace" not in content
    assert str(Path(export.__file__).parent).encode() not in content


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rtmdet_tiny", "rtdetr_r18"])
def test_counts_the_published_models(name: str, tmp_path: Path) -> None:
    model = detectors.create(name)
    path = export.export(model, (640, 640), tmp_path / "model.onnx").path
    ours = complexity.count(model, (640, 640)).metrics["macs_deployed"]
    assert count_macs(path).macs == ours


def test_counts_products_by_hand(tmp_path: Path) -> None:
    make, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT

    def weights(name: str, *shape: int) -> Any:
        return onnx.numpy_helper.from_array(torch.zeros(shape).numpy(), name)

    nodes = [
        onnx.helper.make_node("Conv", ["x", "k"], ["y"], group=2, pads=[1, 1, 1, 1]),
        onnx.helper.make_node("MatMul", ["y", "m"], ["z"]),
        onnx.helper.make_node("Gemm", ["a", "b"], ["c"], transA=1),
        onnx.helper.make_node("Einsum", ["z", "m"], ["e"], equation="abcd,de->abce"),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "products",
        [make("x", kind, [1, 4, 8, 8])],
        [make("e", kind, None), make("c", kind, None)],
        [weights("k", 6, 2, 3, 3), weights("m", 8, 8), weights("a", 5, 2), weights("b", 5, 7)],
    )
    path = tmp_path / "products.onnx"
    onnx.save(onnx.helper.make_model(graph), path)
    counted = count_macs(path)
    assert counted.by_operator == {
        "Conv": 6 * 8 * 8 * 2 * 3 * 3,
        "MatMul": 6 * 8 * 8 * 8,
        "Gemm": 2 * 7 * 5,
    }
    assert counted.not_counted == {"Einsum": 1}


def test_products_of_unknown_shape_are_refused(tmp_path: Path) -> None:
    make, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    node = onnx.helper.make_node("MatMul", ["a", "b"], ["c"], name="product")
    sides = [make("a", kind, [1, "n", 4]), make("b", kind, [4, 2])]
    graph = onnx.helper.make_graph([node], "open", sides, [make("c", kind, [1, "n", 2])])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "open.onnx")
    with pytest.raises(ExportError, match="MatMul of unknown shape; export for a fixed input size"):
        count_macs(tmp_path / "open.onnx")


def test_a_file_that_predicts_something_else_is_not_put_in_place(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("what was there", "utf-8")
    disturbed = _disturbed(detector("tests.toy:TOY"))
    graph = export.to_graph(disturbed.deploy(), inputs()[0].images)
    with (
        mock.patch.object(export, "to_graph", return_value=graph),
        pytest.raises(ExportError, match=r"another one: \d+ of \d+ best predictions are apart"),
    ):
        export.export(detector("tests.toy:TOY"), SIZE, path)
    assert path.read_text("utf-8") == "what was there"
    assert list(tmp_path.iterdir()) == [path]


def _disturbed(original: Detector) -> Detector:
    model = original.deploy()
    with torch.no_grad():
        model.head.predict.weight += 0.1
    return model


def test_real_images_must_fit(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"are \[64, 96\], the input is \[64, 64\] \(h, w\)"):
        export.export(detector("tests.toy:TOY"), (64, 64), tmp_path / "m.onnx", inputs=inputs())


class _Unbounded(nn.Module):
    """A head whose outputs depend on what is in the image, which no fixed graph can."""

    def forward(self, features: list[torch.Tensor]) -> DenseOutputs:
        if features[0].sum() > 0:
            features = [-features[0]]
        boxes = features[0].flatten(2).transpose(1, 2)[..., :4]
        return DenseOutputs(boxes, boxes, boxes[0, :, :2], boxes[0, :, 0])


def test_what_cannot_be_exported_is_said_in_a_line(tmp_path: Path) -> None:
    model = detectors.create("tests.toy:TOY")
    model.head = _Unbounded()
    with pytest.raises(ExportError, match="the detector cannot be exported: ") as caught:
        export.export(model, SIZE, tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_an_opset_that_the_exporter_does_not_make_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(ExportError, match="opset 3: the exporter made 18"):
        export.export(detector("tests.toy:TOY"), (64, 64), path, 3)
    assert not path.exists()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ExportError, match=r"onnxscript cannot be imported .*detbench\[export\]"):
        export.export(detector("tests.toy:TOY"), SIZE, tmp_path / "model.onnx")
