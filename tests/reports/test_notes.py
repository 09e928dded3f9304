import pytest

from reports import notes
from reports.notes import Remark


def remark(row: int, key: str, text: str, missing: bool = False) -> Remark:
    return Remark(row, key, key, text, missing)


@pytest.mark.parametrize(("number", "name"), [(0, "a"), (25, "z"), (26, "aa"), (27, "ab")])
def test_notes_are_named_by_letters(number: int, name: str) -> None:
    assert notes.letter(number) == name


def test_remarks_that_differ_in_numbers_only_are_one() -> None:
    texts = ("1 of 9 dropped", "3 of 12 dropped", "2 of 10 dropped")
    remarks = [remark(row, "nms", text) for row, text in enumerate(texts)]
    found = notes.gather(remarks, range(4), "#")
    assert found.notes == ["nms: 1 to 3 of 9 to 12 dropped"]
    assert found.marks == {(row, "nms"): ("a",) for row in range(3)}


def test_versions_and_hashes_are_no_numbers() -> None:
    remarks = [
        remark(0, "macs", "counter 0.1.5, trial 12ab"),
        remark(1, "macs", "counter 0.1.6, 5"),
    ]
    found = notes.gather(remarks, range(3), "#")
    assert found.notes == ["macs: counter 0.1.5, trial 12ab", "macs: counter 0.1.6, 5"]


def test_what_all_rows_share_is_a_sentence_though_others_are_more() -> None:
    remarks = [remark(row, key, "rough") for row in (0, 2) for key in ("nms", "p95")]
    found = notes.gather(remarks, [0, 2], "#")
    assert (found.shared, found.notes, found.marks) == (["nms, p95: rough"], [], {})


def test_several_columns_of_a_row_are_marked_at_its_head() -> None:
    remarks = [remark(0, "nms", "gone", True), remark(0, "p95", "gone", True)]
    remarks.append(remark(1, "p95", "gone", True))
    found = notes.gather(remarks, range(3), "#")
    assert found.notes == ["nms, p95 missing: gone", "p95 missing: gone"]
    assert found.marks == {(0, "#"): ("a",), (1, "p95"): ("b",)}


def test_a_single_row_keeps_its_marks() -> None:
    found = notes.gather([remark(0, "nms", "rough")], [0], "#")
    assert (found.shared, found.notes) == ([], ["nms: rough"])
