"""Which latencies may be ranked."""

from harness.records import Record, turns
from harness.records.latencies import ROUGH, firm, reason, rough, session


def made(**changes: object) -> Record:
    facts = {"study": "s", "trial": "t", "name": "n", "detector": "d", "overrides": {}}
    more = {"config": {}, "seed": 0, "state": "done"}
    return Record.model_validate(facts | more | changes)


def test_the_reason_is_found_among_other_caveats() -> None:
    caveats = {"latency_ms": f"a small sample; {ROUGH}others used the machine; warm"}
    assert rough(made(caveats=caveats)) == "others used the machine"


def test_other_caveats_make_no_latency_rough() -> None:
    caveats = {"latency_ms": "a rough: guess", "nms_ms": f"{ROUGH}of an untrained network"}
    assert rough(made(caveats=caveats)) is None
    assert rough(made()) is None


def test_a_session_is_that_of_the_rounds_that_trials_shared() -> None:
    assert session(made(details={"together": {"session": "ab"}})) == "ab"
    assert session(made(details={"latency": {}})) is None


def test_a_record_from_before_tells_by_its_words_that_it_is_rough() -> None:
    text = (
        "not steady after 3.0 s of warm-up; 5 of 6 rounds disturbed (others 5), most, so all kept"
    )
    assert rough(made(caveats={"latency_ms": text})) == text.partition("; ")[2]
    assert reason("1 of 6 rounds disturbed (others 1), dropped") is None


def test_a_latency_that_an_earlier_version_took_over_is_rough_until_it_is_timed_together() -> None:
    taken = {
        "metrics": {"latency_ms": 125.6},
        "details": {"reused": {"from": "o/t", "latency": True}},
    }
    assert rough(made(**taken)) == "timed for o/t"
    again = {"reused": {"from": "o/t", "latency": True}, "together": {"session": "ab"}}
    assert rough(made(metrics={"latency_ms": 30.0}, details=again)) is None
    counts = {"reused": {"from": "o/t", "latency": False}}
    assert rough(made(metrics={"latency_ms": 30.0}, details=counts)) is None


def test_firm_are_all_metrics_but_rough_ones_and_ratios_that_were_timed_in_turns() -> None:
    metrics = {"mAP": 0.5, "latency_ms": 9.0, "nms_ms": 1.0, "energy_j": 2.0, "latency_ratio": 1.5}
    assert firm(made(metrics=metrics)) == metrics
    unsure = {"latency_ms": f"{ROUGH}disturbed", "energy_j": f"{ROUGH}disturbed"}
    assert firm(made(metrics=metrics, caveats=unsure)) == {"mAP": 0.5, "latency_ratio": 1.5}
    part = {"nms_ms": f"{ROUGH}disturbed"}
    assert firm(made(metrics=metrics, caveats=part)).keys() == metrics.keys() - {"nms_ms"}


def test_a_ratio_without_a_latency_is_none() -> None:
    ratio = {
        f"latency_ratio{end}": value for end, value in (("", 1.0), ("_low", 0.9), ("_high", 2))
    }
    assert turns.own_ratio(made(metrics=ratio | {"latency_ms": 3.0})) is not None
    assert turns.own_ratio(made(metrics=ratio)) is None
