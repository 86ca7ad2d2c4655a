"""Limits: the node's, which its welcome tells, and those that a program sets for what it takes on."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ._codes import Code
from ._wire import TEXT_BYTES, Violation


@dataclass(frozen=True)
class NodeLimits:
    """What the node accepts, relay.md 4.1: bytes of a frame, a payload, headers, a name, a chunk; numbers of the rest."""

    chunk: int = 65536
    frame: int = 1114112
    headers: int = 16384
    name: int = 255
    payload: int = 1048576
    requests: int = 4096
    topics: int = 65536
    tunnels: int = 16384

    @classmethod
    def of(cls, told: dict[str, int]) -> NodeLimits:
        """The limits of a welcome: what is missing or 0 has its default. Raises Violation if they contradict."""
        limits = cls(**{f.name: told[f.name] for f in fields(cls) if told.get(f.name)})
        least = max(limits.payload + limits.headers + max(limits.name, TEXT_BYTES + 64), limits.chunk + 64)
        if limits.frame < least:
            raise Violation(Code.MALFORMED, f"the limit of a frame is {limits.frame}, must be at least {least}")
        return limits


@dataclass(frozen=True)
class ServiceLimits:
    """What a service takes on at once. Requests and tunnels beyond go to other members, or fail as overloaded."""

    requests: int = 1024
    """Handlers of requests at once."""
    queue: int = 1024
    """Requests that may wait for a handler; 0: none."""
    request_bytes: int = 64 << 20
    """Bytes of payloads that running and waiting requests may hold; one alone may exceed it, more are answered with an error."""
    broadcasts: int = 1
    """Handlers of broadcasts at once; with one, those of one sender come in their order."""
    broadcast_queue: int = 1024
    """Broadcasts that may wait; what exceeds it is dropped by the node and counted there."""
    broadcast_bytes: int = 64 << 20
    """Bytes of broadcasts that may wait or be handled; what exceeds it is dropped here, with a warning once a minute."""
    tunnels: int = 16384
    """Tunnels to the service at once."""
    window: int = 256 << 10
    """Bytes that the other side of a tunnel may send ahead; at least four chunks of the node are allowed."""

    def __post_init__(self) -> None:
        if min(self.requests, self.broadcasts) < 1 or min(self.queue, self.broadcast_queue, self.tunnels) < 0:
            raise ValueError("limits: at least one handler at once, and no queue below 0")


@dataclass(frozen=True)
class TopicLimits:
    """What a subscription takes on at once. Publishers never wait: what finds no room is dropped, the newest first."""

    events: int = 1
    """Handlers at once; with one, the events of one publisher come in their order."""
    queue: int = 4096
    """Events that may wait. What exceeds it is dropped by the node, or here, with a warning once a minute."""
    event_bytes: int = 64 << 20
    """Bytes of events that may wait or be handled; one alone may exceed it."""

    def __post_init__(self) -> None:
        if self.events < 1 or self.queue < 0:
            raise ValueError("limits: at least one handler at once, and no queue below 0")
