"""An engine under two policies and a scripted judge, for the endpoints of our own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from guardrail.core.policy import Action, LabelRule, Policy, PolicySet, Stage
from guardrail.core.redaction import Span
from guardrail.core.verdict import Verdict
from guardrail.engine.check import GuardrailEngine
from guardrail.errors import ClassifierTimeout
from guardrail.frontends.asgi import Scope
from guardrail.frontends.middleware import dialect_of
from guardrail.testing import MemorySink, ScriptedClassifier
from guardrail.wire.policies import Catalogue

LABELS = {
    "OK": LabelRule("OK", violation=False),
    "HIDE": LabelRule("HIDE", violation=True, action=Action.REDACT),
    "STOP": LabelRule("STOP", violation=True, action=Action.BLOCK),
}
HOUSE = Policy("house", "Judge by the house rules.", LABELS, covers={"STOP": ["violence"]})
MORE = Policy("more", "Judge by more rules.", LABELS)
HIDE = Verdict(HOUSE, "HIDE", True, spans=((0, Span(3, 9, "HIDE")),))
"""Redacts the characters 3 to 9 of the first text."""


def by_dialect(scope: Scope) -> bool:
    """What a middleware without routes of its own guards."""
    return scope["method"] == "POST" and dialect_of(scope["path"]) is not None


@dataclass
class Guards:
    """What was asked, what was recorded, and the engine between them."""

    options: dict[str, Any] = field(default_factory=dict)
    sink: MemorySink = field(default_factory=MemorySink)
    judge: ScriptedClassifier = field(
        default_factory=lambda: ScriptedClassifier(
            [("secret", HIDE), ("forbidden", "STOP"), ("slow", ClassifierTimeout("too slow"))]
        )
    )

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue(PolicySet([HOUSE, MORE]), dict.fromkeys(Stage, (HOUSE,)))

    @property
    def engine(self) -> GuardrailEngine:
        known = self.catalogue
        return GuardrailEngine(
            known.configured, self.judge, addable=known.known, sinks=[self.sink], **self.options
        )

    @property
    def recorded(self) -> list[tuple[str, str, str]]:
        """Dialect, stage and action of every decision."""
        return [(r.dialect, r.decision.stage.value, r.decision.action.word) for r in self.sink.records]
