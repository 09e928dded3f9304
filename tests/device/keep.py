"""Make a folder of reports/measured of what came back: `python -m tests.device.keep DIR FOLDER`.

DIR holds `summary.json` and `records.tar`, as `python -m tests.device` leaves them. FOLDER, such as
reports/measured/h200, gets a README with the table, the summary, and the records without their raw
samples.
"""

from __future__ import annotations

import argparse
import json
import tarfile
from pathlib import Path, PurePosixPath

from tests.device import page
from tests.device.results import RECORDS, SUMMARY

KEPT = ("measure.json", "record.json", "study.json", "environment.json", "nms_frontier.csv")


def main() -> int:
    """Write the folder, and print where its table is."""
    parser = argparse.ArgumentParser(prog="python -m tests.device.keep", description=__doc__)
    parser.add_argument("found", type=Path, metavar="DIR")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    print(keep(given.found, given.folder))
    return 0


def keep(found: Path, folder: Path) -> Path:
    """Write a README, the summary and the records; return the README's path."""
    facts = json.loads((found / SUMMARY).read_text("utf-8"))
    facts["environment"].pop("host", None)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SUMMARY).write_text(json.dumps(facts, separators=(",", ":")) + "\n", "utf-8")
    if (found / RECORDS).is_file():
        _unpack(found / RECORDS, folder)
    readme = folder / "README.md"
    command = f"python -m tests.device --minutes {facts['minutes']:g} --device {facts['device']}"
    title = page.device(facts)
    readme.write_text(f"# {title}\n\n`{command}`\n\n{page.markdown(facts)}\n", "utf-8")
    return readme


def _unpack(archive: Path, folder: Path) -> None:
    """Write the records of an archive, each as one line, without raw samples."""
    with tarfile.open(archive) as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            if name.name not in KEPT or name.is_absolute() or ".." in name.parts:
                continue
            content = tar.extractfile(member)
            if content is None:
                continue
            text = content.read().decode("utf-8")
            if name.suffix == ".json":
                tree = json.loads(text)
                if "samples" in tree:
                    tree["samples"] = {}
                text = json.dumps(tree, separators=(",", ":")) + "\n"
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, "utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
