"""What a page says of rows that are of other code, other libraries or an earlier study."""

from pathlib import Path

from reports import display, facts, site
from tests.reports.conftest import Make
from tests.reports.test_site import Page

STALE = {"code": "of other code: detectors/toy.py"}
CODE = {"detector": {"detectors/toy.py": "1", "detectors/boxes.py": "1"}}


def test_a_result_of_other_code_is_marked_in_its_row(make: Make) -> None:
    table = display.trial_table([make("a"), make("b", caveats=STALE)])
    first, second = (row[0] for row in table.rows)
    assert (first.small, second.small) == ("baseline", "other code")
    assert dict(table.lettered)[second.notes[0]] == "of other code: detectors/toy.py"


def test_unknown_code_is_said_once(make: Make) -> None:
    git = {"git": {"commit": "abcdef0123456789"}}
    (fact,) = (f for f in facts.facts([make("a", environment=git), make("b")]) if f.name == "code")
    assert fact.text == (
        "commit abcdef012345; unknown for these trials, recorded before the source was kept with"
        " a result"
    )
    some = facts.unknown_code([make("a", code=CODE), make("b")])
    assert some.startswith("unknown for 1 of 2 trials")
    assert facts.unknown_code([make("a", code=CODE)]) == ""


def test_files_that_changed_between_trials_are_named(make: Make) -> None:
    other = {
        "detector": {"detectors/toy.py": "2", "detectors/boxes.py": "1"},
        "training": {"t": "9"},
    }
    (warning,) = facts.warnings([make("a", code=CODE), make("b", code=other)])
    assert warning.endswith("versions of the code share this page: detectors/toy.py changed.")
    assert facts.warnings([make("a", code=CODE), make("b")]) == []


def test_libraries_that_differ_are_named_with_their_trials(make: Make) -> None:
    old, new = (
        {"device": "cpu", "packages": {"torch": "2.6", "hotcoco": version}} for version in "12"
    )
    records = [make("a", environment=old), make("b", environment=new), make("c", environment=new)]
    (warning,) = facts.warnings(records)
    assert "versions of libraries share this page: hotcoco 1 (#1), 2 (#2, #3)." in warning


def test_two_versions_of_a_study_are_said_to_be(make: Make) -> None:
    records = [make("a", config={"recipe.epochs": 12}), make("b", config={"recipe.epochs": 20})]
    (warning,) = facts.warnings(records)
    assert "several versions of the study" in warning
    assert "recipe.epochs" in warning
    swept = {"overrides": {"recipe.epochs": 20}, "config": {"recipe.epochs": 20}}
    assert facts.warnings([records[0], make("b", **swept)]) == []


def test_trials_of_an_earlier_version_stand_apart(make: Make, tmp_path: Path) -> None:
    records = [make("a", seed=0), make("b", seed=1)]
    old = make("old", seed=2, metrics={"mAP": 0.987}, config={"recipe.epochs": 12}, curves=[])
    made = site.write(records, tmp_path, title="t", earlier=[old]).read_text("utf-8")
    page = Page(made)
    assert "earlier" in page.ids()
    assert "1 trial of an earlier version of this study" in page.text
    assert "98.7" in page.text
    assert "several versions" not in page.text
    assert "record-old" in page.scripts
    drawn = " ".join(text for name, text in page.scripts.items() if name.startswith("figure-"))
    assert "98.7" not in drawn
    assert (
        "against the baseline"
        not in page.text.partition("earlier version")[2].partition("Variants")[0]
    )
    plain = Page(site.write(records, tmp_path / "plain", title="t").read_text("utf-8"))
    assert "earlier" not in plain.ids()


def test_a_page_says_why_latency_is_not_ranked(make: Make, tmp_path: Path) -> None:
    rough = {"latency_ms": "rough: timed for other/t1"}
    records = [make("a"), make("b", caveats=rough)]
    text = Page(site.write(records, tmp_path, title="t").read_text("utf-8")).text
    assert "Latency is not ranked: 1 of 2 latencies is rough;" in text
    assert "A latency marked ~ is rough" in text
