"""Arrows between packages point one way, and cheap entry points stay cheap."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DETECTOR_LIBRARIES = {"torch", "torchvision.ops", "numpy", "scipy", "safetensors"}
HELP_OF_NOTHING = """
import typer
app = typer.Typer()
app.command()(lambda: None)
app(["--help"], standalone_mode=False)
"""
DETECTOR_DOORS = {"detectors", "detectors.interface", "detectors.config"}


def imports(file: Path) -> Iterator[str]:
    """Yield the modules that a file imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module is not None
            yield node.module


def imports_of(package: str) -> Iterator[tuple[str, str]]:
    for file in sorted((ROOT / package).rglob("*.py")):
        for module in imports(file):
            yield f"{file.relative_to(ROOT)} imports {module}", module


def belongs(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def test_detectors_stand_alone() -> None:
    allowed = DETECTOR_LIBRARIES | {"detectors"} | set(sys.stdlib_module_names)
    assert [text for text, module in imports_of("detectors") if not belongs(module, allowed)] == []


def test_harness_uses_the_doors_of_detectors() -> None:
    inner = [
        text
        for text, module in imports_of("harness")
        if belongs(module, {"detectors"}) and module not in DETECTOR_DOORS
    ]
    assert inner == []


def test_reports_read_records_only() -> None:
    forbidden = {"torch", "torchvision", "detectors", "mlflow", "optuna"}
    wrong = [
        text
        for text, module in imports_of("reports")
        if belongs(module, forbidden)
        or (belongs(module, {"harness"}) and module != "harness.record")
    ]
    assert wrong == []


def test_only_the_command_knows_reports() -> None:
    users = {
        text.split()[0] for text, module in imports_of("harness") if belongs(module, {"reports"})
    }
    assert users <= {"harness/cli.py", "harness/console.py", "harness/study_commands.py"}


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


def test_importing_the_command_loads_no_torch() -> None:
    assert loaded_by("import harness.cli").isdisjoint({"torch", "mlflow", "optuna", "plotly"})


def test_help_is_quick() -> None:
    """It loads no library but what shows the help of a command that does nothing."""
    shown = loaded_by("from harness import cli\nassert cli.main(['--help']) == 0")
    assert "harness.cli" in shown
    assert libraries(shown) - libraries(loaded_by(HELP_OF_NOTHING)) == {"harness"}


def libraries(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names)


@pytest.mark.parametrize("package", ["detectors", "harness", "reports"])
def test_packages_have_no_import_cycle(package: str) -> None:
    edges = {}
    for file in (ROOT / package).rglob("*.py"):
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules = {module for module in top_level_imports(file) if belongs(module, {package})}
        edges[name] = modules - {name}
    assert cycle(edges) == []


def top_level_imports(file: Path) -> Iterator[str]:
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def cycle(edges: dict[str, set[str]]) -> list[str]:
    """Return the modules on some import cycle, or an empty list."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        for child in edges.get(name, ()):
            if found := visit(child, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in edges if (found := visit(name, []))), [])
