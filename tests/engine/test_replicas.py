"""The twin of guardrail/engine/replicas.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail import GuardrailEngine
from guardrail.backends.judge import JudgeClassifier, JudgeSettings
from guardrail.core.conversation import Conversation, Segment, Subject, Turn
from guardrail.core.decision import Failure
from guardrail.core.policy import Action, Effort, LabelRule, Policy, Stage
from guardrail.core.verdict import Step, Usage, Verdict
from guardrail.engine.breaker import Breaker, BreakerState
from guardrail.engine.endpoint import Endpoint
from guardrail.engine.hedge import Hedge
from guardrail.engine.limit import ConcurrencyLimit
from guardrail.engine.replicas import Replicas
from guardrail.errors import (
    ClassifierError,
    ClassifierRateLimited,
    ClassifierRejected,
    ClassifierUnavailable,
    ConfigError,
    FailureCode,
    MalformedVerdict,
)
from guardrail.testing import ScriptedClassifier
from tests.fakes import FakeJudge, Say

LABELS = {"OK": LabelRule("OK", False), "STOP": LabelRule("STOP", True, Action.BLOCK)}
TURNS = (Turn("user", (Segment("Hello", ()),)),)
SUBJECT = Subject(Stage.INPUT, (), TURNS)
ELSEWHERE = (
    FailureCode.UNAVAILABLE,
    FailureCode.TIMEOUT,
    FailureCode.RATE_LIMITED,
    FailureCode.OVERLOADED,
    FailureCode.AUTH,
)


def policy(number: int = 0, effort: Effort = Effort.LOW) -> Policy:
    return Policy(f"p{number}", f"Rules number {number}.", LABELS, reasoning_effort=effort)


POLICY = policy()


def endpoint_of(
    name: str, answer: str | ClassifierError = "OK", delay_s: float = 0.0, *, failures: int = 5
) -> Endpoint:
    judge = ScriptedClassifier([("", answer)], delay_s)
    return Endpoint(name, judge, Breaker(failures, 60.0), ConcurrencyLimit(8))


def replicas_of(names: Iterable[str], hedge: Hedge | None = None) -> tuple[Replicas, list[Endpoint]]:
    """The endpoints come in the order that ``POLICY`` has for them."""
    replicas = Replicas([endpoint_of(name) for name in names], hedge=hedge)
    return replicas, list(replicas._order(f"{POLICY.revision}:low"))


def script(endpoint: Endpoint, answer: str | ClassifierError, delay_s: float = 0.0) -> None:
    judge = endpoint.classifier
    assert isinstance(judge, ScriptedClassifier)
    judge.rules, judge.delay_s = (("", answer),), delay_s


def asked(endpoints: Iterable[Endpoint]) -> list[int]:
    return [len(endpoint.classifier.asked) for endpoint in endpoints]  # type: ignore[attr-defined]


class TestOrder:
    def homes(self, names: Iterable[str], count: int = 1_000) -> dict[str, str]:
        replicas, _ = replicas_of(names)
        return {key: replicas._order(key)[0].name for key in (f"{n:064x}:low" for n in range(count))}

    def test_policies_spread_evenly(self):
        found = Counter(self.homes("abcd", 4_000).values())
        assert sorted(found) == ["a", "b", "c", "d"]
        assert all(850 < share < 1_150 for share in found.values())  # 1,000 ± 5 standard deviations

    @given(st.sets(st.text(min_size=1, max_size=8), min_size=2, max_size=8), st.data())
    def test_one_more_moves_only_what_becomes_its_own(self, names: set[str], data: st.DataObject):
        added = data.draw(st.sampled_from(sorted(names)))
        before, after = self.homes(names - {added}, 60), self.homes(names, 60)
        assert all(after[key] in (before[key], added) for key in before)

    def test_one_more_moves_its_share(self):
        before, after = self.homes("abc"), self.homes("abcd")
        assert 180 < sum(before[key] != after[key] for key in before) < 320  # 250 of 1,000

    def test_the_order_of_the_configuration_does_not_matter_but_revision_and_effort_do(self):
        assert self.homes("abcd") == self.homes("dcba")
        replicas, _ = replicas_of("abcdefgh")
        orders = {
            tuple(e.name for e in replicas._order(f"{p.revision}:{p.reasoning_effort.value}"))
            for p in (policy(1), policy(2), policy(1, Effort.HIGH))
        }
        assert len(orders) == 3

    @pytest.mark.parametrize("names", ["", "aa", "aba"])
    def test_names_are_needed_and_unique(self, names: str):
        with pytest.raises(ConfigError, match=r"^classifier\.base_url: "):
            replicas_of(names)


@pytest.mark.anyio
class TestChoice:
    async def test_one_policy_stays_where_its_prefix_is(self):
        replicas, endpoints = replicas_of("abc")
        for _ in range(20):
            await replicas.classify(POLICY, SUBJECT)
        assert asked(endpoints) == [20, 0, 0]
        assert replicas.identity(POLICY) == "scripted"

    async def test_an_endpoint_much_busier_than_the_rest_is_passed_over(self):
        replicas, endpoints = replicas_of("abcd")
        for endpoint in endpoints:
            script(endpoint, "OK", 0.02)
        async with anyio.create_task_group() as group:
            for _ in range(16):
                group.start_soon(replicas.classify, POLICY, SUBJECT)
            await anyio.sleep(0.01)
            loads = [state.running + state.waiting for state in replicas.states()]
        assert sum(loads) == 16
        assert max(loads) <= 6  # 1.25 times the average, and the one that came last
        assert asked(endpoints)[0] == max(loads)
        assert [state.running for state in replicas.states()] == [0] * 4

    async def test_one_that_asks_to_be_left_alone_is_asked_last(self):
        replicas, (first, second) = replicas_of("ab")
        busy = ClassifierRateLimited("429")
        busy.retry_after_s = 60.0
        script(first, busy)
        for _ in range(3):
            assert (await replicas.classify(POLICY, SUBJECT)).label == "OK"
        assert asked((first, second)) == [1, 3]
        second.breaker.spare(60.0)  # where all do, it is as if none did
        script(first, "OK")
        assert (await replicas.classify(POLICY, SUBJECT)).steps == ()
        assert asked((first, second)) == [2, 3]

    async def test_what_failed_calls_cost_is_told(self):
        replicas, (first, second) = replicas_of("ab")
        for endpoint, prompt in ((first, 10), (second, 20)):
            busy = ClassifierRateLimited("429")
            busy.usage = Usage(prompt)
            script(endpoint, busy)
        with pytest.raises(ClassifierRateLimited) as caught:
            await replicas.classify(POLICY, SUBJECT)
        assert caught.value.usage == Usage(30)
        script(second, "OK")
        first.classifier.rules[0][1].usage = Usage(10)  # type: ignore[attr-defined]
        (step,) = (await replicas.classify(POLICY, SUBJECT)).steps
        assert (step.error, step.usage) == (FailureCode.RATE_LIMITED, Usage(10))

    async def test_one_that_rests_is_passed_over(self):
        replicas, endpoints = replicas_of("abc")
        for _ in range(5):
            endpoints[0].breaker.settle(endpoints[0].breaker.enter(), FailureCode.UNAVAILABLE)
        await replicas.classify(POLICY, SUBJECT)
        assert asked(endpoints) == [0, 1, 0]
        states = {state.name: state.breaker for state in replicas.states()}
        assert states[endpoints[0].name] is BreakerState.OPEN

    @pytest.mark.parametrize("causes", ["u", "uu", "ua", "au", "aa"])
    async def test_when_all_rest_it_fails_at_once(self, causes: str):
        replicas, endpoints = replicas_of("abc"[: len(causes)])
        for endpoint, cause in zip(endpoints, causes, strict=True):
            code = FailureCode.AUTH if cause == "a" else FailureCode.UNAVAILABLE
            for _ in range(5):
                endpoint.breaker.settle(endpoint.breaker.enter(), code)
        expected = ClassifierRejected if "a" in causes else ClassifierUnavailable
        with pytest.raises(expected):
            await replicas.classify(POLICY, SUBJECT)
        assert sum(asked(endpoints)) == 0


@pytest.mark.anyio
class TestFailover:
    @pytest.mark.parametrize("code", FailureCode)
    async def test_another_is_asked_where_it_may_do_better(self, code: FailureCode):
        replicas, endpoints = replicas_of("abc")
        script(endpoints[0], ClassifierError("no", code=code))
        if code in ELSEWHERE:
            verdict = await replicas.classify(POLICY, SUBJECT)
            (step,) = verdict.steps
            assert step == Step(endpoints[0].name, Effort.LOW, error=code, latency_ms=step.latency_ms)
            assert asked(endpoints) == [1, 1, 0]
        else:
            with pytest.raises(ClassifierError) as caught:
                await replicas.classify(POLICY, SUBJECT)
            assert caught.value.code is code
            assert asked(endpoints) == [1, 0, 0]

    async def test_two_are_asked_at_most(self):
        replicas, endpoints = replicas_of("abcd")
        for endpoint in endpoints:
            script(endpoint, ClassifierUnavailable("gone"))
        with pytest.raises(ClassifierUnavailable):
            await replicas.classify(POLICY, SUBJECT)
        assert asked(endpoints) == [1, 1, 0, 0]

    async def test_the_one_that_failed_is_not_asked_again_where_the_other_rests(self):
        replicas, endpoints = replicas_of("ab")
        for _ in range(5):
            endpoints[1].breaker.settle(endpoints[1].breaker.enter(), FailureCode.UNAVAILABLE)
        script(endpoints[0], ClassifierError("late", code=FailureCode.TIMEOUT))
        with pytest.raises(ClassifierError) as caught:
            await replicas.classify(POLICY, SUBJECT)
        assert caught.value.code is FailureCode.TIMEOUT
        assert asked(endpoints) == [1, 0]

    async def test_a_single_one_is_asked_once(self):
        replicas, endpoints = replicas_of("a")
        failure = ClassifierUnavailable("gone")
        script(endpoints[0], failure)
        with pytest.raises(ClassifierUnavailable) as caught:
            await replicas.classify(POLICY, SUBJECT)
        assert caught.value is failure
        assert asked(endpoints) == [1]

    @pytest.mark.parametrize("auth", [0, 1])
    async def test_auth_at_either_is_auth_so_that_no_fail_mode_opens_it(self, auth: int):
        replicas, endpoints = replicas_of("ab")
        script(endpoints[auth], ClassifierRejected("401"))
        script(endpoints[1 - auth], ClassifierUnavailable("gone"))
        for _ in range(12):  # also when both breakers are open
            with pytest.raises(ClassifierError) as caught:
                await replicas.classify(POLICY, SUBJECT)
            assert caught.value.code is FailureCode.AUTH

    async def test_earlier_steps_of_the_verdict_are_kept(self):
        replicas, endpoints = replicas_of("ab")
        script(endpoints[0], ClassifierUnavailable("gone"))
        inner = Step("small model", Effort.LOW, label="STOP")
        judge = endpoints[1].classifier
        assert isinstance(judge, ScriptedClassifier)
        judge.rules = (("", Verdict(POLICY, "STOP", True, steps=(inner,))),)
        verdict = await replicas.classify(POLICY, SUBJECT)
        assert [step.judge for step in verdict.steps] == [endpoints[0].name, "small model"]

    async def test_a_deadline_that_cuts_in_rests_an_endpoint_that_hangs(self):
        replicas, endpoints = replicas_of("ab")
        script(endpoints[0], "OK", 3600)
        engine = GuardrailEngine({Stage.INPUT: [POLICY]}, replicas, timeout_s=0.01)
        codes = []
        for _ in range(7):
            decision = await engine.check_input(Conversation(TURNS))
            codes += [f.code.value for f in decision.findings if isinstance(f, Failure)]
        assert codes == ["timeout"] * 5
        assert asked(endpoints) == [5, 2]

    async def test_a_text_that_no_server_reads_right_rests_none(self):
        replicas, endpoints = replicas_of("ab")
        script(endpoints[0], MalformedVerdict("?"))
        for _ in range(10):
            with pytest.raises(MalformedVerdict):
                await replicas.classify(POLICY, SUBJECT)
        assert {state.breaker for state in replicas.states()} == {BreakerState.CLOSED}


@pytest.mark.anyio
class TestHedging:
    HEDGE = Hedge(quantile=0.9, floor_s=0.01, budget=0.1)

    async def taught(self, names: str) -> tuple[Replicas, list[Endpoint]]:
        """Replicas that have seen twenty quick calls, and so may send two rivals."""
        replicas, endpoints = replicas_of(names, self.HEDGE)
        for _ in range(20):
            await replicas.classify(POLICY, SUBJECT)
        script(endpoints[0], "OK", 3600)
        return replicas, endpoints

    async def test_a_slow_call_is_overtaken_and_the_record_says_so(self):
        replicas, endpoints = await self.taught("abc")
        script(endpoints[1], "STOP")
        with anyio.fail_after(20):
            verdict = await replicas.classify(POLICY, SUBJECT)
        (step,) = verdict.steps
        assert verdict.label == "STOP"
        assert (step.judge, step.label, step.error) == (endpoints[0].name, None, None)
        assert asked(endpoints) == [21, 1, 0]
        assert {(s.breaker, s.running) for s in replicas.states()} == {(BreakerState.CLOSED, 0)}

    async def test_a_rival_that_loses_is_recorded_too(self):
        replicas, endpoints = await self.taught("ab")
        script(endpoints[0], "OK", 0.1)
        script(endpoints[1], "STOP", 3600)
        verdict = await replicas.classify(POLICY, SUBJECT)
        assert (verdict.label, [step.judge for step in verdict.steps]) == ("OK", [endpoints[1].name])

    async def test_alone_an_endpoint_is_asked_twice(self):
        replicas, endpoints = await self.taught("a")
        judge = endpoints[0].classifier
        assert isinstance(judge, ScriptedClassifier)
        delays = iter([3600.0, 0.0])
        judge.delay_s = lambda subject: next(delays)
        with anyio.fail_after(20):
            verdict = await replicas.classify(POLICY, SUBJECT)
        assert [step.judge for step in verdict.steps] == ["a"]
        assert asked(endpoints) == [22]

    async def test_rivals_are_bounded_by_the_budget(self):
        replicas, endpoints = await self.taught("ab")
        for _ in range(2):
            await replicas.classify(POLICY, SUBJECT)
        with anyio.move_on_after(0.1) as scope:
            await replicas.classify(POLICY, SUBJECT)
        assert scope.cancelled_caught
        assert asked(endpoints) == [23, 2]

    @pytest.mark.parametrize("running", [7, 8])
    async def test_a_saturated_endpoint_gets_no_rival(self, running: int):
        replicas, endpoints = await self.taught("ab")
        for endpoint in endpoints:
            for _ in range(7):  # as busy as each other, so that both may be chosen
                await endpoint.limit.enter()
        if running == 8:
            await endpoints[1].limit.enter()
        with anyio.move_on_after(0.1):
            await replicas.classify(POLICY, SUBJECT)
        assert asked(endpoints) == [21, 8 - running]
        assert replicas._pace is not None
        assert [replicas._pace.spend() for _ in range(3)].count(True) == running - 6  # of two

    async def test_a_quick_failure_goes_elsewhere_as_without_hedging(self):
        replicas, endpoints = await self.taught("abc")
        script(endpoints[0], ClassifierUnavailable("gone"))
        verdict = await replicas.classify(POLICY, SUBJECT)
        assert [step.error for step in verdict.steps] == [FailureCode.UNAVAILABLE]
        assert asked(endpoints) == [21, 1, 0]

    async def test_when_both_fail_no_third_is_asked(self):
        replicas, endpoints = await self.taught("abc")
        script(endpoints[0], ClassifierUnavailable("gone"), 0.05)
        script(endpoints[1], ClassifierUnavailable("gone"))
        with pytest.raises(ClassifierUnavailable):
            await replicas.classify(POLICY, SUBJECT)
        assert asked(endpoints) == [21, 1, 0]


@contextmanager
def real_judges() -> Iterator[tuple[Replicas, list[FakeJudge], list[JudgeClassifier]]]:
    """Two real HTTP servers; the first is the home of ``POLICY``."""
    with FakeJudge() as one, FakeJudge() as two:
        judges = [JudgeClassifier(JudgeSettings(server.url, "m")) for server in (one, two)]
        endpoints = [
            Endpoint(server.url, judge, Breaker(1, 60.0), ConcurrencyLimit(8))
            for server, judge in zip((one, two), judges, strict=True)
        ]
        replicas = Replicas(endpoints)
        order = [e.name for e in replicas._order(f"{POLICY.revision}:low")]
        yield replicas, sorted((one, two), key=lambda server: order.index(server.url)), judges


@pytest.mark.anyio
async def test_real_servers_are_warmed_then_one_fails_and_the_other_takes_over():
    with real_judges() as (replicas, (home, other), judges):
        try:
            warmed = await replicas.warm([policy(n) for n in range(3)])
            assert [w.error for w in warmed] == [None] * 6
            assert (len(home.seen), len(other.seen)) == (3, 3)
            home.default = Say(b'{"error": {"message": "no such key"}}', status=401)
            for _ in range(3):
                verdict = await replicas.classify(POLICY, SUBJECT)
                assert verdict.violation is False
            assert (len(home.seen), len(other.seen)) == (4, 6)
        finally:
            for judge in judges:
                await judge.aclose()
