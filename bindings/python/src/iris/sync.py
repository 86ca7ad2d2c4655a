"""The same nouns without asyncio: every call blocks until its outcome, from any number of threads.

One background thread runs the event loop of all connections of the process. Handlers run in threads of their own, so they
may block and may ask again; what they do never delays replies, pongs, credits or closes. A handler that runs cannot be
stopped from outside: a request that was cancelled goes on, and its reply goes nowhere. A connection does not survive a fork.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from . import connection as _connection
from . import service as _service
from . import tunnel as _tunnel
from ._attachment import ATTACH_SECONDS
from .connection import RECONNECT_SECONDS, Event, Reply
from .errors import EndError, IrisError, RemoteError
from .limits import NodeLimits, ServiceLimits, TopicLimits
from .service import DRAIN_SECONDS, Answer, Message, Request
from .tunnel import CLOSE_SECONDS, Payload

T = TypeVar("T")

LIMITS = ServiceLimits(requests=32, tunnels=256)
"""The defaults of a service: each handler that runs is a thread."""

__all__ = ["Connection", "Event", "Handler", "Message", "Reply", "Request", "Service", "Tunnel", "connect", "register"]


def connect(
    port: int = 55555,
    *,
    reconnect: float = RECONNECT_SECONDS,
    timeout: float = ATTACH_SECONDS,
    on_drop: Callable[[IrisError], object] | None = None,
    log: logging.Logger | None = None,
) -> Connection:
    """As :func:`iris.connect`; ``on_drop`` is called in the loop's thread and must not block."""
    return Connection(_call(_connection.connect(port, reconnect=reconnect, timeout=timeout, on_drop=on_drop, log=log)))


def register(
    port: int,
    cluster: str,
    handler: Handler,
    *,
    limits: ServiceLimits = LIMITS,
    reconnect: float = RECONNECT_SECONDS,
    timeout: float = ATTACH_SECONDS,
    log: logging.Logger | None = None,
) -> Service:
    """As :func:`iris.register`; ``limits`` says how many threads run handlers."""
    adapter = _Adapter(handler, limits)
    service = _call(
        _service.register(port, cluster, adapter, limits=limits, reconnect=reconnect, timeout=timeout, log=log)
    )
    return Service(service)


