"""The twin of guardrail/engine/check.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.backends.memory_cache import MemoryCache
from guardrail.core.conversation import Conversation, Segment, Subject, Turn
from guardrail.core.decision import Decision, Failure, Finding
from guardrail.core.policy import Action, FailMode, LabelRule, Mode, Policy, Stage
from guardrail.core.record import DecisionRecord, to_json
from guardrail.core.verdict import Usage, Verdict
from guardrail.engine.check import GuardrailEngine, new_decision_id
from guardrail.engine.fail_rules import FailRules
from guardrail.errors import (
    ClassifierError,
    ClassifierRateLimited,
    ClassifierRejected,
    ClassifierTimeout,
    ClassifierUnavailable,
    FailureCode,
    MalformedVerdict,
    UnreadableRequest,
)
from guardrail.testing import Answer, MemorySink, ScriptedClassifier

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


HELLO = talk(("user", "hello"))


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


def test_decision_ids_are_fresh_and_of_one_form():
    ids = {new_decision_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"gr-[0-9a-f]{24}", one) for one in ids)


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


class CountingCache(MemoryCache):
    def __init__(self) -> None:
        super().__init__()
        self.stored: list[Verdict] = []

    async def put(self, key: str, verdict: Verdict) -> None:
        self.stored.append(verdict)
        await super().put(key, verdict)


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


class TestModes:
    pytestmark = pytest.mark.anyio

    async def test_shadow_is_asked_and_recorded_but_does_not_act(self):
        classifier = ScriptedClassifier([("hello", "BAD")])
        decision = await engine_of(classifier, policy(mode=Mode.SHADOW)).check_input(HELLO)
        assert decision.action is Action.PASS
        assert decision.findings[0].action is Action.BLOCK
        assert decision.blocking == ()

    async def test_off_is_not_asked_at_all(self):
        classifier = ScriptedClassifier([("hello", "BAD")])
        engine = engine_of(classifier, policy("on", Action.FLAG), policy("off", mode=Mode.OFF))
        decision = await engine.check_input(HELLO)
        assert [asked.id for asked, _ in classifier.asked] == ["on"]
        assert [f.policy.id for f in decision.findings] == ["on"]

    async def test_off_is_not_asked_when_a_request_adds_it_either(self):
        classifier = ScriptedClassifier()
        off = policy("off", mode=Mode.OFF)
        decision = await engine_of(classifier, addable=[off]).adding(["off"]).check_input(HELLO)
        assert (classifier.asked, decision.findings) == ([], ())

    async def test_without_policies_nothing_is_asked_and_all_passes(self):
        classifier = ScriptedClassifier([("hello", "BAD")])
        decision = await engine_of(classifier, policy(), stage=Stage.OUTPUT).check_input(HELLO)
        assert (classifier.asked, decision.action) == ([], Action.PASS)


class TestAdding:
    pytestmark = pytest.mark.anyio

    def engine(self, classifier: ScriptedClassifier) -> GuardrailEngine:
        addable = [
            policy("own"),
            policy("both"),
            policy("answers", stages=frozenset({Stage.OUTPUT})),
        ]
        return engine_of(classifier, addable[0], addable=addable)

    async def test_each_is_added_once_on_the_stages_it_is_written_for(self):
        classifier = ScriptedClassifier()
        engine = self.engine(classifier).adding(["both", "answers", "both", "own"])
        await engine.check_input(HELLO)
        assert sorted(asked.id for asked, _ in classifier.asked) == ["both", "own"]
        classifier.asked.clear()
        await engine.check_output(HELLO, Turn("assistant", (Segment("fine", ()),)))
        assert sorted(asked.id for asked, _ in classifier.asked) == ["answers", "both", "own"]

    async def test_the_engine_itself_stays_as_it_was(self):
        classifier = ScriptedClassifier()
        engine = self.engine(classifier)
        engine.adding(["both"])
        await engine.check_input(HELLO)
        assert [asked.id for asked, _ in classifier.asked] == ["own"]

    async def test_an_added_policy_can_only_tighten(self):
        classifier = ScriptedClassifier([("hello", "BAD")])
        engine = engine_of(classifier, policy("own"), addable=[policy("mild", Action.FLAG)])
        assert (await engine.adding(["mild"]).check_input(HELLO)).action is Action.BLOCK

    async def test_both_engines_share_calls_in_flight(self):
        gated = Gated()
        engine = engine_of(gated, policy("own"), addable=[policy("more")])
        async with anyio.create_task_group() as group:
            group.start_soon(engine.check_input, HELLO)
            group.start_soon(engine.adding(["more"]).check_input, HELLO)
            await anyio.wait_all_tasks_blocked()
            assert sorted(gated.asked) == ["more", "own"]
            for gate in gated.gates:
                gate.set()

    def test_adding_nothing_is_the_same_engine(self):
        engine = self.engine(ScriptedClassifier())
        assert engine.adding([]) is engine

    def test_an_unknown_id_is_the_clients_fault_and_is_not_echoed(self):
        with pytest.raises(UnreadableRequest, match="guardrails") as caught:
            self.engine(ScriptedClassifier()).adding(["both", "n-o-such"])
        assert (caught.value.status, caught.value.param) == (400, "guardrails")
        assert "n-o-such" not in str(caught.value)


class TestSubject:
    pytestmark = pytest.mark.anyio

    @staticmethod
    async def seen(conversation: Conversation, **more: Any) -> tuple[list[str], list[str]]:
        classifier = ScriptedClassifier()
        await engine_of(classifier, policy(), **more).check_input(conversation)
        (_, subject), *others = classifier.asked
        assert not others
        return [turn.role for turn in subject.context], [turn.role for turn in subject.turns]

    async def test_leading_trusted_turns_are_context(self):
        conversation = talk(("system", "s"), ("developer", "d"), ("user", "u"), ("assistant", "a"))
        assert await self.seen(conversation) == (["system", "developer"], ["user", "assistant"])

    async def test_a_trusted_role_after_another_turn_is_judged(self):
        conversation = talk(("system", "s"), ("user", "u"), ("system", "s2"), ("developer", "d"))
        assert await self.seen(conversation) == (["system"], ["user", "system", "developer"])

    @pytest.mark.parametrize("role", ["System", "system ", "root", ""])
    async def test_a_role_that_only_looks_trusted_is_judged(self, role: str):
        assert await self.seen(talk((role, "s"), ("user", "u"))) == ([], [role, "user"])

    async def test_trust_is_configured(self):
        conversation = talk(("system", "s"), ("user", "u"))
        assert await self.seen(conversation, trusted_roles=frozenset()) == ([], ["system", "user"])

    async def test_only_trusted_turns_is_nothing_to_judge(self):
        classifier = ScriptedClassifier([("s", "BAD")])
        decision = await engine_of(classifier, policy()).check_input(talk(("system", "s")))
        assert (classifier.asked, decision.action) == ([], Action.PASS)

    @pytest.mark.parametrize("text", ["", " \n\t", "\u3000"])
    async def test_blank_text_is_nothing_to_judge(self, text: str):
        classifier = ScriptedClassifier([("", "BAD")])
        decision = await engine_of(classifier, policy()).check_input(talk(("user", text)))
        assert (classifier.asked, decision.action) == ([], Action.PASS)

    @pytest.mark.parametrize("text", ["\u200b", "\U000e0041", "\x00"])
    async def test_text_that_only_looks_blank_is_judged(self, text: str):
        classifier = ScriptedClassifier()
        await engine_of(classifier, policy()).check_input(talk(("user", text)))
        assert len(classifier.asked) == 1

    async def test_an_answer_has_the_whole_conversation_as_its_context(self):
        classifier = ScriptedClassifier()
        engine = engine_of(classifier, policy(), stage=Stage.OUTPUT)
        answer = Turn("assistant", (Segment("fine", ()),))
        conversation = talk(("system", "s"), ("user", "u"))
        await engine.check_output(conversation, answer)
        ((_, subject),) = classifier.asked
        assert subject == Subject(Stage.OUTPUT, conversation.turns, (answer,))


class TestUnreadable:
    pytestmark = pytest.mark.anyio

    @pytest.mark.parametrize("action", [Action.PASS, Action.FLAG, Action.BLOCK])
    @pytest.mark.parametrize("stage", list(Stage))
    async def test_what_nobody_can_read_takes_the_configured_action_and_is_named(
        self, action: Action, stage: Stage
    ):
        engine = engine_of(ScriptedClassifier(), policy(), stage=stage, on_unreadable=action)
        parts = ("$.messages[0].content[1]",)
        if stage is Stage.INPUT:
            decision = await engine.check_input(replace(HELLO, unreadable=parts))
        else:
            answer = Turn("assistant", (Segment("fine", ()),))
            decision = await engine.check_output(HELLO, answer, unjudged=parts)
        assert (decision.action, decision.unjudged) == (action, parts)
        assert not decision.unavailable

    async def test_strict_blocks_whatever_is_not_judged(self):
        engine = engine_of(ScriptedClassifier(), policy(), on_unreadable=Action.PASS, strict=True)
        assert (await engine.check_input(replace(HELLO, unreadable=("$.x",)))).action is Action.BLOCK
        assert (await engine.check_input(HELLO)).action is Action.PASS


class TestRecords:
    pytestmark = pytest.mark.anyio

    async def test_every_sink_gets_the_decision_with_what_was_judged(self):
        sinks = [MemorySink(), MemorySink()]
        engine = engine_of(ScriptedClassifier([("hello", "BAD")]), policy(), sinks=sinks)
        conversation = talk(("system", "s"), ("user", "hello"), ("user", "you"))
        decision = await engine.check_input(conversation, decision_id="gr-1", dialect="chat.completions")
        assert decision.id == "gr-1"
        for sink in sinks:
            (record,) = sink.records
            assert record.decision is decision
            assert (record.dialect, record.text) == ("chat.completions", "hello\nyou")
            assert (record.checks, record.cancelled) == (1, False)
            assert "hello" not in repr(record)

    async def test_a_decision_without_an_id_gets_one(self):
        engine = engine_of(ScriptedClassifier(), policy())
        answer = Turn("assistant", (Segment("fine", ()),))
        made = [await engine.check_input(HELLO), await engine.check_output(HELLO, answer)]
        assert all(decision.id.startswith("gr-") for decision in made)

    async def test_judge_alone_records_nothing(self):
        sink = MemorySink()
        engine = engine_of(ScriptedClassifier(), policy(), sinks=[sink])
        await engine.judge(HELLO.as_subject(frozenset()))
        assert sink.records == []

    async def test_a_check_that_is_cancelled_is_recorded_as_cancelled(self):
        sink = MemorySink()
        engine = engine_of(Gated(), policy(), sinks=[sink])
        seen = replace(HELLO, unreadable=("$.x",))
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: engine.check_input(seen, decision_id="gr-2", dialect="d"))
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        (record,) = sink.records
        line = to_json(record, "none")
        assert (line["action"], line["id"], line["dialect"]) == ("cancelled", "gr-2", "d")
        assert (line["unjudged"], line["findings"]) == (["$.x"], [])
        assert record.text == "hello"

    async def test_a_sink_that_breaks_its_promise_harms_no_one_else(self, caplog: pytest.LogCaptureFixture):
        class Broken:
            def record(self, record: DecisionRecord) -> None:
                raise OSError("what the user wrote")

        sink = MemorySink()
        engine = engine_of(ScriptedClassifier([("hello", "BAD")]), policy(), sinks=[Broken(), sink])
        decision = await engine.check_input(HELLO)
        assert decision.action is Action.BLOCK
        assert [record.decision for record in sink.records] == [decision]
        assert "Broken" in caplog.text
        assert "what the user wrote" not in caplog.text


OUTCOMES = st.sampled_from(
    ["SAFE", "BAD", *(code for code in FailureCode if code is not FailureCode.TIMEOUT)]
)


@given(
    st.lists(
        st.tuples(
            OUTCOMES,
            st.sampled_from([Action.FLAG, Action.REDACT, Action.BLOCK]),
            st.sampled_from(list(Mode)),
        ),
        max_size=5,
    ),
    st.dictionaries(st.sampled_from(list(FailureCode)), st.sampled_from(list(FailMode))),
    st.sampled_from(list(FailMode)),
)
def test_the_decision_is_the_strictest_of_what_each_policy_asks_for(
    rows: list[tuple[str | FailureCode, Action, Mode]],
    by_code: dict[FailureCode, FailMode],
    default: FailMode,
):
    policies = [policy(f"p{i}", action, mode=mode) for i, (_, action, mode) in enumerate(rows)]
    answers: dict[str, Answer] = {}
    wanted = [Action.PASS]
    for own, (outcome, action, mode) in zip(policies, rows, strict=True):
        if isinstance(outcome, FailureCode):
            answers[own.id] = ClassifierError("m", code=outcome)
            closed = outcome is FailureCode.AUTH or by_code.get(outcome, default) is FailMode.CLOSED
            asks = Action.BLOCK if closed else Action.PASS
        else:
            answers[own.id] = outcome
            asks = action if outcome == "BAD" else Action.PASS
        if mode is Mode.ENFORCE:
            wanted.append(asks)

    class PerPolicy(ScriptedClassifier):
        async def classify(self, policy: Policy, subject: Subject) -> Verdict:
            return await ScriptedClassifier([("", answers[policy.id])]).classify(policy, subject)

    async def decide() -> Sequence[Finding]:
        engine = engine_of(PerPolicy(), *policies, on_error={Stage.INPUT: FailRules(default, by_code)})
        decision = await engine.check_input(HELLO)
        assert decision.action is max(wanted)
        return decision.findings

    findings = anyio.run(decide)
    assert [f.policy.id for f in findings] == sorted(p.id for p in policies if p.mode is not Mode.OFF)
