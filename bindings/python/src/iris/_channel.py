"""One connection with a node as a stream of frames: the opening, writing, pings, and the end (relay.md 2, 6)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from . import _wire as wire
from ._codes import Code
from ._frames import FrameReader
from ._wire import Violation, decode, encode
from .errors import IrisError, LostError, ProtocolError, RefusedError
from .limits import NodeLimits

QUIET_SECONDS = 15.0  # relay.md 6.2
FLUSH_BYTES = 65536  # what is written at once, without waiting for the end of the loop's turn
LINGER_SECONDS = 1.0  # for what is still to be written, and for the node to close, when the connection has ended


class Channel(asyncio.Protocol):
    """Owned by its loop; all methods are called there. Frames that are sent in one turn of the loop are one write.

    ``received(frame)`` gets every frame of the open state but pings, pongs and bye, and ``over(error)`` is called once,
    with the reason of the end, if it had been open. What waits to be written is bounded by who sends: see ``room``.
    """

    def __init__(
        self, cluster: str, received: Callable[[list[Any]], None], over: Callable[[IrisError], None]
    ) -> None:
        self.limits = NodeLimits()
        self.info: dict[str, str] = {}
        self.full = False  # more waits to be written than should
        self.ended = False
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()  # the transport is closed
        self._loop = loop
        self._hello = encode(wire.HELLO, "iris", 1, 1, cluster, {}, [])
        self._received = received
        self._over = over
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._paused = False
        self._before_flush: Callable[[], list[bytes]] | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._heard = True
        self._pinged = False
        self._timer: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None

    def send(self, frame: bytes) -> None:
        """Sends a frame behind those sent before. Once the connection has ended it does nothing."""
        if self.ended:
            return
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out.append(frame)
        self._out_bytes += len(frame)
        if self._out_bytes >= FLUSH_BYTES:
            self.flush()
            self.full = True
            if not self._paused:
                self._loop.call_soon(self._roomy)

    def flush_later(self, before: Callable[[], list[bytes]]) -> None:
        """Has ``before`` called, once, when the turn's frames are written; its frames come before those."""
        self._before_flush = before
        if not self._out:
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Writes what was sent, without waiting for the end of the turn."""
        before = self._before_flush
        if before:
            self._before_flush = None
            self._out[:0] = before()
        out = self._out
        if not out or self._transport is None:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self._out_bytes = 0
        self._transport.write(data)

    async def room(self) -> None:
        """Waits until less waits to be written, or the connection has ended."""
        while self.full and not self.ended:
            waiter = self._loop.create_future()
            self._waiting.append(waiter)
            await waiter

    def bye(self, code: Code, text: str, error: IrisError) -> None:
        """Ends the connection with a bye (relay.md 6.4). ``error`` is what its operations end with."""
        if self.ended:
            return
        self.send(encode(wire.BYE, code, wire.cut_text(text)))
        self.flush()
        self._end(error, half=True)

    def abandon(self, error: IrisError) -> None:
        """Ends a connection that is not open yet, without a word (relay.md 6.1)."""
        self._end(error)
        if self.opened.done() and not self.opened.cancelled():
            self.opened.exception()  # nobody else looks at it

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.send(self._hello)
        self.flush()
        self._timer = self._loop.call_later(QUIET_SECONDS, self._quiet)

    def data_received(self, data: bytes) -> None:
        if self.ended:
            return
        self._heard = True
        try:
            for content in self._reader.feed(data):
                if self.ended:
                    return
                frame = decode(content)
                if self.opened.done():
                    self._take(frame)
                else:
                    self._open(frame)
        except Violation as violation:
            error = ProtocolError(f"the node broke the protocol: {violation.code.label}: {violation}")
            self.bye(violation.code, violation.text, error)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
        if self._linger:
            self._linger.cancel()
        self._end(LostError(f"the connection with the node broke: {exc or 'it ended without a bye'}"))

    def pause_writing(self) -> None:
        self._paused = self.full = True

    def resume_writing(self) -> None:
        self._paused = False
        self._roomy()

    def _open(self, frame: list[Any]) -> None:
        op = frame[0]
        if op == wire.REFUSE:
            self._end(RefusedError(frame[1], frame[2]))
        elif op != wire.WELCOME:
            raise Violation(Code.UNEXPECTED, "neither welcome nor refuse")
        elif frame[1] != 1:
            raise Violation(Code.MALFORMED, f"version {frame[1]} was not offered")
        elif frame[4]:
            raise Violation(Code.MALFORMED, "a feature that was not asked for")
        else:
            self.limits = NodeLimits.of(frame[2])
            self.info = frame[3]
            self._reader.limit = self.limits.frame
            if not self.opened.done():
                self.opened.set_result(None)

    def _take(self, frame: list[Any]) -> None:
        op = frame[0]
        if op == wire.PING:
            self.send(encode(wire.PONG, frame[1]))
        elif op == wire.BYE:
            code = Code.known(frame[1])
            self._end(LostError(f"the node ended the connection: {code.label}{frame[2] and ': '}{frame[2]}"))
        elif op != wire.PONG:
            self._received(frame)

    def _roomy(self) -> None:
        if self._paused and not self.ended:
            return
        self.full = False
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _quiet(self) -> None:
        """Every 15 seconds: asks whether the node is there, and ends a connection that answers nothing (relay.md 6.2)."""
        if self.ended:
            return
        if self._heard:
            self._pinged = False
        elif not self._pinged:
            self._pinged = True
            self.send(encode(wire.PING, 0))
        else:
            self.bye(Code.UNRESPONSIVE, "nothing was heard", LostError("the node does not answer"))
            return
        self._heard = False
        self._timer = self._loop.call_later(QUIET_SECONDS, self._quiet)

    def _end(self, error: IrisError, half: bool = False) -> None:
        """``half``: goes on reading, into nothing, until the node closes too: closing with unread bytes is a reset,
        which can take the bye, and what was sent before it, with it."""
        if self.ended:
            return
        self.ended = True
        if self._timer:
            self._timer.cancel()
        if self._transport:
            if half and not self._transport.is_closing():
                self._transport.write_eof()
            else:
                self._transport.close()
            self._linger = self._loop.call_later(LINGER_SECONDS, self._transport.abort)
        self._roomy()
        if self.opened.done():
            self._over(error)
        else:
            self.opened.set_exception(error)
