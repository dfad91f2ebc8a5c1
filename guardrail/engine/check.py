"""The engine: the policies of a stage, side by side, under one deadline, to one Decision."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial

import anyio

from guardrail.core import history
from guardrail.core.conversation import Conversation, Subject, Turn
from guardrail.core.decision import Decision, Failure, Finding, decide
from guardrail.core.policy import Action, Mode, Policy, Stage
from guardrail.core.prompt import verdict_key
from guardrail.core.record import DecisionRecord, Held
from guardrail.core.redaction import Redaction
from guardrail.core.vault import RedactionRules, Vault
from guardrail.core.verdict import Verdict
from guardrail.engine.fail_rules import FailRules
from guardrail.engine.history import BlockedTurns, Chat, Memory
from guardrail.engine.last_resort import condemned
from guardrail.engine.single_flight import SingleFlight
from guardrail.errors import ClassifierError, FailureCode, MalformedVerdict, UnreadableRequest
from guardrail.ports import AuditSink, Classifier, HistoryCache, Observer, VerdictCache

__all__ = ["GuardrailEngine", "new_decision_id"]

_log = logging.getLogger("guardrail.engine")


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
        self._cache = cache
        self._history = history
        self._blocked_turns: BlockedTurns = blocked_turns
        self._last_resort = last_resort
        self._sinks = tuple(sinks)
        self._observers = tuple(observers)
        self._on_error = {stage: (on_error or {}).get(stage, FailRules()) for stage in Stage}
        self._timeout_s = timeout_s
        self._trusted_roles = trusted_roles
        self.on_unreadable = Action.BLOCK if strict else on_unreadable
        self._redaction = redaction or RedactionRules()
        self._flights: SingleFlight[Verdict] = SingleFlight()
        self._root: tuple[list[str], str] = ([], "")  # of what is remembered, and the judges it is made of

    def adding(self, policy_ids: Sequence[str]) -> GuardrailEngine:
        """Return this engine with more policies, each on the stages it is written for.

        Shares everything else. Raises ``UnreadableRequest`` for an id that is not ``addable``.
        """
        if not policy_ids:
            return self
        unknown = [policy_id for policy_id in policy_ids if policy_id not in self._addable]
        if unknown:
            raise UnreadableRequest("guardrails names an unknown policy", param="guardrails")
        named = [self._addable[policy_id] for policy_id in dict.fromkeys(policy_ids)]
        wanted = [policy for policy in named if policy.mode is not Mode.OFF]
        engine = copy(self)
        engine._root = ([], "")  # noqa: SLF001 - a copy of this very object
        engine._policies = {  # noqa: SLF001 - a copy of this very object
            stage: (*own, *(p for p in wanted if stage in p.stages and p not in own))
            for stage, own in self._policies.items()
        }
        return engine

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
        self.record(decision, dialect, subject.text)
        return decision

    async def judge(
        self, subject: Subject, *, unjudged: tuple[str, ...] = (), decision_id: str = ""
    ) -> Decision:
        """Ask every policy of the subject's stage and decide. Does not record."""
        policies = self._policies[subject.stage]
        findings: list[Finding] = []
        if policies and any(segment.text.strip() for segment in subject.segments):
            findings = await self._findings(policies, subject)
        return decide(
            subject,
            findings,
            unjudged=unjudged,
            on_unreadable=self.on_unreadable,
            strategy=self._redaction.strategy,
            decision_id=decision_id,
        )

    def record(
        self,
        decision: Decision,
        dialect: str,
        text: str,
        *,
        checks: int = 1,
        cancelled: bool = False,
        held: Held | None = None,
    ) -> None:
        """Hand one decision to every sink."""
        if self._sinks:
            record = DecisionRecord(decision, time.time(), dialect, text, checks, cancelled, held)
            for sink in self._sinks:
                try:
                    sink.record(record)
                except Exception as error:  # a broken sink stops neither the answer nor other sinks
                    _log.error("sink %s failed: %s", type(sink).__name__, type(error).__name__)

    async def _findings(self, policies: Sequence[Policy], subject: Subject) -> list[Finding]:
        digest = subject.digest()
        keys = [verdict_key(p, self._classifier.identity(p), digest) for p in policies]
        found: list[Finding | None] = [None] * len(policies)
        if self._cache is not None:
            found = list(await self._cache.get_many(keys, policies))
        missing = [index for index, finding in enumerate(found) if finding is None]
        started = time.perf_counter()
        if missing:
            with anyio.move_on_after(self._timeout_s):
                if len(missing) == 1:
                    await self._ask(missing[0], policies, keys, subject, found)
                else:
                    async with anyio.create_task_group() as group:
                        for index in missing:
                            group.start_soon(self._ask, index, policies, keys, subject, found)
        elapsed = (time.perf_counter() - started) * 1e3
        findings = [
            finding or self._failure(policies[index], subject.stage, FailureCode.TIMEOUT, elapsed)
            for index, finding in enumerate(found)
        ]
        if self._last_resort is not None:
            findings += await condemned(self._last_resort, findings, subject)
        self._observe(subject.stage, findings)
        return findings

    def _failure(
        self, policy: Policy, stage: Stage, code: FailureCode, elapsed: float, *, violation: bool = False
    ) -> Failure:
        mode = self._on_error[stage].mode(code, policy.id)
        return Failure(policy, code, mode, violation=violation, latency_ms=elapsed)

    def _observe(self, stage: Stage, findings: Sequence[Finding]) -> None:
        for observer in self._observers:
            try:
                for finding in findings:
                    observer.finding(stage, finding)
            except Exception as error:  # a broken observer stops neither the answer nor the others
                _log.error("observer %s failed: %s", type(observer).__name__, type(error).__name__)

    async def _ask(
        self,
        index: int,
        policies: Sequence[Policy],
        keys: Sequence[str],
        subject: Subject,
        found: list[Finding | None],
    ) -> None:
        """Fill ``found[index]`` with a Verdict or a Failure; leave None when the deadline cuts in."""
        policy, key = policies[index], keys[index]
        started = time.perf_counter()
        try:
            call = partial(self._classifier.classify, policy, subject)
            # By id too: two policies may have one body and yet different labels.
            verdict, shared = await self._flights.run(f"{policy.id}:{key}", call)
        except ClassifierError as error:
            code = error.code
            violation = isinstance(error, MalformedVerdict) and error.violation
            _log.warning("policy %s: check failed (%s): %s", policy.id, code.value, error)
        except Exception as error:
            code, violation = FailureCode.INTERNAL, False
            _log.error("policy %s: check failed: %s", policy.id, type(error).__name__)
        else:
            elapsed = (time.perf_counter() - started) * 1e3
            if shared:  # whoever asked has it in his record, and its cost
                verdict = replace(verdict, cached=True, usage=None, steps=())
            found[index] = replace(verdict, policy=policy, latency_ms=elapsed)
            if self._cache is not None and not shared and _worth_keeping(verdict):
                await self._cache.put(key, verdict)
            return
        elapsed = (time.perf_counter() - started) * 1e3
        found[index] = self._failure(policy, subject.stage, code, elapsed, violation=violation)


def _worth_keeping(verdict: Verdict) -> bool:
    """Not where the policy wants nothing kept, and not what another gave in the place of one that failed:
    it shall not outlive the outage.
    """
    return verdict.policy.cache_ttl_s != 0 and not any(step.error for step in verdict.steps)
