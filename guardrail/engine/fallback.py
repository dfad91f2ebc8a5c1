"""Another judge, asked when the first one cannot be: inside the same deadline, and visibly."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

import anyio

from guardrail.core.conversation import Subject
from guardrail.core.policy import Policy
from guardrail.core.verdict import Step, Verdict, spent
from guardrail.engine.hedge import graver
from guardrail.errors import ClassifierError, ClassifierTimeout, MalformedVerdict
from guardrail.ports import Classifier

__all__ = ["Fallback"]

_SHARE_OTHER: Final = 0.9  # of what is then left; else the engine's deadline would hide the first error


class Fallback:
    """Asks ``primary``, and ``other`` where that failed, whatever the failure's class.

    Another judge may have another key, another window and another way to answer, so no class of failure
    is the last word. ``share`` is how much of the time that is left the primary gets: the other one
    needs some too. When both fail, the graver error is raised: ``auth``, which no fail mode may open, then
    a violation under an unknown label, then the primary's. Such a violation of the primary also stands
    against a pass of the other.
    """

    def __init__(self, primary: Classifier, other: Classifier, *, share: float = 0.6) -> None:
        self._primary = primary
        self._other = other
        self._share = share

    def identity(self, policy: Policy) -> str:
        """The primary's: a verdict that came after a failed step is not cached."""
        return self._primary.identity(policy)

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        """Raises ``ClassifierError`` when neither gives a verdict."""
        started = time.perf_counter()
        try:
            return await _within(self._share, self._primary, policy, subject)
        except ClassifierError as error:
            failed = error
        step = Step(
            self._primary.identity(policy),
            policy.reasoning_effort,
            error=failed.code,
            usage=failed.usage,
            latency_ms=(time.perf_counter() - started) * 1e3,
        )
        try:
            verdict = await _within(_SHARE_OTHER, self._other, policy, subject)
        except ClassifierError as error:
            raise graver([error, failed]) from None  # of two alike the primary's
        if _condemns(failed) and not verdict.violation:
            failed.usage = spent([failed.usage, verdict.usage])
            raise failed
        return replace(verdict, steps=(step, *verdict.steps))


async def _within(share: float, judge: Classifier, policy: Policy, subject: Subject) -> Verdict:
    """Ask with a share of the time that is left; without a deadline, of all time."""
    left = anyio.current_effective_deadline() - anyio.current_time()
    with anyio.move_on_after(left * share):
        return await judge.classify(policy, subject)
    raise ClassifierTimeout("the judge took more than its share of the deadline")


def _condemns(error: ClassifierError) -> bool:
    return isinstance(error, MalformedVerdict) and error.violation
