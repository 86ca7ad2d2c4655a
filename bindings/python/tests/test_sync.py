"""The synchronous face, from several threads, through a real node."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import Node

import iris
import iris.sync

pytestmark = pytest.mark.node


class Upper(iris.sync.Handler):
    def init(self, conn: iris.sync.Connection) -> None:
        self.conn = conn
        self.messages: list[bytes] = []
        self.service: iris.sync.Service | None = None

    def handle_request(self, request: iris.sync.Request) -> bytes:
        if request.payload == b"nested":
            return self.conn.request("upper", b"inner", timeout=10)
        if request.payload == b"leave":
            assert self.service
            self.service.unregister()  # returns at once: this handler is one of those to wait for
            return b"left"
        time.sleep(0.001)
        return request.payload.upper()

    def handle_broadcast(self, message: iris.sync.Message) -> None:
        self.messages.append(message.payload)

    def handle_tunnel(self, tunnel: iris.sync.Tunnel) -> None:
        for message in tunnel:
            tunnel.send(message)


def test_all_patterns(node: Node) -> None:
    handler = Upper()
    with iris.sync.register(node.port, "upper", handler), iris.sync.connect(node.port) as conn:
        assert conn.request("upper", b"hello", timeout=5) == b"HELLO"
        with ThreadPoolExecutor(16) as threads:
            assert list(threads.map(lambda i: conn.request("upper", b"%d" % i), range(200))) == [
                b"%d" % i for i in range(200)
            ]
            assert list(threads.map(lambda _: conn.request("upper", b"nested"), range(16))) == [b"INNER"] * 16
        conn.broadcast("upper", b"all", confirm=True)
        got: list[bytes] = []
        arrived = threading.Event()

        def handle(event: iris.sync.Event) -> None:
            got.append(event.payload)
            arrived.set()

        conn.subscribe("news", handle)
        conn.publish("news", b"hi")
        assert arrived.wait(5) and got == [b"hi"]
        conn.unsubscribe("news")
        with conn.tunnel("upper") as tunnel:
            tunnel.send(b"x" * 200_000)
            tunnel.finish()
            assert list(tunnel) == [b"x" * 200_000]
        with pytest.raises(iris.TimeoutError):
            conn.request("upper", b"x", timeout=0)
    assert handler.messages == [b"all"]
    with pytest.raises(iris.ClosedError):
        conn.request("upper")


def test_a_handler_may_unregister(node: Node) -> None:
    handler = Upper()
    handler.service = service = None
    service = iris.sync.register(node.port, "upper", handler)
    handler.service = service
    with iris.sync.connect(node.port) as conn:
        assert conn.request("upper", b"leave", timeout=5) == b"left"
    service.unregister()
