"""The twin of guardrail/engine/panel.py, seen through the engine that has one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from guardrail.backends.memory_cache import MemoryCache
from guardrail.core.conversation import Conversation, Segment, Subject, Turn
from guardrail.core.decision import Decision, Finding
from guardrail.core.policy import Action, FailMode, LabelRule, Mode, Policy, Stage
from guardrail.core.verdict import Usage, Verdict
from guardrail.engine.check import GuardrailEngine
from guardrail.engine.fail_rules import FailRules
from guardrail.engine.panel import Panel
from guardrail.errors import (
    ClassifierError,
    ClassifierRateLimited,
    ClassifierRejected,
    ClassifierTimeout,
    ClassifierUnavailable,
    FailureCode,
    MalformedVerdict,
)
from guardrail.testing import ScriptedClassifier
from tests.engine.asking import (
    BOUND_S,
    HELLO,
    CountingCache,
    Gated,
    Raising,
    engine_of,
    failures,
    policy,
    talk,
    verdicts,
)


class TestSideBySide:
    pytestmark = pytest.mark.anyio

    async def test_all_policies_are_asked_before_the_first_one_answers(self):
        gated = Gated()
        engine = engine_of(gated, policy("a"), policy("b"), policy("c"))
        decisions: list[Decision] = []

        async def check() -> None:
            decisions.append(await engine.check_input(HELLO))

        async with anyio.create_task_group() as group:
            group.start_soon(check)
            await anyio.wait_all_tasks_blocked()
            assert sorted(gated.asked) == ["a", "b", "c"]
            gated.gates[1].set()
            gated.gates[0].set()
            await anyio.wait_all_tasks_blocked()
            assert decisions == []  # one policy has not answered yet
            gated.gates[2].set()
        assert decisions[0].action is Action.PASS
        assert [f.policy.id for f in decisions[0].findings] == ["a", "b", "c"]

    async def test_the_strictest_finding_wins_and_all_are_kept(self):
        classifier = ScriptedClassifier([("hello", "BAD")])
        engine = engine_of(
            classifier, policy("z", Action.FLAG), policy("b", Action.BLOCK), policy("m", Action.REDACT)
        )
        decision = await engine.check_input(HELLO)
        assert decision.action is Action.BLOCK
        assert decision.blocking == ("b",)
        assert [f.policy.id for f in decision.findings] == ["b", "m", "z"]

    async def test_a_finding_says_how_long_it_took(self):
        decision = await engine_of(ScriptedClassifier(delay_s=0.02), policy()).check_input(HELLO)
        assert decision.findings[0].latency_ms >= 10


class TestDeadline:
    pytestmark = pytest.mark.anyio

    @pytest.mark.parametrize("others", [0, 2])
    async def test_who_did_not_answer_timed_out_and_the_others_count(self, others: int):
        slow = lambda subject: BOUND_S * 10  # noqa: E731

        class SlowFor(ScriptedClassifier):
            async def classify(self, policy: Policy, subject: Subject) -> Verdict:
                self.delay_s = slow if policy.id == "slow" else 0.0
                return await super().classify(policy, subject)

        names = [f"quick{i}" for i in range(others)]
        engine = engine_of(
            SlowFor([("hello", "BAD")]),
            policy("slow"),
            *(policy(name, Action.FLAG) for name in names),
            on_error={Stage.INPUT: FailRules(FailMode.OPEN)},
            timeout_s=0.05,
        )
        with anyio.fail_after(BOUND_S):
            decision = await engine.check_input(HELLO)
        assert failures(decision) == {"slow": FailureCode.TIMEOUT}
        assert verdicts(decision) == dict.fromkeys(names, "BAD")
        assert decision.action is (Action.FLAG if others else Action.PASS)
        assert decision.degraded == ("slow=timeout",)

    async def test_a_closed_timeout_blocks_and_says_that_the_check_is_what_failed(self):
        engine = engine_of(ScriptedClassifier(delay_s=BOUND_S * 10), policy(), timeout_s=0.02)
        with anyio.fail_after(BOUND_S):
            decision = await engine.check_input(HELLO)
        assert (decision.action, decision.unavailable) == (Action.BLOCK, True)

    async def test_a_violation_beside_a_timeout_is_a_refusal_not_an_outage(self):
        class Half(ScriptedClassifier):
            async def classify(self, policy: Policy, subject: Subject) -> Verdict:
                if policy.id == "slow":
                    await anyio.sleep_forever()
                return await super().classify(policy, subject)

        engine = engine_of(Half([("hello", "BAD")]), policy("slow"), policy("quick"), timeout_s=0.02)
        with anyio.fail_after(BOUND_S):
            decision = await engine.check_input(HELLO)
        assert (decision.action, decision.unavailable) == (Action.BLOCK, False)

    async def test_the_deadline_cancels_the_call(self):
        ended = anyio.Event()

        class Telling(ScriptedClassifier):
            async def classify(self, policy: Policy, subject: Subject) -> Verdict:
                try:
                    return await super().classify(policy, subject)
                finally:
                    ended.set()

        await engine_of(Telling(delay_s=BOUND_S * 10), policy(), timeout_s=0.02).check_input(HELLO)
        assert ended.is_set()


ERRORS: list[tuple[ClassifierError, FailureCode]] = [
    (ClassifierTimeout("m"), FailureCode.TIMEOUT),
    (ClassifierUnavailable("m"), FailureCode.UNAVAILABLE),
    (ClassifierRejected("m"), FailureCode.AUTH),
    (ClassifierRejected("m", code=FailureCode.TOO_LONG), FailureCode.TOO_LONG),
    (ClassifierRateLimited("m"), FailureCode.RATE_LIMITED),
    (MalformedVerdict("m"), FailureCode.MALFORMED),
    (MalformedVerdict("m", code=FailureCode.TRUNCATED), FailureCode.TRUNCATED),
    (ClassifierUnavailable("m", code=FailureCode.OVERLOADED), FailureCode.OVERLOADED),
    (ClassifierError("m"), FailureCode.INTERNAL),
]


class TestFailRules:
    @pytest.mark.anyio
    @pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda v: getattr(v, "value", type(v).__name__))
    async def test_every_class_of_error_is_a_failure_of_its_class(
        self, error: ClassifierError, code: FailureCode
    ):
        classifier = Raising({"p": error})
        rules = {Stage.INPUT: FailRules(FailMode.OPEN), Stage.OUTPUT: FailRules(FailMode.CLOSED)}
        engine = GuardrailEngine(
            {stage: [policy()] for stage in Stage},
            classifier,
            on_error=rules,
        )
        for decision, opened in (
            (await engine.check_input(HELLO), code is not FailureCode.AUTH),
            (await engine.check_output(HELLO, Turn("assistant", (Segment("fine", ()),))), False),
        ):
            assert failures(decision) == {"p": code}
            assert decision.action is (Action.PASS if opened else Action.BLOCK)
            assert decision.unavailable is not opened
            assert decision.degraded == (f"p={code.value}",)

    @pytest.mark.anyio
    @pytest.mark.parametrize("action", [Action.FLAG, Action.REDACT, Action.BLOCK])
    async def test_a_violation_without_a_sound_label_takes_the_strictest_action(self, action: Action):
        classifier = Raising({"p": MalformedVerdict("m", violation=True)})
        decision = await engine_of(classifier, policy(action=action)).check_input(HELLO)
        assert decision.action is action
        assert not decision.unavailable
        assert decision.degraded == ("p=malformed",)

    @pytest.mark.anyio
    async def test_a_shadow_policy_that_fails_blocks_nothing(self):
        classifier = Raising({"p": ClassifierUnavailable("m")})
        decision = await engine_of(classifier, policy(mode=Mode.SHADOW)).check_input(HELLO)
        assert decision.action is Action.PASS
        assert failures(decision) == {"p": FailureCode.UNAVAILABLE}


class TestLogs:
    pytestmark = pytest.mark.anyio

    async def test_a_foreign_exception_becomes_internal_and_its_text_is_not_logged(
        self, caplog: pytest.LogCaptureFixture
    ):
        classifier = Raising({"p": KeyError("what the user wrote")})
        engine = engine_of(classifier, policy(), policy("q"))
        with caplog.at_level("DEBUG"):
            decision = await engine.check_input(talk(("user", "what the user wrote")))
        assert failures(decision) == {"p": FailureCode.INTERNAL}
        assert verdicts(decision) == {"q": "SAFE"}
        assert "KeyError" in caplog.text
        assert "policy p" in caplog.text
        assert "what the user wrote" not in caplog.text
        assert all(record.exc_info is None for record in caplog.records)

    async def test_an_exception_group_of_a_classifier_is_one_failure(self):
        group = ExceptionGroup("inside", [ValueError("x"), ClassifierTimeout("y")])
        decision = await engine_of(Raising({"p": group}), policy()).check_input(HELLO)
        assert failures(decision) == {"p": FailureCode.INTERNAL}

    async def test_a_failed_check_is_logged_with_policy_and_class(self, caplog: pytest.LogCaptureFixture):
        classifier = Raising({"p": ClassifierUnavailable("the judge says 503")})
        await engine_of(classifier, policy()).check_input(HELLO)
        assert "policy p: check failed (unavailable): the judge says 503" in caplog.text


class TestCache:
    pytestmark = pytest.mark.anyio

    async def test_the_same_check_is_asked_once_and_marked_as_cached(self):
        classifier = ScriptedClassifier([("hello", "BAD")])
        engine = engine_of(classifier, policy(), cache=MemoryCache())
        first = await engine.check_input(HELLO)
        second = await engine.check_input(HELLO)
        assert len(classifier.asked) == 1
        assert first.action is second.action is Action.BLOCK
        assert [isinstance(f, Verdict) and f.cached for d in (first, second) for f in d.findings] == [
            False,
            True,
        ]

    async def test_only_the_policies_that_miss_are_asked(self):
        classifier = ScriptedClassifier()
        cache = MemoryCache()
        await engine_of(classifier, policy("a"), cache=cache).check_input(HELLO)
        decision = await engine_of(classifier, policy("a"), policy("b"), cache=cache).check_input(HELLO)
        assert [asked.id for asked, _ in classifier.asked] == ["a", "b"]
        assert {f.policy.id: f.cached for f in decision.findings if isinstance(f, Verdict)} == {
            "a": True,
            "b": False,
        }

    @pytest.mark.parametrize(
        "other",
        [
            talk(("user", "hello there")),
            talk(("tool", "hello")),
            talk(("user", "hel"), ("user", "lo")),
            talk(("system", "be kind"), ("user", "hello")),
        ],
        ids=["text", "role", "turns", "context"],
    )
    async def test_another_subject_is_asked_anew(self, other: Conversation):
        classifier = ScriptedClassifier()
        engine = engine_of(classifier, policy(), cache=MemoryCache())
        await engine.check_input(HELLO)
        await engine.check_input(other)
        assert len(classifier.asked) == 2

    async def test_another_stage_and_another_body_are_asked_anew(self):
        classifier = ScriptedClassifier()
        cache = MemoryCache()
        text = Turn("user", (Segment("hello", ()),))
        for body, stage in (("one", Stage.INPUT), ("one", Stage.OUTPUT), ("two", Stage.INPUT)):
            engine = engine_of(classifier, policy(body=body), stage=stage, cache=cache)
            await engine.judge(Subject(stage, (), (text,)))
        assert len(classifier.asked) == 3

    async def test_failures_are_never_cached(self):
        cache = CountingCache()
        classifier = Raising({"p": MalformedVerdict("m")})
        engine = engine_of(classifier, policy(), cache=cache)
        await engine.check_input(HELLO)
        await engine.check_input(HELLO)
        assert classifier.calls == 2
        assert cache.stored == []

    async def test_neither_is_a_timeout(self):
        cache = CountingCache()
        engine = engine_of(ScriptedClassifier(delay_s=60), policy(), cache=cache, timeout_s=0.01)
        await engine.check_input(HELLO)
        assert cache.stored == []

    @pytest.mark.parametrize(("ttl_s", "kept"), [(None, 1), (60.0, 1), (0.0, 0), (0, 0)])
    async def test_a_policy_may_forbid_it(self, ttl_s: float | None, kept: int):
        cache = CountingCache()
        await engine_of(ScriptedClassifier(), policy(cache_ttl_s=ttl_s), cache=cache).check_input(HELLO)
        assert len(cache.stored) == kept


@dataclass
class Watching:
    seen: list[tuple[Stage, Finding]] = field(default_factory=list)
    broken: bool = False

    def finding(self, stage: Stage, finding: Finding) -> None:
        self.seen.append((stage, finding))
        if self.broken:
            raise RuntimeError("secret text")


class TestObservers:
    pytestmark = pytest.mark.anyio

    async def test_get_every_finding_cached_and_failed_ones_included(self):
        watching = Watching()
        engine = engine_of(
            Raising({"down": ClassifierUnavailable("down")}),
            policy("ok"),
            policy("down"),
            cache=MemoryCache(),
            observers=[watching],
        )
        decisions = [await engine.check_input(HELLO) for _ in range(2)]
        told = [(stage, finding.policy.id) for stage, finding in watching.seen]
        assert told == [(Stage.INPUT, "ok"), (Stage.INPUT, "down")] * 2
        assert {id(f) for _, f in watching.seen} == {id(f) for d in decisions for f in d.findings}

    async def test_a_broken_one_stops_neither_the_answer_nor_the_others(self, caplog: Any):
        broken, sound = Watching(broken=True), Watching()
        engine = engine_of(ScriptedClassifier(), policy("a"), policy("b"), observers=[broken, sound])
        assert (await engine.check_input(HELLO)).action is Action.PASS
        assert (len(broken.seen), len(sound.seen)) == (1, 2)
        assert "observer Watching failed: RuntimeError" in caplog.text
        assert "secret text" not in caplog.text


@pytest.mark.anyio
async def test_a_failed_check_tells_what_it_cost():
    cut = MalformedVerdict("cut")
    cut.usage = Usage(7, 1)
    decision = await engine_of(Raising({"p": cut}), policy()).check_input(HELLO)
    assert [finding.usage for finding in decision.findings] == [Usage(7, 1)]


class TestSharedCalls:
    """Identical checks in flight share one call; see also the twin of single_flight.py."""

    pytestmark = pytest.mark.anyio

    async def test_identical_checks_at_the_same_time_are_one_call_and_one_cache_entry(self):
        gated = Gated(lambda policy, subject: Verdict(policy, "BAD", violation=True, usage=Usage(7, 1)))
        cache = CountingCache()
        engine = engine_of(gated, policy(), cache=cache)
        decisions: list[Decision] = []

        async def check() -> None:
            decisions.append(await engine.check_input(HELLO))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(check)
            await anyio.wait_all_tasks_blocked()
            assert len(gated.gates) == 1
            gated.gates[0].set()
        assert [d.action for d in decisions] == [Action.BLOCK] * 5
        assert len({d.id for d in decisions}) == 5
        assert len(cache.stored) == 1

    async def test_a_leader_that_is_cancelled_leaves_the_others_their_verdict(self):
        gated = Gated()
        engine = engine_of(gated, policy())
        decisions: list[Decision] = []

        async def check() -> None:
            decisions.append(await engine.check_input(HELLO))

        async with anyio.create_task_group() as group:
            async with anyio.create_task_group() as leading:
                leading.start_soon(check)
                await anyio.wait_all_tasks_blocked()
                group.start_soon(check)
                await anyio.wait_all_tasks_blocked()
                leading.cancel_scope.cancel()
            await anyio.wait_all_tasks_blocked()
            assert len(gated.gates) == 2  # the follower leads now
            gated.gates[1].set()
        assert [d.action for d in decisions] == [Action.PASS]

    async def test_a_leader_whose_deadline_ends_does_not_time_out_the_others(self):
        gated = Gated()
        engine = engine_of(gated, policy(), timeout_s=0.3)
        decisions: list[Decision] = []

        async def check() -> None:
            decisions.append(await engine.check_input(HELLO))

        async with anyio.create_task_group() as group:
            group.start_soon(check)
            await anyio.sleep(0.1)
            group.start_soon(check)
            with anyio.fail_after(BOUND_S):
                await gated.second.wait()
            gated.gates[1].set()
        assert [failures(d) for d in decisions] == [{"p": FailureCode.TIMEOUT}, {}]

    async def test_a_leader_that_fails_does_not_fail_the_others(self):
        answers: list[Verdict | ClassifierError] = []

        def next_answer(policy: Policy, subject: Subject) -> Verdict:
            answer = answers.pop(0)
            if isinstance(answer, ClassifierError):
                raise answer
            return answer

        own = policy()
        answers += [ClassifierUnavailable("503"), Verdict(own, "SAFE", violation=False)]
        gated = Gated(next_answer)
        engine = engine_of(gated, own)
        decisions: list[Decision] = []

        async def check() -> None:
            decisions.append(await engine.check_input(HELLO))

        async with anyio.create_task_group() as group:
            group.start_soon(check)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(check)
            await anyio.wait_all_tasks_blocked()
            gated.gates[0].set()
            await anyio.wait_all_tasks_blocked()
            gated.gates[1].set()
        assert [failures(d) for d in decisions] == [{"p": FailureCode.UNAVAILABLE}, {}]

    async def test_two_policies_with_one_body_each_get_a_label_of_their_own(self):
        """A trial copy of a policy beside the policy itself: same body, other front matter."""
        renamed = {
            "FINE": LabelRule("FINE", violation=False),
            "EVIL": LabelRule("EVIL", True, Action.BLOCK),
        }
        twins = (policy("a", Action.FLAG, body="same"), policy("b", body="same", labels=renamed))

        def answer(policy: Policy, subject: Subject) -> Verdict:
            return Verdict(policy, policy.strictest.label, violation=True)

        gated = Gated(answer)
        engine = engine_of(gated, *twins, cache=MemoryCache())
        for _ in range(2):  # asked, then out of the cache
            decisions: list[Decision] = []

            async def check(into: list[Decision] = decisions) -> None:
                into.append(await engine.check_input(HELLO))

            with anyio.fail_after(BOUND_S):
                async with anyio.create_task_group() as group:
                    group.start_soon(check)
                    while not decisions:
                        await anyio.wait_all_tasks_blocked()
                        for gate in gated.gates:
                            gate.set()
            assert verdicts(decisions[0]) == {"a": "BAD", "b": "EVIL"}
            assert decisions[0].action is Action.BLOCK


class TestFailModes:
    MIXED = FailRules(
        FailMode.OPEN,
        {FailureCode.TIMEOUT: FailMode.CLOSED},
        {"own": FailRules(FailMode.OPEN), "mild": FailRules(FailMode.OPEN), "strict": FailRules()},
    )

    def panel(self) -> Panel:
        return Panel(ScriptedClassifier(), None, None, (), dict.fromkeys(Stage, self.MIXED), 1.0)

    @pytest.mark.parametrize(
        ("policy_id", "modes"),
        [("own", {FailMode.OPEN}), ("strict", {FailMode.CLOSED}), ("other", set(FailMode))],
    )
    def test_what_becomes_of_failures(self, policy_id: str, modes: set[FailMode]):
        assert self.panel().fail_modes(policy_id, Stage.INPUT) == modes

    def test_closing_is_for_those_named_and_leaves_the_panel_as_it_is(self):
        panel = self.panel()
        closed = panel.closing(["own", "other"])
        told = [closed.fail_modes(own, Stage.OUTPUT) for own in ("own", "other", "third", "mild")]
        assert told == [{FailMode.CLOSED}, {FailMode.CLOSED}, set(FailMode), {FailMode.OPEN}]
        assert panel.fail_modes("own", Stage.OUTPUT) == {FailMode.OPEN}
