"""The vectors of the specification, as its README says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iris import _wire as wire
from iris._frames import FrameReader
from iris.limits import NodeLimits

FOLDER = Path(__file__).parents[3] / "spec" / "vectors"
NAMES = {
    op: name.lower()
    for name, op in vars(wire).items()
    if name.isupper() and not name.startswith("_") and type(op) is int and op in wire._FIELDS and name != "ENTRIES"
}
KEYS = {
    "hello": ["magic", "min", "max", "cluster", "options", "features"],
    "welcome": ["version", "limits", "info", "features"],
    "refuse": ["code", "text"],
    "ping": ["token"],
    "pong": ["token"],
    "credit": ["kind", "n"],
    "bye": ["code", "text"],
    "done": ["id", "code", "text"],
    "request": ["id", "cluster", "budget", "headers", "payload"],
    "reply": ["id", "code", "text", "headers", "payload"],
    "cancel": ["id"],
    "broadcast": ["id", "cluster", "headers", "payload"],
    "publish": ["id", "topic", "headers", "payload"],
    "subscribe": ["id", "topic"],
    "unsubscribe": ["id", "topic"],
    "event": ["topic", "headers", "payload"],
    "open": ["id", "cluster", "budget", "window", "headers"],
    "opened": ["id", "window", "headers"],
    "data": ["id", "last", "payload"],
    "allow": ["id", "n"],
    "finish": ["id"],
    "abort": ["id", "code", "text"],
}
EMPTY = {"i": 0, "u": 0, "c": 0, "l": 0, "s": "", "b": b"", "h": {}, "n": {}, "f": []}


def load(name: str) -> list[Any]:
    vectors = json.loads((FOLDER / name).read_text())
    assert vectors, "no vectors"
    return vectors


def each(name: str) -> Any:
    return pytest.mark.parametrize("vector", load(name), ids=lambda v: v["name"])


def expected(vector: dict[str, Any]) -> list[Any]:
    op = next(op for op, name in NAMES.items() if name == vector["op"])
    fields: list[Any] = [op]
    for key, kind in zip(KEYS.get(vector["op"], []), wire._FIELDS[op], strict=True):
        value = vector["fields"].get(key, "iris" if key == "magic" else EMPTY[kind])
        if kind == "i":
            value = int(value)
        fields.append(bytes.fromhex(value) if kind == "b" and value else value)
    return fields


def contents(raw: bytes, limit: int = 1114112) -> list[bytes]:
    reader = FrameReader()
    reader.limit = limit
    return list(reader.feed(raw))


@each("frames.json")
def test_a_frame_is_decoded_to_its_fields(vector: dict[str, Any]) -> None:
    [content] = contents(bytes.fromhex(vector["hex"]))
    frame, want = wire.decode(content), expected(vector)
    if vector["op"] == "welcome":
        frame[2] = NodeLimits.of(frame[2]).__dict__
    assert frame == want


@each("frames.json")
def test_the_slow_decoder_agrees(vector: dict[str, Any]) -> None:
    [content] = contents(bytes.fromhex(vector["hex"]))
    assert wire._walk(content) == wire.decode(content)


@each("frames.json")
def test_an_encoder_makes_the_canonical_bytes(vector: dict[str, Any]) -> None:
    if vector["canonical"]:
        assert wire.encode(*expected(vector)).hex(" ") == vector["hex"]


@each("malformed.json")
def test_what_is_malformed_is_refused_with_its_code(vector: dict[str, Any]) -> None:
    if vector["to"] == "node":
        assert vector["state"] in ("opening", "open")  # a client never sees these
    with pytest.raises(wire.Violation) as caught:
        for content in contents(bytes.fromhex(vector["hex"]), 16384 if vector["state"] == "opening" else 1114112):
            wire.decode(content)
    assert caught.value.code.label == vector["code"]


@each("incomplete.json")
def test_what_is_incomplete_waits_for_more(vector: dict[str, Any]) -> None:
    assert contents(bytes.fromhex(vector["hex"])) == []


def test_frames_come_out_alike_however_they_arrive() -> None:
    raw = b"".join(bytes.fromhex(v["hex"]) for v in load("frames.json"))
    want = contents(raw)
    assert len(want) == len(load("frames.json"))
    for step in (1, 2, 3, 7, 100):
        reader = FrameReader()
        assert [c for i in range(0, len(raw), step) for c in reader.feed(raw[i : i + step])] == want


def test_random_damage_is_judged_alike_by_both_decoders() -> None:
    import random

    dice = random.Random(1)
    seeds = [contents(bytes.fromhex(v["hex"]))[0] for v in load("frames.json")]
    for _ in range(20000):
        content = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, 3)):
            content[dice.randrange(len(content))] = dice.randrange(256)
        assert judge(wire.decode, bytes(content)) == judge(slowly, bytes(content)), bytes(content).hex(" ")


def slowly(content: bytes) -> list[Any]:
    fast, wire._unpack = wire._unpack, None
    try:
        return wire.decode(content)
    finally:
        wire._unpack = fast


def judge(decode: Any, content: bytes) -> Any:
    try:
        return decode(content)
    except wire.Violation:
        return "malformed"
