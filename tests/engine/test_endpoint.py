"""The twin of guardrail/engine/endpoint.py."""

from __future__ import annotations

import anyio
import pytest

from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.policy import Action, LabelRule, Policy, Stage
from guardrail.core.verdict import Verdict
from guardrail.engine.breaker import Breaker, BreakerState
from guardrail.engine.endpoint import Endpoint, EndpointState
from guardrail.engine.limit import ConcurrencyLimit
from guardrail.errors import ClassifierError, ClassifierRejected, ClassifierUnavailable, FailureCode
from guardrail.testing import ScriptedClassifier

pytestmark = pytest.mark.anyio

LABELS = {"OK": LabelRule("OK", False), "STOP": LabelRule("STOP", True, Action.BLOCK)}
POLICY = Policy("house", "Judge by the house rules.", LABELS)
SUBJECT = Subject(Stage.INPUT, (), (Turn("user", (Segment("Hello", ()),)),))
CLOSED, OPEN, HALF_OPEN = BreakerState


def endpoint_of(
    answer: str | ClassifierError = "OK", delay_s: float = 0.0, *, failures: int = 1, start: int = 4
) -> Endpoint:
    judge = ScriptedClassifier([("", answer)], delay_s)
    return Endpoint("a", judge, Breaker(failures, 60.0), ConcurrencyLimit(8, start=start))


async def test_a_verdict_passes_as_it_is():
    endpoint = endpoint_of("STOP")
    assert await endpoint.classify(POLICY, SUBJECT) == Verdict(POLICY, "STOP", True, judge="scripted")
    assert endpoint.identity(POLICY) == "scripted"
    assert endpoint.state == EndpointState("a", CLOSED, running=0, waiting=0, limit=4)


@pytest.mark.parametrize("code", FailureCode)
async def test_breaker_and_limit_learn_from_what_is_raised(code: FailureCode):
    endpoint = endpoint_of(ClassifierError("no", code=code))
    with pytest.raises(ClassifierError) as caught:
        await endpoint.classify(POLICY, SUBJECT)
    assert caught.value.code is code
    opens = code in (FailureCode.UNAVAILABLE, FailureCode.TIMEOUT, FailureCode.AUTH)
    cuts = code in (FailureCode.TIMEOUT, FailureCode.RATE_LIMITED, FailureCode.OVERLOADED)
    assert endpoint.state == EndpointState("a", OPEN if opens else CLOSED, 0, 0, 2 if cuts else 4)


async def test_a_deadline_that_cuts_in_is_a_timeout():
    endpoint = endpoint_of(delay_s=60)
    with anyio.move_on_after(0.01) as scope:
        await endpoint.classify(POLICY, SUBJECT)
    assert scope.cancelled_caught
    assert endpoint.state == EndpointState("a", OPEN, 0, 0, limit=2)
    assert endpoint.breaker.cause is FailureCode.TIMEOUT


@pytest.mark.parametrize("deadline_s", [30, float("inf")])
async def test_a_client_that_hangs_up_is_no_failure(deadline_s: float):
    endpoint = endpoint_of(delay_s=60)
    with anyio.CancelScope() as client, anyio.move_on_after(deadline_s):
        async with anyio.create_task_group() as group:
            group.start_soon(endpoint.classify, POLICY, SUBJECT)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            assert endpoint.state.running == 1
            client.cancel()
    assert endpoint.state == EndpointState("a", CLOSED, 0, 0, limit=4)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (ClassifierUnavailable("gone"), ClassifierUnavailable),
        (ClassifierRejected("401"), ClassifierRejected),
    ],
)
async def test_an_open_breaker_refuses_at_once_and_auth_stays_auth(
    error: ClassifierError, raised: type[ClassifierError]
):
    endpoint = endpoint_of(error)
    judge = endpoint.classifier
    assert isinstance(judge, ScriptedClassifier)
    for _ in range(3):
        with pytest.raises(raised) as caught:
            await endpoint.classify(POLICY, SUBJECT)
    assert caught.value.code is error.code
    assert len(judge.asked) == 1
    assert endpoint.state.running == 0


async def test_calls_that_wait_are_refused_when_the_breaker_opens_meanwhile():
    endpoint = endpoint_of(ClassifierUnavailable("gone"), delay_s=0.01, start=1)
    codes = []

    async def call() -> None:
        with pytest.raises(ClassifierUnavailable) as caught:
            await endpoint.classify(POLICY, SUBJECT)
        codes.append(caught.value.code)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(call)
    assert len(codes) == 3
    assert len(endpoint.classifier.asked) == 1
    assert endpoint.state == EndpointState("a", OPEN, 0, 0, limit=1)


async def test_a_bug_of_the_classifier_gives_the_place_back():
    class Broken(ScriptedClassifier):
        async def classify(self, policy: Policy, subject: Subject) -> Verdict:
            raise ZeroDivisionError

    endpoint = Endpoint("a", Broken(), Breaker(1), ConcurrencyLimit(8, start=4))
    with pytest.raises(ZeroDivisionError):
        await endpoint.classify(POLICY, SUBJECT)
    assert endpoint.state == EndpointState("a", CLOSED, 0, 0, 4)
