"""A study as Optuna keeps it: which trials wait, run and are over, and who works on them.

The records are the truth. What the storage lacks is taken from them, so a storage that is lost is
made again. Several drivers may share a storage and a folder: whatever has to be atomic happens
under the lock of the folder.
"""

from __future__ import annotations

import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.yaml_source import StudyError
from harness.engine import entries, owner
from harness.engine.agenda import Agenda, Params
from harness.engine.entries import Claim, Waiting
from harness.engine.opening import open_study
from harness.engine.storage import GRACE_SECONDS, HEARTBEAT_SECONDS, open_storage
from harness.records import Record
from harness.study.specification import TrialSpec
from harness.trials import folders

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial

AHEAD = 200  # trials that are entered before their turn, and shown as waiting
FRUITLESS = 50  # suggestions in a row that are known already, after which a search is over


class Ledger:
    """The state of one study, as one driver sees it."""

    def __init__(self, agenda: Agenda, folder: Path, where: str) -> None:
        """Open a study's state.

        Args:
            agenda: what there is to do.
            folder: of the study's records.
            where: SQLAlchemy's URL of the storage.

        Raises:
            StorageError: the storage cannot be used, or holds a study that others run.
        """
        self.agenda, self.folder = agenda, folder
        self.specs = {spec.trial: spec for spec in agenda.specs}
        self.lock = folders.lock(folder)
        self.waiting: deque[Waiting] = deque()
        self.unlisted: deque[tuple[str, Params, dict[str, Any]]] = deque()
        self.mine: set[int] = set()
        self.records: dict[str, Record] = {}  # that Optuna was told of, by trial
        self.beaten = 0.0  # when heartbeats were last recorded
        self.contact = -math.inf  # since when they were without a gap
        from optuna.storages import get_storage  # slow to import

        with self.lock:
            self.database = open_storage(where)
            self.storage = get_storage(self.database)  # remembers the trials that are over
            try:
                self.study = open_study(agenda, folder, self.storage)
            except BaseException:
                self.close()
                raise
        self.study_id = self.storage.get_study_id_from_name(agenda.study)
        self.known = len(self._entries())  # entries before `adopt`
        if agenda.search is not None:
            agenda.search.prepare(self.study, self.known)

    def close(self) -> None:
        """Give back the connections to the storage."""
        self.storage.remove_session()
        self.database.engine.dispose()

    def adopt(self, records: Mapping[str, Record]) -> None:
        """Enter what stands, and list what is left to run.

        Trials that failed are run again, unless another driver is at work, which then knows best.

        Args:
            records: those that make running a trial needless, by trial.
        """
        with self.lock:
            self._reclaim()
            self.records |= records
            found = self._entries()
            self.known = len(found)
            latest = {entries.trial_of(item): item for item in found}
            for trial, item in records.items():
                if trial not in latest or entries.contradicts(latest[trial], item):
                    self._enter(item)
            again = not any(item.state.name == "RUNNING" for item in found)
            for trial, params, attributes in self._candidates(latest):
                entry = latest.get(trial)
                if trial not in records and (entry is None or again and entry.state.is_finished()):
                    self.unlisted.append((trial, params, attributes))

    def enlist(self, specs: Iterable[TrialSpec]) -> None:
        """Add trials that nobody knew of when the ledger was opened."""
        self.specs |= {spec.trial: spec for spec in specs}
        with self.lock:
            known = {entries.trial_of(item) for item in self._entries()}
            self.unlisted.extend(
                entries.candidate(self.agenda, s) for s in specs if s.trial not in known
            )

    def claim(self, later: Callable[[TrialSpec], bool] = lambda spec: False) -> Claim | None:
        """Take a trial that waits, or a new one of a search; None if there is none.

        Args:
            later: says of a trial that it is to be taken only if all others that wait are so, too.
        """
        with self.lock:
            found = self._next(later)
            if found is None:
                self._refresh()
                found = self._next(later)
            return found or self._asked()

    def beat(self, claims: Iterable[Claim], progress: Mapping[str, Mapping[str, Any]]) -> None:
        """Tell that trials are worked on, and how far they are; nothing of those that were lost."""
        from optuna.exceptions import UpdateFinishedTrialError  # slow to import

        for claim in filter(self.holds, claims):
            self.database.record_heartbeat(claim.id)
            with suppress(UpdateFinishedTrialError):
                self.storage.set_trial_user_attr(
                    claim.id, "progress", progress.get(claim.spec.trial, {})
                )
        now = time.time()  # as heartbeats are told, and it goes on while a machine sleeps
        if now - self.beaten > 2 * HEARTBEAT_SECONDS:
            self.contact = now if self.beaten else self.contact
        self.beaten = now

    def holds(self, claim: Claim) -> bool:
        """Say whether a trial was given to nobody else since it was claimed."""
        return folders.is_claimed(self.folder, claim.spec.trial, claim.token)

    def give_back(self, claim: Claim, cause: str | None = None) -> None:
        """Let a trial wait again; a cause counts as an attempt that failed."""
        with self.lock:
            if entries.is_held(self.storage.get_trial(claim.id), claim):
                self._release(claim.id, cause)
                self.waiting.appendleft(Waiting(claim.id, claim.spec.trial))
            folders.give_up(self.folder, claim.spec.trial, claim.token)
        self.mine.discard(claim.id)

    def tell(self, claim: Claim, record: Record) -> None:
        """Enter how a trial ended, unless it was given to another driver meanwhile."""
        with self.lock:
            if entries.is_held(self.storage.get_trial(claim.id), claim):
                self._tell(claim.id, claim.asked, record)
            folders.give_up(self.folder, claim.spec.trial, claim.token)
        self.mine.discard(claim.id)

    def elsewhere(self) -> list[FrozenTrial]:
        """Return the entries of trials that other drivers run."""
        running = (item for item in self._entries() if item.state.name == "RUNNING")
        return [item for item in running if entries.owner_of(item) != owner.me()]

    def busy(self) -> set[tuple[str | None, str]]:
        """Return the trials that some driver runs, each with the token of its claim."""
        running = (item for item in self._entries() if item.state.name == "RUNNING")
        return {(entries.trial_of(item), entries.token_of(item)) for item in running}

    def trials(self) -> list[str]:
        """Return all trials that were ever entered, in that order."""
        found = (entries.trial_of(item) for item in self._entries())
        return list(dict.fromkeys(trial for trial in found if trial))

    def _entries(self) -> Sequence[FrozenTrial]:
        return self.storage.get_all_trials(self.study_id, deepcopy=False)

    def _candidates(
        self, latest: Mapping[str | None, FrozenTrial]
    ) -> Iterator[tuple[str, Params, dict[str, Any]]]:
        """Yield what may have to be entered: a sweep's trials, or those a search once chose."""
        if self.agenda.search is None:
            yield from (entries.candidate(self.agenda, spec) for spec in self.agenda.specs)
            return
        for trial, item in latest.items():
            if trial is not None:
                yield trial, Params(item.params, item.distributions), entries.plain(item)

    def _create(self, params: Params, attributes: dict[str, Any]) -> int:
        """Enter a trial that waits."""
        from optuna.trial import create_trial  # slow to import

        template = create_trial(
            state=entries.states().WAITING,
            params=params.values,
            distributions=params.distributions,
            user_attrs=attributes,
        )
        return self.storage.create_new_trial(self.study_id, template)

    def _enter(self, record: Record) -> None:
        """Enter a record that the storage knows nothing of, if it is one of this study's."""
        try:
            params = self.agenda.params(record.overrides)
        except (KeyError, ValueError):
            return
        attributes = {"trial": record.trial, "name": record.name, "seed": record.seed}
        key = self._create(params, attributes | {"overrides": record.overrides})
        self._take(key)
        self._tell(key, None, record)

    def _refresh(self) -> None:
        """Give back what the dead hold, enter what comes next, and list what waits."""
        self._reclaim()
        found = self._entries()
        since = {entries.trial_of(item) for item in found[self.known :]}
        waits = [item for item in found if item.state.name == "WAITING" and self._is_ours(item)]
        order = {trial: place for place, trial in enumerate(self.specs)}
        waits.sort(key=lambda item: order.get(str(entries.trial_of(item)), item.number))
        self.waiting = deque(Waiting(item._trial_id, entries.trial_of(item)) for item in waits)
        while self.unlisted and len(self.waiting) < AHEAD:
            trial, params, attributes = self.unlisted.popleft()
            if trial not in since:
                self.waiting.append(Waiting(self._create(params, attributes), trial))

    def _is_ours(self, entry: FrozenTrial) -> bool:
        return self.agenda.search is not None or entries.trial_of(entry) in self.specs

    def _next(self, later: Callable[[TrialSpec], bool]) -> Claim | None:
        """Take the next trial that waits."""
        while self.waiting:
            known = (self.specs.get(item.trial or "") for item in self.waiting)
            at = next((at for at, spec in enumerate(known) if spec is None or not later(spec)), 0)
            key = self.waiting[at].id
            del self.waiting[at]
            if self._take(key):
                return self._chosen(key)
        return None

    def _take(self, key: int) -> bool:
        """Let a trial run here, if it still waits."""
        if self.storage.get_trial(key).state != entries.states().WAITING:
            return False
        self.database.record_heartbeat(key)
        self.storage.set_trial_user_attr(key, "owner", list(owner.me()))
        self.storage.set_trial_user_attr(key, "claim", secrets.token_hex(8))
        self.mine.add(key)
        return self.storage.set_trial_state_values(key, entries.states().RUNNING)

    def _chosen(self, key: int) -> Claim | None:
        """Return a trial that was taken; None if a search chose one that it chose before."""
        entry = self.storage.get_trial(key)
        asked = self._trial(key)
        known = entries.trial_of(entry)
        spec = self._suggested(asked, known) if asked else self.specs[known or ""]
        if spec is None:
            return None
        token = entries.token_of(entry)
        folders.claim(self.folder, spec.trial, token)
        return Claim(spec, key, entry.number, entries.attempts_of(entry), token, asked)

    def _trial(self, key: int) -> Trial | None:
        """Return an entry as a search is asked about it; None if there is none."""
        from optuna import Trial  # slow to import

        if self.agenda.search is None:
            return None
        self.study.get_trials(deepcopy=False)  # Optuna's cache must know what was entered beside it
        return Trial(self.study, key)

    def _suggested(self, asked: Trial, known: str | None) -> TrialSpec | None:
        """Let a search choose; None if nothing comes of it."""
        assert self.agenda.search is not None
        try:
            spec = self.agenda.search.suggest(asked)
        except StudyError as error:
            self._drop(asked, {"state": "failed", "cause": "error", "message": str(error)})
            return None
        if known is None and spec.trial in self.trials():
            self._drop(asked, {"state": entries.DUPLICATE, "of": spec.trial})
            return None
        for name, value in entries.described(spec).items():
            self.storage.set_trial_user_attr(asked._trial_id, name, value)
        self.specs[spec.trial] = spec
        return spec

    def _drop(self, asked: Trial, outcome: Mapping[str, str]) -> None:
        """Tell Optuna that a suggestion cannot be built, or what came of the same one before."""
        assert self.agenda.search is not None
        self.storage.set_trial_user_attr(asked._trial_id, "outcome", dict(outcome))
        found = self.records.get(outcome.get("of", ""))
        self.agenda.search.tell(self.study, asked, found, list(self.records.values()))
        self.mine.discard(asked._trial_id)

    def _asked(self) -> Claim | None:
        """Take a new trial of a search, as long as there are to be more."""
        search = self.agenda.search
        if search is None:
            return None
        for _ in range(FRUITLESS):
            if len(self.trials()) >= search.trials:
                return None
            key = self._create(Params({}, {}), {})
            self._take(key)
            found = self._chosen(key)
            if found is not None:
                return found
        return None

    def _release(self, key: int, cause: str | None) -> None:
        if cause is not None:
            attempts = entries.attempts_of(self.storage.get_trial(key))
            attempts[cause] = attempts.get(cause, 0) + 1
            self.storage.set_trial_user_attr(key, "attempts", attempts)
        self.storage.set_trial_state_values(key, entries.states().WAITING)

    def _tell(self, key: int, asked: Trial | None, record: Record) -> None:
        self.storage.set_trial_user_attr(key, "outcome", entries.outcome(record))
        self.records[record.trial] = record
        if self.agenda.search is not None:
            told = asked or self._trial(key)
            assert told is not None
            self.agenda.search.tell(self.study, told, record, list(self.records.values()))
        else:
            place = self.storage.get_trial(key).number
            found = entries.values(record, self.agenda.directions)
            states = entries.states()
            other = states.PRUNED if record.state == "pruned" else states.FAIL
            self.study.tell(place, found, other if found is None else states.COMPLETE)
        self.mine.discard(key)

    def _reclaim(self) -> None:
        """Let trials wait again whose drivers are dead, or silent for too long."""
        silent: set[int] = set()
        if time.time() - self.contact > GRACE_SECONDS:
            silent = set(self.database._get_stale_trial_ids(self.study_id))
        for item in self._entries():
            who = entries.owner_of(item)
            if item.state.name != "RUNNING" or who is None:
                continue
            forgotten = who == owner.me() and item._trial_id not in self.mine
            if forgotten or owner.is_dead(who):
                self._release(item._trial_id, None)
            elif owner.is_gone(who, silent=item._trial_id in silent):
                self._release(item._trial_id, "lost_worker")
