"""The twin of guardrail/engine/check.py."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.addition import Addition
from guardrail.core.conversation import Conversation, Segment, Subject, Turn
from guardrail.core.decision import Finding
from guardrail.core.policy import Action, FailMode, Mode, Policy, Stage
from guardrail.core.record import DecisionRecord, to_json
from guardrail.core.verdict import Verdict
from guardrail.engine.check import GuardrailEngine, new_decision_id
from guardrail.engine.fail_rules import FailRules
from guardrail.errors import (
    ClassifierError,
    ClassifierTimeout,
    FailureCode,
    UnreadableRequest,
)
from guardrail.testing import Answer, MemorySink, ScriptedClassifier
from tests.engine.asking import HELLO, Gated, Raising, engine_of, policy, talk


def test_decision_ids_are_fresh_and_of_one_form():
    ids = {new_decision_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"gr-[0-9a-f]{24}", one) for one in ids)


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

    @pytest.mark.parametrize("own", [Mode.OFF, Mode.SHADOW])
    async def test_a_policy_that_does_not_act_may_be_made_to(self, own: Mode):
        classifier = ScriptedClassifier([("hello", "BAD")])
        quiet = policy("quiet", mode=own)
        engine = engine_of(classifier, quiet, addable=[quiet])
        acting = engine.adding([Addition("quiet", Mode.ENFORCE)])
        assert (await acting.check_input(HELLO)).blocking == ("quiet",)
        assert len(classifier.asked) == 1
        assert (await engine.check_input(HELLO)).action is Action.PASS

    async def test_a_mode_and_its_repetition_do_not_undo_each_other(self):
        quiet = policy("quiet", mode=Mode.SHADOW)
        engine = engine_of(ScriptedClassifier([("hello", "BAD")]), quiet, addable=[quiet])
        twice = engine.adding([Addition("quiet", Mode.ENFORCE), "quiet"]).adding(["quiet"])
        assert (await twice.check_input(HELLO)).action is Action.BLOCK

    @pytest.mark.parametrize(
        "wanted",
        [
            [Addition("own", Mode.SHADOW)],
            [Addition("own", Mode.OFF)],
            [Addition("quiet", Mode.ENFORCE), Addition("quiet", Mode.SHADOW)],
        ],
    )
    def test_no_policy_gets_milder(self, wanted: list[Addition]):
        policies = [policy("own"), policy("quiet", mode=Mode.SHADOW)]
        engine = engine_of(ScriptedClassifier(), *policies, addable=policies)
        with pytest.raises(UnreadableRequest) as caught:
            engine.adding(wanted)
        assert caught.value.param == f"guardrails[{len(wanted) - 1}].mode"

    async def test_a_failure_may_be_closed(self):
        classifier = Raising({"own": ClassifierTimeout("slow"), "more": ClassifierTimeout("slow")})
        rules = {stage: FailRules(FailMode.OPEN) for stage in Stage}
        policies = [policy("own"), policy("more")]
        engine = engine_of(classifier, *policies, addable=policies, on_error=rules)
        strict = engine.adding([Addition("own", fail_mode=FailMode.CLOSED), "own"])
        assert (await strict.check_input(HELLO)).blocking == ("own",)
        assert (await engine.check_input(HELLO)).action is Action.PASS
        told = [own.fail_mode(one, Stage.INPUT) for own in (engine, strict) for one in policies]
        assert told == [FailMode.OPEN, FailMode.OPEN, FailMode.CLOSED, FailMode.OPEN]

    @pytest.mark.parametrize(
        "rules",
        [
            FailRules(),
            FailRules(FailMode.OPEN, {FailureCode.TIMEOUT: FailMode.CLOSED}),
            FailRules(FailMode.OPEN, by_policy={"own": FailRules()}),
        ],
    )
    def test_no_failure_is_let_through_that_is_closed(self, rules: FailRules):
        both = {Stage.INPUT: FailRules(FailMode.OPEN), Stage.OUTPUT: rules}
        engine = engine_of(ScriptedClassifier(), addable=[policy("own")], on_error=both)
        with pytest.raises(UnreadableRequest) as caught:
            engine.adding(["own", Addition("own", fail_mode=FailMode.OPEN)])
        assert caught.value.param == "guardrails[1].on_unavailable"
        inputs = policy("own", stages=frozenset({Stage.INPUT}))
        engine = engine_of(ScriptedClassifier(), addable=[inputs], on_error=both)
        engine.adding([Addition("own", fail_mode=FailMode.OPEN)])  # it changes nothing

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

    async def test_a_record_says_where_the_judged_texts_stand(self):
        sink = MemorySink()
        engine = engine_of(ScriptedClassifier(), policy(), sinks=[sink])
        conversation = talk(("system", "s"), ("user", "hello"), ("user", " "))
        decision = await engine.check_input(conversation)
        assert decision.coverage == (1, 2)
        assert sink.records[0].places == (
            (("messages", 1, "content"),),
            (("messages", 0, "content"), ("messages", 2, "content")),
        )

    async def test_without_policies_every_text_is_skipped(self):
        sink = MemorySink()
        engine = engine_of(ScriptedClassifier(), sinks=[sink])
        assert (await engine.check_input(HELLO)).coverage == (0, 1)
        assert [record.places.read for record in sink.records if record.places] == [()]

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
