"""An event loop in a thread of its own, for synchronous callers of asynchronous code."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

__all__ = ["Close", "Closing", "LoopThread"]

R = TypeVar("R")
Close = Callable[[], Awaitable[None]]


class LoopThread:
    """Started by the first call, ended by ``close``; a call after that starts another. Safe for threads.

    Works inside a running loop too, which it holds up meanwhile. What nobody closed ends with the process.
    """

    def __init__(self) -> None:
        self._portal: BlockingPortal | None = None
        self._thread = ExitStack()
        self._starting = threading.Lock()

    @property
    def running(self) -> bool:
        """Whether the thread was started."""
        return self._portal is not None

    def call(self, function: Callable[[], Awaitable[R]]) -> R:
        """Run it in the thread's loop and wait; who stops waiting (Ctrl-C) cancels it."""
        with self._starting:
            if self._portal is None:
                self._portal = self._thread.enter_context(start_blocking_portal())
                atexit.register(self._end)  # later it would wait for a thread that runs no more
            future = self._portal.start_task_soon(function)
        try:
            return future.result()
        finally:
            future.cancel()  # does nothing to one that is done

    def close(self, last: Close | None = None) -> None:
        """End the loop and its thread, once what runs there is over; ``last`` is run there before."""
        try:
            if last is not None:
                self.call(last)
        finally:
            self._end()

    async def aclose(self, last: Close | None = None) -> None:
        """``close``, with ``last`` run in the caller's loop, for what was opened there."""
        try:
            if last is not None:
                await last()
        finally:
            if self.running:
                self.close(last)

    def _end(self) -> None:
        atexit.unregister(self._end)
        with self._starting:
            self._portal = None
            self._thread.close()


class Closing:
    """What has such a loop of its own, and is to be closed; ``on_close`` is awaited by ``close``."""

    def __init__(self, on_close: Close | None = None) -> None:
        super().__init__()
        self._on_close = on_close
        self._loop = LoopThread()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def close(self) -> None:
        """Close connections, files and the thread of the synchronous calls."""
        self._loop.close(self._on_close)

    async def aclose(self) -> None:
        """``close``, and the connections that asynchronous calls have opened in the running loop."""
        await self._loop.aclose(self._on_close)
