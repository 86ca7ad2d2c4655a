"""Where the node of this host listens (relay.md 1)."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from typing import TypeVar

from .errors import NoNodeError

_P = TypeVar("_P", bound=asyncio.BaseProtocol)


def socket_paths(port: int) -> list[str]:
    """The Unix sockets that a client tries for ``port``, in their order; only those in folders to trust (1.3, 1.4)."""
    if not hasattr(socket, "AF_UNIX") or not hasattr(os, "getuid"):
        return []
    folders = [os.environ["IRIS_RUNTIME_DIR"]] if os.environ.get("IRIS_RUNTIME_DIR") else [_own_folder(), "/run/iris"]
    return [os.path.join(folder, f"{port}.sock") for folder in dict.fromkeys(folders) if _trusted(folder)]


async def dial(port: int, make: Callable[[], _P]) -> _P:
    """Connects the protocol that ``make`` makes to the node at ``port``. Raises NoNodeError when nothing listens."""
    loop = asyncio.get_running_loop()
    for path in socket_paths(port):
        try:
            _, protocol = await loop.create_unix_connection(make, path)
            return protocol
        except OSError:
            continue
    for host in ("127.0.0.1", "::1"):  # relay.md 1.2
        try:
            transport, protocol = await loop.create_connection(make, host, port)
        except OSError:
            continue
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return protocol
    raise NoNodeError(f"no iris node at port {port}")


def _own_folder() -> str:
    if os.getuid() == 0:
        return "/run/iris"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return os.path.join(runtime, "iris")
    return os.path.join(os.environ.get("TMPDIR") or "/tmp", f"iris-{os.getuid()}")


def _trusted(folder: str) -> bool:
    try:
        info = os.lstat(folder)
    except (OSError, ValueError):
        return False
    mode = info.st_mode
    return stat.S_ISDIR(mode) and info.st_uid in (os.getuid(), 0) and not mode & (stat.S_IWGRP | stat.S_IWOTH)
