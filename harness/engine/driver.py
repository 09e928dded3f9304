"""Drives a study: claims trials, hands them to an executor, answers, and tells how they ended."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.engine import failures, interrupt, opening
from harness.engine.agenda import Agenda
from harness.engine.entries import Claim
from harness.engine.events import Event, OnEvent, Summary
from harness.engine.executor import Advanced, Asked, Executor, Finished, Job, Lost, Message
from harness.engine.ledger import Ledger
from harness.engine.running import Running
from harness.engine.storage import HEARTBEAT_SECONDS, StorageError, patiently, url
from harness.engine.turns import Turns
from harness.records import Failure, Record, snapshot
from harness.study.specification import TrialSpec
from harness.trials import folders, stale, trainings
from harness.trials.outcome import blank_failure

SECONDS_A_ROUND = 0.5
SECONDS_BETWEEN_CLAIMS = 5.0  # when nothing was left to claim, but other drivers may die
SECONDS_TO_STOP = 10.0


@dataclass(frozen=True)
class Place:
    """Where a study's results and its state are kept."""

    out: Path
    storage: str | None = None  # SQLAlchemy's URL; None for a file beside the records


def run(
    agenda: Agenda,
    executor: Executor,
    place: Place,
    on_event: OnEvent,
    warn: Callable[[str], None] = lambda text: None,
) -> Summary:
    """Run what is left of a study; trials whose record stands are skipped.

    The first trial that is done, and whose weights stand in its folder, is what latencies are
    compared with. Other drivers may work on the same study from the same folder and storage.

    Args:
        agenda: the trials.
        executor: carries them out; closed at the end.
        place: records go to `out/STUDY/TRIAL/record.json`.
        on_event: called in this thread.
        warn: is told what went wrong without ending the run, a line at a time.

    Raises:
        StorageError: the storage cannot be used, or another run is at work on other trials.
        RecordError: `out` cannot be written.
        KeyboardInterrupt: after the running trials were given back; records of finished ones stand.
    """
    try:
        with (
            interrupt.heeded() as asked,
            closing(_Driver(agenda, executor, place, on_event, warn)) as one,
        ):
            return one.run(asked)
    finally:
        executor.close()


