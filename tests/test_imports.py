"""The code is what `rooms.py` says: arrows point down, none runs in a circle, doors stay light."""

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from harness.engine import server
from harness.records import source
from tests import rooms
from tests.rooms import ADAPTERS_DOORS, DOORS, ROOMS, ROOT, Import

DETECTOR_LIBRARIES = {"torch", "torchvision.ops", "numpy", "scipy", "safetensors"}
LATE_ON_PURPOSE = {f"harness.cli.{name}" for name in ("app", "lists", "rest", "single")}
"""Whose first lines say why every import of theirs that is slow stands in a function."""
LONGEST = 350  # lines of a file
HELP_OF_NOTHING = """
import typer
app = typer.Typer()
app.command()(lambda: None)
app(["--help"], standalone_mode=False)
"""


def is_of(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def doors(importer: str) -> set[str]:
    """Return what a module of the harness may import of `detectors`."""
    return DOORS | ADAPTERS_DOORS if rooms.room(importer) == "adapters" else DOORS


def upward(root: Path = ROOT) -> list[str]:
    """List the imports of a room of the same level or a higher one."""
    level = {item.name: item.level for item in ROOMS}
    return [
        str(item)
        for item in rooms.imports(root)
        if {rooms.room(item.importer), rooms.room(item.imported)} <= level.keys()
        and rooms.room(item.importer) != rooms.room(item.imported)
        and level[rooms.room(item.importer)] <= level[rooms.room(item.imported)]
    ]


def circle(root: Path = ROOT) -> list[str]:
    """Return modules that import each other in a circle, if there are any."""
    try:
        TopologicalSorter(rooms.arrows(root)).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_folder_of_the_harness_is_a_room() -> None:
    files = (file.relative_to(ROOT / "harness") for file in (ROOT / "harness").rglob("*.py"))
    places = {file.parts[0].removesuffix(".py") for file in files} - {"__init__"}
    assert places == {item.name for item in ROOMS}


def test_modules_are_imported_by_name_and_not_by_text() -> None:
    """Else this file would not see the arrow; where processes are told modules, they exist."""
    known = rooms.modules()
    texts = {
        (module, node.value)
        for module, file in known.items()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in known.keys() - set(rooms.PACKAGES)
    }
    told = {("harness.engine.server", name) for name in server.PRELOAD if name in known}
    assert texts == told
    assert all(importlib.util.find_spec(name) for name in server.PRELOAD)
    assert [str(item) for item in rooms.imports() if item.imported == "harness"] == []


def test_a_config_names_a_class_that_takes_it() -> None:
    """The arrow back, from a config to what is made of it, is a text: a config loads no torch.

    The file with that class imports the config, so that one is not without the other.
    """
    arrows, made = rooms.arrows(), list(makes())
    assert len(made) > 15
    for config, named in made:
        owner, _, name = named.partition(":")
        assert config in arrows[owner], named
        assert inspect.isclass(getattr(importlib.import_module(owner), name)), named


def makes() -> Iterator[tuple[str, str]]:
    """Yield the module of each config that names a class, and the name."""
    for module, file in rooms.modules().items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == source.MAKES
            if named and node.value is not None:
                yield module, ast.literal_eval(node.value)


def test_rooms_import_lower_ones_only() -> None:
    assert upward() == []


def test_nothing_is_imported_in_a_circle() -> None:
    assert circle() == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("records/progress.py", "from harness import cli"),
        ("records/progress.py", "import harness.cli.console"),
        ("config/recipe.py", "def late():\n    from harness.training import loop"),
        ("config/recipe.py", "if TYPE_CHECKING:\n    from harness.study import Study"),
        ("config/recipe.py", "from harness.machine import locks"),
    ],
)
def test_an_arrow_upward_would_be_seen(tmp_path: Path, file: str, line: str) -> None:
    copy_of_the_code(tmp_path, file, line)
    assert len(upward(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("harness/config/settings.py", "from harness.config import knobs"),
        ("harness/config/settings.py", "def late():\n    from harness.config.knobs import turn"),
        ("harness/config/settings.py", "if TYPE_CHECKING:\n    from harness.config import knobs"),
        ("detectors/config.py", "from detectors import create"),
    ],
)
def test_a_circle_would_be_seen(tmp_path: Path, file: str, line: str) -> None:
    copy_of_the_code(tmp_path, f"../{file}", line)
    assert file.removesuffix(".py").replace("/", ".") in circle(tmp_path)


def copy_of_the_code(folder: Path, file: str, more: str) -> None:
    """Copy the packages, one of their files with more lines at its end."""
    for known in rooms.modules().values():
        target = folder / known.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(known.read_text(encoding="utf-8"), encoding="utf-8")
    with (folder / "harness" / file).open("a", encoding="utf-8") as stream:
        stream.write(f"\n{more}\n")


