"""The codes of relay.md 7.1, and their names."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """A code of relay.md 7.1: 0 to 15 outcomes, 16 to 31 refusals, from 32 on reasons of a bye."""

    OK = 0
    TIMEOUT = 1
    NO_SERVICE = 2
    OVERLOADED = 3
    LOST = 4
    FAILED = 5
    CANCELLED = 6
    CLOSING = 7
    INVALID = 8
    VERSION = 16
    FEATURE = 17
    NAME = 18
    LIMIT = 19
    NOT_READY = 20
    MALFORMED = 32
    TOO_LARGE = 33
    UNEXPECTED = 34
    HANDSHAKE_TIMEOUT = 35
    UNRESPONSIVE = 36

    @classmethod
    def known(cls, code: int) -> Code:
        """The listed code that ``code`` counts as, relay.md 7.2."""
        try:
            return cls(code)
        except ValueError:
            if code <= 15:
                return cls.LOST
            return cls.NOT_READY if code <= 31 else cls.MALFORMED

    @property
    def label(self) -> str:
        """The name as relay.md writes it, such as ``no-service``."""
        return self.name.lower().replace("_", "-")
