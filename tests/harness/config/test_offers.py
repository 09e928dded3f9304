"""What a refusal offers: the nearest name, a handful, and the command that lists all."""

from harness.config.offers import FEW, offer

MANY = [f"name{number}" for number in range(FEW + 3)]


def test_a_few_names_are_all_told_with_or_without_a_near_one() -> None:
    assert offer("zzz", ["a", "b"]) == ". There is a, b."
    assert offer("alpa", ["alpha", "b"], "list") == "; did you mean alpha? There is alpha, b."
    assert offer("zzz", ["a"], lead="The axes are") == ". The axes are a."
    assert offer("zzz", []) == "."


def test_of_many_a_handful_is_told_and_what_lists_them() -> None:
    few = ", ".join(MANY[:FEW])
    assert offer("zzz", MANY, "list") == f". There is {few} and 3 more; `list` names all."
    assert offer("nam8", MANY, "list") == "; did you mean name8? `list` names all 9."
    assert offer("zzz", MANY) == f". There is {', '.join(MANY)}."  # nothing lists them


def test_what_a_name_begins_is_nearer_than_what_looks_like_it() -> None:
    known = ["rtmdet/table2", "rtmdet/table5b_blocks"]
    assert offer("rtmdet/table5b", known).startswith("; did you mean rtmdet/table5b_blocks?")
