"""The subject of the Python binding: each command is one call. See conformance/docs/subject.md of the repository."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import sys
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
import iris  # noqa: E402

INFO = {
    "name": "iris-python", "version": iris.__version__, "language": "Python", "protocol": [1],
    "features": ["request", "service", "broadcast", "topic", "tunnel", "headers", "message-headers", "tunnel-headers",
                 "reconnect", "drain", "limits", "cancel"],
}  # fmt: skip
ERRORS: list[tuple[type[BaseException], str]] = [
    (iris.TimeoutError, "timeout"), (asyncio.TimeoutError, "timeout"), (iris.NoServiceError, "no-service"),
    (iris.OverloadedError, "overloaded"), (iris.LostError, "lost"), (iris.RemoteError, "failed"), (iris.CancelledError, "cancelled"),
    (asyncio.CancelledError, "cancelled"), (iris.ClosingError, "closing"), (iris.InvalidError, "invalid"),
    (iris.NoNodeError, "no-node"), (iris.ClosedError, "closed"), (iris.TooLargeError, "too-large"),
    (iris.ProtocolError, "protocol"), (iris.EndError, "end"), (NotImplementedError, "unsupported"),
]  # fmt: skip
Fields = dict[str, Any]

def say(message: Fields) -> None:
    print(json.dumps(message), flush=True)

def content(payload: bytes, headers: Mapping[str, str]) -> Fields:
    return {"payload": b64encode(payload).decode(), "headers": dict(headers)}

class Handler(iris.Handler):
    names = itertools.count(1)

    def __init__(self, subject: Subject, conn: str) -> None:
        self.subject, self.conn, self.tunnels = subject, conn, asyncio.Queue[iris.Tunnel]()

    async def handle_request(self, request: iris.Request) -> iris.Reply:
        name, loop = f"request-{next(self.names)}", asyncio.get_running_loop()
        reply: asyncio.Future[iris.Reply] = loop.create_future()
        self.subject.replies[name] = reply
        budget = {} if request.deadline is None else {"budget_ms": max(0, round(1000 * (request.deadline - loop.time())))}
        say({"notice": "request", "conn": self.conn, "request": name, **content(request.payload, request.headers), **budget})
        try:
            return await reply
        except asyncio.CancelledError:
            say({"notice": "cancelled", "request": name})
            raise

    def handle_broadcast(self, message: iris.Message) -> None:
        say({"notice": "broadcast", "conn": self.conn, **content(message.payload, message.headers)})

    async def handle_tunnel(self, tunnel: iris.Tunnel) -> None:
        self.tunnels.put_nowait(tunnel)
        await tunnel.wait_ended()

    def handle_drop(self, reason: iris.IrisError) -> None:
        say({"notice": "dropped", "conn": self.conn, "text": str(reason)})

class Subject:
    def __init__(self) -> None:
        self.replies: dict[str, asyncio.Future[iris.Reply]] = {}
        self.conns: dict[str, iris.Connection] = {}
        self.services: dict[str, tuple[iris.Service, Handler]] = {}
        self.tunnels: dict[str, iris.Tunnel] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}

    async def command(self, id: int, c: Fields) -> None:
        try:
            say({"id": id, "ok": await self.do(c) or {}})
        except (Exception, asyncio.CancelledError) as err:
            refused = err.name if isinstance(err, iris.RefusedError) else "other"
            name = next((name for kind, name in ERRORS if isinstance(err, kind)), refused)
            say({"id": id, "error": name, "text": err.message if isinstance(err, iris.RemoteError) else str(err)})

    async def do(self, c: Fields) -> Fields | None:
        op, name = c["op"], c.get("conn", "")
        attach = {"reconnect": c["reconnect_ms"] / 1000} if "reconnect_ms" in c else {}
        timeout = c["timeout_ms"] / 1000 if "timeout_ms" in c else None
        payload, headers = b64decode(c.get("payload", "")), c.get("headers")
        if op == "info":
            return INFO
        elif op == "connect":
            self.conns[name] = await iris.connect(c["port"], on_drop=Handler(self, name).handle_drop, **attach)
        elif op == "register":
            handler = Handler(self, name)
            service = await iris.register(
                c["port"], c["cluster"], handler, limits=iris.ServiceLimits(**c.get("limits", {})), **attach)  # fmt: skip
            self.services[name], self.conns[name] = (service, handler), service.connection
        elif op == "request":
            answer = await self.conns[name].call(c["cluster"], payload, headers=headers, timeout=timeout)
            return content(answer.payload, answer.headers)
        elif op == "cancel":
            self.tasks[c["command"]].cancel()
        elif op == "reply" and not (reply := self.replies.pop(c["request"])).done():  # or it was cancelled meanwhile
            error = iris.RemoteError(c["error"]) if "error" in c else None
            reply.set_exception(error) if error else reply.set_result(iris.Reply(payload, headers or {}))
        elif op in ("broadcast", "publish"):
            await getattr(self.conns[name], op)(c.get("cluster") or c.get("topic"), payload, headers=headers)
        elif op == "subscribe":
            await self.conns[name].subscribe(c["topic"], lambda event: say(
                {"notice": "event", "conn": name, "topic": event.topic, **content(event.payload, event.headers)}))  # fmt: skip
        elif op == "unsubscribe":
            await self.conns[name].unsubscribe(c["topic"])
        elif op == "tunnel-open":
            self.tunnels[c["tunnel"]] = await self.conns[name].tunnel(c["cluster"], headers=headers, timeout=timeout)
            return {"headers": dict(self.tunnels[c["tunnel"]].headers)}
        elif op == "tunnel-accept":
            self.tunnels[c["tunnel"]] = await asyncio.wait_for(self.services[name][1].tunnels.get(), timeout)
            return {"headers": dict(self.tunnels[c["tunnel"]].headers)}
        elif op == "tunnel-send":
            await self.tunnels[c["tunnel"]].send(payload, timeout=timeout)
        elif op == "tunnel-recv":
            return {"payload": b64encode(await self.tunnels[c["tunnel"]].recv(timeout=timeout)).decode()}
        elif op == "tunnel-close" and c["how"] == "abort":
            self.tunnels[c["tunnel"]].abort(c.get("reason", ""))
        elif op == "tunnel-close":
            await (self.tunnels[c["tunnel"]].finish() if c["how"] == "finish" else self.tunnels[c["tunnel"]].close())
        elif op == "drain":
            await self.services[name][0].unregister()
        elif op == "close":
            await (self.services[name][0].abort() if name in self.services else self.conns[name].close())
        elif op != "reply":
            raise NotImplementedError(op)
        return None

    async def run(self) -> None:
        reader = asyncio.StreamReader(limit=1 << 28)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            c: Any = None
            try:
                c = json.loads(line)
                id = int(c["id"]) if c["op"].strip() else 0
            except (ValueError, KeyError, TypeError, AttributeError) as err:
                say({"id": c.get("id", 0) if isinstance(c, dict) else 0, "error": "bad-command", "text": str(err)})
                continue
            self.tasks[id] = asyncio.create_task(self.command(id, c))
        ends = [s.abort() for s, _ in self.services.values()] + [c.close() for c in self.conns.values()]
        await asyncio.wait_for(asyncio.gather(*ends, return_exceptions=True), 2)


logging.basicConfig(stream=sys.stderr, level=logging.INFO)
asyncio.run(Subject().run())
