"""The engine: the policies of a stage, side by side, under one deadline, to one Decision."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace

import anyio

from guardrail.core import coverage, history
from guardrail.core.addition import Addition, tightened
from guardrail.core.conversation import Conversation, Subject, Turn
from guardrail.core.coverage import Places
from guardrail.core.decision import Decision, Finding, decide
from guardrail.core.joined import joined, parted
from guardrail.core.policy import Action, FailMode, Mode, Policy, Stage
from guardrail.core.record import DecisionRecord, Held
from guardrail.core.redaction import Redaction
from guardrail.core.vault import RedactionRules, Vault
from guardrail.engine.fail_rules import FailRules
from guardrail.engine.history import BlockedTurns, Chat, Memory
from guardrail.engine.panel import Panel
from guardrail.errors import UnreadableRequest
from guardrail.ports import AuditSink, Classifier, HistoryCache, Observer, VerdictCache

__all__ = ["GuardrailEngine", "new_decision_id"]

_log = logging.getLogger("guardrail.engine")


def _joined(stage: Stage, own: Sequence[Policy], named: Mapping[str, Policy]) -> tuple[Policy, ...]:
    """The stage's own policies, in the modes of those that are named, and these."""
    ids = {policy.id for policy in own}
    kept = [tightened(p, named[p.id].mode) or p if p.id in named else p for p in own]
    more = [p for p in named.values() if stage in p.stages and p.id not in ids and p.mode is not Mode.OFF]
    return (*kept, *more)


def new_decision_id() -> str:
    """A fresh id for one request: 96 random bits in hex."""
    return "gr-" + os.urandom(12).hex()