class _Driver:
    """One run of a study: what it claimed, and what is over."""

    def __init__(
        self,
        agenda: Agenda,
        executor: Executor,
        place: Place,
        on_event: OnEvent,
        warn: Callable[[str], None],
    ) -> None:
        self.agenda, self.executor, self.place = agenda, executor, place
        self.on_event, self.warn = on_event, warn
        self.folder = opening.make_folder(place.out / agenda.study)
        self.ledger = Ledger(agenda, self.folder, url(place.storage, self.folder))
        self.records: dict[str, Record] = {}
        self.running: dict[str, Running] = {}
        self.turns = Turns(place.out / trainings.SHELF)
        self.halted: str | None = None
        self.beaten, self.claim_after = 0.0, 0.0
        self.stock = stale.Stock(self.folder) if agenda.keep_stale else None

    def close(self) -> None:
        """Let go of the study's storage."""
        self.ledger.close()

    def run(self, asked: interrupt.Asked) -> Summary:
        """Run everything and return the records."""
        self._look_up()
        skipped = len(self.records)
        try:
            while not asked():
                self._fill()
                if self.halted or not self.running:
                    break
                self._round()
        except (StorageError, OSError) as error:
            self.halted = " ".join(str(error).split())
        except KeyboardInterrupt:
            if not asked():
                self._stop()
            raise
        self._stop()
        if asked():
            raise KeyboardInterrupt
        return self._summary(skipped)

    def _look_up(self) -> None:
        """Find what stands, set aside what cannot be read, and sweep up after the dead."""
        trials = [spec.trial for spec in self.agenda.specs]
        with self.ledger.lock:
            if self.agenda.snapshot is not None:
                snapshot.update(self.folder, self.agenda.snapshot)
            for trial in folders.names(self.folder) if self.agenda.search else trials:
                self._find(trial)
            snapshot.add(self.folder, self.records)
        patiently(lambda: self.ledger.adopt(self.records), self.warn)
        with self.ledger.lock:
            folders.sweep(self.folder, self.ledger.busy())

    def _find(self, trial: str) -> bool:
        """Say whether a record makes running a trial needless, and remember it."""
        if trial in self.records:
            return True
        wrong = folders.set_aside(self.folder, trial)
        if wrong:
            self.warn(wrong)
        found = folders.standing(self.folder, trial)
        if found is None and self.stock is not None:
            found = self.stock.stand_in(self.ledger.specs.get(trial))
        elif found is not None and not self.agenda.holds(found):
            return False
        if found is None or self.agenda.outdated(found):
            return False
        self.records[trial] = found
        self.on_event(Event("skipped", trial, record=found))
        return True

    def _fill(self) -> None:
        """Give work to every free slot, as long as there is some."""
        if self.halted or time.monotonic() < self.claim_after:
            return
        while len(self.running) < self.executor.slots:
            claim = patiently(lambda: self.ledger.claim(self._comes_later), self.warn)
            if claim is not None:
                self._begin(claim)
            elif not self._enlist():
                self.claim_after = time.monotonic() + SECONDS_BETWEEN_CLAIMS
                return

    def _comes_later(self, spec: TrialSpec) -> bool:
        running = [item.claim.spec for item in self.running.values()]
        return self.turns.comes_later(spec, running)

    def _enlist(self) -> bool:
        """Say whether the outcomes so far call for further trials, and enter those."""
        if self.running:
            return False
        self._catch_up()
        more = self.agenda.more(list(self.records.values()))
        new = [spec for spec in more if spec.trial not in self.ledger.specs]
        if new:
            patiently(lambda: self.ledger.enlist(new), self.warn)
        return bool(new)

    def _catch_up(self) -> None:
        """Read the records that other drivers wrote meanwhile."""
        for trial in self.ledger.specs:
            found = None if trial in self.records else folders.read(self.folder, trial)
            if found is not None:
                self.records[trial] = found

    def _begin(self, claim: Claim) -> None:
        spec = claim.spec
        with self.ledger.lock:
            if not self.ledger.holds(claim):
                return  # this process was stopped since, and another has the trial
            if self._find(spec.trial):
                self._tell(claim, self.records[spec.trial])
                return
            folders.make_way(self.folder, spec.trial)
            snapshot.add(self.folder, [spec.trial])
        spec = spec.model_copy(update={"fresh": self.agenda.fresh})
        judged, shelf = self.agenda.judge is not None, self.turns.shelf
        self.executor.submit(
            Job(spec, self.folder, self._reference(), shelf, claim.token, judged=judged)
        )
        self.running[spec.trial] = Running(claim)
        self.on_event(Event("started", spec.trial, spec))
        self._beat()

    def _reference(self) -> Path | None:
        """Return the folder of the trial that was done first and can be timed again."""
        found = [item for item in self.records.values() if folders.can_be_reference(item)]
        first = min(found, key=lambda item: item.timings["finished"], default=None)
        return self.folder / first.trial if first else None

    def _round(self) -> None:
        """Hear what the jobs say, and look after those that are too slow."""
        for message in self.executor.wait(SECONDS_A_ROUND):
            self._handle(message)
        if time.monotonic() - self.beaten > HEARTBEAT_SECONDS:
            self._beat()
        for trial, item in list(self.running.items()):
            limit = self.agenda.timeout
            if limit is not None and time.monotonic() - item.began > limit:
                self.executor.kill(trial)
                hours = f"it took longer than timeout_hours: {limit / 3600:g}"
                self._lost(trial, Failure(cause="timeout", message=hours))

    def _handle(self, message: Message) -> None:
        item = self.running.get(message.trial)
        if item is None:
            return
        if isinstance(message, Advanced):
            item.progress = message.progress
            event = Event("progress", message.trial, item.claim.spec, progress=message.progress)
            self.on_event(event)
        elif isinstance(message, Asked):
            self.executor.answer(message.trial, self._judged(item, message))
        elif isinstance(message, Lost):
            self._lost(message.trial, message.failure)
        else:
            self._finished(message)

    def _judged(self, item: Running, asked: Asked) -> str | None:
        """Return the reason to end a trial, if there is one."""
        if self.agenda.judge is None:
            return None
        judge = self.agenda.judge(list(self.records.values()), item.claim.asked)
        return patiently(lambda: judge(asked.stage, asked.metrics, asked.curves), self.warn)

    def _finished(self, message: Finished) -> None:
        if self._is_taken_over(message.trial):
            return
        failure = message.record.failure
        if failure is None or not self._is_tried_again(message.trial, failure):
            self._settle(message.trial, message.record)

    def _lost(self, trial: str, failure: Failure) -> None:
        """See to a job that left no record: try again, or write down why there is none."""
        item = self.running[trial]
        if self._is_taken_over(trial):
            return
        shutil.rmtree(self._gathered(item.claim), ignore_errors=True)
        if failure.cause == failures.STOPPED:
            self._give_back(trial)
        elif not self._is_tried_again(trial, failure):
            result = blank_failure(item.claim.spec, failure, item.started)
            with self.ledger.lock:
                if self._is_taken_over(trial):
                    return
                result.write(self.folder / trial)
            self._settle(trial, result)

    def _is_taken_over(self, trial: str) -> bool:
        """Say whether another process has a trial now, whose result it is; then let go of it."""
        claim = self.running[trial].claim
        if self.ledger.holds(claim):
            return False
        del self.running[trial]
        self.claim_after = 0.0
        shutil.rmtree(self._gathered(claim), ignore_errors=True)
        self.on_event(Event("taken_over", trial, claim.spec))
        return True

    def _gathered(self, claim: Claim) -> Path:
        return folders.partial_folder(self.folder, claim.spec.trial, claim.token)

    def _is_tried_again(self, trial: str, failure: Failure) -> bool:
        """Give a trial back if its failure is worth another attempt, or is not its own."""
        item = self.running[trial]
        hopeless = failures.ends_all(failure, self.folder)
        if hopeless is not None:
            self.halted = hopeless
            self._give_back(trial)
            return True
        allowed = failures.retries(self.agenda.retries, failure.cause)
        if item.claim.attempts.get(failure.cause, 0) >= allowed:
            return False
        self._give_back(trial, failure.cause)
        self.on_event(Event("retried", trial, item.claim.spec, failure=failure))
        return True

    def _settle(self, trial: str, result: Record) -> None:
        self.records[trial] = result
        item = self.running.pop(trial)
        self.claim_after = 0.0
        self._tell(item.claim, result)
        self.on_event(Event("finished", trial, item.claim.spec, record=result))

    def _tell(self, claim: Claim, result: Record) -> None:
        self._book(lambda: self.ledger.tell(claim, result))

    def _book(self, work: Callable[[], None]) -> None:
        """Enter something; once it is clear that nothing can be, the records have to do."""
        if self.halted is None:
            patiently(work, self.warn)
            return
        with suppress(Exception):
            work()

    def _give_back(self, trial: str, cause: str | None = None) -> None:
        claim = self.running.pop(trial).claim
        self.claim_after = 0.0
        self._book(lambda: self.ledger.give_back(claim, cause))

    def _beat(self) -> None:
        for trial in list(self.running):
            if self._is_taken_over(trial):
                self.executor.kill(trial)
        self.beaten = time.monotonic()
        claims = [item.claim for item in self.running.values()]
        steps = {trial: item.told() for trial, item in self.running.items()}
        self._book(lambda: self.ledger.beat(claims, steps))

    def _stop(self) -> None:
        """End what is under way, at its next step if that is soon, and give it back."""
        for trial in self.running:
            self.executor.stop(trial)
        until = time.monotonic() + SECONDS_TO_STOP
        while self.running and time.monotonic() < until:
            for message in self.executor.wait(SECONDS_A_ROUND):
                self._handle(message)
        for trial in list(self.running):
            self.executor.kill(trial)
            self._lost(trial, Failure(cause=failures.STOPPED, message="ended on request"))

    def _summary(self, skipped: int) -> Summary:
        elsewhere = 0 if self.halted else len(self.ledger.elsewhere())
        there = folders.read_all(self.folder)
        found = {trial: item for trial, item in there.items() if self.agenda.holds(item)}
        kept = {k: item for k, item in self.records.items() if folders.OTHER_CODE in item.details}
        earlier = len(there) - len(found) - len(kept)
        found = kept | found
        trials = self.ledger.specs if self.agenda.search is None else found
        records = [found[trial] for trial in trials if trial in found]
        return Summary(records, skipped, elsewhere, self.halted, earlier)
