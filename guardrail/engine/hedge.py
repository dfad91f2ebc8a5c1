"""When a slow call gets a rival: a second request, of which the first sound verdict wins.

A call is slow when it takes longer than a quantile of its policy's recent calls, at least ``floor_s``
seconds. Fewer than 20 samples say nothing, so nothing is hedged. Each call earns a fraction of a rival
(``budget``), so rivals stay that share of the calls however slow the judge becomes: hedging is for one
slow call among many, not for a judge that is slow. ("The Tail at Scale", Dean and Barroso, 2013.)
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from guardrail.core.verdict import Verdict, spent
from guardrail.errors import ClassifierError, FailureCode, MalformedVerdict

__all__ = ["Hedge", "Outcome", "Pace", "graver", "race"]

_SAMPLES: Final = 200
_RENEW: Final = 20  # samples between two workings of the quantile, the first included
_MOST_CREDIT: Final = 5.0  # rivals in a row after a quiet time
_MOST_POLICIES: Final = 1_000
_ONE: Final = 1.0 - 1e-9  # ten tenths are a little less than one

Call = Callable[[], Awaitable[Verdict]]


@dataclass(frozen=True, slots=True)
class Hedge:
    """``quantile`` (0 to 1) of recent latencies, ``floor_s`` seconds, ``budget`` rivals per call."""

    quantile: float = 0.95
    floor_s: float = 0.25
    budget: float = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """A race: the verdict, whose it is (0: the first call's, 1: the rival's), whether there was a rival."""

    verdict: Verdict
    winner: int
    hedged: bool


class _Recent:
    __slots__ = ("delay_s", "new", "samples")

    def __init__(self) -> None:
        self.samples: deque[float] = deque(maxlen=_SAMPLES)
        self.new = 0
        self.delay_s: float | None = None


class Pace:
    """Remembers how long the calls of each policy take, and how many rivals may be sent."""

    def __init__(self, hedge: Hedge) -> None:
        self._hedge = hedge
        self._recent: OrderedDict[str, _Recent] = OrderedDict()
        self._credit = 0.0

    def delay_s(self, key: str) -> float | None:
        """After how many seconds a call of this policy is slow; None while nobody knows."""
        recent = self._recent.get(key)
        return None if recent is None else recent.delay_s

    def add(self, key: str, seconds: float) -> None:
        """A call of this policy took so long."""
        self._credit = min(self._credit + self._hedge.budget, _MOST_CREDIT)
        recent = self._recent.setdefault(key, _Recent())
        self._recent.move_to_end(key)
        if len(self._recent) > _MOST_POLICIES:
            self._recent.popitem(last=False)
        recent.samples.append(seconds)
        recent.new += 1
        if recent.new >= _RENEW:
            recent.new = 0
            ordered = sorted(recent.samples)
            place = min(int(len(ordered) * self._hedge.quantile), len(ordered) - 1)
            recent.delay_s = max(ordered[place], self._hedge.floor_s)

    def spend(self) -> bool:
        """Pay for one rival, if there is credit for it."""
        if self._credit < _ONE:
            return False
        self._credit -= _ONE
        return True


async def race(first: Call, rival: Callable[[], Call | None], delay_s: float) -> Outcome:
    """Make the ``first`` call, and after ``delay_s`` seconds the one that ``rival`` gives, if any.

    The first verdict wins and the other call is cancelled; an error waits for the other call.
    Raises ``ClassifierError`` when there is no verdict.
    """
    won: list[tuple[int, Verdict]] = []
    lost: list[ClassifierError] = []
    sent = 1
    done = anyio.Event()

    async def run(place: int, call: Call) -> None:
        try:
            won.append((place, await call()))
        except ClassifierError as error:
            lost.append(error)
        if won or len(lost) == sent:
            done.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run, 0, first)
        with anyio.move_on_after(delay_s):
            await done.wait()
        if not done.is_set() and (second := rival()) is not None:
            sent = 2
            group.start_soon(run, 1, second)
        await done.wait()
        group.cancel_scope.cancel()
    if not won:
        raise graver(lost)
    place, verdict = won[0]
    return Outcome(verdict, place, sent == 2)


def graver(errors: Sequence[ClassifierError]) -> ClassifierError:
    """Of several errors of one check, in order, the one that stands for them.

    ``auth``, because no fail mode may open it; else an answer that does say "violation"; else the last.
    It tells what all of them cost.
    """
    gravest = max(enumerate(errors), key=lambda entry: (_gravity(entry[1]), entry[0]))[1]
    gravest.usage = spent([error.usage for error in errors])
    return gravest


def _gravity(error: ClassifierError) -> int:
    if error.code is FailureCode.AUTH:
        return 2
    return int(isinstance(error, MalformedVerdict) and error.violation)
