"""The subscriptions of a connection: their handlers, and the credits that they are worth (relay.md 9)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import _wire as wire
from ._codes import Code
from ._session import Session
from ._wire import encode
from ._work import Complaint, Job, Pool
from .errors import IrisError
from .limits import TopicLimits

EVENTS = 2  # the kind of credit, relay.md 5.5


@dataclass(slots=True)
class Event:
    """One event of a topic. ``payload`` may be empty."""

    topic: str
    payload: bytes
    headers: Mapping[str, str]


TopicHandler = Callable[[Event], "Awaitable[None] | None"]


class Subscription:
    """A topic, its handler and its queue; ``on`` is False once no further call may start."""

    def __init__(self, topic: str, handler: TopicHandler, limits: TopicLimits, log: logging.Logger) -> None:
        self.topic = topic
        self.handler = handler
        self.pool = Pool(limits.events, limits.queue, limits.event_bytes)
        self.drops = Complaint(log, logging.WARNING, f"events dropped, the handler is too slow topic={topic!r}")
        self.failures = Complaint(log, logging.ERROR, f"the handler of events failed topic={topic!r}")
        self.effective = False
        self.on = True


class Topics:
    """Subscriptions by topic. They outlive a session; credits do not. Owned by the loop."""

    def __init__(self, log: logging.Logger) -> None:
        self.by_topic: dict[str, Subscription] = {}
        self._log = log
        self._session: Session | None = None
        self._debt = 0  # credits that the node has for subscriptions that are gone

    def attach(self, session: Session) -> None:
        """From now on credits are granted to this session, which has none."""
        self._session = session
        self._debt = 0
        for subscription in self.by_topic.values():
            session.grant(EVENTS, subscription.pool.capacity)

    def add(self, subscription: Subscription) -> None:
        """Has room for one more."""
        self.by_topic[subscription.topic] = subscription
        self._grant(subscription.pool.capacity)

    def remove(self, subscription: Subscription) -> None:
        """No further call of its handler starts. Idempotent."""
        if not subscription.on:
            return
        subscription.on = False
        if self.by_topic.get(subscription.topic) is subscription:
            del self.by_topic[subscription.topic]
        self._debt += subscription.pool.capacity
        subscription.pool.clear()

    async def subscribe_again(self, session: Session) -> None:
        """Subscribes to everything that was effective, on a new session. Returns when all is, or the session has ended."""
        again = [s for s in self.by_topic.values() if s.effective]
        outcomes = await asyncio.gather(
            *(session.ask(wire.SUBSCRIBE, s.topic) for s in again), return_exceptions=True
        )
        for subscription, outcome in zip(again, outcomes, strict=True):
            if isinstance(outcome, IrisError):
                continue  # the session is lost: the next one tries again
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome[0] != Code.OK:
                code = Code.known(outcome[0]).label
                self._log.error("subscription is lost topic=%r code=%s text=%s", subscription.topic, code, outcome[1])
                self.remove(subscription)

    def event(self, session: Session, topic: str, headers: dict[str, str], payload: bytes) -> None:
        """Gives an event to its handler. One that has no subscription has crossed the end of it."""
        subscription = self.by_topic.get(topic)
        if subscription is None:
            self._dealt(session)
            return
        event = Event(topic, payload, headers)

        def finish(result: Any, error: BaseException | None) -> None:
            self._dealt(session)
            if isinstance(error, Exception):
                subscription.failures.add(error)

        if not subscription.pool.offer(Job(lambda: subscription.handler(event), len(payload), finish)):
            subscription.drops.add()
            self._dealt(session)

    def _dealt(self, session: Session) -> None:
        if session is self._session:
            self._grant(1)

    def _grant(self, n: int) -> None:
        paid = min(n, self._debt)
        self._debt -= paid
        if self._session is not None and n > paid:
            self._session.grant(EVENTS, n - paid)


def unsubscribe_frame(session: Session, topic: str) -> bytes:
    """An unsubscribe whose outcome nobody waits for."""
    return encode(wire.UNSUBSCRIBE, session.next_id(), topic)
