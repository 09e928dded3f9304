"""Fixtures that every test may use."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("GOMP_SPINCOUNT", "10000")
"""As the command sets it: else workers that were started before the first command lack it, and a
latency of theirs is taken for one of another machine."""
TESTS = Path(__file__).parent
UNIT = {
    "detectors": """
        assigners assigners_by_hand boxes config configs folding losses postprocess rtdetr_attention
        rtdetr_criterion
    """,
    "harness/analysis": "importance",
    "harness/analysis/answer": "answer contest power",
    "harness/analysis/reproduce": "beside cells images order printed tables verdicts writers",
    "harness/cli": "console drawing text tracked verdicts",
    "harness/config": "data recipe secrets yaml_source",
    "harness/engine": "devices",
    "harness/data": """
        augment check classes coco colour fingerprint paint photographs resize shapes store
    """,
    "harness/machine": "conditions quiet",
    "harness/measure/accuracy": "detections precision queries results",
    "harness/measure/complexity": "coverage",
    "harness/measure/latency": "limits statistics timer",
    "harness/released": "auto unpacking",
    "harness/records": """
        cells collection escaping files fronts latencies least_squares origins record snapshot
        source
    """,
    "harness/study": "code constraints fitting present sources start study",
    "harness/study/designs": "factorial racing",
    "harness/study/search": "checks judge objectives pruning space",
    "harness/trials": "epochs speed",
    "reports": """
        baselines breakdowns effects facts frontier importance notes paper placing points
        precision protocols published ranking search tables thresholds
    """,
}
"""Files by folder whose tests neither train, nor start a process, a server or a browser."""
UNIT_FILES = {TESTS / top / f"test_{name}.py" for top in UNIT for name in UNIT[top].split()}
LONG = """
    test_studies test_wheel detectors/test_contract harness/cli/test_cli_killed
    harness/measure/runtimes/test_runtimes harness/measure/runtimes/test_export test_papers
    detectors/test_rtdetr_golden browser/test_study_page harness/test_before_rooms
    harness/training/test_processes harness/trials/test_trial harness/engine/test_axes
    harness/cli/test_main harness/cli/test_remeasure harness/engine/test_other_code
    harness/cli/test_hostile harness/cli/test_versions harness/cli/test_compare
"""
"""Files that take longest, which come first: else one process waits in the end for another's."""
FIRST = {TESTS / f"{name}.py": place for place, name in enumerate(LONG.split())}
BENCHMARKS = TESTS / "benchmarks"
OTHER_LANES = ("slow", "gpu", "coco", "network", "browser")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no other file for the unit lane, and no benchmark that would not be run."""
    lane, options = config.option.markexpr, config.option
    if lane == "unit" and collection_path.name.startswith("test_"):
        return True if collection_path not in UNIT_FILES else None
    asked = options.benchmark_only or any("benchmarks" in name for name in config.args)
    return True if collection_path == BENCHMARKS and "not slow" in lane and not asked else None


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of the unit lane, and benchmarks that are run to see that they run.

    The files that take longest come first.
    """
    for item in items:
        if BENCHMARKS in item.path.parents and not config.option.benchmark_only:
            item.add_marker("slow")
        if item.path in UNIT_FILES and not any(map(item.get_closest_marker, OTHER_LANES)):
            item.add_marker("unit")
    items.sort(key=lambda item: FIRST.get(item.path, len(FIRST)))


@pytest.fixture(scope="module", autouse=True)
def _modules_are_not_garbage() -> Iterator[None]:
    """Let collections of garbage pass over what was imported, which is most of all objects."""
    yield
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with reference data that is too large for the repository."""
    beside = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("DETBENCH_SHARED", beside))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}; set DETBENCH_SHARED to its folder")
    return folder


@pytest.fixture(scope="session")
def empty_tracker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow's without runs, to be copied: making one takes seconds."""
    from harness.tracking import Tracker  # it takes seconds, and few tests ask for it

    file = tmp_path_factory.mktemp("tracker") / "mlflow.db"
    Tracker(f"sqlite:///{file}").close_stale("toy")
    return file


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep rendered data, fingerprints and compiled code out of the user's caches, and locks apart.

    No test judges how quick anything is, so none waits for what another one measures. It holds for
    the whole session, as fixtures of modules write there, too.
    """
    folder = tmp_path_factory.getbasetemp()
    together = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETBENCH_CACHE", str(folder / "cache"))
        patch.setenv("DETBENCH_LOCKS", str(folder / "locks"))
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(together / "inductor"))
        yield


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """See that a test puts back what it changes of its process, for the tests after it.

    It begins before monkeypatch, as all that is used without being asked for, and ends after it.
    """
    names = {name for name in os.environ if not name.startswith("PYTEST_")}
    before = _process(names)
    yield
    after = _process(names)
    assert {what: after[what] for what in before} == before  # torch may be imported meanwhile


OURS = ("DETBENCH_", "CUDA_VISIBLE", "HOME", "LANG", "LC_", "OMP_", "PYTHON", "TMPDIR", "TZ")
"""How variables begin that nobody may add; libraries note other things for themselves."""


def _process(names: set[str]) -> dict[str, object]:
    """Return what belongs to the whole process."""
    mask = os.umask(0o077)
    os.umask(mask)
    variables = {
        name: os.environ[name] for name in os.environ if name in names or name.startswith(OURS)
    }
    found: dict[str, object] = {"folder": os.getcwd(), "umask": mask, "variables": variables}
    torch = sys.modules.get("torch")
    if hasattr(torch, "are_deterministic_algorithms_enabled"):  # else it is being imported
        found |= {
            "threads": torch.get_num_threads(),
            "dtype": torch.get_default_dtype(),
            "gradients": torch.is_grad_enabled(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
        }
    return found
