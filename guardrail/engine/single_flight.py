"""Identical checks that run at the same time share one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["SingleFlight"]

T = TypeVar("T")


class _Flight(Generic[T]):
    __slots__ = ("done", "landed", "result")

    def __init__(self) -> None:
        self.done = asyncio.Event()  # anyio's costs four times as much, and nobody may ever wait for it
        self.landed = False
        self.result: T | None = None


class SingleFlight(Generic[T]):
    """Runs ``call`` once per key at a time.

    When the caller that leads is cancelled or fails, the others are not: one of them leads anew. Each
    event loop has flights of its own, because a loop cannot wait for another's.
    """

    def __init__(self) -> None:
        self._flights: dict[tuple[asyncio.AbstractEventLoop, str], _Flight[T]] = {}

    async def run(self, key: str, call: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """The result, and whether it was another caller's."""
        place = (asyncio.get_running_loop(), key)
        while (flight := self._flights.get(place)) is not None:
            await flight.done.wait()
            if flight.landed:
                return flight.result, True  # type: ignore[return-value]  # landed: it is a T
        flight = self._flights[place] = _Flight()
        try:
            flight.result = await call()
            flight.landed = True
            return flight.result, False
        finally:
            del self._flights[place]
            flight.done.set()
