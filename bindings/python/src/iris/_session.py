"""What runs over one attachment to a node: the operations that wait for an outcome, the tunnels, the credits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from . import _endpoint
from . import _wire as wire
from ._channel import Channel
from ._codes import Code
from ._wire import Violation, encode
from .errors import ClosedError, IrisError, LostError, ProtocolError
from .tunnel import Tunnel

NODE_BIT = 1 << 63  # of a tunnel's id: the node chose it, relay.md 10.1

Outcome = tuple[int, str, dict[str, str], bytes]


class Owner(Protocol):
    """What a session tells upwards. All is called in the loop and must not raise."""

    def on_event(self, session: Session, topic: str, headers: dict[str, str], payload: bytes) -> None: ...
    def on_leaving(self, session: Session) -> None: ...
    def on_over(self, session: Session, error: IrisError) -> None: ...


class Server(Protocol):
    """What a session tells a service. All is called in the loop and must not raise."""

    window: int

    def on_request(
        self, session: Session, id: int, cluster: str, budget: int, headers: dict[str, str], payload: bytes
    ) -> None: ...
    def on_cancel(self, session: Session, id: int) -> None: ...
    def on_broadcast(self, session: Session, headers: dict[str, str], payload: bytes) -> None: ...
    def on_tunnel(self, session: Session, tunnel: Tunnel) -> None: ...
    def busy(self, session: Session) -> bool: ...


class Session:
    """One attachment, from its welcome to its end; never used again. Owned by the loop."""

    def __init__(self, owner: Owner, server: Server | None, cluster: str) -> None:
        self.leaving = False
        self.ready = True  # False while the subscriptions of an earlier session are renewed
        self.drained: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.requests: dict[int, asyncio.Future[Outcome]] = {}  # unanswered, also those that were given up
        self.tunnels: dict[int, Tunnel] = {}
        self.channel = Channel(cluster, self._received, self._over)
        self.send = self.channel.send
        self._owner = owner
        self._server = server
        self._dones: dict[int, asyncio.Future[tuple[int, str]]] = {}
        self._draining = False
        self._last_id = 0
        self._granted = [0, 0, 0]  # credits that the node has, by kind (relay.md 5.5)
        self._owed = [0, 0, 0]  # credits that go out with the next write
        self._ops: dict[int, Callable[..., None]] = {
            wire.REPLY: self._on_reply,
            wire.DONE: self._on_done,
            wire.EVENT: self._on_event,
            wire.LEAVING: self._on_leaving,
            wire.OPENED: self._on_opened,
            wire.DATA: self._on_data,
            wire.ALLOW: self._on_allow,
            wire.FINISH: self._on_finish,
            wire.ABORT: self._on_abort,
            wire.DRAINED: self._on_drained,
        }
        if server:
            self._ops |= {
                wire.REQUEST: self._on_request,
                wire.CANCEL: self._on_cancel,
                wire.BROADCAST: self._on_broadcast,
                wire.OPEN: self._on_open,
            }

    async def attach(self, port: int) -> None:
        """Connects and waits for the welcome. Raises NoNodeError, RefusedError, ProtocolError or LostError."""
        await _endpoint.dial(port, lambda: self.channel)
        try:
            await asyncio.shield(self.channel.opened)
        except asyncio.CancelledError:
            self.channel.abandon(ClosedError("given up"))
            raise
        self.limits = self.channel.limits

    @property
    def usable(self) -> bool:
        """Whether new operations may begin here."""
        return self.ready and not self.leaving and not self.channel.ended

    def next_id(self) -> int:
        """An id that this connection has not used: for requests, tunnels and outcomes alike."""
        self._last_id += 1
        return self._last_id

    def cancel(self, id: int) -> None:
        """Tells the node that nobody waits for request ``id`` any more (relay.md 5.8)."""
        if id in self.requests:
            self.send(encode(wire.CANCEL, id))

    def ask(self, op: int, *fields: object) -> asyncio.Future[tuple[int, str]]:
        """Sends an operation that is answered by a done (relay.md 8.3); the future is of its code and text."""
        id = self.next_id()
        future: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._dones[id] = future
        self.send(encode(op, id, *fields))
        return future

    def grant(self, kind: int, n: int = 1) -> None:
        """Grants credits, with the next write."""
        if not n or self.channel.ended:
            return
        if not any(self._owed):
            self.channel.flush_later(self._credits)
        self._owed[kind] += n

    def drain(self) -> None:
        """Wants no more work (relay.md 6.3); ``drained`` is set when the node says that all is done."""
        if not self._draining and not self.channel.ended:
            self._draining = True
            self.send(encode(wire.DRAIN))

    def forget(self, tunnel: Tunnel) -> None:
        """The tunnel has ended: what comes for it is ignored (relay.md 10.8)."""
        self.tunnels.pop(tunnel.id, None)
        self.settle()

    def settle(self) -> None:
        """Closes a connection whose node is leaving when nothing runs over it any more (relay.md 6.5)."""
        if not self.leaving or self.channel.ended or self.requests or self._dones or self.tunnels:
            return
        if not (self._server and self._server.busy(self)):
            self.channel.bye(Code.OK, "", LostError("the node is leaving"))

    def close(self, error: IrisError) -> None:
        """Ends the connection in good order; what waits ends with ``error``."""
        self.channel.bye(Code.OK, "", error)

    def _received(self, frame: list[Any]) -> None:
        handle = self._ops.get(frame[0])
        if handle is None:
            raise Violation(Code.UNEXPECTED, f"op {frame[0]:#x} is not allowed here")
        handle(*frame[1:])

    def _on_reply(self, id: int, code: int, text: str, headers: dict[str, str], payload: bytes) -> None:
        future = self.requests.pop(id, None)
        if future is not None and not future.done():
            future.set_result((code, text, headers, payload))
        if self.leaving:
            self.settle()

    def _on_done(self, id: int, code: int, text: str) -> None:
        future = self._dones.pop(id, None)
        if future is not None and not future.done():
            future.set_result((code, text))
        if self.leaving:
            self.settle()

    def _on_request(self, id: int, cluster: str, budget: int, headers: dict[str, str], payload: bytes) -> None:
        assert self._server
        self._use_credit(0)
        self._server.on_request(self, id, cluster, budget, headers, payload)

    def _on_cancel(self, id: int) -> None:
        assert self._server
        self._server.on_cancel(self, id)

    def _on_broadcast(self, id: int, cluster: str, headers: dict[str, str], payload: bytes) -> None:
        assert self._server
        self._use_credit(1)
        self._server.on_broadcast(self, headers, payload)

    def _on_event(self, topic: str, headers: dict[str, str], payload: bytes) -> None:
        self._use_credit(2)
        self._owner.on_event(self, topic, headers, payload)

    def _on_leaving(self) -> None:
        if not self.leaving:
            self.leaving = True
            self._owner.on_leaving(self)
            self.settle()

    def _on_drained(self) -> None:
        if not self._draining or self.drained.done():
            raise Violation(Code.UNEXPECTED, "drained without a drain")
        self.drained.set_result(None)

    def _on_open(self, id: int, cluster: str, budget: int, window: int, headers: dict[str, str]) -> None:
        assert self._server
        if not id & NODE_BIT or id in self.tunnels:
            raise Violation(Code.UNEXPECTED, "an open with an id that is the client's or in use")
        tunnel = Tunnel(self, id, self._server.window, f"tunnel to {cluster!r}", headers)
        tunnel.allow(window)
        self.tunnels[id] = tunnel
        self._server.on_tunnel(self, tunnel)

    def _on_opened(self, id: int, window: int, headers: dict[str, str]) -> None:
        if tunnel := self.tunnels.get(id):
            tunnel.on_opened(window, headers)

    def _on_data(self, id: int, last: int, payload: bytes) -> None:
        if tunnel := self.tunnels.get(id):
            tunnel.on_data(last, payload)

    def _on_allow(self, id: int, n: int) -> None:
        if tunnel := self.tunnels.get(id):
            tunnel.on_allow(n)

    def _on_finish(self, id: int) -> None:
        if tunnel := self.tunnels.get(id):
            tunnel.on_finish()

    def _on_abort(self, id: int, code: int, text: str) -> None:
        if tunnel := self.tunnels.get(id):
            tunnel.on_abort(code, text)

    def _use_credit(self, kind: int) -> None:
        self._granted[kind] -= 1
        if self._granted[kind] < 0:
            raise Violation(Code.UNEXPECTED, f"a message without credit of kind {kind}")

    def _credits(self) -> list[bytes]:
        frames = []
        for kind, n in enumerate(self._owed):
            if n:
                self._owed[kind] = 0
                self._granted[kind] += n
                frames.append(encode(wire.CREDIT, kind, n))
        return frames

    def _over(self, error: IrisError) -> None:
        """The connection has ended: so has everything that ran over it (relay.md 5.9, 6.6)."""
        if isinstance(error, ProtocolError):
            cause, error = error, LostError(str(error))
            error.__cause__ = cause
        waiting: list[asyncio.Future[Any]] = [*self.requests.values(), *self._dones.values()]
        self.requests.clear()
        self._dones.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(type(error)(*error.args))
        for tunnel in list(self.tunnels.values()):
            tunnel.break_off(error)
        if not self.drained.done():
            self.drained.set_result(None)
        self._owner.on_over(self, error)
