from pathlib import Path
from typing import Any

import pytest

from harness.config.search import Dominated, Tpe
from harness.study import StudyError, expand, load
from tests.harness.studies import TOY, write
from tests.harness.study.search.spaces import SEARCH, searching


def refused(folder: Path, **changes: Any) -> str:
    tree = {**TOY, "sweep": None, "search": SEARCH, **changes}
    with pytest.raises(StudyError) as info:
        load(write(folder, **tree))
    message = str(info.value)
    assert "\n" not in message
    assert message.startswith(f"{folder / 'toy.yaml'}:"), message
    return message


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"objectives": None}, "search.objectives is missing"),
        ({"objectives": {"mAp": "maximize"}}, "no such metric as mAp; did you mean mAP?"),
        ({"objectives": {"mAP": "maximise"}}, "'maximize' or 'minimize', got 'maximise'"),
        ({"trials": 0}, "greater than 0"),
        ({"trial": 3}, "unknown key 'trial'; did you mean trials?"),
        ({"constraints": {"param": "<= 1"}}, "no such metric; did you mean params?"),
        ({"constraints": {"params": "< 1"}}, 'expected a limit such as "<= 6e6"'),
        ({"sampler": "tpee"}, "did you mean tpe?"),
        ({"sampler": {"type": "tpe", "n_startup": 3}}, "did you mean n_startup_trials?"),
        ({"pruner": "medain"}, "did you mean median?"),
        ({"pruner": "median"}, "takes one objective; with several use dominated"),
        ({"reference": {"mAP": 0.0}}, "reference names each objective once: mAP, latency_ms"),
    ],
)
def test_a_mistake_in_a_search_is_refused(
    tmp_path: Path, changes: dict[str, Any], part: str
) -> None:
    tree = {key: value for key, value in {**SEARCH, **changes}.items() if value is not None}
    message = refused(tmp_path, search=tree)
    assert part in message, message


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"sweep": {"detector.width": [4]}}, "`search:` or `sweep:`, not both"),
        ({"seeds": [0, 1]}, "trains each proposal once"),
        ({"racing": {"seeds": 3}}, "`search:` or `racing:`, not both"),
        ({"measure": ["complexity"]}, "mAP needs accuracy among `measure:`"),
        ({"set": {**TOY["set"], "detector.width": 4}}, "both set and searched"),
        ({"constraints": {"params": "<= 3"}}, "params is constrained twice"),
    ],
)
def test_a_search_that_contradicts_its_study_is_refused(
    tmp_path: Path, changes: dict[str, Any], part: str
) -> None:
    assert part in refused(tmp_path, **changes)


def test_options_reach_into_a_search(tmp_path: Path) -> None:
    sets = ["search.sampler=random", "search.seed=3", "search.space.detector.width=[4]"]
    search = searching(tmp_path, sets=sets).search
    assert search is not None
    assert (search.sampler.type, search.seed) == ("random", 3)
    assert search.space["detector.width"].choices == (4,)
    with pytest.raises(StudyError, match=r"--set search\.trails=2: .*did you mean trials\?"):
        searching(tmp_path, sets=["search.trails=2"])


def test_names_stand_for_their_defaults(tmp_path: Path) -> None:
    search = searching(tmp_path, pruner="dominated").search
    assert search is not None
    assert (search.sampler, search.pruner) == (Tpe(), Dominated())


def test_a_search_has_no_list_of_trials(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="finds its trials as it goes"):
        expand(searching(tmp_path))


def test_constraints_of_a_sweep_are_checked(tmp_path: Path) -> None:
    study = load(write(tmp_path, constraints={"params": "<= 2000"}))
    assert study.limits == {"params": "<= 2000"}
    with pytest.raises(StudyError, match="did you mean params"):
        load(write(tmp_path, constraints={"param": "<= 2000"}))


def test_the_untrained_network_is_timed_only_where_that_is_of_use(tmp_path: Path) -> None:
    study = load(write(tmp_path, constraints={"params": "<= 2000"}))
    assert not expand(study)[0].cheap_latency
    study = load(write(tmp_path, constraints={"latency_ms": "<= 20"}))
    assert expand(study)[0].cheap_latency


@pytest.mark.parametrize(
    ("racing", "part"),
    [
        ({"seeds": 3, "metric": "map"}, "no such metric as map"),
        ({"seeds": 2}, "begins with the study's 2 seeds"),
        ({"seeds": 3, "budget": 4}, "unknown key 'budget'"),
    ],
)
def test_a_race_that_cannot_be_run_is_refused(
    tmp_path: Path, racing: dict[str, Any], part: str
) -> None:
    with pytest.raises(StudyError, match=part):
        load(write(tmp_path, racing=racing, seeds=[0, 1]))
