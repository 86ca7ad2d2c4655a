"""A decoder of MessagePack that judges every byte, for the frames that msgpack's own would not read as relay.md says.

msgpack reads the frames of every day faster (see :mod:`iris._wire`); but it knows no limit of depth, no keys that are
arrays, and no extensions that it may skip. Nothing is reserved for a length before it was compared with what is left.
"""

from __future__ import annotations

_FLOATS = {0xCA: 4, 0xCB: 8}
_UINTS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_INTS = {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_BINS = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_EXTS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_FIXEXTS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_STRS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAYS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}

MAX_DEPTH = 8  # relay.md 3.5


class Walk:
    """A position in the content of one frame. Every method raises ValueError for what is malformed."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def array(self) -> int:
        """The count of the array that begins here."""
        first = self._byte()
        if first & 0xF0 == 0x90:
            return self._count(first & 0x0F, 1)
        if first not in _ARRAYS:
            raise ValueError("no array")
        return self._count(self._uint(_ARRAYS[first]), 1)

    def value(self) -> object:
        """The field that begins here: an int, str, bytes, or a dict of strings; None for any other type."""
        first = self._byte()
        if first < 0x80:
            return first
        if first in _UINTS:
            return self._uint(_UINTS[first])
        if first in _INTS:
            return int.from_bytes(self._take(_INTS[first]), "big", signed=True)
        if first & 0xE0 == 0xA0:
            return self._take(first & 0x1F).decode()
        if first in _STRS:
            return self._take(self._uint(_STRS[first])).decode()
        if first in _BINS:
            return self._take(self._uint(_BINS[first]))
        if first & 0xF0 == 0x80:
            return self._map(first & 0x0F)
        if first in _MAPS:
            return self._map(self._uint(_MAPS[first]))
        return None

    def strings(self, limit: int) -> list[str]:
        """An array of at most ``limit`` strings: the features of relay.md 2.4."""
        count = self.array()
        if count > limit:
            raise ValueError("too many entries")
        return [self._string() for _ in range(count)]

    def skip(self, depth: int = 0) -> None:
        """Passes one further field of any type, relay.md 3.5."""
        if depth >= MAX_DEPTH:
            raise ValueError("nested too deep")
        first = self._byte()
        if first < 0x80 or first >= 0xE0 or first in (0xC0, 0xC2, 0xC3):
            return
        if first & 0xE0 == 0xA0 or first in _STRS:
            self._at -= 1
            self._string()
        elif first & 0xF0 == 0x90 or first in _ARRAYS:
            self._skip_all(first & 0x0F if first < 0xA0 else self._uint(_ARRAYS[first]), depth)
        elif first & 0xF0 == 0x80 or first in _MAPS:
            self._skip_all(2 * (first & 0x0F if first < 0x90 else self._uint(_MAPS[first])), depth)
        elif first in _BINS:
            self._take(self._uint(_BINS[first]))
        elif first in _EXTS:
            self._take(self._uint(_EXTS[first]) + 1)
        elif first in _FIXEXTS:
            self._take(_FIXEXTS[first] + 1)
        elif first == 0xC1:
            raise ValueError("a byte that MessagePack never uses")
        else:
            self._take((_FLOATS | _UINTS | _INTS)[first])

    def end(self) -> None:
        """Nothing may follow the array, relay.md 3.6."""
        if self._at != len(self._content):
            raise ValueError("bytes follow the array")

    def _map(self, count: int) -> dict[str, object]:
        """A map of at most 64 strings to strings or integers; of a key that occurs twice the last counts."""
        if count > 64:
            raise ValueError("more than 64 entries")
        self._count(count, 2)
        entries: dict[str, object] = {}
        for _ in range(count):
            key = self._string()
            entries[key] = self._scalar()
        return entries

    def _scalar(self) -> object:
        first = self._content[self._at : self._at + 1]
        if first and (first[0] & 0xF0 in (0x80, 0x90) or first[0] in _MAPS):
            raise ValueError("a value of a map is neither a string nor an integer")
        return self.value()

    def _string(self) -> str:
        value = None
        first = self._content[self._at : self._at + 1]
        if first and (first[0] & 0xE0 == 0xA0 or first[0] in _STRS):
            value = self.value()
        if not isinstance(value, str):
            raise ValueError("no string")
        return value

    def _skip_all(self, count: int, depth: int) -> None:
        for _ in range(self._count(count, 1)):
            self.skip(depth + 1)

    def _count(self, count: int, least: int) -> int:
        if count * least > len(self._content) - self._at:
            raise ValueError("a count exceeds what is left")
        return count

    def _byte(self) -> int:
        if self._at >= len(self._content):
            raise ValueError("a field is missing")
        self._at += 1
        return self._content[self._at - 1]

    def _uint(self, width: int) -> int:
        return int.from_bytes(self._take(width), "big")

    def _take(self, length: int) -> bytes:
        if length > len(self._content) - self._at:
            raise ValueError("a length exceeds what is left")
        self._at += length
        return self._content[self._at - length : self._at]
