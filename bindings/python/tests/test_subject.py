"""The subject plays a script of commands through a real node."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest
from conftest import Node

pytestmark = pytest.mark.node
SUBJECT = Path(__file__).parents[1] / "conformance" / "subject.py"


class Play:
    """Gives commands and reads answers and notices, in any order."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, str(SUBJECT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._id = 0
        self._heard: list[dict[str, Any]] = []

    def tell(self, op: str, **fields: Any) -> int:
        self._id += 1
        if "payload" in fields:
            fields["payload"] = b64encode(fields["payload"]).decode()
        self.line(json.dumps({"id": self._id, "op": op, **fields}))
        return self._id

    def line(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def hear(self, **wanted: Any) -> dict[str, Any]:
        assert self.process.stdout
        while True:
            for message in self._heard:
                if wanted.items() <= message.items():
                    self._heard.remove(message)
                    return message
            line = self.process.stdout.readline()
            assert line, "the subject has ended"
            self._heard.append(json.loads(line))

    def ok(self, op: str, **fields: Any) -> Any:
        answer = self.hear(id=self.tell(op, **fields))
        assert "ok" in answer, answer
        return answer["ok"]

    def fails(self, error: str, op: str, **fields: Any) -> str:
        answer = self.hear(id=self.tell(op, **fields))
        assert answer.get("error") == error, answer
        return str(answer["text"])


def test_a_script_of_everything(node: Node) -> None:
    play = Play()
    assert play.ok("info")["protocol"] == [1]
    play.fails("unsupported", "fly")
    play.line("no command")
    play.hear(id=0, error="bad-command")
    play.ok("connect", conn="a", port=node.port)
    play.ok("register", conn="s", port=node.port, cluster="upper", limits={"requests": 4, "queue": 2, "tunnels": 3})
    request = play.tell("request", conn="a", cluster="upper", payload=b"hi", headers={"x": "1"}, timeout_ms=5000)
    notice = play.hear(notice="request", conn="s")
    assert b64decode(notice["payload"]) == b"hi" and notice["headers"] == {"x": "1"} and notice["budget_ms"] > 4000
    play.ok("reply", request=notice["request"], payload=b"HI", headers={"y": "2"})
    assert play.hear(id=request)["ok"] == {"payload": b64encode(b"HI").decode(), "headers": {"y": "2"}}
    request = play.tell("request", conn="a", cluster="upper", payload=b"")
    notice = play.hear(notice="request")
    assert "budget_ms" not in notice
    play.ok("reply", request=notice["request"], error="no one")
    assert play.hear(id=request) == {"id": request, "error": "failed", "text": "no one"}
    request = play.tell("request", conn="a", cluster="upper", payload=b"")
    notice = play.hear(notice="request")
    play.ok("cancel", command=request)
    assert play.hear(id=request)["error"] == "cancelled"
    play.hear(notice="cancelled", request=notice["request"])
    play.fails("no-service", "request", conn="a", cluster="nobody", payload=b"", timeout_ms=5000)
    play.fails("timeout", "request", conn="a", cluster="upper", payload=b"", timeout_ms=30)
    play.fails("too-large", "publish", conn="a", topic="t", payload=b"x" * (2 << 20))
    play.ok("broadcast", conn="a", cluster="upper", payload=b"all", headers={"z": "3"})
    assert play.hear(notice="broadcast", conn="s")["headers"] == {"z": "3"}
    play.ok("subscribe", conn="a", topic="t")
    play.fails("invalid", "subscribe", conn="a", topic="t")
    play.ok("publish", conn="s", topic="t", payload=b"event")
    assert b64decode(play.hear(notice="event", conn="a", topic="t")["payload"]) == b"event"
    play.ok("unsubscribe", conn="a", topic="t")
    accept = play.tell("tunnel-accept", conn="s", tunnel="there", timeout_ms=5000)
    play.ok("tunnel-open", conn="a", tunnel="here", cluster="upper", headers={"t": "4"}, timeout_ms=5000)
    assert play.hear(id=accept)["ok"] == {"headers": {"t": "4"}}
    for i in range(3):
        play.ok("tunnel-send", tunnel="here", payload=b"%d" % i * 70000)
    play.ok("tunnel-close", tunnel="here", how="finish")
    for i in range(3):
        assert b64decode(play.ok("tunnel-recv", tunnel="there")["payload"]) == b"%d" % i * 70000
    play.fails("end", "tunnel-recv", tunnel="there")
    play.ok("tunnel-close", tunnel="there", how="close")
    play.tell("tunnel-accept", conn="s", tunnel="there")
    play.ok("tunnel-open", conn="a", tunnel="here", cluster="upper")
    play.ok("tunnel-close", tunnel="here", how="abort", reason="enough")
    assert play.fails("failed", "tunnel-recv", tunnel="there") == "enough"
    play.ok("drain", conn="s")
    play.fails("closed", "publish", conn="s", topic="t", payload=b"")
    play.ok("close", conn="a")
    play.fails("closed", "request", conn="a", cluster="upper", payload=b"")
    assert play.process.stdin and play.process.stdout
    play.process.stdin.close()
    assert play.process.wait(3) == 0
    play.process.stdout.close()
