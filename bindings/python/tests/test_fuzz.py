"""Damaged and misplaced frames never do anything but end the connection with a bye."""

from __future__ import annotations

import asyncio
import random

import pytest
from fakenode import FakeNode
from test_tunnel import Serves
from test_vectors import load

import iris
from iris import _wire as wire
from iris._codes import Code

FRAMES = [bytes.fromhex(v["hex"]) for v in load("frames.json") if v["from"] != "client"]
ALLOWED = {Code.MALFORMED, Code.TOO_LARGE, Code.UNEXPECTED}


@pytest.mark.parametrize("seed", range(150))
async def test_a_stream_of_damaged_frames(seed: int) -> None:
    dice = random.Random(seed)
    async with FakeNode() as node:
        service = await iris.register(node.port, "c", Serves(), reconnect=0)
        client = await node.attached()
        call = asyncio.create_task(service.connection.request("c"))
        tunnel = asyncio.create_task(service.connection.tunnel("c"))
        for _ in range(30):
            frame = bytearray(dice.choice(FRAMES))
            if dice.random() < 0.3:
                frame[dice.randrange(len(frame))] = dice.randrange(256)
            client.send_raw(bytes(frame))
        client.send(wire.BYE, 0, "")
        byes = [frame for frame in await client.end() if frame[0] == wire.BYE]
        assert [b for b in byes if b[1] not in ALLOWED] == [] and len(byes) <= 1
        results = await asyncio.gather(call, tunnel, return_exceptions=True)
        assert all(isinstance(r, (iris.IrisError, bytes, iris.Tunnel)) for r in results), results
        await service.abort()
