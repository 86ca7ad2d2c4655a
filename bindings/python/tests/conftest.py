"""Coroutine tests run in a loop of their own, bounded; tests against a real node are deselected without IRIS_BINARY."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import socket
import subprocess
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

TEST_SECONDS = 30


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    work = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    asyncio.run(_quietly(work))
    return True


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    """Runs a test, bounded; an exception that nobody looked at, in a callback or a forgotten future, fails it."""
    broken: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: broken.append(context))
    await asyncio.wait_for(work, TEST_SECONDS)
    gc.collect()
    await asyncio.sleep(0)
    assert broken == []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("IRIS_BINARY"):
        return
    needy = [item for item in items if item.get_closest_marker("node")]
    items[:] = [item for item in items if item not in needy]
    config.hook.pytest_deselected(items=needy)


@pytest.fixture(autouse=True)
def runtime_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test meets the sockets of the machine's own nodes."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("IRIS_RUNTIME_DIR", str(folder))
    return folder


class Node:
    """A real node, ``iris -dev``."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [os.environ["IRIS_BINARY"], "-dev", "-port", str(self.port)]
        with open(self._folder / "node.log", "ab") as log:
            self._process = subprocess.Popen(command, stderr=log)
        end = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < end and self._process.poll() is None, "the node does not start"
            time.sleep(0.02)

    def stop(self, kill: bool = False) -> None:
        if self._process:
            self._process.kill() if kill else self._process.terminate()
            self._process.wait(20)
            self._process = None

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


@pytest.fixture
def node(tmp_path: Path, runtime_dir: Path) -> Iterator[Node]:
    """A real node that this test alone has."""
    node = Node(tmp_path)
    node.start()
    yield node
    node.stop()
