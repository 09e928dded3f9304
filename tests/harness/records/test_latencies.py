"""Which latencies may be ranked."""

from harness.records import Record
from harness.records.latencies import ROUGH, rough, session


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
