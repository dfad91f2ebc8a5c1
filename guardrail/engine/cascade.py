"""Rules before the judge, rules beside it, and a second judge behind it, as one Classifier.

    prefilter ──hit──▶ verdict of the rules, nobody is asked
        │ no hit
        ▼
    judge ──label with escalate──▶ escalation: more effort, or another model
        │                              │
        ▼                              ▼
    detectors beside it make the verdict stricter, never milder

Rules condemn and never acquit (docs/decisions/0004): a hit of a detector in ``prefilter`` blocks, and that
it finds nothing says nothing. A detector that is not named there decides alone only what is exact, spans
to redact and flags; whether a text that looks like an attack is one, the judge says.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from typing import Final, Protocol

import anyio

from guardrail.core.conversation import Subject
from guardrail.core.policy import Action, Effort, Policy
from guardrail.core.redaction import Span
from guardrail.core.verdict import Step, Verdict, spent
from guardrail.errors import ClassifierError, ClassifierTimeout
from guardrail.ports import Classifier

__all__ = ["Cascade", "Finder", "WithEffort"]

_SHARE: Final = 0.9  # of the time that is left, for the escalation


class Finder(Protocol):
    """Finds spans by rules; see ``guardrail.backends.embedded.DetectorClassifier``."""

    def identity(self, policy: Policy) -> str:
        """What its hits depend on."""
        ...

    async def found(
        self, policy: Policy, subject: Subject, only: Collection[str] | None = None
    ) -> list[tuple[int, Span]]:
        """Every hit in the judged segments, by segment index; of the detectors ``only``, if given.

        Raises ``ClassifierError``.
        """
        ...


class Cascade:
    """``judge`` with the ``finder``'s rules before and beside it, and ``escalation`` behind it.

    ``escalation`` is asked about labels that say so; its verdict counts instead. Where it fails, a
    violation of the first judge stands; a label that is none was not vouched for, and the check failed.
    """

    def __init__(self, finder: Finder, judge: Classifier, *, escalation: Classifier | None = None) -> None:
        self._finder = finder
        self._judge = judge
        self._escalation = escalation

    def identity(self, policy: Policy) -> str:
        """All that may speak: the judge, who is asked after it, and the detectors."""
        identity = self._judge.identity(policy)
        if self._escalation is not None:
            escalating = sorted(name for name, rule in policy.labels.items() if rule.escalate)
            if escalating:
                identity += f">{self._escalation.identity(policy)}{escalating}"
        if policy.detectors:
            identity += f"+{self._finder.identity(policy)}{sorted(policy.prefilter)}"
        return identity

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        """Raises what the judge and the finder raise."""
        if policy.prefilter:
            found = await self._finder.found(policy, subject, policy.prefilter)
            if found:
                label = max((span.label for _, span in found), key=policy.action_of)
                return Verdict(policy, label, violation=True, judge="rules")
        started = time.perf_counter()
        verdict = await self._judge.classify(policy, subject)
        rule = policy.labels.get(verdict.label or "")
        if rule is not None and rule.escalate and self._escalation is not None:
            verdict = replace(verdict, latency_ms=(time.perf_counter() - started) * 1e3)
            verdict = await self._escalated(self._escalation, verdict, policy, subject)
        if not policy.detectors:
            return verdict
        beside = [
            (index, span)
            for index, span in await self._finder.found(policy, subject)
            if policy.action_of(span.label) is not Action.BLOCK
        ]
        return _stricter(verdict, policy, beside) if beside else verdict

    async def _escalated(
        self, escalation: Classifier, first: Verdict, policy: Policy, subject: Subject
    ) -> Verdict:
        step = Step(first.judge, first.effort, first.label, usage=first.usage, latency_ms=first.latency_ms)
        started = time.perf_counter()
        left = anyio.current_effective_deadline() - anyio.current_time()
        second = None
        try:
            # Else the engine's deadline would take the first verdict along.
            with anyio.move_on_after(left * _SHARE):
                second = await escalation.classify(policy, subject)
            if second is None:
                raise ClassifierTimeout("the escalation took more than its share of the deadline")
        except ClassifierError as error:
            if not first.violation:
                error.usage = spent([first.usage, error.usage])
                raise
            elapsed = (time.perf_counter() - started) * 1e3
            judge = escalation.identity(policy)
            failed = Step(judge, None, error=error.code, usage=error.usage, latency_ms=elapsed)
            return replace(first, steps=(*first.steps, failed))
        return replace(second, steps=(*first.steps, step, *second.steps))


class WithEffort:
    """A classifier asked with another effort than the policy's."""

    def __init__(self, classifier: Classifier, effort: Effort) -> None:
        self._classifier = classifier
        self._effort = effort

    def identity(self, policy: Policy) -> str:
        """That of the classifier with this effort."""
        return self._classifier.identity(replace(policy, reasoning_effort=self._effort))

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        """The verdict, under the caller's own policy. Raises what the classifier raises."""
        asked = replace(policy, reasoning_effort=self._effort)
        return replace(await self._classifier.classify(asked, subject), policy=policy)


def _stricter(verdict: Verdict, policy: Policy, found: list[tuple[int, Span]]) -> Verdict:
    """The verdict made stricter by hits beside it."""
    label = max((span.label for _, span in found), key=policy.action_of)
    spans = tuple(hit for hit in found if policy.action_of(hit[1].label) is Action.REDACT)
    if verdict.violation and verdict.action >= policy.action_of(label):
        if not (verdict.excerpts or verdict.spans):
            return verdict  # the judge named no place, so all of the text goes, not just the hits
        return replace(verdict, spans=verdict.spans + spans)
    return replace(verdict, label=label, violation=True, spans=spans, excerpts=())
