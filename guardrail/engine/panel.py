"""The panel: one subject under several policies, side by side, under one deadline."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial

import anyio

from guardrail.core.conversation import Subject
from guardrail.core.decision import Failure, Finding
from guardrail.core.policy import FailMode, Policy, Stage
from guardrail.core.prompt import verdict_key
from guardrail.core.verdict import Verdict
from guardrail.engine.fail_rules import FailRules
from guardrail.engine.last_resort import condemned
from guardrail.engine.single_flight import SingleFlight
from guardrail.errors import ClassifierError, FailureCode, MalformedVerdict
from guardrail.ports import Classifier, Observer, VerdictCache

__all__ = ["Panel"]

_log = logging.getLogger("guardrail.engine")


class Panel:
    """Asks the cache, then the classifier, once for each policy; whatever goes wrong is a ``Failure``.

    Checks in flight that are the same share one call. ``on_error`` says what a failure means, and
    ``last_resort`` is asked beside those; ``observers`` get every finding. ``timeout_s`` is the deadline in
    seconds.
    """

    def __init__(
        self,
        classifier: Classifier,
        cache: VerdictCache | None,
        last_resort: Classifier | None,
        observers: Sequence[Observer],
        on_error: Mapping[Stage, FailRules],
        timeout_s: float,
    ) -> None:
        self._classifier = classifier
        self._cache = cache
        self._last_resort = last_resort
        self._observers = tuple(observers)
        self._on_error = on_error
        self._timeout_s = timeout_s
        self._flights: SingleFlight[Verdict] = SingleFlight()

    async def findings(self, policies: Sequence[Policy], subject: Subject) -> list[Finding]:
        """What each policy's check found, in their order; those of the last resort behind them."""
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

    def fail_modes(self, policy_id: str, stage: Stage) -> set[FailMode]:
        """What becomes of the policy's failures, but for those of the one class that is always closed."""
        rules = self._on_error[stage]
        return {rules.mode(code, policy_id) for code in FailureCode if code is not FailureCode.AUTH}

    def closing(self, policy_ids: Iterable[str]) -> Panel:
        """Return this panel with every failure of these policies closed. Shares everything else."""
        panel = copy(self)
        closed = dict.fromkeys(policy_ids, FailRules())
        panel._on_error = {  # noqa: SLF001 - a copy of this very object
            stage: replace(rules, by_policy={**rules.by_policy, **closed})
            for stage, rules in self._on_error.items()
        }
        return panel

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
            code, usage = error.code, error.usage
            violation = isinstance(error, MalformedVerdict) and error.violation
            _log.warning("policy %s: check failed (%s): %s", policy.id, code.value, error)
        except Exception as error:
            code, violation, usage = FailureCode.INTERNAL, False, None
            _log.error("policy %s: check failed: %s", policy.id, type(error).__name__)
        else:
            elapsed = (time.perf_counter() - started) * 1e3
            if shared:  # whoever asked has it in his record, and its cost
                verdict = replace(verdict, cached=True, usage=None, steps=())
            found[index] = verdict.after(elapsed, policy)
            if self._cache is not None and not shared and _worth_keeping(verdict):
                await self._cache.put(key, verdict)
            return
        elapsed = (time.perf_counter() - started) * 1e3
        failure = self._failure(policy, subject.stage, code, elapsed, violation=violation)
        found[index] = failure if usage is None else replace(failure, usage=usage)


def _worth_keeping(verdict: Verdict) -> bool:
    """Not where the policy wants nothing kept, and not what another gave in the place of one that failed:
    it shall not outlive the outage.
    """
    return verdict.policy.cache_ttl_s != 0 and not any(step.error for step in verdict.steps)
