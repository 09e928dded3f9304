from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import Engine, event

from harness.engine.storage import open_storage, url


class Killed(BaseException):
    pass


def test_a_storage_whose_maker_was_killed_is_made_to_its_end(tmp_path: Path) -> None:
    """At any of its statements."""
    asked, limit = 0, 1000

    def count(*arguments: Any) -> None:
        nonlocal asked
        asked += 1
        if asked > limit:
            raise Killed

    event.listen(Engine, "before_cursor_execute", count)
    try:
        open_storage(url(None, tmp_path)).engine.dispose()
        statements = asked
        for number in range(0, statements, 7):
            folder = tmp_path / str(number)
            folder.mkdir()
            asked, limit = 0, number
            with pytest.raises(Killed):
                open_storage(url(None, folder))
            limit = 1000
            opened = open_storage(url(None, folder))
            optuna.create_study(storage=opened, study_name="toy")
            opened.engine.dispose()
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    assert statements > 10
