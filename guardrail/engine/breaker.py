"""A circuit breaker: an endpoint that keeps failing is left alone for a while.

States, and what ends each::

    closed ── `failures` in a row ──▶ open ── `open_s` seconds ──▶ half open ── a failure ──▶ open
       ▲                                                              │
       └────────────────────────── a success ─────────────────────────┘

Rules:

1. Closed lets every call through; open none; half open one at a time, the trial.
2. A call *fails* by what says something of the endpoint: ``unavailable``, ``timeout``, and ``auth`` (a
   wrong key or model name fails every call until somebody mends it). It *succeeds* with a verdict.
3. All other ends are *no word* on the endpoint and change nothing, except that a trial is given back:
   ``malformed``, ``truncated`` and ``too_long`` are about the text, ``rate_limited`` and ``overloaded``
   about the load (the concurrency limit answers those), and a client that hangs up about nothing.
4. Whatever a call brings home counts only in the era it set out in; each change of state begins an
   era. So calls that were under way when the breaker opened neither prolong the pause nor end it.
5. A failure counts only when no call had a verdict since this one set out: an endpoint that answers
   others meanwhile is not gone but slow, which is the limit's concern. A pause would make it worse.
6. Whoever enters must settle, once. A trial that is never settled would keep the breaker half open.
7. A server that says when to come back (``Retry-After``) is *spared* until then: it is asked last. That is
   no state: where there is no other server, it is asked as ever.

The last failure is kept as ``cause``: while a breaker is open by ``auth``, what it refuses is still a
failure of class ``auth``, which no fail mode may open.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from guardrail.errors import FailureCode

__all__ = ["Breaker", "BreakerState"]

_LONGEST_SPARE_S: Final = 60.0  # whatever a server says
_FAILS: Final = frozenset({FailureCode.UNAVAILABLE, FailureCode.TIMEOUT, FailureCode.AUTH})


class BreakerState(StrEnum):
    """Whether an endpoint is asked."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Counts the failures of one endpoint; see the module for the rules.

    ``failures`` in a row open it for ``open_s`` seconds. ``clock`` gives seconds that never go back.
    """

    __slots__ = (
        "_clock",
        "_count",
        "_era",
        "_failures",
        "_open_s",
        "_spared_until",
        "_state",
        "_trial",
        "_until",
        "_verdicts",
        "cause",
    )

    def __init__(
        self, failures: int = 5, open_s: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures = failures
        self._open_s = open_s
        self._clock = clock
        self._state = BreakerState.CLOSED
        self._count = 0
        self._until = 0.0
        self._trial = False
        self._era = 0
        self._verdicts = 0
        self._spared_until = 0.0
        self.cause: FailureCode | None = None

    @property
    def state(self) -> BreakerState:
        """The state at this moment."""
        if self._state is BreakerState.OPEN and self._clock() >= self._until:
            return BreakerState.HALF_OPEN
        return self._state

    @property
    def allows(self) -> bool:
        """Whether a call may set out now."""
        if self._state is BreakerState.CLOSED:
            return True
        return self.state is BreakerState.HALF_OPEN and not self._trial

    @property
    def spared(self) -> bool:
        """Whether others are to be asked first."""
        return self._spared_until > 0 and self._clock() < self._spared_until

    def spare(self, seconds: float) -> None:
        """The server asks to be left alone for so long."""
        self._spared_until = max(self._spared_until, self._clock() + min(seconds, _LONGEST_SPARE_S))

    def enter(self) -> tuple[int, int]:
        """A call sets out, which ``allows`` must permit. Returns when, for ``settle``."""
        if self._state is not BreakerState.CLOSED:
            if self._state is BreakerState.OPEN:
                self._turn(BreakerState.HALF_OPEN)
            self._trial = True
        return self._era, self._verdicts

    def settle(self, entered: tuple[int, int], error: FailureCode | None) -> None:
        """A call came to its end: None for a verdict, else why there is none."""
        era, verdicts = entered
        if era != self._era:
            return
        self._trial = False
        if error is None:
            self._count = 0
            self._verdicts += 1
            if self._state is BreakerState.HALF_OPEN:
                self.cause = None
                self._turn(BreakerState.CLOSED)
        elif error in _FAILS and verdicts == self._verdicts:
            self.cause = error
            self._count += 1  # a trial's goes on the row that opened it
            if self._count >= self._failures:
                self._until = self._clock() + self._open_s
                self._turn(BreakerState.OPEN)

    def _turn(self, state: BreakerState) -> None:
        self._state = state
        self._era += 1
