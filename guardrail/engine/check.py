"""The engine: the policies of a stage, side by side, under one deadline, to one Decision."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial

import anyio

from guardrail.core.conversation import Conversation, Subject, Turn
from guardrail.core.decision import Decision, Failure, Finding, decide
from guardrail.core.policy import Action, FailMode, Mode, Policy, Stage
from guardrail.core.prompt import verdict_key
from guardrail.core.record import DecisionRecord
from guardrail.core.verdict import Verdict
from guardrail.engine.single_flight import SingleFlight
from guardrail.errors import ClassifierError, FailureCode, MalformedVerdict, UnreadableRequest
from guardrail.ports import AuditSink, Classifier, VerdictCache

__all__ = ["FailRules", "GuardrailEngine", "new_decision_id"]

_log = logging.getLogger("guardrail.engine")


def new_decision_id() -> str:
    """A fresh id for one request: 96 random bits in hex."""
    return "gr-" + os.urandom(12).hex()


@dataclass(frozen=True, slots=True)
class FailRules:
    """The fail mode of one stage, by class of failure.

    ``auth`` is always closed: a wrong key or a wrong model name is no outage that ends by itself.
    """

    default: FailMode = FailMode.CLOSED
    by_code: Mapping[FailureCode, FailMode] = field(default_factory=dict)

    def mode(self, code: FailureCode) -> FailMode:
        """Open or closed for this class of failure."""
        if code is FailureCode.AUTH:
            return FailMode.CLOSED
        return self.by_code.get(code, self.default)


class GuardrailEngine:
    """Judges conversations and answers. Knows nothing of HTTP or JSON.

    ``policies`` are those of each stage; ``timeout_s`` is the deadline, in seconds, of one check of
    one stage, retries included; ``addable`` are the policies a request may add. Safe for concurrent
    use within one event loop.
    """

    def __init__(
        self,
        policies: Mapping[Stage, Sequence[Policy]],
        classifier: Classifier,
        *,
        addable: Iterable[Policy] = (),
        cache: VerdictCache | None = None,
        sinks: Sequence[AuditSink] = (),
        on_error: Mapping[Stage, FailRules] | None = None,
        timeout_s: float = 5.0,
        trusted_roles: frozenset[str] = frozenset({"system", "developer"}),
        on_unreadable: Action = Action.FLAG,
        strict: bool = False,
    ) -> None:
        self._policies = {
            stage: tuple(p for p in policies.get(stage, ()) if p.mode is not Mode.OFF) for stage in Stage
        }
        self._addable = {p.id: p for p in addable}
        self._classifier = classifier
        self._cache = cache
        self._sinks = tuple(sinks)
        self._on_error = {stage: (on_error or {}).get(stage, FailRules()) for stage in Stage}
        self._timeout_s = timeout_s
        self._trusted_roles = trusted_roles
        self.on_unreadable = Action.BLOCK if strict else on_unreadable
        self._flights: SingleFlight[Verdict] = SingleFlight()

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
        engine._policies = {  # noqa: SLF001 - a copy of this very object
            stage: (*own, *(p for p in wanted if stage in p.stages and p not in own))
            for stage, own in self._policies.items()
        }
        return engine

    async def check_input(
        self,
        conversation: Conversation,
        *,
        decision_id: str = "",
        dialect: str = "",
    ) -> Decision:
        """Judge a conversation before it goes to the model, and record the decision."""
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
        subject = Subject(Stage.OUTPUT, conversation.turns, (answer,))
        return await self.check(
            subject,
            unjudged=unjudged,
            decision_id=decision_id or new_decision_id(),
            dialect=dialect,
        )

    async def check(
        self, subject: Subject, *, unjudged: tuple[str, ...], decision_id: str, dialect: str
    ) -> Decision:
        """``judge`` and ``record``. A check that is cancelled is recorded as such."""
        try:
            decision = await self.judge(subject, unjudged=unjudged, decision_id=decision_id)
        except anyio.get_cancelled_exc_class():
            nothing = Decision(subject.stage, Action.BLOCK, unjudged=unjudged, id=decision_id)
            self.record(nothing, dialect, subject.text, cancelled=True)
            raise
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
    ) -> None:
        """Hand one decision to every sink."""
        if self._sinks:
            record = DecisionRecord(decision, time.time(), dialect, text, checks, cancelled)
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
        rules = self._on_error[subject.stage]
        return [
            finding
            or Failure(
                policies[index],
                FailureCode.TIMEOUT,
                rules.mode(FailureCode.TIMEOUT),
                latency_ms=(time.perf_counter() - started) * 1e3,
            )
            for index, finding in enumerate(found)
        ]

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
            found[index] = replace(verdict, policy=policy, latency_ms=elapsed)
            if self._cache is not None and not shared:
                await self._cache.put(key, verdict)
            return
        mode = self._on_error[subject.stage].mode(code)
        elapsed = (time.perf_counter() - started) * 1e3
        found[index] = Failure(policy, code, mode, violation=violation, latency_ms=elapsed)
