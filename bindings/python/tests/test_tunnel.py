"""Tunnels, of the side that asks and of a service."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from fakenode import Client, FakeNode
from test_requests import attached
from test_topics import answered

import iris
from iris import _wire as wire
from iris._codes import Code

NODE_ID = 1 << 63


async def opened(conn: iris.Connection, client: Client, window: int = 1 << 20) -> tuple[iris.Tunnel, int]:
    work = asyncio.create_task(conn.tunnel("c", headers={"a": "1"}, timeout=5))
    id, cluster, budget, allowed, headers = await client.expect(wire.OPEN)
    assert (cluster, headers) == ("c", {"a": "1"}) and 0 < budget <= 5000 and allowed == 4 * (65536 + 64)
    client.send(wire.OPENED, id, window, {"b": "2"})
    tunnel = await work
    assert tunnel.headers == {"b": "2"}
    return tunnel, id


async def test_messages_go_both_ways_whatever_their_size() -> None:
    async with attached() as (conn, client):
        tunnel, id = await opened(conn, client)
        await tunnel.send(b"")
        assert await client.expect(wire.DATA) == [id, 1, b""]
        await tunnel.send(memoryview(b"x" * 150_000))
        chunks = [await client.expect(wire.DATA) for _ in range(3)]
        assert [(c[1], len(c[2])) for c in chunks] == [(0, 65536), (0, 65536), (1, 18928)]
        for last, chunk in ((0, b"a"), (0, b""), (1, b"b"), (1, b"")):
            client.send(wire.DATA, id, last, chunk)
        assert [await tunnel.recv(), await tunnel.recv()] == [b"ab", b""]


async def test_send_waits_for_the_allowance_and_keeps_to_it() -> None:
    async with attached() as (conn, client):
        tunnel, id = await opened(conn, client, window=200)
        sends = [asyncio.create_task(tunnel.send(bytes([i]) * 100)) for i in range(3)]
        assert (await client.expect(wire.DATA))[2] == b"\0" * 100
        await answered(client)  # nothing more came: 36 bytes are left
        client.send(wire.ALLOW, id, 164)
        assert await client.expect(wire.DATA) == [id, 1, b"\1" * 100]
        client.send(wire.ALLOW, id, 64 + 50 + 64 + 50)
        got = [await client.expect(wire.DATA)]
        while not got[-1][1]:
            got.append(await client.expect(wire.DATA))
        assert b"".join(chunk for _, _, chunk in got) == b"\2" * 100
        await asyncio.gather(*sends)


async def test_a_message_larger_than_a_small_window_is_cut_smaller() -> None:
    async with attached() as (conn, client):
        tunnel, id = await opened(conn, client, window=1000)
        send = asyncio.create_task(tunnel.send(b"x" * 3000))
        got = b""
        last, left = 0, 1000
        while not last:
            _, last, chunk = await client.expect(wire.DATA)
            left -= len(chunk) + 64
            assert left >= 0
            got += chunk
            client.send(wire.ALLOW, id, len(chunk) + 64)
            left += len(chunk) + 64
        await send
        assert got == b"x" * 3000


async def test_a_send_that_times_out_before_its_begin_sends_nothing() -> None:
    async with attached() as (conn, client):
        tunnel, id = await opened(conn, client, window=0)
        with pytest.raises(iris.TimeoutError):
            await tunnel.send(b"x", timeout=0.02)
        client.send(wire.ALLOW, id, 65)
        await tunnel.send(b"y")
        assert await client.expect(wire.DATA) == [id, 1, b"y"]


async def test_a_send_that_times_out_in_the_middle_aborts() -> None:
    async with attached() as (conn, client):
        tunnel, id = await opened(conn, client, window=70000)
        with pytest.raises(iris.TimeoutError):
            await tunnel.send(b"x" * 200_000, timeout=0.05)
        await client.expect(wire.DATA)
        assert (await client.expect(wire.ABORT))[:2] == [id, Code.FAILED]


async def test_what_is_received_is_allowed_again_and_no_more_is_taken() -> None:
    async with attached() as (conn, client):
        tunnel, id = await opened(conn, client)
        for _ in range(4):
            client.send(wire.DATA, id, 1, b"x" * 65536)
        await answered(client)
        await tunnel.recv()
        assert await client.expect(wire.ALLOW) == [id, 65600]
        for _ in range(3):
            await tunnel.recv()
            await client.expect(wire.ALLOW)
        for _ in range(5):
            client.send(wire.DATA, id, 1, b"x" * 65536)
        assert (await client.expect(wire.BYE))[0] == Code.UNEXPECTED


async def test_half_close() -> None:
    async with attached() as (conn, client):
        tunnel, id = await opened(conn, client)
        await tunnel.finish()
        await tunnel.finish()
        assert await client.expect(wire.FINISH) == [id]
        with pytest.raises(iris.ClosedError):
            await tunnel.send(b"x")
        client.send(wire.DATA, id, 1, b"last")
        client.send(wire.FINISH, id)
        assert await tunnel.recv() == b"last"
        with pytest.raises(iris.EndError):
            await tunnel.recv()
        await tunnel.close()
        await answered(client)  # nothing was sent behind the finish but an allow


async def test_close_waits_for_the_other_side_and_delivers() -> None:
    async with attached() as (conn, client):
        tunnel, id = await opened(conn, client)
        await tunnel.send(b"x")
        ends = [asyncio.create_task(tunnel.close()) for _ in range(3)]
        await client.expect(wire.DATA)
        await client.expect(wire.FINISH)
        client.send(wire.DATA, id, 1, b"ignored")
        await asyncio.sleep(0)
        assert not any(end.done() for end in ends)
        client.send(wire.FINISH, id)
        await asyncio.gather(*ends)
        with pytest.raises(iris.ClosedError):
            await tunnel.recv()


async def test_close_breaks_off_a_side_that_goes_on_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iris.tunnel.GRACE_SECONDS", 0.02)
    async with attached() as (conn, client):
        tunnel, id = await opened(conn, client)
        await tunnel.send(b"x")
        end = asyncio.create_task(tunnel.close())
        await client.expect(wire.DATA)
        await client.expect(wire.FINISH)
        client.send(wire.ALLOW, id, 65)
        client.send(wire.DATA, id, 1, b"more")
        assert await client.expect(wire.ABORT) == [id, 0, ""]
        await end


async def test_close_gives_up_after_its_timeout() -> None:
    async with attached() as (conn, client):
        tunnel, id = await opened(conn, client)
        with pytest.raises(iris.TimeoutError):
            await tunnel.close(timeout=0.02)
        await client.expect(wire.FINISH)
        assert (await client.expect(wire.ABORT))[0] == id


@pytest.mark.parametrize(
    "code, error",
    [(0, iris.ClosedError), (5, iris.RemoteError), (4, iris.LostError), (3, iris.OverloadedError)],
)
async def test_an_abort_comes_behind_what_was_received(code: int, error: type[Exception]) -> None:
    async with attached() as (conn, client):
        tunnel, id = await opened(conn, client)
        client.send(wire.DATA, id, 1, b"x")
        client.send(wire.DATA, id, 0, b"half")
        client.send(wire.ABORT, id, code, "why")
        await answered(client)
        assert await tunnel.recv() == b"x"
        for _ in range(2):
            with pytest.raises(error):
                await tunnel.recv()
        with pytest.raises(error):
            await tunnel.send(b"x")


async def test_abort_has_a_reason_and_is_told_once() -> None:
    async with attached() as (conn, client):
        tunnel, id = await opened(conn, client)
        tunnel.abort("enough")
        tunnel.abort()
        assert await client.expect(wire.ABORT) == [id, 5, "enough"]
        with pytest.raises(iris.ClosedError):
            await tunnel.recv()
        client.send(wire.DATA, id, 1, b"it crossed")
        await answered(client)


async def test_a_finish_within_a_message_breaks_the_tunnel() -> None:
    async with attached() as (conn, client):
        tunnel, id = await opened(conn, client)
        client.send(wire.DATA, id, 0, b"half")
        client.send(wire.FINISH, id)
        assert (await client.expect(wire.ABORT))[0] == id
        with pytest.raises(iris.LostError):
            await tunnel.recv()


@pytest.mark.parametrize("code, error", [(2, iris.NoServiceError), (1, iris.TimeoutError), (5, iris.RemoteError)])
async def test_a_tunnel_that_comes_to_nothing(code: int, error: type[Exception]) -> None:
    async with attached() as (conn, client):
        work = asyncio.create_task(conn.tunnel("c"))
        id, *_ = await client.expect(wire.OPEN)
        client.send(wire.ABORT, id, code, "")
        with pytest.raises(error):
            await work
        assert not conn._session.tunnels  # type: ignore[union-attr]


async def test_an_open_that_is_given_up_is_aborted() -> None:
    async with attached() as (conn, client):
        with pytest.raises(iris.TimeoutError):
            await conn.tunnel("c", timeout=0.02)
        id, *_ = await client.expect(wire.OPEN)
        assert await client.expect(wire.ABORT) == [id, 0, ""]
        client.send(wire.OPENED, id, 100, {})  # it crossed
        await answered(client)


@pytest.mark.parametrize(
    "frame",
    [
        (wire.OPENED, 0, {}),
        (wire.ALLOW, 0x7FFFFFFF),
        (wire.DATA, 1, b"x" * 300_000),
    ],
    ids=["a second opened", "an allowance too great", "data beyond the window"],
)
async def test_what_breaks_the_rules_of_tunnels_ends_the_connection(frame: tuple[object, ...]) -> None:
    async with attached() as (conn, client):
        _, id = await opened(conn, client)
        client.send(frame[0], id, *frame[1:])
        assert (await client.expect(wire.BYE))[0] == Code.UNEXPECTED


async def test_tunnels_are_bounded_by_the_node() -> None:
    async with attached(tunnels=1) as (conn, client):
        await opened(conn, client)
        with pytest.raises(iris.OverloadedError):
            await conn.tunnel("c")


class Serves(iris.Handler):
    def accept_tunnel(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        if headers.get("refuse"):
            raise iris.RemoteError("not today")
        return {"hello": headers.get("name", "")}

    async def handle_tunnel(self, tunnel: iris.Tunnel) -> None:
        async for message in tunnel:
            if message == b"break":
                raise iris.RemoteError("broken")
            await tunnel.send(message.upper())


async def test_a_service_accepts_refuses_echoes_and_closes() -> None:
    async with FakeNode() as node, await iris.register(
        node.port, "c", Serves(), limits=iris.ServiceLimits(tunnels=1)
    ) as service:
        client = await node.attached()
        client.send(wire.OPEN, NODE_ID + 1, "c", 1000, 1000, {"refuse": "1"})
        assert await client.expect(wire.ABORT) == [NODE_ID + 1, 5, "not today"]
        client.send(wire.OPEN, NODE_ID + 2, "c", 1000, 1000, {"name": "x"})
        assert await client.expect(wire.OPENED) == [NODE_ID + 2, 4 * 65600, {"hello": "x"}]
        client.send(wire.OPEN, NODE_ID + 3, "c", 1000, 1000, {})
        assert (await client.expect(wire.ABORT))[:2] == [NODE_ID + 3, Code.OVERLOADED]
        client.send(wire.DATA, NODE_ID + 2, 1, b"abc")
        assert await client.expect(wire.DATA) == [NODE_ID + 2, 1, b"ABC"]
        client.send(wire.FINISH, NODE_ID + 2)
        assert await client.expect(wire.ALLOW) == [NODE_ID + 2, 67]
        assert await client.expect(wire.FINISH) == [NODE_ID + 2]
        client.send(wire.OPEN, NODE_ID + 4, "c", 1000, 1000, {})
        await client.expect(wire.OPENED)
        client.send(wire.DATA, NODE_ID + 4, 1, b"break")
        assert await client.expect(wire.ABORT) == [NODE_ID + 4, 5, "broken"]
        await service.abort()


async def test_tunnels_break_off_with_their_connection() -> None:
    async with attached() as (conn, client):
        tunnel, _ = await opened(conn, client)
        client.close()
        with pytest.raises(iris.LostError):
            await tunnel.recv()
