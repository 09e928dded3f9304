"""What a study's search, constraints and racing must be, beyond the types of their keys."""

from __future__ import annotations

from collections.abc import Iterable

from harness.config.offers import offer
from harness.config.search import Search
from harness.config.yaml_source import StudyError
from harness.records import METRICS
from harness.study import constraints
from harness.study.constraints import ConstraintError
from harness.study.search import space
from harness.study.search.space import SpaceError
from harness.study.study import Study


def checked(study: Study) -> Study:
    """Refuse a search, constraint or race that cannot be run, before anything starts.

    Returns:
        The study, the numbers of its space as the knobs take them.

    Raises:
        StudyError: naming file, line and remedy.
    """
    _check_constraints(study, study.constraints, "constraints")
    if study.racing is not None:
        _check_race(study)
    if study.search is None:
        return study
    _check_alone(study)
    _check_constraints(study, study.search.constraints, "search", "constraints")
    for metric in study.search.objectives:
        _check_metric(study, metric, "search", "objectives", metric)
    return study.model_copy(update={"search": _with_space(study, study.search)})


def _with_space(study: Study, search: Search) -> Search:
    try:
        return search.model_copy(update={"space": space.checked(study.setup, search.space)})
    except SpaceError as error:
        if error.part and error.part[0].isdigit():
            where = study.place_of(error.path, int(error.part[0]))
        else:
            where = study.place("search", "space", error.path, *error.part)
        raise StudyError(f"{where}: {error}") from error


def _check_alone(study: Study) -> None:
    """Refuse parts that belong to a sweep."""
    for key, given in (("sweep", study.sweep), ("racing", study.racing)):
        if given:
            raise StudyError(f"{study.place(key)}: a study has `search:` or `{key}:`, not both")
    if len(study.seeds) > 1:
        raise StudyError(
            f"{study.place('seeds')}: a search trains each proposal once; name one seed, and run "
            "the best again in a sweep with several"
        )


def _check_constraints(study: Study, given: Iterable[str], *where: str) -> None:
    for metric in given:
        place = study.place(*where, metric)
        if len(where) > 1 and metric in study.constraints:
            raise StudyError(f"{place}: {metric} is constrained twice; take one of them out")
        try:
            constraints.parse(metric, study.limits[metric])
        except ConstraintError as error:
            raise StudyError(f"{place}: {error}") from error
        _check_measured(study, metric, place)


def _check_race(study: Study) -> None:
    assert study.racing is not None
    _check_metric(study, study.racing.metric, "racing", "metric")
    place = study.place("racing", "seeds")
    if study.racing.seeds <= len(study.seeds):
        raise StudyError(
            f"{place}: racing begins with the study's {len(study.seeds)} seeds, so that it needs "
            f"more than {study.racing.seeds} in all"
        )


def _check_metric(study: Study, metric: str, *where: str) -> None:
    place = study.place(*where)
    if metric not in constraints.NAMES:
        offered = offer(metric, constraints.NAMES)
        raise StudyError(f"{place}: no such metric as {metric}{offered}")
    _check_measured(study, metric, place)


def _check_measured(study: Study, metric: str, place: str) -> None:
    groups = [group for group, names in METRICS.items() if metric in names]
    if groups and groups[0] not in study.measure:
        raise StudyError(f"{place}: {metric} needs {groups[0]} among `measure:`")
