"""Detectors beside the judge, as one Classifier.

A detector decides alone only what is exact: spans to redact, and flags. Whether a text that looks
like an attack is one, the judge says; a detector's label that blocks is left to it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from guardrail.core.conversation import Subject
from guardrail.core.policy import Action, Policy
from guardrail.core.redaction import Span
from guardrail.core.verdict import Verdict
from guardrail.ports import Classifier

__all__ = ["Cascade", "Finder"]


class Finder(Protocol):
    """Finds spans by rules; see ``guardrail.backends.embedded.DetectorClassifier``."""

    def find(self, policy: Policy, subject: Subject) -> list[tuple[int, Span]]:
        """Every hit in the judged segments, by segment index."""
        ...


class Cascade:
    """The judge's verdict, made stricter by what the detectors found."""

    def __init__(self, finder: Finder, judge: Classifier) -> None:
        self._finder = finder
        self._judge = judge

    def identity(self, policy: Policy) -> str:
        """The judge's, and the detectors, whose hits are part of the verdict."""
        if not policy.detectors:
            return self._judge.identity(policy)
        return f"{self._judge.identity(policy)}+{sorted(policy.detectors.items())}"

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        """Raises what the judge raises."""
        verdict = await self._judge.classify(policy, subject)
        if not policy.detectors:
            return verdict
        found = [
            (index, span)
            for index, span in self._finder.find(policy, subject)
            if policy.action_of(span.label) is not Action.BLOCK
        ]
        if not found:
            return verdict
        label = max((span.label for _, span in found), key=policy.action_of)
        spans = tuple(hit for hit in found if policy.action_of(hit[1].label) is Action.REDACT)
        if verdict.violation and verdict.action >= policy.action_of(label):
            if not (verdict.excerpts or verdict.spans):
                return verdict  # the judge named no place, so all of the text goes, not just the hits
            return replace(verdict, spans=verdict.spans + spans)
        return replace(verdict, label=label, violation=True, spans=spans, excerpts=())
