"""Tunnels: ordered streams of messages both ways between this program and one member of a cluster (relay.md 10)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from . import _wire as wire
from ._codes import Code
from ._wire import GREATEST, Violation, encode
from .errors import ClosedError, EndError, IrisError, LostError, RemoteError, TimeoutError, outcome

if TYPE_CHECKING:
    from ._session import Session

Payload: TypeAlias = bytes | bytearray | memoryview
T = TypeVar("T")

FRAME_COST = 64  # bytes of allowance that a data frame uses up besides its payload, relay.md 10.5
CLOSE_SECONDS = 10.0
GRACE_SECONDS = 1.0  # for a side that has taken everything and goes on sending


class Tunnel:
    """An open tunnel. A message may be of any size: it travels in chunks, and only as fast as the other side receives.

    What was received is always a prefix of what was sent; a tunnel that breaks off is an error on both sides. Any
    number of tasks of its loop may use it; messages sent at the same time do not mix. As an asynchronous context
    manager it is closed at the end, and aborted after an exception; as an asynchronous iterator it gives the messages
    until the other side has finished.
    """

    def __init__(self, session: Session, id: int, window: int, name: str, headers: Mapping[str, str]) -> None:
        loop = asyncio.get_running_loop()
        self.id = id
        self.headers: Mapping[str, str] = headers
        """The headers of the other side: of the open for a service, of its answer for who asked."""
        self.opened: asyncio.Future[None] | None = None  # of the side that asks, until it is answered
        self.window = max(window, 4 * (session.channel.limits.chunk + FRAME_COST))
        self._loop = loop
        self._session = session
        self._name = name
        self._error: IrisError | None = None  # why it has ended
        self._changed: list[asyncio.Future[None]] = []  # who waits for a chunk, an allowance or the end
        # sending
        self._sending = asyncio.Lock()
        self._senders = 0  # sends that have or wait for the lock
        self._window_there = 0
        self._left = 0  # bytes that this side may still send
        self._unseen = 0  # bytes that the other side has not dealt with
        self._finished = False
        # receiving
        self._chunks: deque[tuple[int, bytes]] = deque()
        self._partial: list[bytes] = []
        self._allowed = self.window  # bytes that the other side may still send
        self._dealt = 0  # bytes dealt with and not yet allowed again
        self._finished_there = False
        self._discarding = False
        self._discarded = 0  # chunks that came since close
        self._closing: asyncio.Task[None] | None = None

    async def send(self, message: Payload, *, timeout: float | None = None) -> None:
        """Sends a message; returns when it is handed to the node, and waits while the other side does not receive.

        When the timeout passes, or the task is cancelled, before anything was sent, nothing was; in the middle of a
        message the tunnel is aborted. Raises ClosedError after the other side has closed or this side has finished,
        RemoteError after an abort with a reason, LostError, TimeoutError.
        """
        if self._error is None and not self._finished and not self._senders:
            size = len(message) if type(message) is bytes else memoryview(message).nbytes
            channel = self._session.channel
            if size <= channel.limits.chunk and size + FRAME_COST <= self._left and not channel.full:
                self._send_chunk(1, bytes(message))
                return
        await self._bounded(self._send(bytes(message)), timeout, "send")

    async def recv(self, *, timeout: float | None = None) -> bytes:
        """The next message. What was received before the end comes first.

        Then raises EndError if the other side has finished, ClosedError if either side has closed, RemoteError after
        an abort with a reason, LostError. TimeoutError and cancelling lose nothing: the next call goes on.
        """
        message = self._take()
        if message is not None:
            return message
        return await self._bounded(self._recv(), timeout, "receive")

    async def finish(self) -> None:
        """Tells the other side that nothing more is sent; receiving goes on. Waits for a send that runs. Idempotent."""
        async with self._sending:
            self._finish()

    async def close(self, *, timeout: float = CLOSE_SECONDS) -> None:
        """Ends the tunnel in good order: what was sent is delivered, what still comes is discarded. Idempotent.

        Returns when the other side has finished too, or has taken everything and goes on sending for a second: then its
        next send fails. When ``timeout`` has passed the tunnel is aborted and TimeoutError raised; if it broke off, the
        reason is raised.
        """
        if self._closing is None:
            self._closing = self._loop.create_task(self._close(timeout))
        await asyncio.shield(self._closing)

    def abort(self, reason: str = "") -> None:
        """Breaks off at once, on both sides; what is on its way may be lost. Idempotent.

        The other side gets a RemoteError of ``reason``, or a ClosedError if that is empty.
        """
        if self._error is None:
            code = Code.FAILED if reason else Code.OK
            self._send_abort(code, reason)
            self._end(ClosedError(f"{self._name}: aborted by this side"))
            self._chunks.clear()

    async def wait_ended(self) -> None:
        """Returns when the tunnel has ended, whatever the reason: for a handler that gave it to somebody else."""
        while self._error is None:
            await self._change()

    def __aiter__(self) -> Tunnel:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.recv()
        except EndError:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Tunnel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        else:
            self.abort()

    # What the session calls. Not for programs.

    def allow(self, n: int) -> None:
        """The first allowance of the other side, with its open or opened (relay.md 10.5)."""
        self._window_there = n
        self.on_allow(n)

    def refuse(self, code: Code, text: str) -> None:
        """Does not accept a tunnel that was offered (relay.md 10.2)."""
        self._send_abort(code, text)
        self._end(ClosedError(f"{self._name}: refused"))

    def on_opened(self, window: int, headers: dict[str, str]) -> None:
        if self.opened is None or self.opened.done():
            raise Violation(Code.UNEXPECTED, "opened for a tunnel that was not asked for or is open")
        self.headers = headers
        self.allow(window)
        self.opened.set_result(None)

    def on_data(self, last: int, payload: bytes) -> None:
        self._check_open()
        cost = len(payload) + FRAME_COST
        if self._finished_there or cost > self._allowed:
            raise Violation(Code.UNEXPECTED, "data behind a finish or beyond what was allowed")
        self._allowed -= cost
        if self._discarding:
            self._discarded += 1
            self._deal(cost)
            self._wake()
            return
        self._chunks.append((last, payload))
        self._wake()

    def on_allow(self, n: int) -> None:
        if n + self._left > GREATEST:
            raise Violation(Code.UNEXPECTED, "an allowance beyond 2,147,483,647 bytes")
        self._left += n
        if self._unseen:
            self._unseen = max(0, self._unseen - n)
        self._wake()

    def on_finish(self) -> None:
        self._check_open()
        if self._finished_there:
            raise Violation(Code.UNEXPECTED, "a second finish")
        self._finished_there = True
        if self._chunks and not self._chunks[-1][0] or not self._chunks and self._partial:
            self._send_abort(Code.FAILED, "finished within a message")  # relay.md 10.6
            self._end(LostError(f"{self._name}: the other side finished within a message"))
        elif self._finished:
            self._end(EndError(f"{self._name}: finished"))
        elif not self._chunks:
            self._allow_again()
        self._wake()

    def on_abort(self, code: int, text: str) -> None:
        if code == Code.OK:
            self._end(ClosedError(f"{self._name}: closed by the other side"))
        else:
            self._end(outcome(code, text, self._name))

    def break_off(self, error: IrisError) -> None:
        """The connection has ended."""
        self._end(type(error)(f"{self._name}: {error}"))

    @property
    def ended(self) -> bool:
        return self._error is not None

    # sending

    async def _send(self, message: bytes) -> None:
        self._senders += 1
        try:
            async with self._sending:
                await self._send_chunks(message)
        finally:
            self._senders -= 1

    async def _send_chunks(self, message: bytes) -> None:
        chunk = self._session.channel.limits.chunk
        at, size = 0, len(message)
        last = False
        try:
            while not last:
                n = await self._sendable(min(chunk, size - at))
                last = at + n == size
                self._send_chunk(int(last), message[at : at + n])
                at += n
        except asyncio.CancelledError:
            if at and not last:
                self.abort("a message was given up")
            raise

    async def _sendable(self, want: int) -> int:
        """Waits until a chunk may be sent, and says how many of ``want`` bytes.

        A whole chunk, unless the other side's window is too small for it: then half a window, or what there is.
        """
        while True:
            if self._error or self._finished:
                raise self._send_error()
            if self._session.channel.full:
                await self._session.channel.room()
            elif self._left >= want + FRAME_COST:
                return want
            elif self._left > FRAME_COST and self._left >= self._window_there // 2:
                return self._left - FRAME_COST
            else:
                await self._change()

    def _send_chunk(self, last: int, chunk: bytes) -> None:
        cost = len(chunk) + FRAME_COST
        self._left -= cost
        self._unseen += cost
        self._session.send(encode(wire.DATA, self.id, last, chunk))

    def _finish(self) -> None:
        if self._finished or self._error:
            return
        self._finished = True
        self._session.send(encode(wire.FINISH, self.id))
        if self._finished_there:
            self._end(EndError(f"{self._name}: finished"))
        self._wake()

    def _send_abort(self, code: Code, text: str) -> None:
        self._session.send(encode(wire.ABORT, self.id, code, wire.cut_text(text)))

    def _send_error(self) -> IrisError:
        if self._error is None or isinstance(self._error, EndError):
            return ClosedError(f"{self._name}: this side has finished")
        return self._again(self._error)

    # receiving

    async def _recv(self) -> bytes:
        while True:
            message = self._take()
            if message is not None:
                return message
            if self._error:
                raise self._again(self._error)
            if self._finished_there:
                raise EndError(f"{self._name}: the other side has finished")
            await self._change()

    def _take(self) -> bytes | None:
        """Moves the chunks that are there to the message that is being received, and allows as much again."""
        if self._closing:
            raise ClosedError(f"{self._name}: closed by this side")
        while self._chunks:
            last, chunk = self._chunks.popleft()
            self._deal(len(chunk) + FRAME_COST)
            if last and not self._partial:
                return chunk
            self._partial.append(chunk)
            if last:
                message = b"".join(self._partial)
                self._partial.clear()
                return message
        return None

    def _deal(self, cost: int) -> None:
        """Allows again what was dealt with: a quarter of the window at once, behind a finish all (relay.md 10.8)."""
        self._dealt += cost
        if self._error:
            return
        if self._dealt * 4 >= self.window or self._finished_there and not self._chunks:
            self._allow_again()

    def _allow_again(self) -> None:
        if self._dealt:
            self._session.send(encode(wire.ALLOW, self.id, self._dealt))
            self._allowed += self._dealt
            self._dealt = 0

    # the end

    async def _close(self, timeout: float) -> None:
        self._discarding = True
        while self._chunks:
            self._deal(len(self._chunks.popleft()[1]) + FRAME_COST)
        self._partial.clear()
        self._wake()
        try:
            await self._bounded(self._close_well(), timeout, "close")
        except TimeoutError:
            self.abort("the tunnel was not closed in time")
            raise

    async def _close_well(self) -> None:
        await self.finish()
        grace: asyncio.TimerHandle | None = None
        while self._error is None:
            before = self._discarded
            await self._change()
            if self._unseen == 0 and self._discarded != before and grace is None:
                grace = self._loop.call_later(GRACE_SECONDS, self.abort)
        if grace:
            grace.cancel()
        if not isinstance(self._error, (EndError, ClosedError)):
            raise self._again(self._error)

    def _check_open(self) -> None:
        if self.opened is not None and not self.opened.done():
            raise Violation(Code.UNEXPECTED, "a frame for a tunnel that is not open yet")

    def _end(self, error: IrisError) -> None:
        if self._error:
            return
        self._error = error
        self._session.forget(self)
        if self.opened is not None and not self.opened.done():
            self.opened.set_exception(self._again(error))
        self._wake()

    def _again(self, error: IrisError) -> IrisError:
        return RemoteError(error.message) if isinstance(error, RemoteError) else type(error)(*error.args)

    async def _change(self) -> None:
        waiter = self._loop.create_future()
        self._changed.append(waiter)
        await waiter

    def _wake(self) -> None:
        if self._changed:
            changed, self._changed = self._changed, []
            for waiter in changed:
                if not waiter.done():
                    waiter.set_result(None)

    async def _bounded(self, work: Awaitable[T], timeout: float | None, what: str) -> T:
        if timeout is None:
            return await work
        try:
            return await asyncio.wait_for(work, timeout)
        except asyncio.TimeoutError as err:
            if isinstance(err, IrisError):
                raise
            raise TimeoutError(f"{self._name}: {what}: timed out") from None
