"""Many deadlines, few timers: a timer of the loop for each request took a quarter of the time of one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

SLOTS_PER_SECOND = 250


class Deadlines(Generic[T]):
    """Calls ``fire(item)`` when an item's time has come, at most 4 ms late. Owned by the loop."""

    def __init__(self, fire: Callable[[T], None]) -> None:
        self._fire = fire
        self._loop = asyncio.get_running_loop()
        self._slots: dict[int, dict[T, None]] = {}

    def add(self, when: float, item: T) -> dict[T, None]:
        """``when`` is in the loop's time. Returns the slot, from which the caller pops the item when it is done."""
        number = int(when * SLOTS_PER_SECOND) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
            self._loop.call_at(number / SLOTS_PER_SECOND, self._due, number)
        slot[item] = None
        return slot

    def _due(self, number: int) -> None:
        for item in list(self._slots.pop(number)):
            self._fire(item)
