"""What Optuna is told, what is given back, and how a storage that is lost comes back."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from harness.engine import ledger, owner, storage
from harness.engine.entries import Claim
from harness.engine.ledger import Ledger
from harness.engine.owner import Owner
from harness.engine.storage import StorageError, url
from harness.records import Failure
from tests.harness.engine import instant
from tests.harness.engine.running import agenda


def make(folder: Path, widths: list[int], **changes: object) -> Ledger:
    out = folder / "runs" / "toy"
    out.mkdir(parents=True, exist_ok=True)
    return Ledger(agenda(folder, widths, **changes), out, url(None, out))


def claimed(book: Ledger) -> Claim:
    found = book.claim()
    assert found is not None
    return found


def study(book: Ledger) -> optuna.Study:
    return book.study


def test_trials_are_taken_in_order_with_params_that_can_be_read(tmp_path: Path) -> None:
    sweep = {"detector.input.size": [[64, 64], [128, 128]], "detector.width": [4, 8]}
    book = make(tmp_path, [], sweep=sweep)
    book.adopt({})
    taken = []
    while (claim := book.claim()) is not None:
        taken.append(claim.spec)
    assert taken == list(book.agenda.specs)
    trials = study(book).get_trials()
    assert trials[0].params == {"detector.input.size": "[64, 64]", "detector.width": 4}
    assert trials[0].user_attrs["overrides"]["detector.input.size"] == [64, 64]
    assert [item.user_attrs["trial"] for item in trials] == [spec.trial for spec in taken]
    assert {item.state.name for item in trials} == {"RUNNING"}


def test_what_comes_later_is_taken_when_nothing_else_waits(tmp_path: Path) -> None:
    book = make(tmp_path, [1, 2, 3, 4])
    book.adopt({})
    taken = []
    while (claim := book.claim(later=lambda spec: spec.knobs["width"] % 2 == 1)) is not None:
        taken.append(claim.spec.knobs["width"])
    assert taken == [2, 4, 1, 3]


def test_outcomes_are_told_as_objectives(tmp_path: Path) -> None:
    book = make(tmp_path, [1, 2, 3], measure=["complexity", "accuracy"], recipe="smoke")
    book.adopt({})
    done, pruned, failed = (claimed(book) for _ in range(3))
    book.tell(done, instant.made(done.spec))
    book.tell(pruned, instant.made(pruned.spec).model_copy(update={"state": "pruned"}))
    failure = Failure(cause="out_of_memory", message="no memory")
    changes = {"state": "failed", "failure": failure}
    book.tell(failed, instant.made(failed.spec).model_copy(update=changes))
    first, second, third = study(book).get_trials()
    assert study(book).metric_names == ["mAP", "macs"]
    assert first.values == [instant.made(done.spec).metrics["mAP"], 1000.0]
    assert [item.state.name for item in (first, second, third)] == ["COMPLETE", "PRUNED", "FAIL"]
    assert third.user_attrs["outcome"]["cause"] == "out_of_memory"
    assert book.claim() is None, "what failed is not begun again in the same run"


def test_a_trial_that_is_given_back_comes_first_and_counts_its_attempts(tmp_path: Path) -> None:
    book = make(tmp_path, [1, 2])
    book.adopt({})
    first = claimed(book)
    book.give_back(first, "crash")
    again = claimed(book)
    assert (again.spec, again.attempts) == (first.spec, {"crash": 1})
    book.give_back(again)
    assert claimed(book).attempts == {"crash": 1}
    assert len(study(book).get_trials()) == 2


def test_a_trial_is_not_told_twice(tmp_path: Path) -> None:
    book = make(tmp_path, [1])
    book.adopt({})
    claim = claimed(book)
    book.storage.set_trial_user_attr(claim.id, "owner", ["elsewhere", "", 1, "1"])
    book.tell(claim, instant.made(claim.spec))
    assert study(book).get_trials()[0].state.name == "RUNNING", "it belongs to another driver"


def test_failed_trials_are_run_again_by_the_next_run(tmp_path: Path) -> None:
    book = make(tmp_path, [1, 2])
    book.adopt({})
    done, failed = claimed(book), claimed(book)
    record = instant.made(done.spec)
    book.tell(done, record)
    changes = {"state": "failed", "failure": Failure(cause="error", message="")}
    book.tell(failed, instant.made(failed.spec).model_copy(update=changes))
    second = make(tmp_path, [1, 2])
    second.adopt({record.trial: record})
    again = claimed(second)
    assert (again.spec.trial, again.attempts) == (failed.spec.trial, {})
    assert second.claim() is None
    assert len(study(second).get_trials()) == 3


def test_a_storage_that_is_lost_is_made_again_from_the_records(tmp_path: Path) -> None:
    book = make(tmp_path, [1, 2, 3])
    book.adopt({})
    for _ in range(2):
        claim = claimed(book)
        book.tell(claim, instant.made(claim.spec))
    book.database.engine.dispose()
    (book.folder / storage.FILE).unlink()
    again = make(tmp_path, [1, 2, 3])
    again.adopt({s.trial: instant.made(s) for s in again.agenda.specs[:2]})
    assert claimed(again).spec == again.agenda.specs[2]
    trials = study(again).get_trials()
    assert [item.values for item in trials[:2]] == [[1000.0], [2000.0]]
    assert trials[0].params == {"detector.width": 1}


def test_a_sweep_of_other_values_makes_the_study_anew(tmp_path: Path) -> None:
    book = make(tmp_path, [1, 2])
    book.adopt({})
    claim = claimed(book)
    record = instant.made(claim.spec)
    book.tell(claim, record)
    other = make(tmp_path, [1, 2, 3])
    other.adopt({record.trial: record})
    assert [item.state.name for item in study(other).get_trials()] == ["COMPLETE"]
    assert claimed(other).spec.overrides == {"detector.width": 2}
    with pytest.raises(StorageError, match="another run"):
        make(tmp_path, [5])


DIES = """
import json, os, sys
from pathlib import Path
from harness.engine import owner
print(json.dumps(owner.me()))
"""


def test_a_dead_processes_trials_are_given_back_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    code = [sys.executable, "-c", DIES]
    told = subprocess.run(code, env=environment, capture_output=True, check=True).stdout
    dead = Owner(*json.loads(told))
    assert owner.is_dead(dead)
    assert not owner.is_dead(owner.me())
    assert not owner.is_dead(dead._replace(place="another machine's")), "nobody knows"
    reused = owner.me()._replace(born="before")
    assert owner.is_dead(reused), "another process had that number"
    book = make(tmp_path, [1])
    book.adopt({})
    lost = claimed(book)
    book.storage.set_trial_user_attr(lost.id, "owner", list(dead))
    book.mine.clear()
    assert claimed(book).id == lost.id


def test_a_silent_machines_trials_are_given_back_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = make(tmp_path, [1])
    book.adopt({})
    lost = claimed(book)
    book.storage.set_trial_user_attr(lost.id, "owner", ["elsewhere", "", 1, "1"])
    book.mine.clear()
    assert book.claim() is None, "its heart has just beaten"
    assert len(book.elsewhere()) == 1
    monkeypatch.setattr(book.database, "_get_stale_trial_ids", lambda study: [lost.id])
    again = claimed(book)
    assert (again.id, again.attempts) == (lost.id, {"lost_worker": 1})


def test_after_a_gap_of_its_own_a_driver_calls_nobody_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = make(tmp_path, [1])
    book.adopt({})
    lost = claimed(book)
    book.storage.set_trial_user_attr(lost.id, "owner", ["elsewhere", "", 1, "1"])
    monkeypatch.setattr(book.database, "_get_stale_trial_ids", lambda study: [lost.id])
    moment = time.time()
    book.beaten = moment - 10 * ledger.HEARTBEAT_SECONDS
    book.beat([], {})
    assert book.claim() is None


def test_a_storage_of_another_folder_is_refused(tmp_path: Path) -> None:
    book = make(tmp_path, [1])
    other = tmp_path / "other" / "toy"
    other.mkdir(parents=True)
    with pytest.raises(StorageError, match="another study named 'toy'"):
        Ledger(book.agenda, other, url(None, book.folder))


def test_a_storage_of_another_version_is_named_with_a_remedy(tmp_path: Path) -> None:
    book = make(tmp_path, [1])
    with book.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE version_info SET schema_version = 11")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    with pytest.raises(StorageError, match=r"study\.db.*; (use the version|remove the file)"):
        make(tmp_path, [1])


def test_a_damaged_storage_is_named_with_a_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "toy"
    folder.mkdir(parents=True)
    (folder / storage.FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError, match=r"study\.db: .*remove the file"):
        make(tmp_path, [1])


def test_no_patience_with_a_full_disk_but_with_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    monkeypatch.setattr(storage.time, "sleep", lambda seconds: None)
    warned: list[str] = []
    answers = iter(
        [
            OperationalError("", {}, Exception("gone")),
            OperationalError("", {}, Exception("gone")),
            "here",
        ]
    )

    def work() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    assert storage.patiently(work, warned.append) == "here"
    assert warned == ["the study's storage is away (gone); trying again"]

    def full() -> None:
        raise OperationalError("", {}, Exception("database or disk is full"))

    with pytest.raises(StorageError, match="full"):
        storage.patiently(full, warned.append)
