"""Findings in, one decision out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from guardrail.core.conversation import Subject
from guardrail.core.coverage import Coverage
from guardrail.core.excerpts import locate
from guardrail.core.policy import Action, FailMode, Mode, Policy, Stage, Strategy
from guardrail.core.redaction import Redaction, Span, merge
from guardrail.core.verdict import Usage, Verdict
from guardrail.errors import FailureCode, PolicyViolation

__all__ = ["Decision", "Failure", "Finding", "decide", "strictest"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A check that could not be made. It is never "no violation": the fail mode decides.

    ``violation`` is true where the judge did say "violation" under an unknown or missing label. ``usage``:
    what was paid for it all the same; None where nothing is known.
    """

    policy: Policy
    code: FailureCode
    fail_mode: FailMode
    violation: bool = False
    judge: str = ""
    usage: Usage | None = None
    latency_ms: float = 0.0

    @property
    def action(self) -> Action:
        """Open: pass, and say so. Closed: block, or the strictest action if it was a violation."""
        if self.fail_mode is FailMode.OPEN:
            return Action.PASS
        return self.policy.strictest.action if self.violation else Action.BLOCK

    @property
    def acts(self) -> bool:
        """False for a policy in shadow mode."""
        return self.policy.mode is Mode.ENFORCE


Finding = Verdict | Failure


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done about one subject, and why. Holds no judged text besides what is to be replaced.

    ``floor`` is the action that the parts ask for which nobody could read (``unjudged``). ``coverage``
    counts the texts that could be; None where the decision is not about one subject, as that of a stream.
    """

    stage: Stage
    action: Action
    findings: tuple[Finding, ...] = ()
    redactions: tuple[Redaction, ...] = ()
    unjudged: tuple[str, ...] = ()
    id: str = ""
    floor: Action = Action.PASS
    coverage: Coverage | None = None

    @property
    def blocking(self) -> tuple[str, ...]:
        """Ids of the policies whose finding asks for the decision's action; empty on a pass."""
        if self.action is Action.PASS:
            return ()
        return tuple(f.policy.id for f in self.findings if f.acts and f.action is self.action)

    @property
    def unavailable(self) -> bool:
        """True when only failed checks block: the answer is then 503, not a refusal."""
        acting = [f for f in self.findings if f.acts and f.action is Action.BLOCK]
        return (
            self.action is Action.BLOCK
            and self.floor is not Action.BLOCK
            and bool(acting)
            and all(isinstance(f, Failure) and not f.violation for f in acting)
        )

    @property
    def unchecked(self) -> bool:
        """Whether a check of a policy that acts could not be made: then its texts are not all judged."""
        return any([isinstance(finding, Failure) and finding.acts for finding in self.findings])  # noqa: C419

    @property
    def degraded(self) -> tuple[str, ...]:
        """``policy=reason`` for each check that was not made by a judge: a failure code or
        ``reduced-coverage``; empty when every policy was judged.
        """
        reasons = []
        for finding in self.findings:
            if isinstance(finding, Failure):
                reasons.append(f"{finding.policy.id}={finding.code.value}")
            elif finding.reduced:
                reasons.append(f"{finding.policy.id}=reduced-coverage")
        return tuple(reasons)

    def raise_for_block(self) -> None:
        """Raise ``PolicyViolation`` when the action is BLOCK."""
        if self.action is Action.BLOCK:
            raise PolicyViolation(self)


def decide(
    subject: Subject,
    findings: Sequence[Finding],
    *,
    unjudged: tuple[str, ...] = (),
    on_unreadable: Action = Action.FLAG,
    strategy: Strategy = Strategy.REPLACE,
    decision_id: str = "",
    coverage: Coverage | None = None,
) -> Decision:
    """The strictest acting finding wins; redactions of all acting policies are merged.

    The result does not depend on the order of ``findings``, and one more finding never makes it
    milder. ``on_unreadable`` is the action for parts that nobody could read (``unjudged``), ``strategy``
    the one for labels without their own.
    """
    floor = on_unreadable if unjudged else Action.PASS
    action = strictest(findings, floor)
    redactions = _redactions(subject, findings, strategy) if action is Action.REDACT else ()
    ordered = tuple(findings)
    if len(ordered) > 1:
        ordered = tuple(sorted(ordered, key=lambda f: f.policy.id))
    return Decision(subject.stage, action, ordered, redactions, unjudged, decision_id, floor, coverage)


def strictest(findings: Iterable[Finding], floor: Action = Action.PASS) -> Action:
    """The strictest action of the findings that act, and no milder than ``floor``."""
    return max([floor, *(finding.action for finding in findings if finding.acts)])


def _redactions(subject: Subject, findings: Sequence[Finding], default: Strategy) -> tuple[Redaction, ...]:
    segments = list(subject.segments)
    spans: list[list[Span]] = [[] for _ in segments]
    for finding in findings:
        if not finding.acts or finding.action is not Action.REDACT:
            continue
        for index, span in _spans(subject, finding):
            strategy = finding.policy.strategy_of(span.label) or default
            spans[index].append(replace(span, strategy=strategy))
    return tuple(
        Redaction(segment, merge(own)) for segment, own in zip(segments, spans, strict=True) if own
    )


def _spans(subject: Subject, finding: Finding) -> list[tuple[int, Span]]:
    """Exact spans and located excerpts; with an excerpt that is nowhere, everything goes."""
    if isinstance(finding, Failure):
        return _everything(subject, finding.policy.strictest.label)
    label = finding.label or finding.policy.strictest.label
    found = list(finding.spans)
    if not finding.excerpts:
        return found or _everything(subject, label)
    left = list(finding.excerpts)
    for index, segment in enumerate(subject.segments):
        ranges, missing = locate(segment, finding.excerpts)
        found.extend((index, Span(start, end, label)) for start, end in ranges)
        left = [excerpt for excerpt in left if excerpt in missing]
    if left:  # it may stand across two segments, or nowhere: which one is meant is unknown
        return _everything(subject, label)
    return found


def _everything(subject: Subject, label: str) -> list[tuple[int, Span]]:
    return [
        (index, Span(0, len(segment.text), label))
        for index, segment in enumerate(subject.segments)
        if segment.text
    ]
