"""Attaching, and what ends a connection."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from fakenode import SECONDS, FakeNode
from test_vectors import load

import iris
from iris import _wire as wire
from iris._codes import Code
from iris._endpoint import socket_paths


async def test_hello_is_the_bytes_of_the_specification() -> None:
    async with FakeNode() as node:
        async with await iris.connect(node.port):
            client = await node.attached()
            assert client.hello == ["iris", 1, 1, "", {}, []]


async def test_nobody_listens() -> None:
    node = FakeNode()
    await node.listen()
    await node.stop()
    with pytest.raises(iris.NoNodeError):
        await iris.connect(node.port)


async def test_a_refusal_has_its_code_and_text() -> None:
    async with FakeNode() as node:
        node.refusal = (18, "not that name")
        with pytest.raises(iris.RefusedError) as caught:
            await iris.register(node.port, "$x", iris.Handler())
        assert (caught.value.name, caught.value.text, caught.value.temporary) == ("name", "not that name", False)


async def test_a_node_that_does_not_answer_is_a_timeout() -> None:
    async with FakeNode() as node:
        node.answer = b""
        with pytest.raises(iris.TimeoutError):
            await iris.connect(node.port, timeout=0.05)
        client = await node.attached()
        assert await client.end() == []  # nothing but hello before the answer, relay.md 2.1


@pytest.mark.parametrize(
    "answer, code",
    [
        (wire.encode(wire.PING, 7), Code.UNEXPECTED),
        (wire.encode(wire.WELCOME, 2, {}, {}, []), Code.MALFORMED),
        (wire.encode(wire.WELCOME, 1, {"payload": 2 << 20}, {}, []), Code.MALFORMED),
        (b"\xc5\x40\x01", Code.TOO_LARGE),
    ],
)
async def test_an_answer_that_breaks_the_protocol(answer: bytes, code: Code) -> None:
    async with FakeNode() as node:
        node.answer = answer
        with pytest.raises(iris.ProtocolError):
            await iris.connect(node.port)
        client = await node.attached()
        assert [frame[:2] for frame in await client.end()] == [[wire.BYE, code]]


@pytest.mark.parametrize(
    "vector",
    [v for name in ("malformed.json", "misplaced.json") for v in load(name) if v["to"] != "node"],
    ids=lambda v: v["name"],
)
async def test_what_breaks_the_protocol_ends_the_connection_with_the_bye(vector: dict[str, str]) -> None:
    async with FakeNode() as node:
        if vector["state"] == "opening":
            node.answer = bytes.fromhex(vector["hex"])
            with pytest.raises(iris.ProtocolError):
                await iris.connect(node.port, reconnect=0)
            client = await node.attached()
        else:
            conn = await iris.connect(node.port, reconnect=0)
            client = await node.attached()
            client.send_raw(bytes.fromhex(vector["hex"]))
        byes = [frame[:2] for frame in await client.end()]
        assert [(op, Code(code).label) for op, code in byes] == [(wire.BYE, vector["code"])]
        if vector["state"] == "open":
            await conn.close()


async def test_frames_behind_the_welcome_in_one_segment_are_read() -> None:
    async with FakeNode() as node:
        node.answer = wire.encode(wire.WELCOME, 1, {}, {}, []) + wire.encode(wire.PING, 9)
        async with await iris.connect(node.port):
            client = await node.attached()
            assert await client.expect(wire.PONG) == [9]


async def test_close_says_bye_and_may_be_called_often_and_at_the_same_time() -> None:
    async with FakeNode() as node:
        conn = await iris.connect(node.port)
        client = await node.attached()
        await asyncio.gather(*(conn.close() for _ in range(5)))
        await conn.close()
        assert await client.end() == [[wire.BYE, 0, ""]]
        with pytest.raises(iris.ClosedError):
            await conn.request("x")


async def test_close_does_not_wait_for_a_node_that_reads_nothing() -> None:
    async with FakeNode() as node:
        conn = await iris.connect(node.port, reconnect=0)
        (await node.attached()).read_no_more()
        flood = [asyncio.ensure_future(conn.publish("t", b"x" * (1 << 20))) for _ in range(32)]
        await asyncio.sleep(0)
        await asyncio.wait_for(conn.close(), SECONDS)
        await asyncio.gather(*flood, return_exceptions=True)


async def test_a_node_that_hears_nothing_is_asked_and_then_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iris._channel.QUIET_SECONDS", 0.02)
    async with FakeNode() as node:
        conn = await iris.connect(node.port, reconnect=0)
        client = await node.attached()
        assert await client.expect(wire.PING) == [0]
        assert (await client.expect(wire.BYE))[0] == Code.UNRESPONSIVE
        await conn.close()


def test_sockets_are_looked_for_where_the_specification_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert socket_paths(7) == [os.path.join(os.environ["IRIS_RUNTIME_DIR"], "7.sock")]
    monkeypatch.delenv("IRIS_RUNTIME_DIR")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    monkeypatch.setattr("iris._endpoint._trusted", lambda folder: True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/xdg")
    assert socket_paths(7) == ["/xdg/iris/7.sock", "/run/iris/7.sock"]
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert socket_paths(7)[0] == f"{tmp_path}/iris-12345/7.sock"


def test_folders_that_others_can_write_are_not_used(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime_dir.chmod(0o770)
    assert socket_paths(7) == []
    runtime_dir.chmod(0o755)
    assert len(socket_paths(7)) == 1
    link = runtime_dir.parent / "link"
    link.symlink_to(runtime_dir)
    monkeypatch.setenv("IRIS_RUNTIME_DIR", str(link))
    assert socket_paths(7) == []


async def test_the_unix_socket_comes_before_tcp(runtime_dir: Path) -> None:
    async with FakeNode() as tcp, FakeNode() as unix:
        server = await asyncio.start_unix_server(unix._serve, str(runtime_dir / f"{tcp.port}.sock"))
        conn = await iris.connect(tcp.port)
        await unix.attached()
        await conn.close()
        server.close()
