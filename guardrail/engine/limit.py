"""How many calls one endpoint is given at once: found out, not guessed.

The limit follows TCP's rule (additive increase, multiplicative decrease). It starts small and doubles
each round until it meets a sign of overload: a timeout, a 429, a shed call. Each such sign takes 30 %
of it, once a round: calls that set out before the last cut say nothing new. After the first cut it
grows by one a round. It changes so only while it is what holds calls back. Where calls then take more
than three times as long as in the endpoint's best times, it shrinks by one a round instead: a server
that queues calls itself, as all do, shows nothing else before it is too late. It never passes the
ceiling and never falls below one.

In front of it stands a queue, first come, first served. A call is shed at once when the queue is full,
or when it could not well end before its deadline once its turn comes, and at its turn if that came
late: such a call would only cost the judge an answer that nobody waits for, and so delay all others.

``anyio.CapacityLimiter`` is not used: several of the versions we allow lose tokens to cancelled
waiters, or hand out too many when the limit rises while more are out (agronholm/anyio #947, #1170, #1223).
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import Final

import anyio

from guardrail.errors import ClassifierError, FailureCode

__all__ = ["ConcurrencyLimit"]

_CUT: Final = 0.7  # as in CUBIC, RFC 9438 section 4.6
_SMOOTH: Final = 0.1  # weight of one call in the usual length; about the last 20 calls count
_SLOW: Final = 3.0  # times the best usual length; batching alone costs a GPU server less than that
_ROOM: Final = 2.0  # usual lengths that a call must have left: about half of all calls take more than one
_FORGET: Final = 1.001  # the best length creeps up by this each unhindered call, as models and texts change
_OVERLOAD: Final = frozenset({FailureCode.TIMEOUT, FailureCode.RATE_LIMITED, FailureCode.OVERLOADED})


class _Line(threading.local):
    """The calls of one event loop: a loop cannot wake a waiter of another's, which is another thread's."""

    def __init__(self) -> None:
        self.running = 0
        self.waiting: deque[anyio.Event] = deque()


class ConcurrencyLimit:
    """At most ``ceiling`` calls at once in each event loop; ``most_waiting`` more may queue.

    ``start`` is where the limit begins. Every ``enter`` that returns is followed by one ``leave``.
    """

    def __init__(self, ceiling: int, *, start: int = 8, most_waiting: int = 256) -> None:
        self._ceiling = ceiling
        self._limit = float(min(start, ceiling))
        self._most_waiting = most_waiting
        self._line = _Line()
        self._last_cut = -1.0  # below zero: never, so it still doubles
        self._usual_s = 0.0
        self._best_s = math.inf
        self._verdicts = 0

    @property
    def limit(self) -> int:
        """How many calls may run at once now."""
        return int(self._limit)

    @property
    def running(self) -> int:
        """The calls that run now."""
        return self._line.running

    @property
    def load(self) -> int:
        """The calls that run or wait now."""
        return self._line.running + len(self._line.waiting)

    @property
    def saturated(self) -> bool:
        """Whether one more call would have to wait."""
        return self._line.running >= int(self._limit)

    async def enter(self) -> float:
        """Take a place, waiting for it if need be. Returns the time, for ``leave``.

        Raises ``ClassifierError`` (``overloaded``) instead of waiting in vain.
        """
        line = self._line
        if line.running < int(self._limit):  # then nobody waits
            line.running += 1
        else:
            await self._wait(line)
        return time.monotonic()

    def leave(self, entered: float, error: FailureCode | None = None) -> None:
        """Give the place back. ``error``: why there is no verdict (``internal``: the call was given up)."""
        line = self._line
        if error is None:
            self._learn(time.monotonic() - entered, line.running >= int(self._limit))
        elif error in _OVERLOAD and entered > self._last_cut:
            self._limit = max(1.0, self._limit * _CUT)
            self._last_cut = time.monotonic()
        self._give_back(line)

    async def _wait(self, line: _Line) -> None:
        deadline = anyio.current_effective_deadline()
        ahead = (len(line.waiting) + 1) / self._limit
        if len(line.waiting) >= self._most_waiting or self._too_late(deadline, ahead):
            raise _shed()
        turn = anyio.Event()
        line.waiting.append(turn)
        try:
            await turn.wait()  # whoever sets it has counted us as running
        except BaseException:
            if turn.is_set():  # a task that is cancelled without a scope, by a server that ends
                self._give_back(line)
            else:
                line.waiting.remove(turn)
            raise
        if self._too_late(deadline):
            self._give_back(line)
            raise _shed()

    def _too_late(self, deadline: float, ahead: float = 0.0) -> bool:
        """Whether a call that comes after ``ahead`` others could not end in time, even if not quick."""
        return anyio.current_time() + (ahead + _ROOM) * self._usual_s > deadline

    def _learn(self, seconds: float, held_back: bool) -> None:
        """From a verdict: how long calls take, and whether more of them at once would do."""
        self._verdicts += 1
        self._usual_s += max(_SMOOTH, 1 / self._verdicts) * (seconds - self._usual_s)
        if held_back:
            self._best_s = min(self._best_s, self._usual_s)
            if self._usual_s > _SLOW * self._best_s:
                self._limit = max(self._limit - 1.0 / self._limit, 1.0)
            else:
                step = 1.0 if self._last_cut < 0 else 1.0 / self._limit
                self._limit = min(self._limit + step, self._ceiling)
        else:
            self._best_s = min(self._best_s * _FORGET, self._usual_s)

    def _give_back(self, line: _Line) -> None:
        line.running -= 1
        while line.waiting and line.running < int(self._limit):
            line.running += 1
            line.waiting.popleft().set()


def _shed() -> ClassifierError:
    return ClassifierError(
        "too many checks wait for the judge; this one was not begun", code=FailureCode.OVERLOADED
    )
