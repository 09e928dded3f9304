from reports import facts
from tests.reports.conftest import Make


def named(found: list[facts.Fact]) -> dict[str, str]:
    return {fact.name: fact.text for fact in found}


def test_facts_say_what_holds_for_all(make: Make, failing: Make) -> None:
    config = {"recipe.epochs": 3, "recipe.ema_decay": None, "detector.input.size": [64, 96]}
    records = [make("a", config=config), failing(config=config)]
    found = named(facts.facts(records))
    assert found["data"] == "shapes (600 train, fingerprint f1)"
    assert found["input"] == "64 × 96 pixels"
    assert found["recipe"] == "epochs 3"
    assert found["device"] == "A processor (cpu)"
    assert found["software"] == "torch 2.6"
    assert found["trials"] == "1 done, 1 failed"
    assert found["date"] == "1970-01-01 to 1970-01-02"
    assert found["protocol"] == "p1"


def test_a_swept_knob_is_no_fact(make: Make) -> None:
    record = make(config={"recipe.epochs": 3}, overrides={"recipe.epochs": 3})
    assert "recipe" not in named(facts.facts([record]))


def test_a_gpu_is_the_device(make: Make) -> None:
    environment = {"device": "cuda:0", "gpu": {"name": "H200"}, "cpu": {"model": "A processor"}}
    assert facts.device(make(environment=environment)) == "H200 (cuda:0)"


def test_trials_that_belong_together_need_no_warning(make: Make) -> None:
    assert facts.warnings([make("a"), make("b")]) == []


def test_mixed_protocols_are_named_with_what_differs(make: Make) -> None:
    other = make("b", protocol={"latency": {"batch_size": 8}}, protocol_hash="p2")
    (warning,) = facts.warnings([make("a"), other])
    assert "2 protocols" in warning
    assert "differ in latency" in warning


def test_mixed_devices_and_data_are_warned_of(make: Make) -> None:
    other = make("b", environment={"device": "cuda:0"}, data={"fingerprint": "f2"})
    text = " ".join(facts.warnings([make("a"), other]))
    assert "2 devices" in text
    assert "2 data sets" in text


def test_facts_of_nothing() -> None:
    assert named(facts.facts([])) == {"trials": "none"}
    assert facts.warnings([]) == []


def test_the_command_is_the_one_that_was_kept(make: Make) -> None:
    assert facts.command([make()]) == ""
    kept = {"command": ["detbench", "run", "a study.yaml"]}
    assert facts.command([make(environment=kept)]) == "detbench run 'a study.yaml'"
