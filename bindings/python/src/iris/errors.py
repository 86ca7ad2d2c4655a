"""The errors of this package. All are an :class:`IrisError`; the text says what was attempted.

Only after LostError, TimeoutError and CancelledError a request may have been executed; after NoServiceError,
OverloadedError, ClosingError, TooLargeError and InvalidError it was not (relay.md 5.10).
"""

from __future__ import annotations

import builtins

from ._codes import Code


class IrisError(Exception):
    """The base of all errors of this package."""


class ClosedError(IrisError):
    """This side closed the connection or the tunnel, the other side closed the tunnel, or the node was given up."""


class TimeoutError(IrisError, builtins.TimeoutError):
    """The timeout passed. A request may have been executed."""


class NoServiceError(IrisError):
    """Nobody is registered under the name."""


class OverloadedError(IrisError):
    """No member of the cluster, or not the node, would take it, or a limit of the node's is reached."""


class LostError(IrisError):
    """The node or the member is gone; a request may or may not have been executed."""


class CancelledError(IrisError):
    """The operation was given up elsewhere. Cancelling a task of this program raises asyncio's own error instead."""


class ClosingError(IrisError):
    """The node, or the service, is leaving; it was not executed and may be tried again."""


class InvalidError(IrisError, ValueError):
    """A rule of the protocol is broken, such as an empty name, a second subscription, a header that is no string."""


class TooLargeError(IrisError):
    """A payload, the headers or a name exceed a limit of the node; nothing was sent."""


class ProtocolError(IrisError):
    """The node broke the protocol."""


class NoNodeError(IrisError):
    """Nothing listens at the port, or nothing does any more."""


class GoneError(NoNodeError, ClosedError):
    """The node was lost, looked for in vain, and given up; the connection is closed."""


class EndError(IrisError, EOFError):
    """The other side of the tunnel has finished: there are no more messages."""


class RemoteError(IrisError):
    """The other side's own error. A handler raises it to answer with one; an abort with a reason arrives as one.

    ``message`` is the other side's text, maybe empty; as sent, at most 16,384 bytes of UTF-8 (relay.md 5.6).
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message


class RefusedError(IrisError):
    """The node does not let this program attach: ``code`` is one of relay.md 7.1, ``text`` the node's reason."""

    def __init__(self, code: int, text: str) -> None:
        known = Code.known(code)
        super().__init__(f"the node refused: {known.label}: {text}" if text else f"the node refused: {known.label}")
        self.code = code
        self.name = known.label
        self.text = text

    @property
    def temporary(self) -> bool:
        """Whether trying again later can help, relay.md 2.7."""
        return Code.known(self.code) in (Code.LIMIT, Code.NOT_READY)


_OUTCOMES: dict[Code, type[IrisError]] = {
    Code.TIMEOUT: TimeoutError,
    Code.NO_SERVICE: NoServiceError,
    Code.OVERLOADED: OverloadedError,
    Code.LOST: LostError,
    Code.CANCELLED: CancelledError,
    Code.CLOSING: ClosingError,
    Code.INVALID: InvalidError,
}


def outcome(code: int, text: str, attempt: str) -> IrisError:
    """The error for an outcome's code, which is not 0 (relay.md 7). ``attempt`` is what was attempted."""
    known = Code.known(code)
    if known is Code.FAILED:
        return RemoteError(text)
    kind = _OUTCOMES.get(known, ProtocolError)
    return kind(f"{attempt}: {text or known.label}")
