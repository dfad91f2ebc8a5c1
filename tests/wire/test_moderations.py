"""The moderation endpoint's shapes: what is read, and what is said of each text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.moderation import Categories

from guardrail.core.addition import Addition
from guardrail.core.conversation import Conversation
from guardrail.core.decision import Decision, Failure, Finding, decide
from guardrail.core.policy import (
    CATEGORIES,
    JUDGE_REFUSAL,
    Action,
    FailMode,
    LabelRule,
    Mode,
    Policy,
    Stage,
)
from guardrail.core.verdict import Verdict
from guardrail.errors import FailureCode, UnreadableRequest
from guardrail.wire.moderations import (
    MOST_TEXTS,
    UNREADABLE,
    Asked,
    Moderation,
    answer,
    headers,
    read,
    unjudged,
)

IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}
TEXT = {"type": "text", "text": "a text"}


def policy(policy_id: str = "house", **changes: Any) -> Policy:
    labels = {
        "OK": LabelRule("OK", False),
        "LOOK": LabelRule("LOOK", True, Action.FLAG),
        "STOP": LabelRule("STOP", True, Action.BLOCK),
    }
    return Policy(policy_id, "Judge.", labels, **changes)


def body(given: Any, **more: Any) -> bytes:
    return json.dumps({"input": given, **more}).encode()


def decided(conversation: Conversation, *findings: Finding, rule: Action = Action.FLAG) -> Decision:
    return decide(
        conversation.as_subject(frozenset()),
        findings,
        unjudged=conversation.unreadable,
        on_unreadable=rule,
        decision_id="gr-1",
    )


def results(asked: Asked, policies: list[Policy], *findings: Finding, **how: Any) -> list[dict[str, Any]]:
    decisions = [decided(conversation, *findings, **how) for conversation in asked.conversations]
    reply = answer("gr-1", asked, decisions, policies)
    assert reply.status == 200
    told = json.loads(reply.body)
    assert (told["id"], told["model"]) == ("gr-1", "guardrail")
    assert Moderation.model_validate(told).model_dump() == told
    return list(told["results"])


def test_the_categories_are_those_of_the_sdk():
    fields = Categories.model_fields.items()
    assert sorted(field.alias or name for name, field in fields) == sorted(CATEGORIES)


class TestRead:
    def test_one_text(self):
        asked = read(body("hello", model="omni-moderation-latest", later={"x": 1}))
        assert [list(c.texts) for c in asked.conversations] == [["hello"]]
        [turn] = asked.conversations[0].turns
        assert (turn.role, turn.segments[0].address, asked.added) == ("user", ("input",), ())

    def test_several(self):
        asked = read(body(["a", "", "c"], guardrails=["x", "y"]))
        assert [list(c.texts) for c in asked.conversations] == [["a"], [""], ["c"]]
        assert asked.conversations[2].turns[0].segments[0].address == ("input", 2)
        assert asked.added == ("x", "y")

    def test_policies_are_named_as_on_guarded_routes(self):
        quiet = {"name": "quiet", "mode": "enforce", "on_unavailable": "closed"}
        asked = read(body("a", guardrails=["x", quiet]))
        assert asked.added == ("x", Addition("quiet", Mode.ENFORCE, FailMode.CLOSED))
        for entry, param in (({"name": 1}, "guardrails[0].name"), ({"id": "x"}, "guardrails[0]")):
            with pytest.raises(UnreadableRequest) as caught:
                read(body("a", guardrails=[entry]))
            assert caught.value.param == param

    def test_parts_are_one(self):
        asked = read(body([TEXT, IMAGE, TEXT], guardrails=None))
        [conversation] = asked.conversations
        addresses = [segment.address for segment in conversation.turns[0].segments]
        assert addresses == [("input", 0, "text"), ("input", 2, "text")]
        assert conversation.unreadable == ("$.input[1]",)

    def test_as_many_texts_as_may_be(self):
        assert len(read(body(["a"] * MOST_TEXTS)).conversations) == MOST_TEXTS
        with pytest.raises(UnreadableRequest, match="more than 128") as caught:
            read(body(["a"] * (MOST_TEXTS + 1)))
        assert caught.value.param == "input"

    @pytest.mark.parametrize(
        "given",
        [None, 3, True, {}, [], [3], ["a", TEXT], [TEXT, "a"], [{}], [{"type": "text"}], [[1, 2]],
         [{"type": "audio", "text": "a"}], [{"type": "image_url", "image_url": "x"}]],
    )  # fmt: skip
    def test_anything_else_is_refused(self, given: Any):
        with pytest.raises(UnreadableRequest) as caught:
            read(body(given))
        assert (caught.value.param, caught.value.status) == ("input", 400)

    @pytest.mark.parametrize("more", [{"guardrails": "x"}, {"guardrails": [1]}, {"model": 3}])
    def test_other_fields_are_named(self, more: dict[str, Any]):
        with pytest.raises(UnreadableRequest) as caught:
            read(body("x", **more))
        assert [caught.value.param] == [*more]


class TestAnswer:
    def test_a_violation_is_a_category_and_flagged(self):
        house = policy()
        for label, violation in (("OK", False), ("LOOK", True), ("STOP", True)):
            [result] = results(read(body("x")), [house], Verdict(house, label, violation))
            assert result == {
                "flagged": violation,
                "categories": {"house": violation},
                "category_scores": {"house": float(violation)},
                "category_applied_input_types": {"house": ["text"]},
            }

    def test_what_a_policy_covers_is_a_category_too(self):
        house = policy(covers={"LOOK": ["harassment"], "STOP": ["harassment", "hate"]})
        expected = {
            "OK": (False, False, False),
            "LOOK": (True, True, False),
            "STOP": (True, True, True),
            JUDGE_REFUSAL: (True, True, True),  # as strict as it gets
        }
        for label, (own, harassment, hate) in expected.items():
            [result] = results(read(body("x")), [house], Verdict(house, label, own))
            assert result["categories"] == {"house": own, "harassment": harassment, "hate": hate}

    def test_two_policies_may_cover_one_category(self):
        first = policy("first", covers={"STOP": ["violence"]})
        second = policy("violence", covers={"STOP": ["violence"]})
        found = [Verdict(first, "STOP", True), Verdict(second, "OK", False)]
        for policies in ([first, second], [second, first]):
            [result] = results(read(body("x")), policies, *found)
            assert result["categories"] == {"first": True, "violence": True}

    def test_a_shadow_is_not_told(self):
        house, shadow = policy(), policy("watch", mode=Mode.SHADOW, covers={"STOP": ["hate"]})
        found = [Verdict(house, "OK", False), Verdict(shadow, "STOP", True)]
        [result] = results(read(body("x")), [house, shadow], *found)
        assert (result["flagged"], result["categories"]) == (False, {"house": False})

    def test_an_empty_text_is_said_to_be_unread(self):
        [result] = results(read(body(" \n")), [policy()])
        assert result["categories"] == {"house": False}
        assert result["category_applied_input_types"] == {"house": []}

    @pytest.mark.parametrize("rule", [Action.FLAG, Action.BLOCK])
    def test_an_image_is_flagged_by_the_rule(self, rule: Action):
        house = policy()
        [result] = results(read(body([TEXT, IMAGE])), [house], Verdict(house, "OK", False), rule=rule)
        assert result["flagged"] is True
        assert result["categories"] == {"house": False, UNREADABLE: True}
        assert result["category_scores"][UNREADABLE] == 1.0
        assert result["category_applied_input_types"] == {"house": ["text"], UNREADABLE: ["image"]}

    def test_or_passed_by_it(self):
        [result] = results(read(body([IMAGE])), [policy()], rule=Action.PASS)
        assert (result["flagged"], result["categories"]) == (False, {"house": False})

    def test_no_policy_can_be_called_unreadable(self):
        assert "/" in UNREADABLE
        assert UNREADABLE not in CATEGORIES

    @given(st.lists(st.sampled_from(["OK", "LOOK", "STOP"]), min_size=1, max_size=4))
    def test_flagged_is_whether_any_category_is(self, labels: list[str]):
        policies = [policy(f"p{index}", covers={"STOP": ["hate"]}) for index in range(len(labels))]
        found = [Verdict(p, label, label != "OK") for p, label in zip(policies, labels, strict=True)]
        [result] = results(read(body("x")), policies, *found)
        assert result["flagged"] is (set(labels) != {"OK"})
        assert result["categories"]["hate"] is ("STOP" in labels)
        keys = {"p" + str(index) for index in range(len(labels))} | {"hate"}
        for field in ("categories", "category_scores", "category_applied_input_types"):
            assert set(result[field]) == keys


class TestUnjudged:
    @pytest.mark.parametrize("mode", FailMode)
    @pytest.mark.parametrize("violation", [True, False])
    def test_a_failure_counts_whatever_its_mode(self, mode: FailMode, violation: bool):
        failed = Failure(policy(), FailureCode.TIMEOUT, mode, violation=violation)
        decision = decided(read(body("x")).conversations[0], failed)
        assert unjudged(decision)
        told = dict(headers([decision]))
        assert told[b"x-guardrail-decision"] == b"block"
        assert told[b"x-guardrail-degraded"] == b"house=timeout"

    def test_that_of_a_shadow_does_not(self):
        shadow = policy(mode=Mode.SHADOW)
        decision = decided(
            read(body("x")).conversations[0], Failure(shadow, FailureCode.TIMEOUT, FailMode.CLOSED)
        )
        assert not unjudged(decision)
        assert dict(headers([decision]))[b"x-guardrail-decision"] == b"pass"

    def test_a_verdict_does_not(self):
        house = policy()
        decision = decided(read(body("x")).conversations[0], Verdict(house, "LOOK", True))
        assert not unjudged(decision)
        assert dict(headers([decision])) == {
            b"x-guardrail-decision": b"flag",
            b"x-guardrail-id": b"gr-1",
            b"x-guardrail-policies": b"house",
        }
        assert decision.stage is Stage.INPUT
