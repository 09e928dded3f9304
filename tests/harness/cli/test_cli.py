import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from harness import cli
from harness.config import library
from harness.machine import locks
from harness.measure.latency import samples
from harness.records import record
from tests.harness.cli.refusals import refusal
from tests.harness.studies import TOY, write

LOCKS = (".turn", ".lock")
ROOT = Path(__file__).parents[3]


def detbench(*arguments: object) -> int:
    return cli.main([str(item) for item in arguments])


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait for whatever else is measured on this machine."""
    monkeypatch.setattr(locks, "_folder", lambda: tmp_path)


def coco_folder(folder: Path) -> Path:
    """Write the smallest data set in COCO layout; its images are empty files."""
    categories = [{"id": 7, "name": "cat"}]
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        (folder / split / "a.jpg").touch()
        images = [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 64}]
        box = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [8, 8, 16, 16]}
        annotations = [{**box, "area": 256, "iscrowd": 0}]
        tree = {"images": images, "annotations": annotations, "categories": categories}
        file = folder / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(tree), "utf-8")
    return folder


def edit(folder: Path, **changes: Any) -> None:
    file = folder / "annotations" / "instances_val.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **changes}), "utf-8")


def test_help_is_quick_and_imports_no_torch() -> None:
    code = (
        "import sys, time; from harness import cli; cli.main(['--help'])\n"
        "print(time.process_time(), file=sys.stderr); assert 'torch' not in sys.modules"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "measure" in found.stdout
    assert float(found.stderr) < 1.0


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert detbench("list", "detectors") == 0
    assert "rtmdet_tiny" in capsys.readouterr().out.split()
    assert detbench("list", "studies", "--json") == 0
    studies = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert studies["quickstart"]["cost"] == "about six minutes on two CPU cores."
    assert all(row["purpose"].endswith("?") and row["cost"] for row in studies.values())
    assert detbench("list", "recipes", "--json") == 0
    recipes = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert recipes["rtmdet_finetune"]["cost"].startswith("20 epochs; three hundred photographs")
    assert recipes["smoke"]["purpose"].endswith("to see that a model learns at all.")
    assert all(row["purpose"] and row["cost"] for row in recipes.values())
    assert detbench("list", "recipes") == 0
    assert "smoke" in capsys.readouterr().out.split()
    assert detbench("list", "knobs", "tests.toy:TOY", "--json") == 0
    knobs = {row["knob"]: row for row in json.loads(capsys.readouterr().out)}
    assert knobs["detector.width"]["default"] == 8
    assert knobs["detector.input.size"]["type"] == "[int, int]"
    assert knobs["detector.postprocess.iou_threshold"]["inference_only"]
    assert knobs["recipe.lr"]["type"] == "float"
    assert knobs["recipe.lr"]["doc"]
    assert "data.shapes.size" in knobs
    assert "latency.seconds" in knobs
    assert knobs["detector.assigner.topk"].get("when") is None
    assert knobs["detector.assigner.shrink"]["when"] == "detector.assigner.type=Inside"
    assert detbench("list", "knobs", "tests.toy:TOY") == 0
    assert "[int, int]" in capsys.readouterr().out
    assert detbench("list", "knobs", "tests.toy:TOY", "Assigner", "--json") == 0
    part = {row["knob"] for row in json.loads(capsys.readouterr().out)}
    assert part == {path for path in knobs if path.startswith("detector.assigner")}


def test_lists_published_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert detbench("list", "tables", "rtdetr", "--json") == 0
    found = {row["id"]: row for row in json.loads(capsys.readouterr().out)["tables"]}
    assert found["rtdetr/table3"]["study"] == "rtdetr/encoder_variants"
    assert (found["rtdetr/table2"]["rows"], found["rtdetr/table2"]["repeated"]) == (27, 2)
    assert "settings" in found["rtdetr/tableA"]["outside"]
    assert detbench("list", "tables") == 0
    printed = capsys.readouterr().out
    assert "rtdetr/nms_iou_threshold" in printed
    assert "detbench has no YOLOX yet" in printed
    assert detbench("list", "tables", "rtdtr") == 2
    assert "no paper 'rtdtr'; did you mean rtdetr?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sets", "part"),
    [
        (["detector.widht=3"], "did you mean width?"),
        (["detector.width=wide"], "expected int, got 'wide'"),
        (["detector=rtmdet_z"], "did you mean rtmdet_"),
        (["recipe=smok"], "did you mean smoke?"),
        (["sweep={}"], "nothing is swept"),
        (["sweep.detector.width=[4, 4]"], "two trials are the same"),
        (["seed=[1]"], "did you mean seeds?"),
    ],
)
def test_bad_studies_are_refused_in_one_line(
    tmp_path: Path, sets: list[str], part: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, sweep={"recipe.lr": [0.1], "detector.width": [4]})
    if not any("sweep" in item for item in sets):
        file = write(tmp_path, sweep={"recipe.lr": [0.1, 0.2]})
    options = [item for text in sets for item in ("--set", text)]
    assert part in refusal(capfd, detbench("check", file, *options, "--out", tmp_path / "runs"))


def test_a_study_is_not_run_by_torchrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    file = write(tmp_path)
    assert "`detbench train`" in refusal(
        capfd, detbench("run", file, "--device", "cpu", "--out", tmp_path)
    )


@pytest.mark.parametrize(
    ("what", "part"),
    [
        ("missing", "nowhere"),
        ("no_json", "instances_val.json"),
        ("absent_image", "b.jpg"),
        ("category", "9"),
        ("empty", "val"),
    ],
)
def test_bad_data_is_refused_in_one_line(
    tmp_path: Path, what: str, part: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = coco_folder(tmp_path / "data")
    box = {"id": 1, "image_id": 1, "category_id": 9, "bbox": [8, 8, 16, 16], "area": 256}
    image = {"id": 1, "file_name": "b.jpg", "width": 64, "height": 64}
    if what == "missing":
        folder = tmp_path / "nowhere"
    elif what == "no_json":
        (folder / "annotations" / "instances_val.json").write_text("{", "utf-8")
    elif what == "absent_image":
        edit(folder, images=[image])
    elif what == "category":
        edit(folder, annotations=[{**box, "iscrowd": 0}])
    else:
        edit(folder, images=[], annotations=[])
    out = tmp_path / "runs"
    options = ("--data", folder, "--device", "cpu", "--out", out, "--no-tracking")
    assert part in refusal(
        capfd, detbench("check", write(tmp_path), "--data", folder, "--out", out)
    )
    assert part in refusal(capfd, detbench("run", write(tmp_path), *options))
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("run",), "Missing argument"),
        (("run", "quickstart", "--nonsense"), "--nonsense"),
        (("run", "quickstart", "--workers", "0"), "--workers"),
        (("nonsense",), "nonsense"),
        (("measure", "rtmdet_z"), "did you mean"),
        (("measure", "tests.toy:TOY", "--size", "70", "64"), "use 64 or 72"),
        (("measure", "tests.toy:TOY", "--weights", "nowhere.pth"), "nowhere.pth"),
        (("measure", "tests.toy:TOY", "--set", "seeds=1"), "dotted path"),
        (("measure", "tests.toy:TOY", "--device", "tpu"), "--device tpu"),
        (("measure", "tests.toy:TOY", "--runtimes", "eager,compil"), "did you mean compile?"),
        (("measure", "tests.toy:TOY", "--runtimes", "eager", "--nms-frontier"), "--runtimes"),
        (("measure", "tests.toy:TOY", "--count-only", "--nms-frontier"), "--nms-frontier does not"),
        (("measure", "tests.toy:TOY", "--exported"), "--exported goes with --count-only"),
        (("export", "rtmdet_z"), "did you mean"),
        (("export", "tests.toy:TOY", "--format", "onx"), "--format"),
        (("export", "tests.toy:TOY", "--out", "."), "name a file"),
        (("export", "tests.toy:TOY", "--size", "70", "64"), "use 64 or 72"),
        (("evaluate", "nowhere", "--data", "shapes"), "nowhere"),
        (("train", "tests.toy:TOY", "--data", "a", "--recipe", "smok", "--out", "b"), "smoke?"),
        (("report", "quickstart", "--out", "b", "--runs", "nowhere"), "no records there"),
        (("data", "show", "nowhere"), "nowhere"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(
    arguments: tuple[str, ...],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert part in refusal(capfd, detbench(*arguments))
    assert [item.name for item in tmp_path.iterdir() if item.suffix not in LOCKS] == []


def test_without_arguments_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert detbench() == 2
    captured = capsys.readouterr()
    assert "measure" in captured.out + captured.err
    assert "error" not in captured.err


def test_run_writes_records_a_page_and_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, measure=["complexity"])
    assert detbench("run", file, "--device", "cpu", "--no-tracking", "--json") == 0
    captured = capfd.readouterr()
    found = json.loads(captured.out)
    assert [item["state"] for item in found["trials"]] == ["done", "done"]
    assert all(Path(item["record"]).is_file() for item in found["trials"])
    assert Path(found["report"]).stat().st_size > 1_000_000
    assert "[2/2] width=8 (seed 0): done" in captured.err
    assert not (tmp_path / "mlflow.db").exists()
    assert detbench("run", file, "--device", "cpu", "--no-tracking", "--no-report") == 0
    captured = capfd.readouterr()
    assert "params +" in captured.out
    assert "records: runs/toy" in captured.out
    assert captured.err.count("stands already") == 2
    assert detbench("report", "runs/toy", "--out", "site") == 0
    page, answer = capfd.readouterr().out.splitlines()
    assert Path(page).is_file()
    assert answer.startswith("answer: ")
    shutil.copytree("runs/toy", "copied")
    assert detbench("report", "runs/toy", "copied", "--out", "both") == 2
    assert "copied: both/toy.html was just written" in capfd.readouterr().err


def test_a_failed_trial_makes_the_exit_status_1_and_a_tracker_that_is_away_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = ("--tracking-uri", "http://127.0.0.1:9", "--device", "cpu", "--no-report")
    file = write(tmp_path, measure=["complexity"], sweep={"detector.width": [4]})
    assert detbench("run", file, *away) == 0
    captured = capfd.readouterr()
    assert captured.err.count("is away") == 1
    broken = write(
        tmp_path,
        measure=["accuracy"],
        sweep={"detector.width": [4]},
        set={**TOY["set"], "recipe.lr": 1e30},
    )
    assert detbench("run", broken, "--no-tracking", "--device", "cpu", "--no-report") == 1
    captured = capfd.readouterr()
    assert "failed: not_finite" in captured.out
    assert "failed (not_finite): train: " in captured.err


def test_measure_takes_turns(capfd: pytest.CaptureFixture[str]) -> None:
    sets = [f"--set={key}={value}" for key, value in TOY["set"].items() if "recipe" not in key]
    models = ("tests.toy:TOY", "tests.toy:TOY")
    assert detbench("measure", *models, *sets, "--device", "cpu", "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert [row["model"] for row in found["models"]] == ["tests.toy:TOY", "tests.toy:TOY#2"]
    assert all({"params", "macs", "latency_ms"} <= set(row["metrics"]) for row in found["models"])
    assert "untrained" in found["models"][0]["caveats"]["nms_ms"]
    assert detbench("measure", "tests.toy:TOY", *sets, "--device", "cpu", "--size", 128, 64) == 0
    captured = capfd.readouterr()
    assert "latency (ms)" in captured.out
    assert "note: untrained" in captured.out


def test_measure_keeps_every_sample(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sets = [f"--set={key}={value}" for key, value in TOY["set"].items() if "recipe" not in key]
    out = tmp_path / "measured"
    command = ("measure", "tests.toy:TOY", *sets, "--device", "cpu", "--out", out, "--json")
    assert detbench(*command) == 0
    (row,) = json.loads(capfd.readouterr().out)["models"]
    kept = json.loads((out / "measure.json").read_text("utf-8"))
    assert kept["models"][0]["metrics"] == row["metrics"]
    assert kept["environment"]["device"] == "cpu"
    stored = samples.read(out)
    taken = stored["tests.toy:TOY/whole/latency_ms"]
    rounds = taken[stored["tests.toy:TOY/whole/kept"]]
    assert np.median(rounds) == row["metrics"]["latency_ms"]
    assert 0 < row["metrics"]["uncounted_fraction"] < 1
    assert row["metrics"]["weight_bytes"] > 0
    assert "no counter" in row["absent"]["activation_bytes"]


def test_counts_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "counts" / "table.md"
    command = ("measure", "tests.toy:TOY", "--count-only", "--size", 64, 96, "--out", out)
    assert detbench(*command) == 0
    printed = capfd.readouterr().out
    assert "fvcore (G)" in printed
    assert "latency" not in printed
    lines = out.read_text("utf-8").splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("| tests.toy:TOY |")
    assert detbench(*command, "--json") == 0
    (row,) = json.loads(capfd.readouterr().out)["models"]
    assert row["metrics"]["macs"] == row["details"]["cross_check"]["macs"]
    assert row["published"] is None
    assert row["exported"] is None


def test_measure_sets_runtimes_side_by_side(capfd: pytest.CaptureFixture[str]) -> None:
    sets = [f"--set={key}={value}" for key, value in TOY["set"].items() if "recipe" not in key]
    command = ("measure", "tests.toy:TOY", *sets, "--device", "cpu", "--runtimes")
    assert detbench(*command, "eager,tensorrt") == 0
    printed = capfd.readouterr().out
    assert "tests.toy:TOY, tensorrt: no latency: tensorrt needs an NVIDIA GPU" in printed
    assert detbench(*command, "eager, tensorrt, eager", "--json") == 0
    rows = json.loads(capfd.readouterr().out)["models"]
    assert [row["model"] for row in rows] == ["tests.toy:TOY", "tests.toy:TOY, tensorrt"]
    assert "latency_ms" in rows[0]["metrics"]
    assert rows[1]["metrics"]["params"] == rows[0]["metrics"]["params"]
    assert "NVIDIA GPU" in rows[1]["absent"]["latency_ms"]
    assert detbench(*command, "tensorrt") == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "detbench: error: tensorrt needs an NVIDIA GPU" in captured.err


def test_export_writes_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    assert detbench("export", "tests.toy:TOY", "--size", 64, 96, "--json") == 0
    found = json.loads(capfd.readouterr().out)
    content = (tmp_path / "tests.toy_TOY.onnx").read_bytes()
    assert found["path"] == "tests.toy_TOY.onnx"
    assert found["sha256"] == hashlib.sha256(content).hexdigest()
    assert found["macs"] == 8 * 12 * (8 * 192 + 8 * 10)
    assert found["operators"]["Conv"] == 2
    assert detbench("export", "tests.toy:TOY", "--opset", 18, "--out", "a/b.onnx") == 0
    printed = capfd.readouterr().out
    assert (tmp_path / "a" / "b.onnx").is_file()
    assert "2 Conv" in printed
    assert "18" in printed


def test_train_then_evaluate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shapes = [f"--set={key}={value}" for key, value in TOY["set"].items() if "shapes" in key]
    recipe = [f"--set={key}={value}" for key, value in TOY["set"].items() if "recipe" in key]
    trained = ("train", "tests.toy:TOY", "--data", "shapes", "--recipe", "smoke", "--device", "cpu")
    assert detbench(*trained, *shapes, *recipe, "--out", "one", "--json") == 0
    result = json.loads(capfd.readouterr().out)
    assert result["state"] == "done"
    assert record.read(Path("one")).metrics == result["metrics"]
    common = ("--data", "shapes", "--device", "cpu", *shapes, "--json")
    assert detbench("evaluate", "one", *common) == 2
    assert "tests.toy:TOY, which is code that is not built in" in capfd.readouterr().err
    assert detbench("evaluate", "one", *common, "--trust") == 0
    again = json.loads(capfd.readouterr().out)["metrics"]
    assert again == pytest.approx({k: v for k, v in result["metrics"].items() if k in again})
    assert detbench("evaluate", "tests.toy:TOY", "--weights", "one", *common) == 0
    assert json.loads(capfd.readouterr().out)["metrics"] == again
    assert detbench(*trained, *shapes, *recipe, "--weights", "one", "--out", "two") == 0
    assert "mAP" in capfd.readouterr().out
    assert record.read(Path("two")).trial != result["trial"]


def test_data_commands(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = coco_folder(tmp_path / "data")
    assert detbench("data", "check", folder) == 1
    assert "a study would refuse it" in capfd.readouterr().out
    (folder / "annotations/instances_train.json").unlink()
    cv2.imwrite(str(folder / "val/a.jpg"), np.zeros((64, 64, 3), np.uint8))
    assert detbench("data", "check", folder) == 1
    assert detbench("data", "check", folder, "--split", "val") == 0
    told = capfd.readouterr().out.splitlines()[-1]
    assert told == "usable: val has 1 image, 1 box, 1 class"
    assert detbench("data", "show", folder, "--split", "val", "--json") == 0
    assert sorted(json.loads(capfd.readouterr().out))[-1] == "val"
    shapes = [f"--set={key}={value}" for key, value in TOY["set"].items() if "shapes" in key]
    assert detbench("data", "show", "shapes", *shapes, "--json") == 0
    assert json.loads(capfd.readouterr().out)["train"]["images"] == 8
    assert detbench("data", "show", "shapes", *shapes) == 0
    assert "train.images" in capfd.readouterr().out


def test_an_interrupt_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(library, "names", interrupt)
    assert detbench("list", "studies") == 130
    assert "detbench: error: interrupted; finished trials stand\n" in capfd.readouterr().err


@pytest.mark.parametrize("command", ["run", "train"])
def test_a_folder_that_cannot_be_written_is_refused(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    arguments: dict[str, tuple[object, ...]] = {
        "run": ("run", write(tmp_path), "--no-tracking"),
        "train": ("train", "tests.toy:TOY", "--data", "shapes", "--recipe", "smoke"),
    }
    small = ("--set", "data.shapes.train_images=2", "--set", "data.shapes.val_images=1")
    assert detbench(*arguments[command], *small, "--out", "file/runs") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("detbench: error: file/runs")
    assert line.endswith("--out")


def test_a_mistake_of_our_own_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ValueError("not the user's fault")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(ValueError, match="not the user's fault"):
        detbench("run", "quickstart")
