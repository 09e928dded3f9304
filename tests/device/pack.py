"""Pack what a machine without a network lacks: `python -m tests.device.pack FOLDER`.

FOLDER, which git ignores if it is `.device`, gets `wheels`, and, if they are given, `photographs`
(from the validation split, as many as fit into 20 MB) and `weights` (a folder of ours).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from harness.config.data import DataConfig
from harness.data import load_split

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
PYTHON = "3.12"
MOST_BYTES = 20_000_000  # of photographs
BUILT = ("manylinux_2_{}_x86_64", (17, 24, 27, 28, 31, 34, 35))
LACKING = (
    *("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "pycocotools"),
    *("hotcoco", "portalocker", "tabulate", "yacs", "filelock", "optuna", "colorlog"),
    *("sqlalchemy", "greenlet", "alembic", "mako", "plotly", "narwhals", "platformdirs"),
    *("lightning-fabric", "lightning-utilities", "onnxscript", "onnx-ir", "ml-dtypes"),
)
"""What the machine does not have; it has torch, torchvision, lightning and the like."""
SOURCES = ("fvcore", "iopath")  # of which there are no wheels


def main() -> int:
    """Pack, and print how much it is."""
    parser = argparse.ArgumentParser(prog="python -m tests.device.pack", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--photographs", type=Path, help="a folder in COCO layout")
    parser.add_argument("--weights", type=Path, help="a folder of ours, of a network that detects")
    given = parser.parse_args()
    wheels(given.folder / "wheels")
    if given.photographs:
        photographs(given.photographs, given.folder / "photographs")
    if given.weights:
        shutil.copytree(given.weights, given.folder / "weights", dirs_exist_ok=True)
    size = sum(path.stat().st_size for path in given.folder.rglob("*") if path.is_file())
    print(f"{given.folder}: {size / 1e6:.1f} MB")
    return 0


def wheels(folder: Path) -> None:
    """Download the wheels for the machine's Python, and build those that nobody offers."""
    pattern, numbers = BUILT
    platforms = [pattern.format(number) for number in numbers]
    platforms += ["manylinux2014_x86_64", "manylinux1_x86_64", "any"]
    pip = (sys.executable, "-m", "pip")
    target = ["--python-version", PYTHON, "--implementation", "cp"]
    target += [part for abi in ("cp312", "abi3", "none") for part in ("--abi", abi)]
    target += [part for platform in platforms for part in ("--platform", platform)]
    only = ("--no-deps", "--only-binary=:all:")
    subprocess.run(
        [*pip, "download", "-q", *only, *target, "-d", str(folder), *LACKING], check=True
    )
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(folder), *SOURCES], check=True)


def photographs(source: Path, folder: Path) -> None:
    """Copy the first photographs of the validation split, with their annotations."""
    split = load_split(DataConfig(source=str(source)), "val").split
    tree = json.loads(split.annotation_file.read_text("utf-8"))
    kept, size = [], 0
    for image in tree["images"]:
        size += (split.image_folder / image["file_name"]).stat().st_size
        if size > MOST_BYTES:
            break
        kept.append(image)
    ids = {image["id"] for image in kept}
    boxes = [box for box in tree["annotations"] if box["image_id"] in ids]
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "val").mkdir(exist_ok=True)
    for image in kept:
        target = folder / "val" / image["file_name"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(split.image_folder / image["file_name"], target)
    tree |= {"images": kept, "annotations": boxes}
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(tree), "utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
