"""What was printed of a released detector, beside its count."""

from harness.analysis.reproduce import printed

SMALL = {"mmengine": 14834933760, "ptflops": 14870917120}  # of the reference


def test_a_convention_that_gives_the_printed_digits_is_named_and_the_others_told() -> None:
    found = printed.check("rtmdet_s", SMALL)
    assert found is not None
    assert found.by == ["mmengine"]
    assert str(found) == "14.8 G follows from mmengine; ptflops gives 14.9"
    found = printed.check("rtmdet_m", {"mmengine": 39205493760})
    assert str(found) == "39.27 G does not follow; mmengine gives 39.21"


def test_digits_are_cut_or_rounded_as_the_table_says() -> None:
    for count, by in ((30000000000, ["paddle"]), (30499999999, ["paddle"]), (30500000000, [])):
        found = printed.check("rtdetr_r18", {"paddle": count})
        assert found is not None
        assert found.by == by


def test_what_no_zoo_prints_is_not_checked() -> None:
    assert printed.check("rtmdet_nano", {"mmengine": 1}) is None
    assert printed.check("tests.toy:TOY", {}) is None
