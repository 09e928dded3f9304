"""The harness around detectors: studies, training, measurement, records and the command."""

import os
import sys

if sys.argv[:1] == ["-m"] and sys.path[:1] == [os.getcwd()]:
    # `python -m harness.cli` is on its way, and Python looks for every module in the working
    # directory first: a json.py there would run in place of Python's own. Look there last.
    sys.path.append(sys.path.pop(0))

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # its makers are told of sessions otherwise
