"""What users of the first Iris met, through a real node."""

from __future__ import annotations

import asyncio
import random

import pytest
from conftest import Node

import iris

pytestmark = pytest.mark.node


class Odd(iris.Handler):
    def __init__(self) -> None:
        self.tunnels: asyncio.Queue[iris.Tunnel] = asyncio.Queue()
        self.asked = asyncio.Event()

    async def handle_request(self, request: iris.Request) -> bytes:
        if request.payload == b"error":
            raise iris.RemoteError("")
        if request.payload == b"hang":
            self.asked.set()
            await asyncio.sleep(20)
        return b""

    async def handle_tunnel(self, tunnel: iris.Tunnel) -> None:
        self.tunnels.put_nowait(tunnel)
        await tunnel.wait_ended()


async def test_an_empty_reply_is_a_reply_and_an_empty_error_an_error(node: Node) -> None:
    async with await iris.register(node.port, "odd", Odd()), await iris.connect(node.port) as conn:
        assert await conn.request("odd", timeout=5) == b""
        with pytest.raises(iris.RemoteError) as caught:
            await conn.request("odd", b"error", timeout=5)
        assert caught.value.message == ""


async def test_a_service_that_dies_is_told_at_once(node: Node) -> None:
    handler = Odd()
    service = await iris.register(node.port, "odd", handler)
    async with await iris.connect(node.port) as conn:
        call = asyncio.create_task(conn.request("odd", b"hang", timeout=20))
        await handler.asked.wait()
        await service.abort()
        with pytest.raises(iris.LostError):
            await asyncio.wait_for(call, 2)


async def test_a_send_fails_after_the_news_of_the_close(node: Node) -> None:
    handler = Odd()
    async with await iris.register(node.port, "odd", handler), await iris.connect(node.port) as conn:
        tunnel = await conn.tunnel("odd")
        (await handler.tunnels.get()).abort("enough")
        with pytest.raises(iris.RemoteError, match="^enough$"):
            await tunnel.recv()
        with pytest.raises(iris.RemoteError):
            await tunnel.send(b"x")


async def test_subscribe_and_unsubscribe_in_a_loop_keep_the_connection(node: Node) -> None:
    async with await iris.connect(node.port) as conn:
        for _ in range(100):
            await conn.subscribe("t", print)
            await conn.unsubscribe("t")
            with pytest.raises(iris.InvalidError):
                await conn.unsubscribe("t")
        with pytest.raises(iris.NoServiceError):
            await conn.request("nobody", timeout=5)


async def test_many_tunnels_with_random_messages_both_ways(node: Node) -> None:
    dice = random.Random(7)
    handler = Odd()
    async with await iris.register(node.port, "odd", handler), await iris.connect(node.port) as conn:

        async def talk(tunnel: iris.Tunnel, messages: list[bytes]) -> None:
            for message in messages:
                await tunnel.send(message)
            await tunnel.finish()

        async def listen(tunnel: iris.Tunnel, messages: list[bytes]) -> None:
            assert [m async for m in tunnel] == messages

        async def pair() -> None:
            here = await conn.tunnel("odd", timeout=10)
            there = await handler.tunnels.get()
            ways = [[dice.randbytes(dice.choice((0, 1, 100, 65536, 65537, 300_000))) for _ in range(10)] for _ in range(2)]
            for ping in range(2):  # the tunnels cross in the queue: any two that belong together know each other by this
                await (here, there)[ping].send(b"hello")
                assert await (there, here)[ping].recv() == b"hello"
            await asyncio.gather(
                talk(here, ways[0]), talk(there, ways[1]), listen(here, ways[1]), listen(there, ways[0])
            )

        for _ in range(5):
            await pair()
        one = asyncio.Lock()

        async def crowd() -> None:
            async with one:
                here = await conn.tunnel("odd", timeout=10)
                there = await handler.tunnels.get()
            messages = [dice.randbytes(dice.choice((0, 1, 5000, 70_000))) for _ in range(20)]
            await asyncio.gather(talk(here, messages), listen(there, messages), talk(there, []), listen(here, []))

        await asyncio.gather(*(crowd() for _ in range(50)))


async def test_a_stalled_tunnel_delays_nothing_else(node: Node) -> None:
    handler = Odd()
    async with await iris.register(node.port, "odd", handler), await iris.connect(node.port) as conn:
        stalled = await conn.tunnel("odd")
        flood = asyncio.create_task(stalled.send(b"x" * 5_000_000))
        await handler.tunnels.get()
        for _ in range(100):
            assert await conn.request("odd", timeout=5) == b""
        other = await conn.tunnel("odd")
        there = await handler.tunnels.get()
        await other.send(b"y")
        assert await there.recv() == b"y"
        assert not flood.done()
        stalled.abort()
        with pytest.raises(iris.ClosedError):
            await flood
        other.abort()
