"""Frames of the relay protocol: ``encode`` makes one, ``decode`` reads the content of one (relay.md 3).

    c4 <length> | c5 <length:2> | c6 <length:4>      a bin, whose content is
        9x [op, field, ...]                          one array, the op first

A decoded frame is a list ``[op, field, ...]`` of exactly the fields of the table in relay.md 3.2, each of its type. Both
functions are pure and may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack  # type: ignore[import-untyped,unused-ignore]

from ._codes import Code
from ._walk import Walk
from .errors import InvalidError

HELLO, WELCOME, REFUSE, PING, PONG, CREDIT, DRAIN, DRAINED, LEAVING, BYE, DONE = range(0x00, 0x0B)
REQUEST, REPLY, CANCEL = range(0x10, 0x13)
BROADCAST, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, EVENT = range(0x20, 0x25)
OPEN, OPENED, DATA, ALLOW, FINISH, ABORT = range(0x30, 0x36)

NO_LIMIT = 0xFFFFFFFF  # a budget without end, relay.md 5.2
GREATEST = 0x7FFFFFFF  # of credits and allowances, relay.md 5.5 and 10.5
OPENING_BYTES = 16384  # of a frame's content in the opening, relay.md 4.2
TEXT_BYTES = 16384  # relay.md 5.6
ENTRIES = 64  # of a map or an array, relay.md 2.4 and 5.3


class Violation(Exception):
    """The node broke a clause: the connection ends with a bye of ``code`` and ``text`` (relay.md 6.4)."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


# A letter per field. i: 64 bits, u: 32 bits, c: a code, l: 0 or 1, s: a string, b: bytes,
# h: a map of strings to strings, n: a map of strings to 32 bits, f: an array of strings.
_FIELDS = {
    HELLO: "suushf",
    WELCOME: "unhf",
    REFUSE: "cs",
    PING: "i",
    PONG: "i",
    CREDIT: "uu",
    DRAIN: "",
    DRAINED: "",
    LEAVING: "",
    BYE: "cs",
    DONE: "ics",
    REQUEST: "isuhb",
    REPLY: "icshb",
    CANCEL: "i",
    BROADCAST: "ishb",
    PUBLISH: "ishb",
    SUBSCRIBE: "is",
    UNSUBSCRIBE: "is",
    EVENT: "shb",
    OPEN: "isuuh",
    OPENED: "iuh",
    DATA: "ilb",
    ALLOW: "iu",
    FINISH: "i",
    ABORT: "ics",
}
_TYPES = {"i": int, "u": int, "c": int, "l": int, "s": str, "b": bytes, "h": dict, "n": dict, "f": list}
_GREATEST = {"i": (1 << 64) - 1, "u": 0xFFFFFFFF, "c": 255, "l": 1}

# What decode needs of an op: the types of the whole array, the greatest integers by index, the indexes of maps and arrays.
_SHAPES = {
    op: (
        (int, *(_TYPES[f] for f in fields)),
        [(i, _GREATEST[f]) for i, f in enumerate(fields, 1) if f in _GREATEST],
        [(i, int if f == "n" else str) for i, f in enumerate(fields, 1) if f in "hnf"],
    )
    for op, fields in _FIELDS.items()
}

_pack = msgpack.Packer(use_bin_type=True).pack
_unpack = msgpack.unpackb
_SHORT_HEADS = [bytes((0xC4, n)) for n in range(256)]


def encode(*fields: object) -> bytes:
    """The frame of an op and its fields, in the shortest form (relay.md 3.3)."""
    content: bytes = _pack(fields)
    size = len(content)
    if size < 256:
        return _SHORT_HEADS[size] + content
    if size < 65536:
        return b"\xc5" + size.to_bytes(2, "big") + content
    return b"\xc6" + size.to_bytes(4, "big") + content


def decode(content: bytes) -> list[Any]:
    """Reads the content of a frame whose size was checked. Raises Violation for what is malformed."""
    try:
        # Bounds on counts, so that nothing much larger than the frame is reserved (relay.md 3.4).
        frame = _unpack(content, max_array_len=ENTRIES, max_map_len=ENTRIES, max_ext_len=0)
        if type(frame) is not list or len(frame) != len(_SHAPES[frame[0]][0]):
            frame = _walk(content)
    except Exception:  # msgpack raises half a dozen kinds for what it does not read; the walk judges
        frame = _walk(content)
    types, integers, collections = _SHAPES[frame[0]]
    if tuple(map(type, frame)) != types:
        raise Violation(Code.MALFORMED, "a field is not of its type")
    for index, greatest in integers:
        if not 0 <= frame[index] <= greatest:
            raise Violation(Code.MALFORMED, "an integer is out of its range")
    for index, kind in collections:
        if frame[index]:
            _check_entries(frame[index], kind)
    if frame[0] == HELLO and (frame[1] != "iris" or frame[2] > frame[3]):
        raise Violation(Code.MALFORMED, "no hello of this protocol")
    return frame  # type: ignore[no-any-return,unused-ignore]


def headers_map(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Headers as they are sent: at most 64 strings to strings, keys ascending. Raises InvalidError."""
    if not headers:
        return {}
    if len(headers) > ENTRIES:
        raise InvalidError(f"{len(headers)} headers: at most {ENTRIES}")
    for key, value in headers.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidError("a header is not a string")
    return dict(sorted(headers.items()))


def packed_size(headers: dict[str, str]) -> int:
    """The bytes of headers, encoded. Raises InvalidError for what is not UTF-8."""
    try:
        return len(_pack(headers))
    except UnicodeEncodeError as err:
        raise InvalidError("a header is not UTF-8") from err


def cut_text(text: str) -> str:
    """``text`` as it may be sent: UTF-8 of at most 16,384 bytes, cut between characters (relay.md 5.6)."""
    raw = text.encode("utf-8", "replace")
    return raw[:TEXT_BYTES].decode("utf-8", "ignore")


def _walk(content: bytes) -> list[Any]:
    walk = Walk(content)
    try:
        count = walk.array()
        if count == 0:
            raise ValueError("an array without an op")
        op = walk.value()
        if type(op) is not int or op not in _FIELDS:
            raise ValueError("an op that is not known")
        fields = _FIELDS[op]
        if count < 1 + len(fields):
            raise ValueError("a field is missing")
        frame = [op, *(walk.strings(ENTRIES) if f == "f" else walk.value() for f in fields)]
        for _ in range(count - len(frame)):
            walk.skip()
        walk.end()
    except ValueError as err:  # UnicodeDecodeError is one
        raise Violation(Code.MALFORMED, str(err)) from None
    return frame


def _check_entries(entries: dict[Any, Any] | list[Any], kind: type) -> None:
    values = entries.values() if type(entries) is dict else entries
    if type(entries) is dict and not all(type(key) is str for key in entries):
        raise Violation(Code.MALFORMED, "a key is not a string")
    if not all(type(value) is kind for value in values):
        raise Violation(Code.MALFORMED, "an entry is not of its type")
    if kind is int and not all(0 <= value <= 0xFFFFFFFF for value in values):
        raise Violation(Code.MALFORMED, "a limit is out of its range")
