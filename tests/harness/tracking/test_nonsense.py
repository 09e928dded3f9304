from pathlib import Path

import pytest

from harness.tracking import Outbox, connection, is_logged, outbox
from tests.harness.tracking.nonsense import KINDS, served
from tests.harness.tracking.trackers import make

MOST = 4 * 31  # requests: three attempts at most, and as many redirects as a client follows


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "silence"])
def test_a_server_that_is_no_tracker_is_asked_little(kind: str, tmp_path: Path) -> None:
    warnings: list[str] = []
    for name in "abc":
        make(tmp_path / name)
    with served(kind) as server:
        with Outbox("toy", server.uri, warn=warnings.append) as box:
            for name in "abc":
                box.put(tmp_path / name)
        assert not box._thread.is_alive()  # it gave up by itself
        assert not box.complete
    assert 0 < server.requests <= MOST
    assert warnings[0].startswith(f"MLflow at {server.uri} is away")
    assert warnings[1:] == ["3 trials are not in MLflow; `detbench sync toy` sends them"]
    assert not is_logged(tmp_path / "a", server.uri)


def test_a_server_that_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "SECONDS_AT_THE_END", 0.1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3600")
    make(tmp_path / "a")
    warnings: list[str] = []
    with served("silence") as server:
        with Outbox("toy", server.uri, warn=warnings.append) as box:
            box.put(tmp_path / "a")
        assert box._thread.is_alive()  # it waits for an answer, and nobody for it
    box._thread.join()
    assert warnings == ["1 trials are not in MLflow; `detbench sync toy` sends them"]


def test_a_server_that_took_what_it_was_sent_gets_more_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Outbox("toy", "http://127.0.0.1:9", warn=pytest.fail)
    box._imported = 5.0
    assert box._until(1.0) == 5.0 + outbox.SECONDS_AT_THE_END
    assert box._until(9.0) == 9.0 + outbox.SECONDS_AT_THE_END
    monkeypatch.setattr(outbox.time, "monotonic", lambda: 8.0)
    box._try(lambda: None)
    assert box._until(9.0) == 8.0 + outbox.SECONDS_FOR_A_RECORD
    box.warn = lambda text: None
    box._try(lambda: 1 / 0)
    assert box._until(9.0) == 9.0 + outbox.SECONDS_AT_THE_END


def test_the_limit_is_ten_seconds() -> None:
    assert outbox.SECONDS_AT_THE_END <= 10
    assert connection.SECONDS_TO_ANSWER <= 10
