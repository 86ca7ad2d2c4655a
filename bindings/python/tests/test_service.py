"""Services as the node sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fakenode import Client, FakeNode

import iris
from iris import _wire as wire
from iris._codes import Code


class Handler(iris.Handler):
    """Holds requests until the test lets them go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.started: list[bytes] = []
        self.cancelled: list[bytes] = []
        self.messages: list[iris.Message] = []
        self.dropped: list[iris.IrisError] = []
        self.service: iris.Service | None = None

    async def handle_request(self, request: iris.Request) -> bytes | iris.Reply:
        self.started.append(request.payload)
        if request.payload == b"fail":
            raise iris.RemoteError("no one")
        if request.payload == b"break":
            raise KeyError("secret")
        if request.payload == b"headers":
            return iris.Reply(b"", request.headers)
        if request.payload == b"large":
            return b"x" * 2000
        if request.payload == b"leave":
            assert self.service
            await self.service.unregister()
            await self.service.connection.close()
            return b"left"
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(request.payload)
            raise
        return request.payload.upper()

    def handle_broadcast(self, message: iris.Message) -> None:
        self.messages.append(message)

    def handle_drop(self, reason: iris.IrisError) -> None:
        self.dropped.append(reason)


@asynccontextmanager
async def registered(
    limits: iris.ServiceLimits | None = None, **node_limits: int
) -> AsyncIterator[tuple[iris.Service, Handler, Client]]:
    async with FakeNode(**node_limits) as node:
        handler = Handler()
        service = await iris.register(node.port, "upper", handler, limits=limits, reconnect=0)
        handler.service = service
        client = await node.attached()
        assert client.hello[3] == "upper"
        yield service, handler, client
        await service.abort()


async def reply(client: Client) -> list[object]:
    return await client.expect(wire.REPLY)


async def test_credit_is_granted_first_and_again_for_each_that_is_done() -> None:
    async with registered(iris.ServiceLimits(requests=2, queue=1, broadcasts=1, broadcast_queue=4)) as (_, handler, client):
        assert await client.expect(wire.CREDIT) == [0, 3]
        assert await client.expect(wire.CREDIT) == [1, 5]
        for id in range(3):
            client.send(wire.REQUEST, id, "upper", 1000, {}, b"%d" % id)
        client.send(wire.PING, 5)
        await client.expect(wire.PONG)  # ahead of what waits in handlers
        assert handler.started == [b"0", b"1"]  # two at once
        handler.go.set()
        assert {(await reply(client))[0] for _ in range(3)} == {0, 1, 2}
        while client.credits[0] < 6:
            await client.next()
        assert client.credits == [6, 5, 0]


async def test_a_reply_is_a_payload_headers_or_an_error() -> None:
    async with registered(payload=1000) as (_, handler, client):
        handler.go.set()
        await client.expect(wire.CREDIT)
        for id, payload in enumerate((b"x", b"fail", b"break", b"headers", b"large")):
            client.send(wire.REQUEST, id, "upper", 0xFFFFFFFF, {"a": "1"}, payload)
            got = await reply(client)
            if payload == b"large":
                assert got[1] == 5 and "limit of a payload" in str(got[2])
            else:
                assert got == {
                    b"x": [id, 0, "", {}, b"X"],
                    b"fail": [id, 5, "no one", {}, b""],
                    b"break": [id, 5, "the handler failed: KeyError", {}, b""],
                    b"headers": [id, 0, "", {"a": "1"}, b""],
                }[payload]


async def test_a_message_without_credit_ends_the_connection() -> None:
    async with registered(iris.ServiceLimits(requests=1, queue=0)) as (_, handler, client):
        await client.expect(wire.CREDIT)
        client.send(wire.REQUEST, 1, "upper", 1000, {}, b"")
        client.send(wire.REQUEST, 2, "upper", 1000, {}, b"")
        assert (await client.expect(wire.BYE))[0] == Code.UNEXPECTED


async def test_a_cancelled_request_stops_and_gives_its_credit_back() -> None:
    async with registered(iris.ServiceLimits(requests=1, queue=1)) as (_, handler, client):
        client.send(wire.PING, 1)
        await client.expect(wire.PONG)
        client.send(wire.REQUEST, 1, "upper", 100000, {}, b"runs")
        client.send(wire.REQUEST, 2, "upper", 100000, {}, b"waits")
        client.send(wire.CANCEL, 2)
        client.send(wire.CANCEL, 1)
        client.send(wire.CANCEL, 77)
        while client.credits[0] < 4:
            await client.next()
        assert handler.cancelled in ([b"runs"], []) and b"waits" not in handler.started


