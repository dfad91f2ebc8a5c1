"""The judge on one or several endpoints, as one Classifier.

Which endpoint: each policy has its own order of them, by rendezvous hashing of its revision and effort,
and goes to the first that is healthy and not much busier than the rest. So the server that has a
policy's prefix in its cache goes on being asked for it, and an endpoint more moves only the policies
that are now its own. ("Consistent Hashing with Bounded Loads", Mirrokni, Thorup, Zadimoghaddam, 2016.)

A failed call is made once more elsewhere when another server may do better: no connection, a timeout,
a rate limit, a full queue, and ``auth``, since each server has a key and models of its own. A text that
is too long or whose verdict is malformed gets no better at a server with the same model, and was asked
about twice already. Two endpoints are asked at most: a text that kills servers must not walk through
all of them.

What a check went through stands in ``Verdict.steps``: a failed call with its ``error``; a call that a
quicker one overtook with neither ``error`` nor ``label``.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Final

from guardrail.core.conversation import Subject
from guardrail.core.policy import Policy
from guardrail.core.verdict import Step, Verdict
from guardrail.engine.endpoint import Endpoint, EndpointState
from guardrail.engine.hedge import Call, Hedge, Pace, graver, race
from guardrail.engine.warm import Warmed, warm
from guardrail.errors import ClassifierError, ConfigError, FailureCode

__all__ = ["Replicas"]

_BUSIER: Final = 1.25  # than the average endpoint
_ELSEWHERE: Final = frozenset(
    {
        FailureCode.UNAVAILABLE,
        FailureCode.TIMEOUT,
        FailureCode.RATE_LIMITED,
        FailureCode.OVERLOADED,
        FailureCode.AUTH,
    }
)


class Replicas:
    """Endpoints of one judge, all with the same model. Raises ``ConfigError``."""

    def __init__(self, endpoints: Sequence[Endpoint], *, hedge: Hedge | None = None) -> None:
        self._endpoints = tuple(endpoints)
        names = [endpoint.name for endpoint in endpoints]
        if not names or len(set(names)) < len(names):
            raise ConfigError("classifier.base_url: name at least one endpoint, and none twice")
        self._pace = Pace(hedge) if hedge is not None else None
        self._order = lru_cache(4096)(self._ranked)

    def identity(self, policy: Policy) -> str:
        """That of any endpoint: they are replicas."""
        return self._endpoints[0].identity(policy)

    def states(self) -> list[EndpointState]:
        """What each endpoint is doing, in the configured order."""
        return [endpoint.state for endpoint in self._endpoints]

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        """Ask the policy's endpoint, and another when that helps. Raises ``ClassifierError``."""
        key = f"{policy.revision}:{policy.reasoning_effort}"
        order = self._order(key)
        first = self._choose(order)
        if first is None:
            raise self._given_up(order)
        started = time.perf_counter()
        asked = [first]
        delay_s = None if self._pace is None else self._pace.delay_s(key)
        try:
            if delay_s is None:
                verdict = await first.classify(policy, subject)
            else:
                verdict = await self._race(order, asked, policy, subject, delay_s)
        except ClassifierError as error:
            failed = error
        else:
            if self._pace is not None:
                self._pace.add(key, time.perf_counter() - started)
            return verdict
        if failed.code not in _ELSEWHERE or len(asked) > 1:
            raise failed
        second = self._choose(order, first)
        if second is None:
            raise self._given_up(order, failed)
        step = _step(first, policy, started, failed)
        try:
            verdict = await second.classify(policy, subject)
        except ClassifierError as error:
            raise self._given_up(order, failed, error) from None
        return replace(verdict, steps=(step, *verdict.steps))

    async def _race(
        self,
        order: Sequence[Endpoint],
        asked: list[Endpoint],
        policy: Policy,
        subject: Subject,
        delay_s: float,
    ) -> Verdict:
        """Ask ``asked[0]``; when that is slow the next one too, or the same where there is no other."""
        first = asked[0]
        started = [time.perf_counter()]

        def rival() -> Call | None:
            second = first if len(order) == 1 else self._choose(order, first)
            if second is None or second.limit.saturated or self._pace is None or not self._pace.spend():
                return None
            asked.append(second)
            started.append(time.perf_counter())
            return partial(second.classify, policy, subject)

        outcome = await race(partial(first.classify, policy, subject), rival, delay_s)
        if not outcome.hedged:
            return outcome.verdict
        loser = 1 - outcome.winner
        step = _step(asked[loser], policy, started[loser])
        return replace(outcome.verdict, steps=(step, *outcome.verdict.steps))

    def _ranked(self, key: str) -> tuple[Endpoint, ...]:
        """The endpoints in the order of one policy."""

        def score(endpoint: Endpoint) -> bytes:
            return hashlib.blake2b(f"{key}\n{endpoint.name}".encode(), digest_size=16).digest()

        return tuple(sorted(self._endpoints, key=score, reverse=True))

    def _choose(self, order: Sequence[Endpoint], besides: Endpoint | None = None) -> Endpoint | None:
        """The first endpoint that may be asked, is not spared and is not much busier than the others."""
        fit = [endpoint for endpoint in order if endpoint is not besides and endpoint.breaker.allows]
        if len(fit) < 2:
            return fit[0] if fit else None
        fit = [endpoint for endpoint in fit if not endpoint.breaker.spared] or fit
        average = (sum(endpoint.limit.load for endpoint in fit) + 1) / len(fit)
        most = max(_BUSIER * average, 1.0)
        return next(endpoint for endpoint in fit if endpoint.limit.load < most)  # the least busy one is

    def _given_up(self, order: Sequence[Endpoint], *errors: ClassifierError) -> ClassifierError:
        """What is raised at the end: of the errors that were met and those of endpoints not asked."""
        resting = [endpoint.resting() for endpoint in order if not endpoint.breaker.allows]
        return graver([*resting, *errors])

    async def warm(self, policies: Sequence[Policy], timeout_s: float = 60.0) -> list[Warmed]:
        """Ask every endpoint once under every policy; see ``guardrail.engine.warm``. Never raises."""
        return await warm(self._endpoints, policies, timeout_s)


def _step(endpoint: Endpoint, policy: Policy, started: float, error: ClassifierError | None = None) -> Step:
    elapsed = (time.perf_counter() - started) * 1e3
    code, usage = (error.code, error.usage) if error is not None else (None, None)
    return Step(endpoint.name, policy.reasoning_effort, None, code, usage, elapsed)
