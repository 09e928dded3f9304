"""Studies: a YAML file that names knobs, and the trials that follow from it."""

from harness.config.yaml_source import StudyError
from harness.study.expand import Specs, check_size, expand
from harness.study.load import changes, load, single
from harness.study.present import Present
from harness.study.specification import TrialSpec
from harness.study.study import Study

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
    "single",
]
