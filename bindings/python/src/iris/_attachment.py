"""Keeps a program attached to its node: the first time, again after a loss, until it is closed or given up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ._session import Server, Session
from ._topics import Topics
from .errors import ClosedError, GoneError, IrisError, LostError, NoNodeError, RefusedError, TimeoutError

T = TypeVar("T")

ATTACH_SECONDS = 10.0
PAUSES = (0.05, 1.0)  # seconds between two attempts to attach again: the first pause, doubled up to the last


class Attachment:
    """One session after the other, and the subscriptions, which outlive them. Owned by the loop."""

    def __init__(
        self,
        port: int,
        cluster: str,
        server: Server | None,
        reconnect: float,
        on_drop: Callable[[IrisError], object] | None,
        log: logging.Logger | None,
    ) -> None:
        self._port = port
        self._cluster = cluster
        self._server = server
        self._reconnect = reconnect
        self._on_drop = on_drop
        self._log = log or logging.getLogger("iris")
        self._loop = asyncio.get_running_loop()
        self._session: Session | None = None
        self._topics = Topics(self._log)
        self._end: IrisError | None = None
        self._waiting: list[asyncio.Future[None]] = []  # who waits for a session
        self._keeper: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None
        self._greet: Callable[[Session], None] = lambda session: None

    # What the session calls.

    def on_event(self, session: Session, topic: str, headers: dict[str, str], payload: bytes) -> None:
        self._topics.event(session, topic, headers, payload)

    def on_leaving(self, session: Session) -> None:
        self._log.info("the node is leaving port=%d", self._port)

    def on_over(self, session: Session, error: IrisError) -> None:
        if session is self._session and not self._end:
            self._log.warning("the node is lost port=%d err=%s", self._port, error)

    # Attaching.

    async def _start(self, timeout: float) -> None:
        """Attaches for the first time."""
        self._session = await self._attach(timeout)

    def _serve(self) -> None:
        """Takes what the node gives, and keeps attached."""
        assert self._session
        self._greet(self._session)
        self._keeper = self._loop.create_task(self._keep())

    async def _attach(self, timeout: float) -> Session:
        session = Session(self, self._server, self._cluster)
        try:
            await asyncio.wait_for(session.attach(self._port), timeout)
        except asyncio.TimeoutError:
            raise TimeoutError(f"no answer from the node at port {self._port} within {timeout} s") from None
        self._topics.attach(session)
        return session

    async def _keep(self) -> None:
        """Attaches again whenever the session has ended, until the connection is closed or given up."""
        pause = PAUSES[0]
        while self._session:
            since = self._loop.time()
            await asyncio.shield(self._session.channel.gone)
            if self._end:
                return
            if self._loop.time() - since > PAUSES[1]:
                pause = PAUSES[0]  # it had held: this is a new loss
            try:
                session, pause = await self._attach_again(pause)
            except IrisError as err:
                self._give_up(err)
                return
            if self._end:
                session.close(ClosedError("connection closed"))
                return
            session.ready = False
            self._session = session
            self._greet(session)
            try:
                await asyncio.wait_for(self._topics.subscribe_again(session), ATTACH_SECONDS)
            except asyncio.TimeoutError:
                session.close(LostError("the node does not answer"))
            session.ready = True
            self._wake()

    async def _attach_again(self, pause: float) -> tuple[Session, float]:
        deadline = self._loop.time() + self._reconnect
        while True:
            left = deadline - self._loop.time()
            if left <= 0:
                raise NoNodeError(f"no iris node at port {self._port} for {self._reconnect} s")
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, PAUSES[1])
            try:
                session = await self._attach(ATTACH_SECONDS)
            except RefusedError as err:
                if not err.temporary:
                    raise
            except IrisError as err:
                self._log.debug("attaching again failed port=%d err=%s", self._port, err)
            else:
                self._log.info("attached again port=%d", self._port)
                return session, pause

    def _give_up(self, error: IrisError) -> None:
        self._log.error("the node is given up port=%d err=%s", self._port, error)
        self._finish(GoneError(f"the node is given up: {error}"))
        if self._on_drop:
            try:
                self._on_drop(error)
            except Exception:
                self._log.exception("on_drop failed")

    def _finish(self, error: IrisError) -> None:
        """No more: whoever waits, and later calls, get ``error``."""
        if self._end:
            return
        self._end = error
        for subscription in list(self._topics.by_topic.values()):
            self._topics.remove(subscription)
        if self._session:
            self._session.close(error)
        self._wake()

    async def _close(self, error: IrisError) -> None:
        if self._closer is None:
            self._finish(error)
            self._closer = self._loop.create_task(self._closed_all())
        await asyncio.shield(self._closer)

    async def _closed_all(self) -> None:
        if self._session:
            await asyncio.shield(self._session.channel.gone)
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    # What an operation needs.

    async def _usable(self, what: str, name: str, deadline: float | None) -> Session:
        """The session for a new operation; waits while the node is lost or leaving."""
        while True:
            if self._end:
                raise self._closed(f"{what} {name!r}")
            if self._session and self._session.usable:
                return self._session
            waiter = self._loop.create_future()
            self._waiting.append(waiter)
            await self._within(deadline, waiter, f"{what} {name!r}")

    async def _within(self, deadline: float | None, work: Awaitable[T], what: str) -> T:
        try:
            if deadline is None:
                return await work
            return await asyncio.wait_for(work, max(0.0, deadline - self._loop.time()))
        except asyncio.TimeoutError as err:
            if isinstance(err, IrisError):
                raise
            raise TimeoutError(f"{what}: timed out") from None

    def _closed(self, what: str) -> IrisError:
        assert self._end
        return type(self._end)(f"{what}: {self._end}")

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
