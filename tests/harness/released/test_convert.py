"""Graphs for inference become weights, and compute the same."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import detectors
from detectors import weights
from detectors.interface import Detector, WeightsError
from detectors.layers import ConvNormAct
from harness import cli, data
from harness.config.data import DataConfig
from harness.data import DataSet, normalize, val_loader
from harness.measure.runtimes import export
from harness.released.convert import convert
from tests.toy import STRIDE, Toy, ToyConfig

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

NANO = detectors.CONFIGS["rtmdet_nano"]
SCORES, BOXES = "y.24", "y.28"  # before the graph's own NMS


@pytest.fixture(scope="module")
def released(shared: Path) -> Path:
    return shared / "weights" / "rtmdet_nano_person.onnx"


@pytest.fixture(scope="module")
def folder(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(released, "rtmdet_nano", NANO, tmp_path_factory.mktemp("nano")).folder


@pytest.fixture(scope="module")
def photographs(shared: Path) -> DataSet:
    return data.load(DataConfig(source=str(shared / "data" / "coco_mini")))


def test_the_release_says_what_it_is(folder: Path) -> None:
    told = json.loads((folder / weights.CONFIG_FILE).read_text())
    assert told["classes"] == ["person"]
    assert told["detector"] == "rtmdet_nano"
    assert told["knobs"]["num_classes"] == 1


def run(released: Path, images: Tensor, level: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the graph's scores and boxes of every point."""
    graph = onnx.load(released)
    watched = map(onnx.helper.make_empty_tensor_value_info, (SCORES, BOXES))
    graph.graph.output.extend(watched)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    scores, boxes = session.run([SCORES, BOXES], {"input": images.numpy()})
    return scores, boxes


def test_raw_outputs_equal_onnx_runtimes(
    released: Path, folder: Path, photographs: DataSet
) -> None:
    """Boxes differ by at most twice what ONNX Runtime differs by from itself, unoptimised."""
    model = weights.load(folder).eval()
    levels = onnxruntime.GraphOptimizationLevel
    batches = iter(val_loader(photographs.val, model.config.input, 1, workers=0))
    for _ in range(3):
        images = normalize(next(batches).images, model.config.input)
        with torch.no_grad():
            ours = model(images)
        scores, boxes = run(released, images, levels.ORT_ENABLE_ALL)
        _, plain = run(released, images, levels.ORT_DISABLE_ALL)
        assert scores.max() > 0.2  # there are persons
        np.testing.assert_allclose(ours.scores().numpy(), scores, rtol=0, atol=1e-4)
        allowed = 2 * float(np.abs(boxes - plain).max())
        assert allowed < 0.05
        np.testing.assert_allclose(ours.boxes.numpy(), boxes, rtol=0, atol=allowed)


@pytest.mark.slow
def test_it_finds_the_persons_of_coco_mini(
    folder: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """36.4 by ONNX Runtime with OpenCV's resizing; ../shared/weights/README.md."""
    source = str(shared / "data" / "coco_mini")
    arguments = ["evaluate", str(folder), "--data", source, "--shared-classes", "--json"]
    assert cli.main([*arguments, "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["protocol"]["classes"] == ["person"]
    assert 100 * found["metrics"]["mAP"] == pytest.approx(36.4, abs=0.2)


class Plain(Toy):
    """A toy whose backbone has norms; a graph runs its convolutions in this order."""

    order = ("backbone.0.conv", "backbone.1.conv", "backbone.2.conv", "head.predict")

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        width = config.width
        self.backbone = nn.Sequential(
            ConvNormAct(3, width, STRIDE, stride=STRIDE, padding=0),
            *(ConvNormAct(width, width, 3) for _ in range(2)),
        )

    def exported_convolutions(self) -> list[str]:
        return list(self.order)


class Turned(Plain):
    """One whose graph, it is said, runs two layers of one shape the other way round."""

    order = ("backbone.0.conv", "backbone.2.conv", "backbone.1.conv", "head.predict")


@dataclass(frozen=True)
class PlainConfig(ToyConfig):
    """Makes a `Plain`."""

    def build(self) -> Detector:
        return Plain(self)


@dataclass(frozen=True)
class TurnedConfig(ToyConfig):
    """Makes a `Turned`."""

    def build(self) -> Detector:
        return Turned(self)


PLAIN = PlainConfig(num_classes=3)
PLACE = f"{__name__}:PLAIN"


@pytest.fixture(scope="module")
def original() -> Detector:
    torch.manual_seed(0)
    model = PLAIN.build()
    for norm in (part for part in model.modules() if isinstance(part, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    return model.eval()


@pytest.fixture(scope="module")
def graph(original: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("graph") / "toy.onnx"
    onnx.save(export.to_graph(original.deploy(), torch.zeros(1, 3, 64, 64)), file)
    return file


def test_a_converted_graph_computes_what_it_did(
    original: Detector, graph: Path, tmp_path: Path
) -> None:
    done = convert(graph, PLACE, PlainConfig(), tmp_path / "out", ["a", "b", "c"])
    assert (done.convolutions, done.classes) == (4, ("a", "b", "c"))
    assert done.apart < 1e-5
    converted = weights.load(done.folder, trusted=(PLACE,)).eval()
    assert converted.config.num_classes == 3  # the graph's, whatever the config had
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        ours, theirs = converted(images), original(images)
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.boxes, theirs.boxes, rtol=1e-4, atol=1e-3)


def test_classes_that_nobody_names_stay_unknown(graph: Path, tmp_path: Path) -> None:
    assert convert(graph, PLACE, PLAIN, tmp_path).classes is None
    assert "classes" not in json.loads((tmp_path / weights.CONFIG_FILE).read_text())


def test_layers_in_another_order_are_noticed(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="they fit, but not their order"):
        convert(graph, PLACE, TurnedConfig(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("detector", "words"),
    [
        ("rtmdet_nano", "the graph has 4 convolutions, the detector 123"),
        ("rtmdet_s", "set head.sharing to separate"),
        ("rtdetr_r18", "no exported graph of a RTDETR is known"),
    ],
)
def test_a_graph_of_another_detector_is_one_line(
    detector: str, words: str, graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["weights", "convert", str(graph), "--detector", detector, "--out", str(out)]
    assert cli.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(graph) in line
    assert words in line
    assert not out.exists()


@pytest.mark.parametrize("damage", ["text", "cut", "missing"])
def test_what_is_no_graph_is_one_line(damage: str, graph: Path, tmp_path: Path) -> None:
    file = tmp_path / "toy.onnx"
    if damage != "missing":
        file.write_bytes(b"no graph" if damage == "text" else graph.read_bytes()[:-200])
    with pytest.raises(WeightsError) as caught:
        convert(file, PLACE, PLAIN, tmp_path / "out")
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_names_for_other_numbers_of_classes_are_refused(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="tells 3 classes apart, 1 are named"):
        convert(graph, PLACE, PLAIN, tmp_path / "out", ["person"])


@pytest.mark.parametrize(
    ("names", "message"),
    [("", "a name is empty"), ("a,,c", "a name is empty"), ("a,b,a", "a stands twice")],
)
def test_labels_have_names_of_their_own(
    graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], names: str, message: str
) -> None:
    out = tmp_path / "out"
    given = ["--detector", PLACE, "--out", str(out), "--classes", names]
    assert cli.main(["weights", "convert", str(graph), *given]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_graph_in_place_of_weights_names_the_command(graph: Path) -> None:
    with pytest.raises(WeightsError, match="detbench weights convert"):
        detectors.create(PLAIN, weights=graph)
