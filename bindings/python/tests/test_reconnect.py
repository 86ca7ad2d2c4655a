"""A node that goes and comes back, and one that says that it is leaving."""

from __future__ import annotations

import asyncio

import pytest
from fakenode import FakeNode
from test_topics import answered, subscribed

import iris
from iris import _wire as wire


async def test_it_attaches_again_and_subscribes_once_before_anything_else() -> None:
    got = []
    async with FakeNode() as node:
        conn = await iris.connect(node.port)
        client = await node.attached()
        await subscribed(conn, client, "a", lambda event: got.append(event.payload))
        await subscribed(conn, client, "b", print)
        client.close()
        again = await node.attached()
        call = asyncio.create_task(conn.request("c", timeout=5))
        first, second = await again.expect(wire.SUBSCRIBE), await again.expect(wire.SUBSCRIBE)
        assert {first[1], second[1]} == {"a", "b"}
        assert again.credits[2] == 2 * (4096 + 1)  # granted before, relay.md 5.5
        await answered(again)  # the request is not there yet
        again.send(wire.DONE, first[0], 0, "")
        again.send(wire.DONE, second[0], 0, "")
        id, *_ = await again.expect(wire.REQUEST)
        again.send(wire.EVENT, "a", {}, b"news")
        again.send(wire.REPLY, id, 0, "", {}, b"")
        await call
        assert got == [b"news"]
        await conn.close()


async def test_a_service_registers_again_under_its_name() -> None:
    async with FakeNode() as node:
        service = await iris.register(node.port, "upper", iris.Handler())
        (await node.attached()).close()
        again = await node.attached()
        assert again.hello[3] == "upper"
        assert await again.expect(wire.CREDIT) == [0, 2048]
        await service.abort()


async def test_a_node_that_is_not_ready_is_asked_again() -> None:
    async with FakeNode() as node:
        conn = await iris.connect(node.port)
        client = await node.attached()
        node.refusal = (20, "starting")
        client.close()
        await node.attached()
        node.refusal = None
        again = await node.attached()
        call = asyncio.create_task(conn.request("c", timeout=5))
        while (frame := await again.next()) is None:
            again = await node.attached()
        assert frame[0] == wire.REQUEST
        again.send(wire.REPLY, frame[1], 0, "", {}, b"")
        await call
        await conn.close()


async def test_a_node_that_is_not_found_again_is_given_up_once() -> None:
    reasons: list[iris.IrisError] = []
    async with FakeNode() as node:
        conn = await iris.connect(node.port, reconnect=0.2, on_drop=reasons.append)
        client = await node.attached()
        await node.stop()
        client.close()
        with pytest.raises(iris.GoneError):  # it waits, and is told when it is given up
            while True:
                try:
                    await conn.request("c", timeout=5)
                except iris.LostError:
                    continue
        with pytest.raises(iris.ClosedError):
            await conn.publish("t", b"")
        await conn.close()
        assert [type(r) for r in reasons] == [iris.NoNodeError]


async def test_what_waits_for_a_node_keeps_its_timeout() -> None:
    async with FakeNode() as node:
        conn = await iris.connect(node.port)
        client = await node.attached()
        await node.stop()
        client.close()
        while conn._session is None or conn._session.usable:
            await asyncio.sleep(0)
        with pytest.raises(iris.TimeoutError):
            await conn.request("c", timeout=0.02)
        await conn.close()


async def test_close_while_the_node_is_looked_for_is_prompt() -> None:
    async with FakeNode() as node:
        conn = await iris.connect(node.port)
        client = await node.attached()
        await node.stop()
        client.close()
        while conn._session is None or conn._session.usable:
            await asyncio.sleep(0)
        waits = asyncio.create_task(conn.request("c"))
        await asyncio.sleep(0)
        await asyncio.wait_for(conn.close(), 1)
        with pytest.raises(iris.ClosedError):
            await waits


async def test_a_leaving_node_gets_nothing_new_and_what_runs_is_finished() -> None:
    async with FakeNode() as node:
        conn = await iris.connect(node.port)
        client = await node.attached()
        old = asyncio.create_task(conn.request("c", b"old"))
        id, *_ = await client.expect(wire.REQUEST)
        client.send(wire.LEAVING)
        await answered(client)
        new = asyncio.create_task(conn.request("c", b"new"))
        await answered(client)
        client.send(wire.REPLY, id, 0, "", {}, b"done")
        assert await old == b"done"
        assert await client.expect(wire.BYE) == [0, ""]
        client.close()
        again = await node.attached()
        id, _, _, _, payload = await again.expect(wire.REQUEST)
        assert payload == b"new"
        again.send(wire.REPLY, id, 0, "", {}, b"")
        await new
        await conn.close()
