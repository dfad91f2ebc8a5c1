"""The seams: what the engine needs from outside, each a Protocol of one to three methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from guardrail.core.conversation import Subject
from guardrail.core.decision import Finding
from guardrail.core.history import Remembered
from guardrail.core.policy import Policy, Stage
from guardrail.core.record import DecisionRecord
from guardrail.core.verdict import Verdict

__all__ = ["AuditSink", "Classifier", "HistoryCache", "Observer", "VerdictCache"]


class Classifier(Protocol):
    """Judges one subject under one policy."""

    def identity(self, policy: Policy) -> str:
        """All that a verdict depends on besides the policy's body and the subject: model, effort."""
        ...

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        """Return the verdict. Raises ``ClassifierError`` and nothing else."""
        ...


class VerdictCache(Protocol):
    """Remembers verdicts. A cache that is broken misses; it never raises."""

    async def get_many(self, keys: Sequence[str], policies: Sequence[Policy]) -> list[Verdict | None]:
        """The verdict stored under each key, for the policy at the same place; None on a miss."""
        ...

    async def put(self, key: str, verdict: Verdict) -> None:
        """Remember a verdict. Failures never come here."""
        ...


class HistoryCache(Protocol):
    """Remembers which conversations were judged. One that is broken misses; it never raises."""

    async def get_many(self, keys: Sequence[str]) -> list[Remembered | None]:
        """What is known under each key; None on a miss."""
        ...

    async def put(self, key: str, known: Remembered) -> None:
        """Remember it."""
        ...


class Observer(Protocol):
    """Counts every finding, those of a stream's single checks and cached ones included."""

    def finding(self, stage: Stage, finding: Finding) -> None:
        """Take one finding. Never blocks, never raises."""
        ...


class AuditSink(Protocol):
    """Receives every decision. Never blocks, never raises."""

    def record(self, record: DecisionRecord) -> None:
        """Take one record."""
        ...
