import itertools
import socket
import threading
import types
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.records import Record
from harness.tracking import Outbox, Tracker, is_logged, outbox
from harness.tracking.marks import remember
from tests.harness.tracking.trackers import make
from tests.patience import HANG, wait_for

URI = "http://127.0.0.1:9"  # nobody answers there


class Fake:
    """A tracker that is away at some of the attempts, in their order."""

    def __init__(self, away: Collection[int] = (), refused: Collection[str] = ()) -> None:
        self.away, self.refused = away, refused
        self.attempts: list[str] = []
        self.sent: list[str] = []

    def send(self, record: Record, folder: Path, **options: Any) -> str:
        self.attempts.append(record.trial)
        if len(self.attempts) in self.away or record.trial in self.refused:
            raise ConnectionError("connection  refused")
        self.sent.append(record.trial)
        remember(folder, URI, "run")
        return "run"

    def was_asked(self, times: int) -> None:
        """Wait until it was asked so many times."""
        wait_for(lambda: len(self.attempts) >= times, f"attempt {times}")


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    imports(monkeypatch, lambda name: None)
    return


def imports(monkeypatch: pytest.MonkeyPatch, instead: Callable[[str], object]) -> None:
    """Have the outbox import in another way, and nobody else."""
    monkeypatch.setattr(outbox, "importlib", types.SimpleNamespace(import_module=instead))


def install(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> Fake:
    monkeypatch.setattr(Tracker, "send", lambda self, *given, **more: fake.send(*given, **more))
    monkeypatch.setattr(Tracker, "close_stale", lambda self, study: 0)
    return fake


def post(
    tmp_path: Path, names: str, after: Callable[[int], None] = lambda count: None
) -> list[str]:
    """Put a record per letter and return the warnings; something is done after each."""
    warnings: list[str] = []
    for name in names:
        make(tmp_path / name)
    with Outbox("toy", URI, warn=warnings.append) as box:
        for count, name in enumerate(names, 1):
            box.put(tmp_path / name)
            after(count)
    return warnings


def test_records_are_sent_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = install(monkeypatch, Fake())
    assert post(tmp_path, "abc") == []
    assert fake.sent == ["a", "b", "c"]


def test_an_outage_is_told_once_and_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "SECONDS_BETWEEN_ATTEMPTS", (0.0,))
    fake = install(monkeypatch, Fake(away={2, 3}))
    (warning,) = post(tmp_path, "abcd", after=fake.was_asked)
    assert warning == f"MLflow at {URI} is away (connection refused); the trials go on"
    assert sorted(fake.sent) == ["a", "b", "c", "d"]


def test_a_tracker_that_is_away_is_asked_now_and_then_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "time", types.SimpleNamespace(monotonic=lambda: 0.0))
    fake = install(monkeypatch, Fake(away=range(100)))
    warnings = post(tmp_path, "abcdef", after=lambda count: fake.was_asked(1))
    assert len(fake.attempts) == 2  # the first, and one last time
    assert warnings[1:] == ["6 trials are not in MLflow; `detbench sync toy` sends them"]


def test_a_record_that_is_refused_stands_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "SECONDS_BETWEEN_ATTEMPTS", (0.0,))
    fake = install(monkeypatch, Fake(refused={"a"}))
    warnings = post(tmp_path, "abc", after=fake.was_asked)
    assert fake.sent == ["b", "c"]
    assert warnings[-1].startswith("1 trials are not in MLflow")


def test_no_trial_waits_for_the_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    fake = install(monkeypatch, Fake())
    asked = threading.Event()

    def send(self: Tracker, *given: Any, **more: Any) -> str:
        asked.set()
        assert answer.wait(HANG), "who puts waits for who sends"
        return fake.send(*given, **more)

    monkeypatch.setattr(Tracker, "send", send)
    make(tmp_path / "a")
    with Outbox("toy", URI, warn=pytest.fail) as box:
        box.put(tmp_path / "a")
        assert asked.wait(HANG)
        for _ in range(1000):
            box.put(tmp_path / "a")
        assert fake.sent == []
        answer.set()
    assert fake.sent == ["a"]


def test_a_study_that_was_sent_before_needs_no_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    imports(monkeypatch, asked.append)
    make(tmp_path / "a")
    remember(tmp_path / "a", URI, "run")
    with Outbox("toy", URI, warn=asked.append) as box:
        box.put(tmp_path / "a")
        box.put(tmp_path / "gone")
    assert asked == []
    assert box.complete


def test_a_server_that_is_gone_is_noticed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection is tried for an attempt, and nothing is repeated or waited for after it."""
    tried: list[tuple[str, int]] = []
    connect = socket.create_connection

    def try_once(address: tuple[str, int], timeout: float) -> socket.socket:
        tried.append(address)
        return connect(address, timeout)

    monkeypatch.setattr(socket, "create_connection", try_once)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it sleeps"))
    warnings = post(tmp_path, "ab")
    assert 1 <= len(tried) <= 3
    assert set(tried) == {("127.0.0.1", 9)}
    assert not is_logged(tmp_path / "a", URI)
    assert "is away" in warnings[0]
    assert warnings[1].startswith("2 trials")


def test_attempts_become_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.count(step=0)
    monkeypatch.setattr(outbox, "time", types.SimpleNamespace(monotonic=lambda: next(now)))
    box = Outbox("toy", URI, warn=lambda text: None)

    def fail() -> None:
        raise OSError

    pauses = []
    for _ in range(8):
        box._try(fail)
        pauses.append(box._next)
    assert pauses == [10, 20, 40, 80, 160, 300, 300, 300]
    assert box._try(lambda: None)
    box._try(fail)
    assert box._next == 10
