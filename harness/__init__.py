"""The harness around detectors: studies, training, measurement, records and the command."""
