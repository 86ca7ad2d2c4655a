"""The binding through a real node, ``iris -dev``."""

from __future__ import annotations

import asyncio
import json

import pytest
from conftest import Node

import iris

pytestmark = pytest.mark.node


class Upper(iris.Handler):
    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.conn: iris.Connection | None = None
        self.slow = asyncio.Event()

    async def init(self, conn: iris.Connection) -> None:
        self.conn = conn

    async def handle_request(self, request: iris.Request) -> bytes | iris.Reply:
        if request.payload == b"slow":
            self.slow.set()
            await asyncio.sleep(20)
        if request.payload == b"nested":
            assert self.conn
            return await self.conn.request("upper", b"inner", timeout=10)
        if request.payload == b"fail":
            raise iris.RemoteError("no one")
        return iris.Reply(request.payload.upper(), request.headers)

    def handle_broadcast(self, message: iris.Message) -> None:
        self.messages.append(message.payload)

    async def handle_tunnel(self, tunnel: iris.Tunnel) -> None:
        async for message in tunnel:
            await tunnel.send(message)


async def until(condition: object) -> None:
    async def wait() -> None:
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)

    await asyncio.wait_for(wait(), 10)


async def test_requests(node: Node) -> None:
    async with await iris.register(node.port, "upper", Upper()), await iris.connect(node.port) as conn:
        assert await conn.request("upper", b"hello", timeout=5) == b"HELLO"
        assert await conn.call("upper", headers={"a": "ü"}) == iris.Reply(b"", {"a": "ü"})
        assert await conn.request("upper", b"x" * conn.limits.payload) == b"X" * conn.limits.payload
        with pytest.raises(iris.RemoteError, match="^no one$"):
            await conn.request("upper", b"fail")
        with pytest.raises(iris.NoServiceError):
            await conn.request("nobody", timeout=5)
        with pytest.raises(iris.TimeoutError):
            await conn.request("upper", b"slow", timeout=0.05)
        replies = await asyncio.gather(*(conn.request("upper", b"nested", timeout=20) for _ in range(500)))
        assert replies == [b"INNER"] * 500
        status = json.loads(await conn.request("$node", b"status"))
        assert status


async def test_broadcasts_reach_every_member_in_order(node: Node) -> None:
    members = [Upper() for _ in range(3)]
    services = [await iris.register(node.port, "all", member) for member in members]
    async with await iris.connect(node.port) as conn:
        for i in range(100):
            await conn.broadcast("all", b"%d" % i)
        await until(lambda: all(len(m.messages) == 100 for m in members))
        assert all(m.messages == [b"%d" % i for i in range(100)] for m in members)
        with pytest.raises(iris.NoServiceError):
            await conn.broadcast("nobody", b"", confirm=True)
    for service in services:
        await service.unregister()


async def test_events_after_subscribe_all_arrive_in_order(node: Node) -> None:
    got: list[bytes] = []
    async with await iris.connect(node.port) as conn, await iris.connect(node.port) as other:
        for _ in range(20):
            got.clear()
            await conn.subscribe("news", lambda event: got.append(event.payload))
            for i in range(50):
                await other.publish("news", b"%d" % i)
            await until(lambda: len(got) == 50)
            assert got == [b"%d" % i for i in range(50)]
            await conn.unsubscribe("news")


async def test_a_burst_beyond_the_queue_waits_for_nobody(node: Node) -> None:
    got = []
    async with await iris.connect(node.port) as conn:
        await conn.subscribe("news", lambda event: got.append(event.payload))
        for i in range(20000):
            await conn.publish("news", b"%d" % i)
        await conn.publish("news", b"", confirm=True)
        await until(lambda: len(got) > 4000)
        numbers = [int(payload) for payload in got if payload]
        assert numbers == sorted(set(numbers))


async def test_a_tunnel_carries_messages_of_any_size_and_ends_in_good_order(node: Node) -> None:
    messages = [b"", b"x", b"y" * 65536, b"z" * 3_000_000] + [b"%d" % i for i in range(500)]
    async with await iris.register(node.port, "upper", Upper()), await iris.connect(node.port) as conn:
        async with await conn.tunnel("upper", timeout=5) as tunnel:

            async def send() -> None:
                for message in messages:
                    await tunnel.send(message)
                await tunnel.finish()

            sender = asyncio.create_task(send())
            assert [message async for message in tunnel] == messages
            await sender
        with pytest.raises(iris.NoServiceError):
            await conn.tunnel("nobody", timeout=5)


async def test_close_delivers_what_was_sent(node: Node) -> None:
    totals: list[int] = []

    class Counts(iris.Handler):
        async def handle_tunnel(self, tunnel: iris.Tunnel) -> None:
            totals.append(sum([len(m) async for m in tunnel]))

    async with await iris.register(node.port, "count", Counts()), await iris.connect(node.port) as conn:
        for _ in range(20):
            async with await conn.tunnel("count") as tunnel:
                for _ in range(20):
                    await tunnel.send(b"x" * 5000)
        await until(lambda: len(totals) == 20)
        assert totals == [100_000] * 20


async def test_unregister_drains(node: Node) -> None:
    class Slow(iris.Handler):
        async def handle_request(self, request: iris.Request) -> bytes:
            started.set()
            await asyncio.sleep(0.1)
            return b"done"

    started = asyncio.Event()
    service = await iris.register(node.port, "slow", Slow())
    async with await iris.connect(node.port) as conn:
        call = asyncio.create_task(conn.request("slow", timeout=5))
        await started.wait()
        await service.unregister()
        assert await call == b"done"
        with pytest.raises(iris.NoServiceError):
            await conn.request("slow", timeout=5)


async def test_a_node_that_is_killed_and_comes_back(node: Node) -> None:
    got = []
    handler = Upper()
    service = await iris.register(node.port, "upper", handler)
    conn = await iris.connect(node.port)
    await conn.subscribe("news", lambda event: got.append(event.payload))
    running = asyncio.create_task(conn.request("upper", b"slow"))
    await handler.slow.wait()
    node.stop(kill=True)
    with pytest.raises(iris.LostError):
        await running
    await asyncio.to_thread(node.start)

    async def again() -> bytes:
        while True:
            try:
                return await conn.request("upper", b"again", timeout=10)
            except (iris.NoServiceError, iris.OverloadedError, iris.LostError):  # the service may come back later
                await asyncio.sleep(0.01)

    assert await asyncio.wait_for(again(), 10) == b"AGAIN"
    await conn.publish("news", b"again")
    await until(lambda: got == [b"again"])
    await conn.close()
    await service.unregister()


async def test_a_node_that_leaves_finishes_what_runs(node: Node) -> None:
    class Slow(iris.Handler):
        async def handle_request(self, request: iris.Request) -> bytes:
            started.set()
            await asyncio.sleep(0.2)
            return b"done"

    started = asyncio.Event()
    service = await iris.register(node.port, "slow", Slow(), reconnect=0)
    conn = await iris.connect(node.port, reconnect=0)
    call = asyncio.create_task(conn.request("slow", timeout=5))
    await started.wait()
    await asyncio.to_thread(node.stop)
    assert await call == b"done"
    await conn.close()
    await service.unregister()
