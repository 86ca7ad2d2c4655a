"""Subscriptions."""

from __future__ import annotations

import asyncio

import pytest
from fakenode import Client
from test_requests import attached

import iris
from iris import _wire as wire


async def subscribed(
    conn: iris.Connection, client: Client, topic: str, handler: object, limits: iris.TopicLimits | None = None
) -> None:
    work = asyncio.create_task(conn.subscribe(topic, handler, limits=limits))  # type: ignore[arg-type]
    id, name = await client.expect(wire.SUBSCRIBE)
    assert name == topic and not work.done()
    client.send(wire.DONE, id, 0, "")
    await work


async def answered(client: Client) -> None:
    """Everything that was sent to the client has been read."""
    client.send(wire.PING, 1)
    await client.expect(wire.PONG)


async def test_events_come_in_order_with_credit_granted_first_and_again() -> None:
    got: list[iris.connection.Event] = []
    async with attached() as (conn, client):
        await subscribed(conn, client, "news", got.append, iris.TopicLimits(events=1, queue=9))
        assert client.credits == [0, 0, 10]
        for i in range(10):
            client.send(wire.EVENT, "news", {"n": str(i)}, bytes([i]))
        await answered(client)
        while client.credits[2] < 20:
            await client.next()
        assert [(e.topic, e.payload, e.headers) for e in got] == [("news", bytes([i]), {"n": str(i)}) for i in range(10)]


async def test_a_second_subscription_is_invalid_and_touches_nothing() -> None:
    async with attached() as (conn, client):
        await subscribed(conn, client, "news", print)
        with pytest.raises(iris.InvalidError):
            await conn.subscribe("news", print)
        await answered(client)


async def test_a_subscribe_that_the_node_declines_is_none() -> None:
    async with attached() as (conn, client):
        work = asyncio.create_task(conn.subscribe("news", print))
        id, _ = await client.expect(wire.SUBSCRIBE)
        client.send(wire.DONE, id, 3, "too many")
        with pytest.raises(iris.OverloadedError):
            await work
        await subscribed(conn, client, "news", print)


async def test_a_subscribe_that_times_out_is_withdrawn() -> None:
    async with attached() as (conn, client):
        with pytest.raises(iris.TimeoutError):
            await conn.subscribe("news", print, timeout=0.02)
        assert (await client.expect(wire.SUBSCRIBE))[1] == "news"
        assert (await client.expect(wire.UNSUBSCRIBE))[1] == "news"
        with pytest.raises(iris.InvalidError):
            await conn.unsubscribe("news")


async def test_unsubscribe_within_the_handler_is_the_last_call() -> None:
    got = []
    async with attached() as (conn, client):

        async def handler(event: object) -> None:
            got.append(event)
            await conn.unsubscribe("news")

        await subscribed(conn, client, "news", handler)
        for _ in range(5):
            client.send(wire.EVENT, "news", {}, b"")
        id, _ = await client.expect(wire.UNSUBSCRIBE)
        client.send(wire.EVENT, "news", {}, b"")
        client.send(wire.DONE, id, 0, "")
        await answered(client)
        assert len(got) == 1


async def test_credits_of_a_subscription_that_is_gone_are_not_granted_again() -> None:
    async with attached() as (conn, client):
        await subscribed(conn, client, "a", print, iris.TopicLimits(events=1, queue=4))
        work = asyncio.create_task(conn.unsubscribe("a"))
        id, _ = await client.expect(wire.UNSUBSCRIBE)
        client.send(wire.DONE, id, 0, "")
        await work
        await subscribed(conn, client, "b", lambda event: None, iris.TopicLimits(events=1, queue=6))
        assert client.credits[2] == 7


async def test_a_slow_handler_takes_nothing_from_other_topics() -> None:
    hold = asyncio.Event()
    slow: list[bytes] = []
    fast: list[bytes] = []

    async def waits(event: iris.connection.Event) -> None:
        slow.append(event.payload)
        await hold.wait()

    async with attached() as (conn, client):
        await subscribed(conn, client, "slow", waits, iris.TopicLimits(events=1, queue=2))
        await subscribed(conn, client, "fast", lambda event: fast.append(event.payload), iris.TopicLimits(events=1, queue=20))
        for i in range(8):
            client.send(wire.EVENT, "slow", {}, bytes([i]))  # three have room
            client.send(wire.EVENT, "fast", {}, bytes([i]))
        await answered(client)
        assert fast == [bytes([i]) for i in range(8)]
        hold.set()
        while client.credits[2] < 24 + 16:
            await client.next()
        assert slow == [b"\0", b"\1", b"\2"]


async def test_a_handler_that_fails_is_logged_and_the_next_event_comes(caplog: pytest.LogCaptureFixture) -> None:
    got = []

    def fails(event: iris.connection.Event) -> None:
        got.append(event.payload)
        raise ValueError("secret payload is not logged")

    async with attached() as (conn, client):
        await subscribed(conn, client, "news", fails)
        client.send(wire.EVENT, "news", {}, b"payload-one")
        client.send(wire.EVENT, "news", {}, b"2")
        await answered(client)
        assert got == [b"payload-one", b"2"]
        assert "payload-one" not in caplog.text and "the handler of events failed topic='news' count=1" in caplog.text


async def test_an_event_of_a_topic_that_is_not_subscribed_is_ignored() -> None:
    async with attached() as (conn, client):
        await subscribed(conn, client, "news", print)
        client.send(wire.EVENT, "other", {}, b"")
        await answered(client)
