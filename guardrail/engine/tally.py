"""The findings of many checks as one decision."""

from __future__ import annotations

from collections.abc import Iterable

from guardrail.core.decision import Decision, Failure, Finding, strictest
from guardrail.core.policy import Action, Stage

__all__ = ["Tally"]


class Tally:
    """Collects what the checks of one streamed answer found.

    ``on_unreadable`` is the action for parts that nobody could read.
    """

    def __init__(self, on_unreadable: Action, decision_id: str) -> None:
        self._on_unreadable = on_unreadable
        self._decision_id = decision_id
        self._findings: dict[tuple[str, bool], Finding] = {}  # by policy, and whether it failed
        self._unreadable: dict[str, None] = {}

    def add(self, findings: Iterable[Finding]) -> None:
        """Take the findings of one check."""
        for finding in findings:
            key = finding.policy.id, isinstance(finding, Failure)
            known = self._findings.get(key)
            if known is None or finding.action >= known.action:
                self._findings[key] = finding

    def unreadable(self, paths: Iterable[str]) -> None:
        """Note parts that nobody can read."""
        self._unreadable.update(dict.fromkeys(paths))

    def decision(self) -> Decision:
        """The strictest finding of each policy.

        A check that failed is always among them, beside a stricter verdict.
        """
        found = self._findings
        findings = tuple(
            finding
            for (policy_id, failed), finding in sorted(found.items(), key=lambda item: item[0])
            if failed or not ((other := found.get((policy_id, True))) and other.action >= finding.action)
        )
        unjudged = tuple(self._unreadable)
        floor = self._on_unreadable if unjudged else Action.PASS
        action = strictest(findings, floor)
        return Decision(Stage.OUTPUT, action, findings, (), unjudged, self._decision_id, floor)