class GuardrailEngine:
    """Judges conversations and answers. Knows nothing of HTTP or JSON.

    ``policies`` are those of each stage; ``timeout_s`` is the deadline, in seconds, of one check of
    one stage, retries included; ``addable`` are the policies a request may add. ``last_resort``, rules
    that ask nobody, is asked where a check failed: what it finds counts beside the failure, and that it
    finds nothing does not. ``redaction``: what is put in the place of what is redacted. ``history``
    remembers chats, see ``chat``; ``observers`` get every finding.
    Safe for concurrent use within one event loop.
    """

    def __init__(
        self,
        policies: Mapping[Stage, Sequence[Policy]],
        classifier: Classifier,
        *,
        addable: Iterable[Policy] = (),
        cache: VerdictCache | None = None,
        history: HistoryCache | None = None,
        blocked_turns: BlockedTurns = "drop",
        last_resort: Classifier | None = None,
        sinks: Sequence[AuditSink] = (),
        observers: Sequence[Observer] = (),
        on_error: Mapping[Stage, FailRules] | None = None,
        timeout_s: float = 5.0,
        trusted_roles: frozenset[str] = frozenset({"system", "developer"}),
        on_unreadable: Action = Action.FLAG,
        strict: bool = False,
        redaction: RedactionRules | None = None,
    ) -> None:
        self._policies = {
            stage: tuple(p for p in policies.get(stage, ()) if p.mode is not Mode.OFF) for stage in Stage
        }
        self._addable = {p.id: p for p in addable}
        self._classifier = classifier
        self._history = history
        self._blocked_turns: BlockedTurns = blocked_turns
        self._sinks = tuple(sinks)
        rules = {stage: (on_error or {}).get(stage, FailRules()) for stage in Stage}
        self._panel = Panel(classifier, cache, last_resort, observers, rules, timeout_s)
        self._trusted_roles = trusted_roles
        self.on_unreadable = Action.BLOCK if strict else on_unreadable
        self._redaction = redaction or RedactionRules()
        self._root: tuple[list[str], str] = ([], "")  # of what is remembered, and the judges it is made of

    def adding(self, wanted: Sequence[str | Addition]) -> GuardrailEngine:
        """Return this engine with more policies, each on the stages it is written for, or stricter ones.

        An id alone stands for the policy as it is configured. Shares everything else. Raises
        ``UnreadableRequest`` for an id that is not ``addable``, and for what would make a policy milder.
        """
        if not wanted:
            return self
        named: dict[str, Policy] = {}
        closed: list[str] = []
        for place, one in enumerate(wanted):
            asked = Addition(one) if isinstance(one, str) else one
            named[asked.policy_id] = self._wanted(asked, f"guardrails[{place}]", named)
            if asked.fail_mode is FailMode.CLOSED:
                closed.append(asked.policy_id)
        engine = copy(self)
        engine._root = ([], "")  # noqa: SLF001 - a copy of this very object
        engine._policies = {  # noqa: SLF001 - a copy of this very object
            stage: _joined(stage, own, named) for stage, own in self._policies.items()
        }
        if closed:
            engine._panel = self._panel.closing(closed)  # noqa: SLF001 - a copy of this very object
        return engine

    def _wanted(self, asked: Addition, at: str, named: Mapping[str, Policy]) -> Policy:
        """The policy as it is asked for; ``named`` are those asked for before."""
        known = self._addable.get(asked.policy_id)
        if known is None:
            raise UnreadableRequest("guardrails names an unknown policy", param="guardrails")
        policy = tightened(named.get(known.id, known), asked.mode)
        if policy is None:
            raise UnreadableRequest(f"{at}.mode would make the policy milder", param=f"{at}.mode")
        modes = {mode for stage in known.stages for mode in self._panel.fail_modes(known.id, stage)}
        if asked.fail_mode is FailMode.OPEN and FailMode.CLOSED in modes:
            param = f"{at}.on_unavailable"
            raise UnreadableRequest(f"{param} would let through what is not to be", param=param)
        return policy

    def fail_mode(self, policy: Policy, stage: Stage) -> FailMode:
        """Closed if every check of the policy that fails blocks; open if any class of failures does not."""
        return (
            FailMode.OPEN if FailMode.OPEN in self._panel.fail_modes(policy.id, stage) else FailMode.CLOSED
        )

    def chat(self, conversation: Conversation, vault: Vault | None = None) -> Chat:
        """One request's conversation, for who sees what goes to the model and what is delivered.

        ``vault`` of another request, if its placeholders are to be turned back.
        """
        return Chat(self, conversation, conversation.lead(self._trusted_roles), self._memory(), vault)

    @property
    def output_detectors(self) -> frozenset[str]:
        """The names of the detectors that read answers."""
        return frozenset(name for policy in self._policies[Stage.OUTPUT] for name in policy.detectors)

    def vault(self, conversation: Conversation) -> Vault:
        """What is redacted in one request, and restored in its answers."""
        rules = self._redaction
        return Vault(rules.key, keep_last=rules.keep_last, taken=conversation.texts)

    def _memory(self) -> Memory | None:
        if self._history is None or not self._policies[Stage.INPUT]:
            return None
        judges = [self._classifier.identity(policy) for own in self._policies.values() for policy in own]
        if judges != self._root[0]:  # a judge's identity may change while it runs
            policies = [(policy, stage.value) for stage, own in self._policies.items() for policy in own]
            redaction = self._redaction.strategy.value
            rules = (
                sorted(self._trusted_roles),
                int(self.on_unreadable),
                self._blocked_turns,
                redaction,
                judges,
            )
            self._root = judges, history.root(policies, *rules)
        return Memory(self._history, self._root[1], self._blocked_turns)

    async def check_input(
        self,
        conversation: Conversation,
        *,
        decision_id: str = "",
        dialect: str = "",
    ) -> Decision:
        """Judge a whole conversation before it goes to the model, and record the decision."""
        subject = conversation.as_subject(self._trusted_roles)
        return await self.check(
            subject,
            unjudged=conversation.unreadable,
            decision_id=decision_id or new_decision_id(),
            dialect=dialect,
        )

    async def check_output(
        self,
        conversation: Conversation,
        answer: Turn,
        *,
        unjudged: tuple[str, ...] = (),
        decision_id: str = "",
        dialect: str = "",
    ) -> Decision:
        """Judge one answer with the conversation as its context, and record the decision."""
        subject = Subject(Stage.OUTPUT, conversation.turns, (answer,), conversation.digest)
        return await self.check(
            subject,
            unjudged=unjudged,
            decision_id=decision_id or new_decision_id(),
            dialect=dialect,
        )

    async def check(
        self,
        subject: Subject,
        *,
        unjudged: tuple[str, ...],
        decision_id: str,
        dialect: str,
        redacted: tuple[Redaction, ...] = (),
    ) -> Decision:
        """``judge`` and ``record``. A check that is cancelled is recorded as such.

        ``redacted``: what is to be redacted beside the subject, as was decided before.
        """
        try:
            decision = await self.judge(subject, unjudged=unjudged, decision_id=decision_id)
        except anyio.get_cancelled_exc_class():
            nothing = Decision(subject.stage, Action.BLOCK, unjudged=unjudged, id=decision_id)
            self.record(nothing, dialect, subject.text, cancelled=True)
            raise
        if redacted and decision.action is not Action.BLOCK:
            every = redacted + decision.redactions
            decision = replace(decision, action=Action.REDACT, redactions=every)
        where = None
        if self._sinks:
            where = coverage.places(subject, asked=bool(self._policies[subject.stage]))
        self.record(decision, dialect, subject.text, places=where)
        return decision

    async def judge(
        self, subject: Subject, *, unjudged: tuple[str, ...] = (), decision_id: str = ""
    ) -> Decision:
        """Ask every policy of the subject's stage and decide. Does not record."""
        policies = self._policies[subject.stage]
        findings: list[Finding] = []
        covered = coverage.count(subject, asked=bool(policies))
        judged = joined(subject)
        if covered.read:
            findings = await self._panel.findings(policies, judged)
        decision = decide(
            judged,
            findings,
            unjudged=unjudged,
            on_unreadable=self.on_unreadable,
            strategy=self._redaction.strategy,
            decision_id=decision_id,
            coverage=covered,
        )
        if decision.redactions and judged is not subject:
            return replace(decision, redactions=parted(decision.redactions, judged, subject))
        return decision

    def record(
        self,
        decision: Decision,
        dialect: str,
        text: str,
        *,
        checks: int = 1,
        cancelled: bool = False,
        held: Held | None = None,
        places: Places | None = None,
    ) -> None:
        """Hand one decision to every sink."""
        if self._sinks:
            now = time.time()
            record = DecisionRecord(decision, now, dialect, text, checks, cancelled, held, places)
            for sink in self._sinks:
                try:
                    sink.record(record)
                except Exception as error:  # a broken sink stops neither the answer nor other sinks
                    _log.error("sink %s failed: %s", type(sink).__name__, type(error).__name__)
