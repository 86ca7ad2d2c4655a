"""Measures the binding through a running node: ``python bench.py PORT [SECONDS]``. Prints one JSON object."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping

import iris


class Echo(iris.Handler):
    async def handle_request(self, request: iris.Request) -> bytes:
        return request.payload

    async def handle_tunnel(self, tunnel: iris.Tunnel) -> None:
        async for _ in tunnel:
            pass


async def requests(conn: iris.Connection, at_once: int, seconds: float) -> float:
    """Requests per second of 64 bytes with so many in flight."""
    end = time.perf_counter() + seconds
    count = 0

    async def ask() -> None:
        nonlocal count
        payload = b"x" * 64
        while time.perf_counter() < end:
            await conn.request("bench", payload, timeout=10)
            count += 1

    begin = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(at_once)))
    return count / (time.perf_counter() - begin)


async def events(conn: iris.Connection, other: iris.Connection, seconds: float) -> Mapping[str, float]:
    """Events of 128 bytes per second: published and received."""
    got = sent = 0

    def count(event: iris.Event) -> None:
        nonlocal got
        got += 1

    await conn.subscribe("bench", count, limits=iris.TopicLimits(queue=65536))
    begin = time.perf_counter()
    while time.perf_counter() < begin + seconds:
        for _ in range(64):
            await other.publish("bench", b"x" * 128)
        sent += 64
        while sent - got > 16384:
            await asyncio.sleep(0)
    while got < sent and time.perf_counter() < begin + seconds + 2:
        await asyncio.sleep(0)
    return {"published": sent, "lost": sent - got, "per_second": got / (time.perf_counter() - begin)}


async def tunnel(conn: iris.Connection, seconds: float) -> float:
    """MB per second of 64 KiB messages one way."""
    begin = time.perf_counter()
    sent = 0
    async with await conn.tunnel("bench") as stream:
        while time.perf_counter() < begin + seconds:
            await stream.send(b"x" * 65536)
            sent += 65536
    return sent / 1e6 / (time.perf_counter() - begin)


async def main(port: int, seconds: float) -> None:
    async with await iris.register(port, "bench", Echo()), await iris.connect(port) as conn:
        result = {
            "requests_per_second_64": await requests(conn, 64, seconds),
            "requests_per_second_1": await requests(conn, 1, seconds),
            "events": await events(conn, await iris.connect(port), seconds),
            "tunnel_mb_per_second": await tunnel(conn, seconds),
        }
    print(json.dumps(result, indent=1, default=str))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 2.0))