class Connection:
    """As :class:`iris.Connection`. Safe for use by several threads; a context manager."""

    def __init__(self, connection: _connection.Connection) -> None:
        """Not for programs: see ``connect``."""
        self._connection = connection

    @property
    def limits(self) -> NodeLimits:
        """The limits of the node, as it last told them."""
        return self._connection.limits

    def request(
        self,
        cluster: str,
        payload: Payload = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """As :meth:`iris.Connection.request`."""
        return _call(self._connection.request(cluster, payload, headers=headers, timeout=timeout))

    def call(
        self,
        cluster: str,
        payload: Payload = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Reply:
        """As :meth:`iris.Connection.call`."""
        return _call(self._connection.call(cluster, payload, headers=headers, timeout=timeout))

    def broadcast(
        self,
        cluster: str,
        message: Payload,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        confirm: bool = False,
    ) -> None:
        """As :meth:`iris.Connection.broadcast`."""
        _call(self._connection.broadcast(cluster, message, headers=headers, timeout=timeout, confirm=confirm))

    def publish(
        self,
        topic: str,
        event: Payload,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        confirm: bool = False,
    ) -> None:
        """As :meth:`iris.Connection.publish`."""
        _call(self._connection.publish(topic, event, headers=headers, timeout=timeout, confirm=confirm))

    def subscribe(
        self,
        topic: str,
        handler: Callable[[Event], object],
        *,
        limits: TopicLimits | None = None,
        timeout: float | None = None,
    ) -> None:
        """As :meth:`iris.Connection.subscribe`; ``handler`` runs in threads, ``limits.events`` of them, and may block."""
        limits = limits or TopicLimits()
        threads = ThreadPoolExecutor(limits.events, f"iris-{topic}")

        async def handle(event: Event) -> None:
            await _in_thread(threads, handler, event)

        _call(self._connection.subscribe(topic, handle, limits=limits, timeout=timeout))

    def unsubscribe(self, topic: str, *, timeout: float | None = None) -> None:
        """As :meth:`iris.Connection.unsubscribe`."""
        _call(self._connection.unsubscribe(topic, timeout=timeout))

    def tunnel(
        self,
        cluster: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        window: int = 256 << 10,
    ) -> Tunnel:
        """As :meth:`iris.Connection.tunnel`."""
        return Tunnel(_call(self._connection.tunnel(cluster, headers=headers, timeout=timeout, window=window)))

    def close(self) -> None:
        """As :meth:`iris.Connection.close`."""
        _call(self._connection.close())

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Tunnel:
    """As :class:`iris.Tunnel`. Safe for use by several threads; a context manager, and an iterator of messages."""

    def __init__(self, tunnel: _tunnel.Tunnel) -> None:
        """Not for programs: see ``Connection.tunnel``."""
        self._tunnel = tunnel

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the other side."""
        return self._tunnel.headers

    def send(self, message: Payload, *, timeout: float | None = None) -> None:
        """As :meth:`iris.Tunnel.send`."""
        _call(self._tunnel.send(message, timeout=timeout))

    def recv(self, *, timeout: float | None = None) -> bytes:
        """As :meth:`iris.Tunnel.recv`."""
        return _call(self._tunnel.recv(timeout=timeout))

    def finish(self) -> None:
        """As :meth:`iris.Tunnel.finish`."""
        _call(self._tunnel.finish())

    def close(self, *, timeout: float = CLOSE_SECONDS) -> None:
        """As :meth:`iris.Tunnel.close`."""
        _call(self._tunnel.close(timeout=timeout))

    def abort(self, reason: str = "") -> None:
        """As :meth:`iris.Tunnel.abort`."""

        async def abort() -> None:
            self._tunnel.abort(reason)

        _call(abort())

    def __iter__(self) -> Iterator[bytes]:
        while True:
            try:
                yield self.recv()
            except EndError:
                return

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()


class Handler:
    """What a program overrides to serve, as :class:`iris.Handler`; its methods run in threads and may block.

    ``accept_tunnel`` and ``handle_drop`` are called in the loop's thread and must not block.
    """

    def init(self, conn: Connection) -> None:
        """As :meth:`iris.Handler.init`."""

    def handle_request(self, request: Request) -> Answer:
        """As :meth:`iris.Handler.handle_request`."""
        raise RemoteError("this service answers no requests")

    def handle_broadcast(self, message: Message) -> None:
        """As :meth:`iris.Handler.handle_broadcast`."""

    def accept_tunnel(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """As :meth:`iris.Handler.accept_tunnel`."""
        return {}

    def handle_tunnel(self, tunnel: Tunnel) -> None:
        """As :meth:`iris.Handler.handle_tunnel`."""
        raise RemoteError("this service takes no tunnels")

    def handle_drop(self, reason: IrisError) -> None:
        """As :meth:`iris.Handler.handle_drop`."""


class Service:
    """As :class:`iris.Service`. Safe for use by several threads; a context manager."""

    def __init__(self, service: _service.Service) -> None:
        """Not for programs: see ``register``."""
        self._service = service
        self.connection = Connection(service.connection)

    def unregister(self, *, timeout: float = DRAIN_SECONDS) -> None:
        """As :meth:`iris.Service.unregister`."""
        _call(self._service.unregister(timeout=timeout))

    def abort(self) -> None:
        """As :meth:`iris.Service.abort`."""
        _call(self._service.abort())

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unregister()


class _Adapter(_service.Handler):
    """Calls a blocking handler in threads: a kind of call never takes the threads of another."""

    def __init__(self, handler: Handler, limits: ServiceLimits) -> None:
        self._handler = handler
        self._requests = ThreadPoolExecutor(limits.requests, "iris-request")
        self._broadcasts = ThreadPoolExecutor(limits.broadcasts, "iris-broadcast")
        self._tunnels = ThreadPoolExecutor(limits.tunnels, "iris-tunnel")

    async def init(self, conn: _connection.Connection) -> None:
        await _in_thread(self._broadcasts, self._handler.init, Connection(conn))

    async def handle_request(self, request: Request) -> Answer:
        return await _in_thread(self._requests, self._handler.handle_request, request)

    async def handle_broadcast(self, message: Message) -> None:
        await _in_thread(self._broadcasts, self._handler.handle_broadcast, message)

    def accept_tunnel(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        return self._handler.accept_tunnel(headers)

    async def handle_tunnel(self, tunnel: _tunnel.Tunnel) -> None:
        await _in_thread(self._tunnels, self._handler.handle_tunnel, Tunnel(tunnel))

    def handle_drop(self, reason: IrisError) -> None:
        self._handler.handle_drop(reason)


_lock = threading.Lock()  # guards _loop
_loop: asyncio.AbstractEventLoop | None = None


def _background() -> asyncio.AbstractEventLoop:
    """The loop of the background thread, which is started with the first call and lives as long as the process."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="iris", daemon=True).start()
        return _loop


def _call(work: Coroutine[Any, Any, T]) -> T:
    """Runs ``work`` in the loop and waits for it; an interrupt of the caller cancels it."""
    loop = _background()
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def _in_thread(threads: ThreadPoolExecutor, function: Callable[..., T], *args: Any) -> T:
    context = contextvars.copy_context()  # so that unregister knows that it is called within a handler
    return await asyncio.get_running_loop().run_in_executor(threads, lambda: context.run(function, *args))
