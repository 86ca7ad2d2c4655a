"""A node in Python for tests: it does nothing by itself but the opening; a test says what it sends and looks at what it gets."""

from __future__ import annotations

import asyncio
from typing import Any

from iris import _wire as wire
from iris._frames import FrameReader

SECONDS = 5.0  # every wait of a test is bounded by it


class Client:
    """One client that has attached: ``hello`` is its first frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._frames = FrameReader()
        self._frames.limit = 2 << 20
        self._got: asyncio.Queue[list[Any] | None] = asyncio.Queue()
        self._pumping = asyncio.create_task(self._pump())
        self.hello: list[Any] = []
        self.credits = [0, 0, 0]

    def send(self, *fields: object) -> None:
        self.writer.write(wire.encode(*fields))

    def send_raw(self, raw: bytes) -> None:
        self.writer.write(raw)

    async def next(self) -> list[Any] | None:
        """The next frame, credits included; None at the end."""
        frame = await asyncio.wait_for(self._got.get(), SECONDS)
        if frame is None:
            return None
        if frame[0] == wire.CREDIT:
            self.credits[frame[1]] += frame[2]
        return frame

    async def expect(self, op: int) -> list[Any]:
        """The fields of the next frame that is not a credit, which must have this op."""
        while True:
            frame = await self.next()
            assert frame is not None, f"the client has gone, wanted {op:#x}"
            if frame[0] != wire.CREDIT or op == wire.CREDIT:
                assert frame[0] == op, f"wanted {op:#x}, got {frame}"
                return frame[1:]

    async def end(self) -> list[list[Any]]:
        """What still comes before the connection ends."""
        frames = []
        while (frame := await self.next()) is not None:
            frames.append(frame)
        return frames

    def close(self) -> None:
        self.writer.close()

    def read_no_more(self) -> None:
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def read_on(self) -> None:
        self.writer.transport.resume_reading()  # type: ignore[attr-defined]

    async def _pump(self) -> None:
        """Reads until the client ends the connection, and then does so too."""
        try:
            while data := await self._reader.read(65536):
                for content in self._frames.feed(data):
                    self._got.put_nowait(wire.decode(content))
        except ConnectionResetError:
            pass  # the test went on sending behind its own bye
        finally:
            self._got.put_nowait(None)
            self.writer.close()


class FakeNode:
    """Listens on TCP; ``attached`` waits for the next client, welcomed with ``limits``."""

    def __init__(self, **limits: int) -> None:
        self.limits = limits
        self.refusal: tuple[int, str] | None = None
        self.answer: bytes | None = None  # raw, in place of the welcome
        self.port = 0
        self._clients: asyncio.Queue[Client] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._all: list[Client] = []

    async def attached(self) -> Client:
        return await asyncio.wait_for(self._clients.get(), SECONDS)

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server
        self._server.close()
        for client in self._all:
            client.close()

    async def __aenter__(self) -> FakeNode:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(reader, writer)
        self._all.append(client)
        frame = await client.next()
        assert frame is not None and frame[0] == wire.HELLO, frame
        client.hello = frame[1:]
        if self.answer is not None:
            client.send_raw(self.answer)
        elif self.refusal:
            client.send(wire.REFUSE, *self.refusal)
            client.close()
        else:
            client.send(wire.WELCOME, 1, self.limits, {"node": "fake"}, [])
        self._clients.put_nowait(client)
