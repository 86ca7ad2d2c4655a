"""Cuts a stream of bytes into frames (relay.md 3.1, 4.2)."""

from __future__ import annotations

from collections.abc import Iterator

from ._codes import Code
from ._wire import OPENING_BYTES, Violation


class FrameReader:
    """Holds the begin of a frame that has not all arrived; never more than has arrived of it (relay.md 4.5)."""

    def __init__(self) -> None:
        self.limit = OPENING_BYTES  # bytes of a frame's content; raised by the welcome
        self._rest = bytearray()
        self._need = 0  # bytes of _rest that make anything of it

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields the content of each frame that is complete. Raises Violation, behind the frames before it."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at, end = 0, len(data)
        while at < end:
            width = data[at] - 0xC4  # 0, 1, 2: a length of 1, 2, 4 bytes
            if width == 0 and end - at > 1:
                start = at + 2
                size = data[at + 1]
            elif not 0 <= width <= 2:
                raise Violation(Code.MALFORMED, "no bin in place of a frame")
            else:
                start = at + 1 + (1 << width)
                if start > end:
                    self._keep(data, at, start - at)
                    return
                size = int.from_bytes(data[at + 1 : start], "big")
            if size > self.limit:
                raise Violation(Code.TOO_LARGE, f"a frame of {size} bytes, the limit is {self.limit}")
            stop = start + size
            if stop > end:
                self._keep(data, at, stop - at)
                return
            at = stop
            yield data[start:stop]

    def _keep(self, data: bytes, at: int, need: int) -> None:
        self._rest += data[at:]
        self._need = need
