"""The connection of a program with the node of its host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeVar

from . import _wire as wire
from ._codes import Code
from ._deadlines import Deadlines
from ._session import Outcome, Server, Session
from ._topics import Event, Subscription, TopicHandler, Topics, unsubscribe_frame
from ._wire import NO_LIMIT, encode
from .errors import (
    ClosedError,
    GoneError,
    InvalidError,
    IrisError,
    LostError,
    NoNodeError,
    OverloadedError,
    RefusedError,
    TimeoutError,
    TooLargeError,
    outcome,
)
from .limits import NodeLimits, TopicLimits
from .tunnel import Payload, Tunnel

T = TypeVar("T")

ATTACH_SECONDS = 10.0
RECONNECT_SECONDS = 30.0
PAUSES = (0.05, 1.0)  # seconds between two attempts to attach again: the first pause, doubled up to the last

__all__ = ["Connection", "Event", "Reply", "connect"]


@dataclass(slots=True)
class Reply:
    """A service's answer; a handler may return one. ``payload`` may be empty."""

    payload: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


async def connect(
    port: int = 55555,
    *,
    reconnect: float = RECONNECT_SECONDS,
    timeout: float = ATTACH_SECONDS,
    on_drop: Callable[[IrisError], object] | None = None,
    log: logging.Logger | None = None,
) -> Connection:
    """Attaches a client to the node at ``port``.

    ``reconnect`` is for how many seconds a lost node is looked for before the connection is given up; 0: not at all.
    ``on_drop`` is called once, with the reason, when that happens. Raises NoNodeError, RefusedError, ProtocolError,
    LostError or TimeoutError.
    """
    connection = Connection(port, "", None, reconnect, on_drop, log)
    await connection._start(timeout)
    connection._serve()
    return connection


