"""The Python binding of the Iris messaging framework, for asyncio; :mod:`iris.sync` has the same without.

A program attaches to the iris node on its own host. A client only asks::

    async with await iris.connect(55555) as conn:
        reply = await conn.request("upper", b"hello", timeout=1.0)

A service also answers: it joins a cluster under a name, and every request to that name goes to one of its members::

    class Upper(iris.Handler):
        async def handle_request(self, request):
            return request.payload.upper()

    async with await iris.register(55555, "upper", Upper()):
        await asyncio.Event().wait()

``request`` asks one member of a cluster, ``broadcast`` tells all of them, ``tunnel`` opens an ordered stream of messages to
one, ``publish`` reaches whoever has subscribed to a topic. Logs to the logger ``iris``, never a payload.
"""

from .connection import Connection, Event, Reply, connect
from .errors import (
    CancelledError,
    ClosedError,
    ClosingError,
    EndError,
    GoneError,
    InvalidError,
    IrisError,
    LostError,
    NoNodeError,
    NoServiceError,
    OverloadedError,
    ProtocolError,
    RefusedError,
    RemoteError,
    TimeoutError,
    TooLargeError,
)
from .limits import NodeLimits, ServiceLimits, TopicLimits
from .service import Handler, Message, Request, Service, register
from .tunnel import Tunnel

__version__ = "0.1.0"

__all__ = [
    "CancelledError",
    "ClosedError",
    "ClosingError",
    "Connection",
    "EndError",
    "Event",
    "Event",
    "GoneError",
    "Handler",
    "InvalidError",
    "IrisError",
    "LostError",
    "Message",
    "NoNodeError",
    "NoServiceError",
    "NodeLimits",
    "OverloadedError",
    "ProtocolError",
    "RefusedError",
    "RemoteError",
    "Reply",
    "Request",
    "Service",
    "ServiceLimits",
    "TimeoutError",
    "TooLargeError",
    "TopicLimits",
    "Tunnel",
    "connect",
    "register",
]
