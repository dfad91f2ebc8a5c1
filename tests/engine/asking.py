"""Policies, conversations and classifiers for the tests of the engine that ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio

from guardrail.backends.memory_cache import MemoryCache
from guardrail.core.conversation import Conversation, Segment, Subject, Turn
from guardrail.core.decision import Decision, Failure
from guardrail.core.policy import Action, LabelRule, Policy, Stage
from guardrail.core.verdict import Verdict
from guardrail.engine.check import GuardrailEngine
from guardrail.errors import FailureCode

BOUND_S = 5.0
"""How long a test waits for what must happen: never reached when the code is right."""


def policy(policy_id: str = "p", action: Action = Action.BLOCK, **more: Any) -> Policy:
    labels = {"SAFE": LabelRule("SAFE", violation=False), "BAD": LabelRule("BAD", True, action)}
    body = more.pop("body", f"The body of {policy_id}.")
    return Policy(policy_id, body, more.pop("labels", labels), **more)


def talk(*turns: tuple[str, str]) -> Conversation:
    return Conversation(
        tuple(
            Turn(role, (Segment(text, ("messages", i, "content")),)) for i, (role, text) in enumerate(turns)
        )
    )


def engine_of(
    classifier: Any,
    *policies: Policy,
    stage: Stage = Stage.INPUT,
    **more: Any,
) -> GuardrailEngine:
    return GuardrailEngine({stage: policies}, classifier, **more)


@dataclass
class Gated:
    """A classifier whose every call waits for its own gate, in the order in which they came."""

    answer: Callable[[Policy, Subject], Verdict] = lambda policy, subject: Verdict(
        policy, "SAFE", violation=False
    )
    gates: list[anyio.Event] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    second: anyio.Event = field(default_factory=anyio.Event)

    def identity(self, policy: Policy) -> str:
        return "gated"

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        gate = anyio.Event()
        self.gates.append(gate)
        self.asked.append(policy.id)
        if len(self.gates) == 2:
            self.second.set()
        await gate.wait()
        return self.answer(policy, subject)


@dataclass
class Raising:
    """A classifier that raises; ``errors`` by policy id."""

    errors: Mapping[str, Exception]
    calls: int = 0

    def identity(self, policy: Policy) -> str:
        return "raising"

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        self.calls += 1
        if policy.id in self.errors:
            raise self.errors[policy.id]
        return Verdict(policy, "SAFE", violation=False)


def failures(decision: Decision) -> dict[str, FailureCode]:
    return {f.policy.id: f.code for f in decision.findings if isinstance(f, Failure)}


def verdicts(decision: Decision) -> dict[str, str | None]:
    return {f.policy.id: f.label for f in decision.findings if isinstance(f, Verdict)}


HELLO = talk(("user", "hello"))


class CountingCache(MemoryCache):
    def __init__(self) -> None:
        super().__init__()
        self.stored: list[Verdict] = []

    async def put(self, key: str, verdict: Verdict) -> None:
        self.stored.append(verdict)
        await super().put(key, verdict)
