"""Speaks up on a stream that is held: clients and proxies give up on a connection that is silent.

WHATWG's server-sent events advise a comment every 15 seconds or so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["KeepAlive"]


class KeepAlive:
    """Runs ``speak`` whenever nothing was written for ``every_s`` seconds and text is held.

    Begins at once, within a running event loop; ``stop`` ends it, and what it says.
    """

    __slots__ = ("_every_s", "_is_held", "_speak", "_speaking", "_timer", "_wrote")

    def __init__(
        self, every_s: float, is_held: Callable[[], bool], speak: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        self._every_s = every_s
        self._is_held = is_held
        self._speak = speak
        self._wrote = time.monotonic()
        self._speaking: asyncio.Task[None] | None = None
        self._look_again(every_s)

    def wrote(self) -> None:
        """Something was written just now."""
        self._wrote = time.monotonic()

    def stop(self) -> None:
        """Say nothing more."""
        self._timer.cancel()
        if self._speaking is not None:
            self._speaking.cancel()

    def _look_again(self, in_s: float) -> None:
        # A timer costs a stream next to nothing; a task that sleeps would be a tenth of all it costs.
        self._timer = asyncio.get_running_loop().call_later(in_s, self._look)

    def _look(self) -> None:
        silent = time.monotonic() - self._wrote
        if silent >= self._every_s:
            silent = 0.0
            if self._is_held():
                # A bare task, for a timer has no other; ended with the timer.
                self._speaking = asyncio.create_task(self._speak())  # noqa: TID251
        self._look_again(self._every_s - silent)
