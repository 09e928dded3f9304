"""Tables for papers: bold only where a difference is more than chance."""

import random

import pytest

from harness.records import Record
from reports import paper, significance
from reports.paper import Number, Paper
from reports.significance import Seeds
from tests.reports.conftest import make_failed, make_record, together

KNOB = "detector.backbone.expand_ratio"


def column(table: Paper, key: str) -> list[Number]:
    index = [measure.key for measure in table.measures].index(key)
    return [row[index] for row in table.numbers]


def with_seeds(*means: float, scatter: float = 0.002) -> list[Record]:
    return [
        make_record(f"{place}-{seed}", seed=seed, overrides={KNOB: place},
                    metrics={"mAP": mean + scatter * (seed - 1), "params": 4e6 + place})
        for place, mean in enumerate(means) for seed in range(3)
    ]  # fmt: skip


def test_a_clear_winner_is_bold_and_the_second_underlined() -> None:
    noise = iter([0.001, -0.002, 0.001, -0.001, 0.002, 0.0, 0.002, -0.001, 0.0])
    records = with_seeds(0.50, 0.60, 0.40)
    records = [r.model_copy(update={"metrics": r.metrics | {"mAP": r.metrics["mAP"] + next(noise)}})
               for r in records]  # fmt: skip
    found = column(paper.paper(records, "t"), "mAP")
    assert [number.place for number in found] == ["second", "best", ""]
    assert found[0].mean == pytest.approx(50, abs=0.2)
    assert found[0].spread == pytest.approx(0.3, abs=0.2)


def test_a_tie_is_marked_for_nobody() -> None:
    draw = random.Random(0)
    records = [
        r.model_copy(update={"metrics": r.metrics | {"mAP": 0.5 + draw.gauss(0, 0.01)}})
        for r in with_seeds(0, 0, 0)
    ]
    assert {number.place for number in column(paper.paper(records, "t"), "mAP")} == {""}


def test_one_seed_marks_no_accuracy_and_counts_are_exact() -> None:
    records = [make_record("a"), make_record("b", overrides={KNOB: 1},
               metrics={"mAP": 0.9, "params": 3e6})]  # fmt: skip
    table = paper.paper(records, "t")
    assert [number.place for number in column(table, "mAP")] == ["", ""]
    assert [number.place for number in column(table, "params")] == ["", "best"]
    assert [number.place for number in column(table, "macs")] == ["", ""]
    assert table.notes[0].startswith("One seed: the scatter over trainings is unknown")


def test_a_latency_is_marked_by_its_ratio() -> None:
    def places(ratio: float) -> list[str]:
        records = [together("first"), together("b", ratio, overrides={KNOB: 1})]
        return [number.place for number in column(paper.paper(records, "t"), "latency_ms")]

    assert places(0.9) == ["", "best"]
    assert places(1.1) == ["best", ""]
    assert places(0.99) == ["", ""]


def test_latencies_timed_apart_are_marked_for_nobody() -> None:
    records = [make_record("a"), make_record("b", overrides={KNOB: 1}, metrics={"latency_ms": 1.0})]
    assert {number.place for number in column(paper.paper(records, "t"), "latency_ms")} == {""}


def seeds(values: list[dict[int, float]]) -> Seeds:
    groups = [
        [make_record(f"{place}-{seed}", overrides={KNOB: place}, seed=seed) for seed in found]
        for place, found in enumerate(values)
    ]
    by_trial = {f"{i}-{seed}": v for i, found in enumerate(values) for seed, v in found.items()}
    return Seeds(groups, by_trial)


def test_intervals_allow_for_all_comparisons() -> None:
    """Of three equal variants the best is called so in fewer than one of twenty tables."""
    draw, called = random.Random(1), 0
    for _ in range(300):
        values = [{seed: draw.gauss(0, 1) for seed in range(4)} for _ in range(3)]
        beats = significance.over_seeds(seeds(values), greater=True)
        called += significance.places(3, beats).best is not None
    assert called / 300 < 0.08  # 5 % at most, and 2.4 standard errors of 300 tables


def test_a_seed_is_a_block_where_variants_share_it() -> None:
    values = [
        {seed: 10.0 * seed + step + wiggle * (seed == 2) for seed in range(3)}
        for step, wiggle in ((1.0, 0.1), (0.0, 0.0))
    ]
    paired = significance.over_seeds(seeds(values), greater=True)
    assert paired(0, 1, 1)
    assert not paired(1, 0, 1)
    moved = {seed + 3: value for seed, value in values[1].items()}
    assert not significance.over_seeds(seeds([values[0], moved]), greater=True)(0, 1, 1)


def test_without_repeated_seeds_or_values_nothing_is_better() -> None:
    assert not significance.over_seeds(seeds([{0: 2.0}, {0: 1.0}]), greater=True)(0, 1, 1)
    assert not significance.over_seeds(seeds([{0: 2.0, 1: 2.1}, {}]), greater=True)(0, 1, 1)


def test_latex_has_rules_marks_and_the_protocol() -> None:
    text = paper.to_latex(paper.paper(with_seeds(0.50, 0.60), "50% & more"))
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption{50\% \& more}",
                 r"\begin{tabular}{lrrrrrr}", r"expand\_ratio & \shortstack[r]{mAP \\ (\%)} & ",
                 r"60.0 $\pm$ 0.2", r"\textbf{4.00}", "data: shapes", "over 3 seeds"):  # fmt: skip
        assert part in text
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0].strip().splitlines()
    assert [line.count(" & ") for line in body] == [6, 6]


def test_headings_of_latex_break_where_a_knob_or_a_unit_begins() -> None:
    records = [
        make_record(f"t{n}", overrides={"a.depth_mult": n, "b.depth_mult": 1 - n}) for n in (0, 1)
    ]
    text = paper.to_latex(paper.paper(records, "t"))
    assert r"\shortstack[l]{a. \\ depth\_mult} & \shortstack[l]{b. \\ depth\_mult} & " in text


def test_markdown_has_the_same_numbers() -> None:
    lines = paper.to_markdown(paper.paper(with_seeds(0.50, 0.60), "t")).splitlines()
    assert lines[0] == "**t**"
    assert lines[2].startswith(r"| expand\_ratio | mAP (%) |")
    assert lines[4].startswith("| 0 | 50.0 ± 0.2 |")
    assert "**4.00**" in lines[4]


def test_nothing_done_is_a_table_all_the_same() -> None:
    table = paper.paper([make_failed()], "t")
    assert table.numbers == []
    assert "no trial is done" in paper.to_latex(table)
    assert paper.to_markdown(table).startswith("**t**")
