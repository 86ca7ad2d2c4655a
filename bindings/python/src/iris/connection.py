"""The connection of a program with the node of its host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeVar

from . import _wire as wire
from ._attachment import ATTACH_SECONDS, Attachment
from ._deadlines import Deadlines
from ._session import Outcome, Server, Session
from ._topics import Event, Subscription, TopicHandler, unsubscribe_frame
from ._wire import NO_LIMIT, encode
from .errors import (
    ClosedError,
    InvalidError,
    IrisError,
    LostError,
    OverloadedError,
    TimeoutError,
    TooLargeError,
    outcome,
)
from .limits import NodeLimits, TopicLimits
from .tunnel import Payload, Tunnel

T = TypeVar("T")

RECONNECT_SECONDS = 30.0

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


class Connection(Attachment):
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
        super().__init__(port, cluster, server, reconnect, on_drop, log)
        self._deadlines: Deadlines[asyncio.Future[Outcome]] = Deadlines(_expire)  # of requests
        self._telling = asyncio.Lock()  # held by the broadcast or publish whose turn it is, when they have to wait
        self._tellers = 0  # how many have or wait for it
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
            code, text = await self._within(deadline, session.ask(wire.SUBSCRIBE, topic), what)
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
            await self._within(self._deadline(timeout), session.ask(wire.UNSUBSCRIBE, topic), what)
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

        def send(session: Session) -> asyncio.Future[tuple[int, str]] | None:
            sent_headers = self._check(session, what, name, headers, payload)
            if confirm:
                return session.ask(op, name, sent_headers, payload)
            session.send(encode(op, 0, name, sent_headers, payload))
            return None

        if session is None or not session.usable or session.channel.full or self._tellers:
            done = await self._within(deadline, self._in_turn(what, name, send), f"{what} {name!r}")
        else:
            done = send(session)
        if done is not None:
            code, text = await self._within(deadline, done, f"{what} {name!r}")
            if code:
                raise outcome(code, text, f"{what} {name!r}")

    async def _in_turn(self, what: str, name: str, send: Callable[[Session], T]) -> T:
        """Waits for a session with room to write, and sends. Who waits goes in the order in which they came."""
        self._tellers += 1
        try:
            async with self._telling:
                while (session := await self._usable(what, name, None)).channel.full:
                    await session.channel.room()
                return send(session)
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


def _expire(future: asyncio.Future[Outcome]) -> None:
    if not future.done():
        future.set_exception(TimeoutError("timed out"))