async def test_a_handler_is_cancelled_at_the_deadline() -> None:
    async with registered() as (_, handler, client):
        await client.expect(wire.CREDIT)
        client.send(wire.REQUEST, 1, "upper", 20, {}, b"slow")
        assert (await reply(client))[:2] == [1, 5]
        assert handler.cancelled == [b"slow"]


async def test_broadcasts_come_in_their_order() -> None:
    async with registered() as (_, handler, client):
        await client.expect(wire.CREDIT)
        for i in range(100):
            client.send(wire.BROADCAST, 0, "upper", {"n": str(i)}, bytes([i]))
        client.send(wire.PING, 1)
        await client.expect(wire.PONG)
        assert [m.payload[0] for m in handler.messages] == list(range(100))
        assert handler.messages[7].headers == {"n": "7"}


async def test_requests_beyond_the_memory_are_answered_with_an_error() -> None:
    async with registered(iris.ServiceLimits(request_bytes=10)) as (_, handler, client):
        await client.expect(wire.CREDIT)
        client.send(wire.REQUEST, 1, "upper", 100000, {}, b"x" * 20)
        client.send(wire.REQUEST, 2, "upper", 100000, {}, b"y")
        assert (await reply(client))[:3] == [2, 5, "the service has no room for the request"]
        handler.go.set()
        assert (await reply(client))[:2] == [1, 0]


async def test_unregister_finishes_what_runs() -> None:
    async with registered() as (service, handler, client):
        await client.expect(wire.CREDIT)
        client.send(wire.REQUEST, 1, "upper", 100000, {}, b"a")
        client.send(wire.PING, 1)
        await client.expect(wire.PONG)
        ends = [asyncio.create_task(service.unregister()) for _ in range(3)]
        await client.expect(wire.DRAIN)
        client.send(wire.REQUEST, 2, "upper", 100000, {}, b"b")  # it crossed with the drain, relay.md 6.3
        handler.go.set()
        assert sorted([(await reply(client))[0], (await reply(client))[0]]) == [1, 2]
        assert not any(end.done() for end in ends)
        client.send(wire.DRAINED)
        assert await client.expect(wire.BYE) == [0, ""]
        await asyncio.gather(*ends)
        assert handler.dropped == []


async def test_unregister_gives_up_after_its_timeout() -> None:
    async with registered() as (service, handler, client):
        await client.expect(wire.CREDIT)
        client.send(wire.REQUEST, 1, "upper", 100000, {}, b"a")
        client.send(wire.PING, 1)
        await client.expect(wire.PONG)
        with pytest.raises(iris.TimeoutError):
            await service.unregister(timeout=0.02)
        assert handler.cancelled == [b"a"]


async def test_a_handler_may_unregister_and_close() -> None:
    async with registered() as (service, handler, client):
        await client.expect(wire.CREDIT)
        client.send(wire.REQUEST, 1, "upper", 100000, {}, b"leave")
        assert await client.expect(wire.DRAIN) == []
        assert (await reply(client))[4] == b"left"
        client.send(wire.DRAINED)
        assert await client.expect(wire.BYE) == [0, ""]


async def test_a_lost_node_stops_handlers_and_is_told_once() -> None:
    async with registered() as (service, handler, client):
        await client.expect(wire.CREDIT)
        client.send(wire.REQUEST, 1, "upper", 100000, {}, b"a")
        client.send(wire.PING, 1)
        await client.expect(wire.PONG)
        client.close()
        with pytest.raises(iris.LostError):
            await service.connection.request("x")
        with pytest.raises(iris.GoneError):
            await service.connection.request("x")
        assert handler.cancelled == [b"a"]
        await service.unregister()
        assert [type(d) for d in handler.dropped] == [iris.NoNodeError]


async def test_init_runs_before_the_first_credit_and_its_error_is_registers() -> None:
    class Broken(iris.Handler):
        async def init(self, conn: iris.Connection) -> None:
            raise OSError("no disk")

    async with FakeNode() as node:
        with pytest.raises(OSError, match="no disk"):
            await iris.register(node.port, "c", Broken())
        client = await node.attached()
        assert await client.end() == [[wire.BYE, 0, ""]]
