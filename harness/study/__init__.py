"""Studies: a YAML file that names knobs, and the trials that follow from it.

Reading and checking one imports no torch, which takes seconds; writing its trials down does, and is
imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from harness.config.yaml_source import StudyError
from harness.study.fitting import check_size
from harness.study.load import changes, load, of_detectors, single
from harness.study.study import Study

if TYPE_CHECKING:
    from harness.study.expansion import Specs, expand
    from harness.study.present import Present
    from harness.study.specification import TrialSpec

__all__ = [
    "Present",
    "Specs",
    "Study",
    "StudyError",
    "TrialSpec",
    "changes",
    "check_size",
    "expand",
    "load",
    "of_detectors",
    "single",
]


def __getattr__(name: str) -> Any:
    """Return what imports torch, which is why it is imported only now."""
    if name in __all__:
        from harness.study import expansion, present, specification  # import torch

        for module in (expansion, present, specification):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
