"""What the page says beside its figures."""

from harness.records import Record
from reports.panels import CURVES, panels
from tests.reports.conftest import Make


def test_curves_say_which_knobs_they_were_validated_with(make: Make) -> None:
    def note(*records: Record) -> str:
        (panel,) = (panel for panel in panels(records) if panel.key == "curves")
        return panel.note

    plain = make("a", details={"training": {"validated_with": {}}})
    shared = make("b", details={"training": {"validated_with": {"head.layers_used": 0}}})
    assert note(plain) == CURVES
    assert "Validated with head.layers_used=0;" in note(plain, shared)
