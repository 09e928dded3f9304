"""Passes messages between a driver and the tasks of a Ray cluster: an actor beside the driver.

It imports nothing of ours, so that its process stays small; what it passes on is pickled already.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple


class Reply(NamedTuple):
    """What a task that asked is told."""

    reason: str | None
    stop: bool  # told without having asked: end at the next step


class Post:
    """Keeps what tasks say until the driver hears it, and their questions until it answers.

    Attempts are numbers: what an attempt says that was given up is not taken for another's.
    """

    def __init__(self) -> None:
        self.said: list[tuple[int, bytes]] = []
        self.news = asyncio.Event()
        self.questions: dict[int, asyncio.Future[Reply]] = {}
        self.stopping: set[int] = set()

    async def say(self, attempt: int, message: bytes) -> bool:
        """Take a message; return whether the attempt is to end."""
        self.said.append((attempt, message))
        self.news.set()
        return attempt in self.stopping

    async def ask(self, attempt: int, message: bytes) -> Reply:
        """Take a question, and return its answer once there is one."""
        if await self.say(attempt, message):
            return Reply(None, stop=True)
        self.questions[attempt] = asyncio.get_running_loop().create_future()
        return await self.questions[attempt]

    async def hear(self, timeout: float) -> list[tuple[int, bytes]]:
        """Return what was said, as soon as something was, or nothing after `timeout` seconds."""
        try:
            await asyncio.wait_for(self.news.wait(), timeout)
        except asyncio.TimeoutError:
            return []
        self.news.clear()
        heard, self.said = self.said, []
        return heard

    async def answer(self, attempt: int, reason: str | None) -> None:
        """Answer an attempt's question."""
        self._reply(attempt, Reply(reason, stop=False))

    async def stop(self, attempt: int) -> None:
        """Have an attempt end at its next step, or at once if it waits for an answer."""
        self.stopping.add(attempt)
        self._reply(attempt, Reply(None, stop=True))

    def _reply(self, attempt: int, reply: Reply) -> None:
        question = self.questions.pop(attempt, None)
        if question is not None and not question.done():
            question.set_result(reply)
