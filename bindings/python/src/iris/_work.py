"""Runs a program's handlers: so many at once, so many waiting, so many bytes."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any

WARN_SECONDS = 60.0

Finish = Callable[[Any, "BaseException | None"], None]


def start(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that has run up to its first wait already, where Python can do that (3.12)."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, eager_start=True)
    return loop.create_task(work)


class Job:
    """One call of a handler. ``finish`` is called exactly once, if the job was taken: with its result or its error."""

    __slots__ = ("call", "size", "finish", "task", "slot", "state")
    WAITING, STARTING, RUNNING, CANCELLED, DONE = range(5)  # STARTING: its task has not begun

    def __init__(self, call: Callable[[], Any], size: int, finish: Finish) -> None:
        self.call = call
        self.size = size
        self.finish = finish
        self.task: asyncio.Task[None] | None = None
        self.slot: dict[Job, None] | None = None  # of its deadline
        self.state = self.WAITING


class Pool:
    """At most ``at_once`` handlers run, at most ``queue`` jobs wait, all hold at most ``max_bytes`` (one alone may hold
    more). What finds no room is not taken: ``offer`` says so. Owned by the loop."""

    def __init__(
        self, at_once: int, queue: int, max_bytes: int, entered: Callable[[], None] = lambda: None
    ) -> None:
        """``entered`` is called in each task that runs a handler, when it begins."""
        self._entered = entered
        self.capacity = at_once + queue
        self._at_once = at_once
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Job] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = 0
        self._bytes = 0
        self._filling = False

    def offer(self, job: Job) -> bool:
        """Takes the job, which starts at once if there is room, unless there is none for it to wait."""
        held = self._running + len(self._waiting)
        if held >= self.capacity or held and self._bytes + job.size > self._max_bytes:
            return False
        self._bytes += job.size
        self._waiting.append(job)
        self._fill()
        return True

    def cancel(self, job: Job) -> None:
        """Stops the job, whether it waits or runs."""
        if job.state == Job.WAITING:
            self._waiting.remove(job)
            self._close(job, None, asyncio.CancelledError())
        elif job.state == Job.RUNNING and job.task is not None:
            job.task.cancel()
        elif job.state == Job.STARTING:
            job.state = Job.CANCELLED

    def clear(self) -> None:
        """Forgets what waits."""
        for job in list(self._waiting):
            self.cancel(job)

    @property
    def idle(self) -> bool:
        return not self._running and not self._waiting

    def _fill(self) -> None:
        if self._filling:
            return  # called within the loop below, by a handler that ended at once
        self._filling = True
        while self._waiting and self._running < self._at_once:
            self._start(self._waiting.popleft())
        self._filling = False

    def _start(self, job: Job) -> None:
        self._running += 1
        job.state = Job.STARTING
        try:
            result = job.call()
        except Exception as err:
            self._end(job, None, err)
            return
        if type(result) is not CoroutineType:
            self._end(job, result, None)
            return
        task = start(self._loop, self._run(job, result))
        if not task.done():
            job.task = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, job: Job, work: Coroutine[Any, Any, Any]) -> None:
        if job.state == Job.CANCELLED:
            work.close()
            self._end(job, None, asyncio.CancelledError())
            return
        self._entered()
        job.state = Job.RUNNING
        try:
            result = await work
        except BaseException as err:
            self._end(job, None, err)
            if not isinstance(err, (Exception, asyncio.CancelledError)):
                raise
        else:
            self._end(job, result, None)

    def _end(self, job: Job, result: Any, error: BaseException | None) -> None:
        self._running -= 1
        self._close(job, result, error)
        if self._waiting:
            self._fill()

    def _close(self, job: Job, result: Any, error: BaseException | None) -> None:
        job.state = Job.DONE
        self._bytes -= job.size
        if job.slot is not None:
            job.slot.pop(job, None)
        job.finish(result, error)


class Complaint:
    """Says something in the log at most once a minute, with how often it happened; each time only at level debug."""

    def __init__(self, log: logging.Logger, level: int, what: str) -> None:
        self._log = log
        self._level = level
        self._what = what
        self._count = 0
        self._said = float("-inf")

    def add(self, error: BaseException | None = None) -> None:
        """It happened once more."""
        self._count += 1
        now = time.monotonic()
        if now - self._said < WARN_SECONDS:
            self._log.debug("%s", self._what, exc_info=error)
            return
        self._log.log(self._level, "%s count=%d", self._what, self._count, exc_info=error)
        self._said, self._count = now, 0