class Connection:
    """Attaches the program to its node, and attaches again when the node is lost: after pauses of 50 ms to 1 s, a
    service under its name, and subscribed to its topics before anything else. What was in flight fails with LostError;
    what begins meanwhile waits, bounded by its timeout. A node that is leaving gets nothing new.

    Belongs to the event loop that made it; any number of its tasks may use it. As an asynchronous context manager it
    is closed at the end. All timeouts are in seconds; None: no limit. Payloads are bytes-like and not kept.
    """

    def __init__(
        self,
        port: int,
        cluster: str,
        server: Server | None,
        reconnect: float,
        on_drop: Callable[[IrisError], object] | None,
        log: logging.Logger | None,
    ) -> None:
        """Not for programs: see ``connect`` and ``register``."""
        self._port = port
        self._cluster = cluster
        self._server = server
        self._reconnect = reconnect
        self._on_drop = on_drop
        self._log = log or logging.getLogger("iris")
        self._loop = asyncio.get_running_loop()
        self._session: Session | None = None
        self._topics = Topics(self._log)
        self._deadlines: Deadlines[asyncio.Future[Outcome]] = Deadlines(_expire)  # of requests
        self._end: IrisError | None = None
        self._waiting: list[asyncio.Future[None]] = []  # who waits for a session
        self._telling = asyncio.Lock()  # held by the broadcast or publish whose turn it is, when they have to wait
        self._tellers = 0  # how many have or wait for it
        self._keeper: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None
        self._greet: Callable[[Session], None] = lambda session: None
        self._shutdown: Callable[[], Awaitable[None]] | None = None  # of a service: what close does

    # What programs call.

    @property
    def limits(self) -> NodeLimits:
        """The limits of the node, as it last told them."""
        return self._session.channel.limits if self._session else NodeLimits()

    async def request(
        self,
        cluster: str,
        payload: Payload = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """Asks one member of ``cluster`` and returns its reply's payload. See ``call``."""
        return (await self.call(cluster, payload, headers=headers, timeout=timeout)).payload

    async def call(
        self,
        cluster: str,
        payload: Payload = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Reply:
        """Asks one member of ``cluster`` and returns its reply, with headers. Cancelling the task cancels the request.

        Raises RemoteError (the service's own), TimeoutError, NoServiceError, OverloadedError, LostError,
        CancelledError, ClosingError, TooLargeError, InvalidError or ClosedError: relay.md 5.10 and the errors say which
        of them leave open whether it was executed.
        """
        deadline = self._deadline(timeout)
        session = self._session
        if session is None or not session.usable:
            session = await self._usable("request to", cluster, deadline)
        sent_headers = self._check(session, "request to", cluster, headers, payload)
        if len(session.requests) >= session.limits.requests:
            raise OverloadedError(f"request to {cluster!r}: {session.limits.requests} are unanswered already")
        budget = self._budget(deadline, "request to", cluster)
        future: asyncio.Future[Outcome] = self._loop.create_future()
        id = session.next_id()
        session.requests[id] = future
        session.send(encode(wire.REQUEST, id, cluster, budget, sent_headers, payload))
        slot = self._deadlines.add(deadline, future) if deadline is not None else None
        try:
            code, text, reply_headers, reply = await future
        except asyncio.CancelledError:
            session.cancel(id)
            raise
        except IrisError as err:
            session.cancel(id)
            raise type(err)(f"request to {cluster!r}: {err}") from None
        finally:
            if slot is not None:
                slot.pop(future, None)
        if code:
            raise outcome(code, text, f"request to {cluster!r}")
        return Reply(reply, reply_headers)

    async def broadcast(
        self,
        cluster: str,
        message: Payload,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        confirm: bool = False,
    ) -> None:
        """Sends ``message`` to every member of ``cluster``, this program's own service included (relay.md 8).

        Returns when it is handed to the node, and says nothing about members. With ``confirm`` it waits until the
        message is on its way to them, and raises NoServiceError, OverloadedError or ClosingError if it is not. Members
        get the broadcasts of one connection in their order; one that is too slow misses some. Raises TooLargeError,
        InvalidError, TimeoutError, LostError, ClosedError.
        """
        await self._tell(wire.BROADCAST, "broadcast to", cluster, message, headers, timeout, confirm)

    async def publish(
        self,
        topic: str,
        event: Payload,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        confirm: bool = False,
    ) -> None:
        """Sends ``event`` to every subscriber of ``topic``, on all nodes, this connection included (relay.md 9).

        Returns when it is handed to the node, and waits for no subscriber. ``confirm`` and the errors are those of
        ``broadcast``, but having no subscriber is no error.
        """
        await self._tell(wire.PUBLISH, "publish on", topic, event, headers, timeout, confirm)

    async def subscribe(
        self,
        topic: str,
        handler: TopicHandler,
        *,
        limits: TopicLimits | None = None,
        timeout: float | None = None,
    ) -> None:
        """Has ``handler`` called with every Event of ``topic`` from now on: what any program publishes after this returns
        arrives, but for what finds no room (see TopicLimits) and what is published while the node is lost.

        ``handler`` may be a plain function, which must not block, or a coroutine function. Raises InvalidError if the
        connection has subscribed to ``topic`` already, LostError, OverloadedError, TooLargeError, TimeoutError,
        ClosedError; then there is no subscription.
        """
        what = f"subscribe to {topic!r}"
        deadline = self._deadline(timeout)
        if topic in self._topics.by_topic:
            raise InvalidError(f"{what}: subscribed already")
        subscription = Subscription(topic, handler, limits or TopicLimits(), self._log)
        self._topics.add(subscription)
        asked: Session | None = None
        try:
            session = await self._usable("subscribe to", topic, deadline)
            self._check(session, "subscribe to", topic, None, b"")
            if len(self._topics.by_topic) > session.limits.topics:
                raise OverloadedError(f"{what}: {session.limits.topics} topics are subscribed already")
            asked = session
            code, text = await self._within(deadline, session.done(wire.SUBSCRIBE, topic), what)
            if code:
                asked = None
                raise outcome(code, text, what)
            subscription.effective = True
        except BaseException:
            if subscription.on:
                self._topics.remove(subscription)
                if asked is not None:
                    asked.send(unsubscribe_frame(asked, topic))
            raise

    async def unsubscribe(self, topic: str, *, timeout: float | None = None) -> None:
        """Ends the subscription of ``topic``: no further call of its handler starts; those that run are not waited for.

        May be called within that handler. Raises InvalidError if there is none, TimeoutError, ClosedError. The loss of
        the node is no error.
        """
        what = f"unsubscribe from {topic!r}"
        if self._end:
            raise self._closed(what)
        subscription = self._topics.by_topic.get(topic)
        if subscription is None:
            raise InvalidError(f"{what}: not subscribed")
        self._topics.remove(subscription)
        session = self._session
        if session is None or session.channel.ended:
            return
        try:
            await self._within(self._deadline(timeout), session.done(wire.UNSUBSCRIBE, topic), what)
        except LostError:
            pass

    async def tunnel(
        self,
        cluster: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        window: int = 256 << 10,
    ) -> Tunnel:
        """Opens a tunnel to one member of ``cluster``; returns when that has accepted it.

        ``window`` is how many bytes the other side may send ahead of what is received here, at least four chunks. The
        timeout and the errors are those of a request; the timeout means nothing to the tunnel that was returned.
        """
        what = f"tunnel to {cluster!r}"
        deadline = self._deadline(timeout)
        session = await self._usable("tunnel to", cluster, deadline)
        sent_headers = self._check(session, "tunnel to", cluster, headers, b"")
        if len(session.tunnels) >= session.limits.tunnels:
            raise OverloadedError(f"{what}: {session.limits.tunnels} tunnels are open already")
        budget = self._budget(deadline, "tunnel to", cluster)
        tunnel = Tunnel(session, session.next_id(), window, what, {})
        tunnel.opened = self._loop.create_future()
        session.tunnels[tunnel.id] = tunnel
        session.send(encode(wire.OPEN, tunnel.id, cluster, budget, tunnel.window, sent_headers))
        try:
            await self._within(deadline, tunnel.opened, what)
        except BaseException:
            tunnel.abort()
            raise
        return tunnel

    async def close(self) -> None:
        """Ends the connection: its requests and tunnels end with ClosedError, no further call of a topic's handler
        starts, those that run are not waited for. On the connection of a service it is the service's unregister.
        Idempotent; callable from handlers and concurrently: every caller waits for the same end."""
        if self._shutdown:
            await self._shutdown()
        else:
            await self._close(ClosedError("connection closed"))

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

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

    async def _tell(
        self,
        op: int,
        what: str,
        name: str,
        payload: Payload,
        headers: Mapping[str, str] | None,
        timeout: float | None,
        confirm: bool,
    ) -> None:
        deadline = self._deadline(timeout)
        session = self._session
        if session is None or not session.usable or session.channel.full or self._tellers:
            session = await self._within(deadline, self._in_turn(what, name), f"{what} {name!r}")
        sent_headers = self._check(session, what, name, headers, payload)
        if not confirm:
            session.send(encode(op, 0, name, sent_headers, payload))
            return
        done = session.done(op, name, sent_headers, payload)
        code, text = await self._within(deadline, done, f"{what} {name!r}")
        if code:
            raise outcome(code, text, f"{what} {name!r}")

    async def _in_turn(self, what: str, name: str) -> Session:
        """Waits for a session with room to write. Who waits goes in the order in which they came, so messages do too."""
        self._tellers += 1
        try:
            async with self._telling:
                while (session := await self._usable(what, name, None)).channel.full:
                    await session.channel.room()
                return session
        finally:
            self._tellers -= 1

    def _check(
        self, session: Session, what: str, name: str, headers: Mapping[str, str] | None, payload: Payload
    ) -> dict[str, str]:
        """The headers as they are sent, if all keeps the node's limits (relay.md 4.1)."""
        limits = session.limits
        try:
            name_bytes = len(name.encode())
        except UnicodeEncodeError:
            raise InvalidError(f"{what} {name!r}: the name is not UTF-8") from None
        if not name_bytes:
            raise InvalidError(f"{what} {name!r}: the name is empty")
        if name_bytes > limits.name:
            raise TooLargeError(f"{what} {name!r}: a name of {name_bytes} bytes, the limit is {limits.name}")
        size = len(payload) if type(payload) is bytes else memoryview(payload).nbytes
        if size > limits.payload:
            raise TooLargeError(f"{what} {name!r}: a payload of {size} bytes, the limit is {limits.payload}")
        if not headers:
            return {}
        checked = wire.headers_map(headers)
        header_bytes = wire.packed_size(checked)
        if header_bytes > limits.headers:
            raise TooLargeError(f"{what} {name!r}: headers of {header_bytes} bytes, the limit is {limits.headers}")
        return checked

    def _deadline(self, timeout: float | None) -> float | None:
        return None if timeout is None else self._loop.time() + timeout

    def _budget(self, deadline: float | None, what: str, name: str) -> int:
        """The budget of relay.md 5.2 for what must end at ``deadline``."""
        if deadline is None:
            return NO_LIMIT
        left = deadline - self._loop.time()
        if left <= 0:
            raise TimeoutError(f"{what} {name!r}: timed out")
        return min(max(1, round(left * 1000)), NO_LIMIT - 1)

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


def _expire(future: asyncio.Future[Outcome]) -> None:
    if not future.done():
        future.set_exception(TimeoutError("timed out"))
