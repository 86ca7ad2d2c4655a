"""Services: members of a cluster, which answer requests, get broadcasts, and take tunnels."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from . import _wire as wire
from ._attachment import ATTACH_SECONDS
from ._codes import Code
from ._deadlines import Deadlines
from ._session import Session
from ._wire import NO_LIMIT, cut_text, encode
from ._work import Complaint, Job, Pool
from .connection import RECONNECT_SECONDS, Connection, Reply
from .errors import ClosedError, InvalidError, IrisError, RemoteError, TimeoutError
from .limits import NodeLimits, ServiceLimits
from .tunnel import Tunnel

REQUESTS, BROADCASTS = 0, 1  # kinds of credit, relay.md 5.5
DRAIN_SECONDS = 10.0

_handling: ContextVar[object] = ContextVar("iris_handling", default=None)


@dataclass(slots=True)
class Request:
    """A request to the service. ``deadline`` is when its outcome is due, in the loop's time; None: no limit."""

    cluster: str
    payload: bytes
    headers: Mapping[str, str]
    deadline: float | None


@dataclass(slots=True)
class Message:
    """A broadcast to the cluster. ``payload`` may be empty."""

    payload: bytes
    headers: Mapping[str, str]


Answer = bytes | bytearray | memoryview | Reply


class Handler:
    """What a program overrides to serve. Each method but ``accept_tunnel`` and ``handle_drop`` may be a coroutine
    function, or a plain one that does not block. They may run concurrently: see ServiceLimits."""

    async def init(self, conn: Connection) -> None:
        """Called once, before the first request is taken; ``conn`` works already. What it raises, register raises."""

    def handle_request(self, request: Request) -> Answer | Awaitable[Answer]:
        """Answers one request. A RemoteError reaches the requester with its text; any other exception is logged, and
        reaches it as one of a general text. Cancelled at the deadline, when the requester gives up, and when the node is lost."""
        raise RemoteError("this service answers no requests")

    def handle_broadcast(self, message: Message) -> None | Awaitable[None]:
        """Gets a message to all members of the cluster."""

    def accept_tunnel(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Decides on a tunnel that is offered with these headers: returns those of the answer, or raises RemoteError."""
        return {}

    async def handle_tunnel(self, tunnel: Tunnel) -> None:
        """Gets a tunnel that is accepted. It is closed when this returns, and aborted when it raises."""
        raise RemoteError("this service takes no tunnels")

    def handle_drop(self, reason: IrisError) -> None:
        """Called once if the node is lost and given up; not after the service's own end."""


async def register(
    port: int,
    cluster: str,
    handler: Handler,
    *,
    limits: ServiceLimits | None = None,
    reconnect: float = RECONNECT_SECONDS,
    timeout: float = ATTACH_SECONDS,
    log: logging.Logger | None = None,
) -> Service:
    """Joins ``cluster`` with a service that ``handler`` implements; returns when it takes requests.

    ``timeout`` does not count ``handler.init``. The rest and the errors are those of ``connect``; a name that is not
    allowed raises RefusedError.
    """
    if not cluster:
        raise InvalidError("register: the name of the cluster is empty")  # relay.md 2.3: that would be a client
    service = Service(port, cluster, handler, limits or ServiceLimits(), reconnect, log)
    await service._start(timeout)
    return service


class Service:
    """A member of a cluster. Belongs to the event loop that made it; any number of its tasks may use it.

    ``connection`` is its own, for all that a client can do. As an asynchronous context manager it unregisters at the end.
    """

    def __init__(
        self, port: int, cluster: str, handler: Handler, limits: ServiceLimits, reconnect: float, log: logging.Logger | None
    ) -> None:
        """Not for programs: see ``register``."""
        self.window = limits.window
        self._cluster = cluster
        self._handler = handler
        self._limits = limits
        self._log = log or logging.getLogger("iris")
        self._loop = asyncio.get_running_loop()
        self._requests = Pool(limits.requests, limits.queue, limits.request_bytes, self._entered)
        self._broadcasts = Pool(limits.broadcasts, limits.broadcast_queue, limits.broadcast_bytes, self._entered)
        self._deadlines: Deadlines[Job] = Deadlines(self._requests.cancel)
        self._drops = self._complaint(logging.WARNING, "broadcasts dropped, the handler is too slow")
        kinds = ("requests", "broadcasts", "tunnels")
        self._failures = {kind: self._complaint(logging.ERROR, f"the handler of {kind} failed") for kind in kinds}
        self._jobs: dict[tuple[Session, int], Job] = {}  # requests that wait or run, by their ids
        self._tunnels: dict[Tunnel, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()  # something ended; for unregister
        self._ending: asyncio.Task[None] | None = None
        self.connection = Connection(port, cluster, self, reconnect, handler.handle_drop, log)
        self.connection._greet = self._greet
        self.connection._shutdown = self.unregister

    async def unregister(self, *, timeout: float = DRAIN_SECONDS) -> None:
        """Leaves the cluster: nothing new is taken, what was taken is handled, tunnels included, subscriptions end, and
        the connection is closed. After ``timeout`` seconds it is ended as by ``abort`` and TimeoutError raised.

        Idempotent: every caller waits for the same end. Within a handler it returns at once and the rest happens by itself.
        """
        if self._ending is None:
            if self.connection._session is not None:
                self.connection._session.drain()
            self._ending = self._loop.create_task(self._unregister(timeout))
            self._ending.add_done_callback(lambda task: task.cancelled() or task.exception())
        if _handling.get() is not self:
            await asyncio.shield(self._ending)

    async def abort(self) -> None:
        """Ends the service at once: its handlers are cancelled, their requesters get LostError. Idempotent."""
        for job in list(self._jobs.values()):
            self._requests.cancel(job)
        self._broadcasts.clear()
        for tunnel, task in list(self._tunnels.items()):
            tunnel.abort("the service was ended")
            task.cancel()
        await self.connection._close(ClosedError("service ended"))

    async def __aenter__(self) -> Service:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.unregister()

    # What the session calls.

    def on_request(
        self, session: Session, id: int, cluster: str, budget: int, headers: dict[str, str], payload: bytes
    ) -> None:
        key = (session, id)
        if key in self._jobs:
            raise wire.Violation(Code.UNEXPECTED, "a request with an id that is in use")
        deadline = None if budget == NO_LIMIT else self._loop.time() + budget / 1000
        request = Request(cluster, payload, headers, deadline)

        def finish(result: Any, error: BaseException | None) -> None:
            if self._jobs.pop(key, None) is not None:
                session.send(self._reply(session, id, result, error))
            self._dealt(session, REQUESTS)

        job = Job(lambda: self._handler.handle_request(request), len(payload), finish)
        self._jobs[key] = job
        if not self._requests.offer(job):
            finish(None, RemoteError("the service has no room for the request"))
        elif deadline is not None and key in self._jobs:
            job.slot = self._deadlines.add(deadline, job)

    def on_cancel(self, session: Session, id: int) -> None:
        job = self._jobs.pop((session, id), None)
        if job is not None:
            self._requests.cancel(job)

    def on_broadcast(self, session: Session, headers: dict[str, str], payload: bytes) -> None:
        message = Message(payload, headers)

        def finish(result: Any, error: BaseException | None) -> None:
            self._dealt(session, BROADCASTS)
            if isinstance(error, Exception):
                self._failures["broadcasts"].add(error)

        if not self._broadcasts.offer(Job(lambda: self._handler.handle_broadcast(message), len(payload), finish)):
            self._drops.add()
            self._dealt(session, BROADCASTS)

    def on_tunnel(self, session: Session, tunnel: Tunnel) -> None:
        if len(self._tunnels) >= min(self._limits.tunnels, session.channel.limits.tunnels):
            tunnel.refuse(Code.OVERLOADED, "the service has no room for the tunnel")
            return
        try:
            headers = wire.headers_map(self._handler.accept_tunnel(tunnel.headers))
        except Exception as err:
            if not isinstance(err, RemoteError):
                self._failures["tunnels"].add(err)
            tunnel.refuse(Code.FAILED, _text(err))
            return
        session.send(encode(wire.OPENED, tunnel.id, tunnel.window, headers))
        self._tunnels[tunnel] = task = self._loop.create_task(self._run_tunnel(tunnel))
        task.add_done_callback(lambda _: self._tunnel_done(session, tunnel))

    def busy(self, session: Session) -> bool:
        return any(key[0] is session for key in self._jobs)

    # The rest.

    async def _start(self, timeout: float) -> None:
        await self.connection._start(timeout)
        try:
            await self._handler.init(self.connection)
        except BaseException:
            await self.connection._close(ClosedError("init failed"))
            raise
        self.connection._serve()

    def _greet(self, session: Session) -> None:
        """Takes messages over a session that is new."""
        session.grant(REQUESTS, self._requests.capacity)
        session.grant(BROADCASTS, self._broadcasts.capacity)
        session.channel.flush()  # until the node has it, requests to the service are overloaded
        session.channel.gone.add_done_callback(lambda _: self._lost(session))

    def _complaint(self, level: int, what: str) -> Complaint:
        return Complaint(self._log, level, f"{what} cluster={self._cluster!r}")

    def _entered(self) -> None:
        """A task that runs a handler has begun."""
        _handling.set(self)

    def _lost(self, session: Session) -> None:
        for key, job in list(self._jobs.items()):
            if key[0] is session:
                del self._jobs[key]
                self._requests.cancel(job)

    def _dealt(self, session: Session, kind: int) -> None:
        session.grant(kind)
        self._changed.set()
        if session.leaving:
            session.settle()

    def _reply(self, session: Session, id: int, result: Any, error: BaseException | None) -> bytes:
        """The reply frame of what a handler did; of one that exceeds a limit, an error that says so (relay.md 4.4)."""
        try:
            if error is not None:
                if not isinstance(error, (RemoteError, asyncio.CancelledError)):
                    self._failures["requests"].add(error)
                raise error
            payload, headers = (result.payload, result.headers) if type(result) is Reply else (result, {})
            if type(payload) is not bytes:
                payload = bytes(memoryview(payload))
            _check_reply(session.channel.limits, payload, headers)
            return encode(wire.REPLY, id, Code.OK, "", wire.headers_map(headers) if headers else {}, payload)
        except BaseException as err:
            if not isinstance(err, (IrisError, asyncio.CancelledError)) and error is None:
                self._failures["requests"].add(err)  # it returned what is no reply
            return encode(wire.REPLY, id, Code.FAILED, _text(err), {}, b"")

    async def _run_tunnel(self, tunnel: Tunnel) -> None:
        _handling.set(self)
        try:
            await self._handler.handle_tunnel(tunnel)
            if not tunnel.ended:
                await tunnel.close()
        except asyncio.CancelledError:
            tunnel.abort("the service was ended")
            raise
        except Exception as err:
            if not tunnel.ended:
                tunnel.abort(_text(err))
            if not isinstance(err, IrisError):
                self._failures["tunnels"].add(err)

    def _tunnel_done(self, session: Session, tunnel: Tunnel) -> None:
        self._tunnels.pop(tunnel, None)
        self._changed.set()

    async def _unregister(self, timeout: float) -> None:
        session = self.connection._session
        try:
            if session is not None and not session.channel.ended:
                await asyncio.wait_for(self._finish(session), timeout)
        except asyncio.TimeoutError:
            await self.abort()
            raise TimeoutError(f"service {self._cluster!r}: unregister: handlers did not finish in time") from None
        await self.abort()

    async def _finish(self, session: Session) -> None:
        """Waits until everything that was taken is done, and the node says so."""
        for topic in list(self.connection._topics.by_topic):
            await self.connection.unsubscribe(topic)
        await asyncio.shield(session.drained)
        while self._tunnels or not self._requests.idle or not self._broadcasts.idle:
            self._changed.clear()
            await self._changed.wait()


def _check_reply(limits: NodeLimits, payload: bytes, headers: Mapping[str, str]) -> None:
    if len(payload) > limits.payload:
        raise RemoteError(f"the reply has {len(payload)} bytes, the limit of a payload is {limits.payload}")
    if headers and (size := wire.packed_size(wire.headers_map(headers))) > limits.headers:
        raise RemoteError(f"the reply has headers of {size} bytes, the limit is {limits.headers}")


def _text(error: BaseException) -> str:
    """What the other side is told of a handler's exception: a RemoteError's text, of others only their kind."""
    if isinstance(error, RemoteError):
        return cut_text(error.message)
    if isinstance(error, asyncio.CancelledError):
        return "the handler was cancelled"
    return f"the handler failed: {type(error).__name__}"
