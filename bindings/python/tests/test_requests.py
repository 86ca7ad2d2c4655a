"""Requests as who asks sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fakenode import Client, FakeNode

import iris
from iris import _wire as wire


@asynccontextmanager
async def attached(**limits: int) -> AsyncIterator[tuple[iris.Connection, Client]]:
    async with FakeNode(**limits) as node:
        async with await iris.connect(node.port, reconnect=0) as conn:
            yield conn, await node.attached()


async def test_a_request_and_its_reply_carry_headers() -> None:
    async with attached() as (conn, client):
        call = asyncio.create_task(conn.call("upper", b"hi", headers={"b": "2", "a": "1"}, timeout=1.0))
        id, cluster, budget, headers, payload = await client.expect(wire.REQUEST)
        assert (cluster, headers, payload) == ("upper", {"a": "1", "b": "2"}, b"hi")
        assert 900 < budget <= 1000
        client.send(wire.REPLY, id, 0, "", {"c": "3"}, b"HI")
        assert await call == iris.Reply(b"HI", {"c": "3"})


async def test_no_timeout_is_a_budget_without_limit() -> None:
    async with attached() as (conn, client):
        call = asyncio.create_task(conn.request("upper"))
        id, _, budget, _, _ = await client.expect(wire.REQUEST)
        assert budget == 0xFFFFFFFF
        client.send(wire.REPLY, id, 0, "", {}, b"")
        assert await call == b""


@pytest.mark.parametrize(
    "code, error",
    [
        (1, iris.TimeoutError),
        (2, iris.NoServiceError),
        (3, iris.OverloadedError),
        (4, iris.LostError),
        (5, iris.RemoteError),
        (6, iris.CancelledError),
        (7, iris.ClosingError),
        (8, iris.InvalidError),
        (9, iris.LostError),  # relay.md 7.2
        (15, iris.LostError),
    ],
)
async def test_each_code_has_its_error(code: int, error: type[iris.IrisError]) -> None:
    async with attached() as (conn, client):
        call = asyncio.create_task(conn.request("upper"))
        id, *_ = await client.expect(wire.REQUEST)
        client.send(wire.REPLY, id, code, "", {}, b"")
        with pytest.raises(error) as caught:
            await call
        assert type(caught.value) is error


async def test_the_text_of_a_remote_error_is_the_services_own() -> None:
    async with attached() as (conn, client):
        call = asyncio.create_task(conn.request("upper"))
        id, *_ = await client.expect(wire.REQUEST)
        client.send(wire.REPLY, id, 5, "no one", {}, b"")
        with pytest.raises(iris.RemoteError) as caught:
            await call
        assert caught.value.message == "no one"


async def test_replies_come_in_any_order_and_unknown_ones_are_ignored() -> None:
    async with attached() as (conn, client):
        calls = [asyncio.create_task(conn.request("c", bytes([i]))) for i in range(3)]
        got = [await client.expect(wire.REQUEST) for _ in range(3)]
        client.send(wire.REPLY, 999, 0, "", {}, b"")
        for id, _, _, _, payload in reversed(got):
            client.send(wire.REPLY, id, 0, "", {}, payload)
            client.send(wire.REPLY, id, 0, "", {}, b"again")
        assert await asyncio.gather(*calls) == [b"\0", b"\1", b"\2"]


async def test_the_timeout_is_kept_though_the_node_is_silent() -> None:
    async with attached() as (conn, client):
        with pytest.raises(iris.TimeoutError):
            await conn.request("upper", timeout=0.02)
        id, *_ = await client.expect(wire.REQUEST)
        assert await client.expect(wire.CANCEL) == [id]


async def test_cancelling_the_task_cancels_the_request() -> None:
    async with attached() as (conn, client):
        call = asyncio.create_task(conn.request("upper"))
        id, *_ = await client.expect(wire.REQUEST)
        call.cancel()
        assert await client.expect(wire.CANCEL) == [id]
        client.send(wire.REPLY, id, 6, "", {}, b"")
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_limits_of_the_welcome_are_kept() -> None:
    async with attached(payload=10, headers=40, name=5, requests=1) as (conn, client):
        with pytest.raises(iris.TooLargeError):
            await conn.request("upper", b"x" * 11)
        with pytest.raises(iris.TooLargeError):
            await conn.request("upper", headers={"a": "x" * 40})
        with pytest.raises(iris.TooLargeError):
            await conn.request("üüü")
        with pytest.raises(iris.InvalidError):
            await conn.request("")
        with pytest.raises(iris.InvalidError):
            await conn.request("upper", headers={str(i): "" for i in range(65)})
        with pytest.raises(iris.InvalidError):
            await conn.request("upper", headers={"a": 1})  # type: ignore[dict-item]
        call = asyncio.create_task(conn.request("upper", bytearray(10)))
        id, *_ = await client.expect(wire.REQUEST)
        with pytest.raises(iris.OverloadedError):
            await conn.request("upper")
        client.send(wire.REPLY, id, 0, "", {}, b"")
        await call
        assert conn.limits.payload == 10


async def test_what_is_in_flight_when_the_node_goes_is_lost() -> None:
    async with attached() as (conn, client):
        calls = [asyncio.create_task(conn.request("c")) for _ in range(3)]
        for _ in calls:
            await client.expect(wire.REQUEST)
        client.close()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(r) for r in results] == [iris.LostError] * 3


async def test_what_is_in_flight_when_this_side_closes_is_closed() -> None:
    async with attached() as (conn, client):
        call = asyncio.create_task(conn.request("c"))
        await client.expect(wire.REQUEST)
        await conn.close()
        with pytest.raises(iris.ClosedError):
            await call


async def test_frames_of_one_turn_are_one_write() -> None:
    async with attached() as (conn, client):
        writes = []
        transport = conn._session.channel._transport  # type: ignore[union-attr]
        write = transport.write  # type: ignore[union-attr]
        transport.write = lambda data: (writes.append(data), write(data))  # type: ignore[union-attr,method-assign,assignment]
        await asyncio.gather(*(conn.publish("t", b"x") for _ in range(50)))
        for _ in range(50):
            await client.expect(wire.PUBLISH)
        assert len(writes) == 1


async def test_broadcast_and_publish_are_handed_over_or_confirmed() -> None:
    async with attached() as (conn, client):
        await conn.broadcast("c", b"1", headers={"a": "b"})
        assert await client.expect(wire.BROADCAST) == [0, "c", {"a": "b"}, b"1"]
        tell = asyncio.create_task(conn.publish("t", b"2", confirm=True))
        id, *rest = await client.expect(wire.PUBLISH)
        assert id and rest == ["t", {}, b"2"]
        client.send(wire.DONE, id, 3, "no room")
        with pytest.raises(iris.OverloadedError):
            await tell


async def test_a_flood_of_events_waits_for_a_node_that_does_not_read() -> None:
    async with attached() as (conn, client):
        client.read_no_more()
        flood = asyncio.create_task(flood_events(conn))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(flood), 0.2)
        waiting = conn._session.channel._transport.get_write_buffer_size()  # type: ignore[union-attr]
        assert waiting < 4 << 20, "what waits is bounded"
        client.read_on()
        for _ in range(400):
            await client.expect(wire.PUBLISH)
        await flood


async def flood_events(conn: iris.Connection) -> None:
    for _ in range(400):
        await conn.publish("t", b"x" * 100_000)


async def test_publishes_that_had_to_wait_leave_in_their_order_and_keep_their_timeouts() -> None:
    async with attached() as (conn, client):
        client.read_no_more()
        flood = asyncio.create_task(flood_events(conn))
        while not conn._session.channel._paused:  # type: ignore[union-attr]
            await asyncio.sleep(0)
        with pytest.raises(iris.TimeoutError):
            await conn.publish("n", b"1000", timeout=0.05)  # and it is never sent
        flood.cancel()
        many = [asyncio.create_task(conn.publish("n", b"%d" % i)) for i in range(200)]
        await asyncio.sleep(0)
        client.read_on()
        await asyncio.gather(*many)
        got = []
        while len(got) < 200:
            _, topic, _, payload = await client.expect(wire.PUBLISH)
            if topic == "n":
                got.append(int(payload))
        assert got == list(range(200))


def test_limits_that_make_no_sense() -> None:
    with pytest.raises(ValueError):
        iris.ServiceLimits(requests=0)
    with pytest.raises(ValueError):
        iris.TopicLimits(queue=-1)
