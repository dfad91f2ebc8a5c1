"""An event loop in a thread of its own, for synchronous callers of asynchronous code."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, wait
from contextlib import ExitStack, suppress
from typing import Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

__all__ = ["Close", "Closing", "LoopThread"]

R = TypeVar("R")
Close = Callable[[], Awaitable[None]]
_here = threading.local()  # ``loop``: the one that runs in this thread, if it is one of these


class LoopThread:
    """Started by the first call, ended by ``close``; a call after that starts another. Safe for threads.

    Works inside a running loop too, which it holds up meanwhile. What nobody closed ends with the process;
    a forked child starts a thread of its own.
    """

    def __init__(self) -> None:
        self._portal: BlockingPortal | None = None
        self._thread = ExitStack()
        self._starting = threading.RLock()  # the collector may call in from the thread that holds it
        self._own: asyncio.AbstractEventLoop | None = None
        self._finishing: set[Future[None]] = set()
        _all.add(self)

    @property
    def running(self) -> bool:
        """Whether the thread was started."""
        return self._portal is not None

    def call(self, function: Callable[[], Awaitable[R]]) -> R:
        """Run it in the thread's loop and wait; who stops waiting (Ctrl-C) cancels it."""
        return self._call(function, start=True)

    def resume(self, function: Callable[[], Awaitable[R]]) -> R:
        """``call`` that goes on with another: starts nothing. Raises ``RuntimeError`` once closed."""
        return self._call(function, start=False)

    def finish(self, last: Close) -> None:
        """Run what ends an earlier call, and wait for it. Does nothing where the loop has ended.

        For finalisers too, wherever the collector runs them: it takes no lock, starts no thread, and does
        not wait in the thread of such a loop.
        """
        done: Future[None] = Future()
        self._finishing.add(done)  # before the look at the portal: ``_end`` waits for those that saw it
        done.add_done_callback(self._finishing.discard)
        task: Future[None] | None = None
        try:
            if self._portal is not None and self._own is not None and not sys.is_finalizing():
                task = asyncio.run_coroutine_threadsafe(_awaited(last), self._own)
        finally:
            if task is None:
                done.set_result(None)
            else:
                task.add_done_callback(lambda _: done.set_result(None))
        if task is not None and not hasattr(_here, "loop"):
            task.result()

    def _call(self, function: Callable[[], Awaitable[R]], *, start: bool) -> R:
        with self._starting:
            if self._portal is None:
                if not start or sys.is_finalizing():
                    raise RuntimeError("it was closed")
                portal = self._thread.enter_context(start_blocking_portal())
                self._own = portal.call(_begun)
                self._portal = portal
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
            wait(set(self._finishing))
            self._thread.close()

    def forked(self) -> None:
        """In the child there is no such thread: forget it, and the locks that others held."""
        portal, thread = self._portal, self._thread
        self._portal = self._own = None
        self._thread = ExitStack()
        self._starting = threading.RLock()
        self._finishing = set()
        if portal is not None:
            with suppress(StopIteration):  # it never waits; but for it, the end would wait for the thread
                portal.stop().__await__().__next__()
            thread.close()


async def _begun() -> asyncio.AbstractEventLoop:
    _here.loop = asyncio.get_running_loop()
    return asyncio.get_running_loop()


async def _awaited(last: Close) -> None:
    await last()


_all: weakref.WeakSet[LoopThread] = weakref.WeakSet()


def _after_fork() -> None:
    if hasattr(_here, "loop"):
        del _here.loop
    for one in list(_all):
        one.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


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
