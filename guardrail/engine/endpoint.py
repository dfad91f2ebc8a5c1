"""One server of the judge: its classifier behind a breaker and a limit, which learn from every call."""

from __future__ import annotations

from dataclasses import dataclass

import anyio

from guardrail.core.conversation import Subject
from guardrail.core.policy import Policy
from guardrail.core.verdict import Verdict
from guardrail.engine.breaker import Breaker, BreakerState
from guardrail.engine.limit import ConcurrencyLimit
from guardrail.errors import ClassifierError, ClassifierRejected, ClassifierUnavailable, FailureCode
from guardrail.ports import Classifier

__all__ = ["Endpoint", "EndpointState"]


@dataclass(frozen=True, slots=True)
class EndpointState:
    """What an endpoint is doing: ``running`` and ``waiting`` calls, and how many may run at once."""

    name: str
    breaker: BreakerState
    running: int
    waiting: int
    limit: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place where the judge can be asked. ``name`` is unique and shown in records and metrics."""

    name: str
    classifier: Classifier
    breaker: Breaker
    limit: ConcurrencyLimit

    @property
    def state(self) -> EndpointState:
        """Its state at this moment."""
        limit = self.limit
        waiting = limit.load - limit.running
        return EndpointState(self.name, self.breaker.state, limit.running, waiting, limit.limit)

    def identity(self, policy: Policy) -> str:
        """That of its classifier."""
        return self.classifier.identity(policy)

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        """Ask once. Raises ``ClassifierError``, also where the breaker or the limit lets no call through.

        A deadline that cuts in cancels the call and so raises nothing here; the breaker learns of it
        all the same. It must be looked up before: once a scope is cancelled, by whatever cause,
        anyio gives its deadline as minus infinity.
        """
        deadline = anyio.current_effective_deadline()
        entered = await self.limit.enter()
        outcome: FailureCode | None = FailureCode.INTERNAL
        if not self.breaker.allows:  # asked here, since it may have opened while we waited
            self.limit.leave(entered, outcome)
            raise self.resting()
        set_out = self.breaker.enter()
        try:
            verdict = await self.classifier.classify(policy, subject)
        except ClassifierError as error:
            outcome = error.code
            if error.retry_after_s:
                self.breaker.spare(error.retry_after_s)
            raise
        except anyio.get_cancelled_exc_class():
            if deadline <= anyio.current_time():
                outcome = FailureCode.TIMEOUT
            raise
        else:
            outcome = None
            return verdict
        finally:
            self.breaker.settle(set_out, outcome)
            self.limit.leave(entered, outcome)

    def resting(self) -> ClassifierError:
        """Why a call is refused while the breaker is not closed."""
        if self.breaker.cause is FailureCode.AUTH:
            return ClassifierRejected(
                f"{self.name} keeps refusing our calls; check classifier.base_url, model and api_key"
            )
        return ClassifierUnavailable(f"{self.name} rests after failures in a row")
