"""A verdict: what a classifier found under one policy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from guardrail.core.policy import Action, Effort, Mode, Policy
from guardrail.core.redaction import Span
from guardrail.errors import FailureCode

__all__ = ["Step", "Usage", "Verdict", "spent", "total"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the judge reported them; ``cached`` is None where it does not say.

    ``cost_usd`` is what the call cost in US dollars: as the judge reported it, else by the price table
    of its preset; None where nobody knows.
    """

    prompt: int = 0
    completion: int = 0
    cached: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One classifier that was asked before the one that gave the verdict, and what came of it.

    ``label`` is what it said; ``error`` why it said nothing. ``effort`` is None where nobody knows.
    """

    judge: str
    effort: Effort | None
    label: str | None = None
    error: FailureCode | None = None
    usage: Usage | None = None
    latency_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One classifier's verdict under one policy.

    ``excerpts`` are pieces the judge quoted, ``spans`` exact places a detector found, by index of the
    judged segment. ``effort`` is what the judge was asked with (None: rules), ``steps`` who was asked
    before it. ``reduced`` marks a verdict of rules alone, where nobody read the text.
    """

    policy: Policy
    label: str | None
    violation: bool
    excerpts: tuple[str, ...] = field(default=(), repr=False)
    spans: tuple[tuple[int, Span], ...] = ()
    rationale: str = field(default="", repr=False)
    judge: str = ""
    effort: Effort | None = None
    steps: tuple[Step, ...] = ()
    usage: Usage | None = None
    reduced: bool = False
    cached: bool = False
    latency_ms: float = 0.0

    @property
    def action(self) -> Action:
        """What the policy's front matter does about this label, whatever the policy's mode.

        A violation never passes: without a label of its own it takes the strictest action.
        """
        if not self.violation:
            return Action.PASS
        return self.policy.action_of(self.label) or self.policy.strictest.action

    @property
    def acts(self) -> bool:
        """False for a policy in shadow mode."""
        return self.policy.mode is Mode.ENFORCE

    def after(self, latency_ms: float, policy: Policy) -> Verdict:
        """The same under ``policy``, and how long it took: ``dataclasses.replace``, at half the price."""
        return Verdict(
            policy,
            self.label,
            self.violation,
            self.excerpts,
            self.spans,
            self.rationale,
            self.judge,
            self.effort,
            self.steps,
            self.usage,
            self.reduced,
            self.cached,
            latency_ms,
        )


def total(usages: Sequence[Usage | None]) -> Usage | None:
    """A sum with an unknown part is unknown, never less."""
    known = [usage for usage in usages if usage is not None]
    if len(known) < len(usages):
        return None
    cached = [usage.cached for usage in known if usage.cached is not None]
    costs = [usage.cost_usd for usage in known if usage.cost_usd is not None]
    return Usage(
        sum(usage.prompt for usage in known),
        sum(usage.completion for usage in known),
        sum(cached) if len(cached) == len(known) else None,
        sum(costs) if len(costs) == len(known) else None,
    )


def spent(usages: Iterable[Usage | None]) -> Usage | None:
    """The sum of those that are known, for checks that failed: many a failed call costs nothing."""
    return total([usage for usage in usages if usage is not None] or [None])