def test_imports_in_functions_say_why() -> None:
    silent = [
        str(item)
        for item in rooms.imports()
        if item.inside and not item.explained and item.importer not in LATE_ON_PURPOSE
    ]
    assert silent == []


def test_detectors_stand_alone() -> None:
    allowed = DETECTOR_LIBRARIES | {"detectors"} | set(sys.stdlib_module_names)
    assert [str(item) for item in of("detectors") if not is_of(item.imported, allowed)] == []


def test_the_harness_uses_the_doors_of_detectors() -> None:
    inner = [
        str(item)
        for item in of("harness")
        if is_of(item.imported, {"detectors"}) and item.imported not in doors(item.importer)
    ]
    assert inner == []


def test_reports_read_records_only() -> None:
    forbidden = {"torch", "torchvision", "detectors", "mlflow", "optuna"}
    wrong = [
        str(item)
        for item in of("reports")
        if is_of(item.imported, forbidden)
        or (is_of(item.imported, {"harness"}) and not is_of(item.imported, {"harness.records"}))
    ]
    assert wrong == []


def test_only_the_command_knows_reports() -> None:
    users = {
        rooms.room(item.importer) for item in of("harness") if is_of(item.imported, {"reports"})
    }
    assert users == {"cli"}


def of(package: str) -> list[Import]:
    return [item for item in rooms.imports() if is_of(item.importer, {package})]


def test_few_files_lie_loose_in_the_harness() -> None:
    assert len(list((ROOT / "harness").glob("*.py"))) <= 4


def test_no_file_is_long() -> None:
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines())
        for file in rooms.modules().values()
    }
    assert {file: lines for file, lines in lengths.items() if lines > LONGEST} == {}


def test_contributing_describes_the_rooms_as_they_are() -> None:
    """Lines and files may have changed by a quarter since they were last counted."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    written, counted = (
        {row[1]: row for row in map(cells, found.splitlines()) if len(row) == 5}
        for found in (text, rooms.table())
    )
    for name, row in counted.items():
        assert name in written, f"CONTRIBUTING.md lacks {name}; see `python -m tests.rooms`"
        assert written[name][:3] == row[:3]
        if re.fullmatch(r"\d+", row[3]):
            now, then = ([int(value) for value in each[3:]] for each in (row, written[name]))
            assert then == pytest.approx(now, rel=0.25, abs=2), name


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_importing_detectors_loads_no_tracker() -> None:
    assert loaded_by("import detectors").isdisjoint({"mlflow", "optuna", "plotly", "pandas"})


def test_what_only_training_and_nms_need_is_imported_then() -> None:
    late = {"torch._dynamo", "torchvision", "scipy.optimize", "triton", "mlflow"}
    assert loaded_by("import harness.cli.run, harness.cli.check, harness.cli.train").isdisjoint(
        late
    )


def test_importing_the_command_loads_no_torch() -> None:
    assert loaded_by("import harness.cli").isdisjoint({"torch", "mlflow", "optuna", "plotly"})


@pytest.mark.parametrize("command", ["doctor", "sync", "console"])
def test_commands_that_need_no_torch_load_none(command: str) -> None:
    """`doctor` has to say what is wrong with torch, too."""
    assert "torch" not in loaded_by(f"import harness.cli.{command}")


def test_help_is_quick() -> None:
    """It loads no library but what shows the help of a command that does nothing."""
    shown = loaded_by("from harness import cli\nassert cli.main(['--help']) == 0")
    assert "harness.cli" in shown
    assert libraries(shown) - libraries(loaded_by(HELP_OF_NOTHING)) == {"harness"}


def libraries(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names)


def test_modules_that_docstrings_name_exist() -> None:
    known = rooms.modules()
    named = {
        (str(file.relative_to(ROOT)), name)
        for file in known.values()
        for name in re.findall(
            r"`((?:detectors|harness|reports)(?:\.\w+)+)`", file.read_text("utf-8")
        )
    }
    assert len(named) > 5
    gone = [(file, name) for file, name in sorted(named) if not stands_in(name, known)]
    assert gone == []


def stands_in(name: str, known: dict[str, Path]) -> bool:
    """Say whether a dotted name is a module, or a word that stands in the module before it."""
    module, _, word = name.rpartition(".")
    return name in known or (module in known and word in known[module].read_text("utf-8"))


def test_files_that_documents_name_exist() -> None:
    documents = [ROOT / "CONTRIBUTING.md", *ROOT.glob("README.md"), *ROOT.glob("*/README.md")]
    documents += [*(ROOT / "tests").rglob("README.md"), *(ROOT / "reports").rglob("README.md")]
    path = re.compile(r"`(?:pytest [^`]*?)?((?:detectors|harness|reports|tests)/[\w/]+(?:\.\w+)?)")
    gone = [
        (str(document.relative_to(ROOT)), name)
        for document in documents
        for name in path.findall(document.read_text(encoding="utf-8"))
        if not (ROOT / name).exists() and "<" not in name
    ]
    assert gone == []
