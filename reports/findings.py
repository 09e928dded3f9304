"""What the command works out for a page, as reports read nothing but records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from harness.records.importances import Importances
from harness.records.precision import Precision


class Findings(NamedTuple):
    """What stands on a page beside what its records tell."""

    importances: Importances | None = None  # of a search
    precision: Mapping[str, Precision] = {}  # by trial
    published: Mapping[str, Any] | None = None  # as `detbench reproduce TABLE --json` prints it


NONE = Findings()
