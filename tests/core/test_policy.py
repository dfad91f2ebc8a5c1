"""Policies: the laws they keep, and what their labels mean."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.policy import (
    JUDGE_REFUSAL,
    Action,
    AnswerForm,
    Effort,
    FailMode,
    LabelRule,
    Mode,
    Policy,
    PolicySet,
    Stage,
    Strategy,
)
from guardrail.errors import PolicyError

SAFE = LabelRule("P0", False)
FLAGGED = LabelRule("P1", True, Action.FLAG)
BLOCKED = LabelRule("P3", True, Action.BLOCK)


def labels(*rules: LabelRule) -> dict[str, LabelRule]:
    return {rule.label: rule for rule in rules}


def policy(policy_id: str = "pii", body: str = "Judge it.", **changes) -> Policy:
    return Policy(policy_id, body, **{"labels": labels(SAFE, FLAGGED, BLOCKED)} | changes)


def test_actions_are_ordered_by_strictness():
    assert Action.PASS < Action.FLAG < Action.REDACT < Action.BLOCK
    assert [action.word for action in Action] == ["pass", "flag", "redact", "block"]


def test_the_words_of_the_contract():
    assert [stage.value for stage in Stage] == ["input", "output"]
    assert [mode.value for mode in Mode] == ["enforce", "shadow", "off"]
    assert [mode.value for mode in FailMode] == ["open", "closed"]
    assert [form.value for form in AnswerForm] == ["json", "binary"]
    assert [strategy.value for strategy in Strategy] == ["replace", "mask", "hash", "placeholder"]
    assert [effort.value for effort in Effort] == ["low", "medium", "high"]


def test_a_policy_judges_both_stages_and_acts_unless_it_says_otherwise():
    plain = policy()
    assert plain.stages == {Stage.INPUT, Stage.OUTPUT}
    assert plain.mode is Mode.ENFORCE
    assert plain.answer is AnswerForm.JSON
    assert plain.reasoning_effort is Effort.LOW


@given(st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip))
def test_the_revision_is_the_sha256_of_the_body_and_of_nothing_else(body):
    expected = hashlib.sha256(body.encode()).hexdigest()
    assert policy(body=body).revision == expected
    assert policy("other", body, mode=Mode.SHADOW, title="T").revision == expected


def test_another_body_is_another_revision():
    assert policy(body="Judge it.").revision != policy(body="Judge it. ").revision


def test_policies_are_hashable_by_id_and_revision():
    assert hash(policy()) == hash(policy(title="only the title differs"))
    assert len({policy(), policy(), policy("other")}) == 2


def test_a_policy_cannot_be_changed():
    with pytest.raises(AttributeError):
        policy().body = "anything goes"


class TestLaws:
    @pytest.mark.parametrize("policy_id", ["a", "7", "pii", "prompt-injection", "a.b_c-d", "x" * 64])
    def test_ids_that_are_accepted(self, policy_id):
        assert policy(policy_id).id == policy_id

    @pytest.mark.parametrize("policy_id", ["", "-a", "a-", "PII", "a b", "a/b", "x" * 65, "é", "a\n", ".."])
    def test_ids_that_are_refused(self, policy_id):
        with pytest.raises(PolicyError, match=r"policy id .*use lower-case letters"):
            policy(policy_id)

    @pytest.mark.parametrize("body", ["", " \n\t"])
    def test_an_empty_body_is_refused(self, body):
        with pytest.raises(PolicyError, match="policy pii: the body is empty"):
            policy(body=body)

    @pytest.mark.parametrize("label", ["", "two words", "P1|P2", "-x", "x" * 33, 'a"b', "P1\n"])
    def test_a_label_is_one_short_word(self, label):
        with pytest.raises(PolicyError, match="must be up to 32 letters"):
            policy(labels=labels(SAFE, LabelRule(label, True, Action.BLOCK)))

    def test_a_violation_needs_an_action(self):
        with pytest.raises(PolicyError, match="label P1 is a violation, so it needs an action"):
            policy(labels=labels(SAFE, LabelRule("P1", True)))

    def test_a_safe_label_has_no_action(self):
        with pytest.raises(PolicyError, match="label P0 is no violation, so remove its action"):
            policy(labels=labels(LabelRule("P0", False, Action.FLAG), BLOCKED))

    @pytest.mark.parametrize(
        "rule",
        [
            LabelRule("P2", True, Action.FLAG, strategy=Strategy.MASK),
            LabelRule("P2", True, Action.BLOCK, strategy=Strategy.REPLACE),
            LabelRule("P2", False, strategy=Strategy.HASH),
        ],
    )
    def test_only_a_label_that_redacts_has_a_strategy(self, rule):
        with pytest.raises(
            PolicyError, match=r"policy pii: label P2 has a strategy .*redact, or remove its"
        ):
            policy(labels=labels(SAFE, BLOCKED, rule))

    @pytest.mark.parametrize("rules", [(), (SAFE,), (BLOCKED,)])
    def test_both_sides_need_a_label(self, rules):
        with pytest.raises(PolicyError, match="declare at least one label with violation: true"):
            policy(labels=labels(*rules))

    def test_labels_that_differ_only_in_case_are_refused(self):
        with pytest.raises(PolicyError, match="differ only in case"):
            policy(labels=labels(SAFE, BLOCKED, LabelRule("p3", True, Action.FLAG)))

    def test_a_rule_under_another_name_is_refused(self):
        with pytest.raises(PolicyError, match="not its rule's own name"):
            policy(labels={"P0": SAFE, "P1": BLOCKED})

    def test_the_label_of_a_refusing_judge_is_reserved(self):
        with pytest.raises(PolicyError, match="reserved"):
            policy(labels=labels(SAFE, LabelRule(JUDGE_REFUSAL, True, Action.FLAG)))

    @pytest.mark.parametrize("key", ["detectors", "phrases"])
    @pytest.mark.parametrize("label", ["P0", "P9", "p3"])
    def test_hits_map_to_a_declared_violation(self, key, label):
        with pytest.raises(PolicyError, match=f"{key} map to label '{label}'"):
            policy(**{key: {"pii.email": label}})

    @pytest.mark.parametrize("key", ["detectors", "phrases"])
    def test_hits_of_a_violating_label_are_accepted(self, key):
        assert getattr(policy(**{key: {"pii.email": "P1"}}), key) == {"pii.email": "P1"}

    @pytest.mark.parametrize(
        ("name", "told"), [("pii.ip", "none of its detectors"), ("pii.email", "does not block")]
    )
    def test_a_prefilter_is_a_detector_that_blocks(self, name, told):
        rules = labels(SAFE, LabelRule("F", True, Action.FLAG), LabelRule("B", True, Action.BLOCK))
        hits = {"pii.email": "F", "pii.card": "B"}
        with pytest.raises(PolicyError, match=f"prefilter: '{name}' .*{told}"):
            policy(labels=rules, detectors=hits, prefilter=frozenset({name, "pii.card"}))
        sound = policy(labels=rules, detectors=hits, prefilter=frozenset({"pii.card"}))
        assert sound.prefilter == {"pii.card"}


class TestLabels:
    def test_the_strictest_label(self):
        assert policy().strictest == BLOCKED

    def test_the_last_of_equally_strict_labels_wins(self):
        last = LabelRule("P9", True, Action.BLOCK)
        assert policy(labels=labels(SAFE, BLOCKED, last)).strictest == last

    def test_the_first_safe_label(self):
        also = LabelRule("P00", False)
        assert policy(labels=labels(BLOCKED, SAFE, also)).safe_label == "P0"

    @pytest.mark.parametrize(
        ("label", "action"),
        [
            (None, Action.PASS),
            ("P0", Action.PASS),
            ("P1", Action.FLAG),
            ("P3", Action.BLOCK),
            (JUDGE_REFUSAL, Action.BLOCK),
            ("dropped-from-the-file", Action.BLOCK),
        ],
    )
    def test_the_action_of_a_label(self, label, action):
        assert policy().action_of(label) is action

    @pytest.mark.parametrize("strategy", [*Strategy, None])
    def test_the_strategy_of_a_label(self, strategy):
        rules = labels(SAFE, BLOCKED, LabelRule("P2", True, Action.REDACT, strategy=strategy))
        made = policy(labels=rules)
        assert [made.strategy_of(label) for label in ("P2", "P3", "P9")] == [strategy, None, None]

    def test_a_violating_label_may_cover_categories(self):
        covers = {"P1": ["harassment"], "P3": ["hate", "violence/graphic"]}
        assert policy(covers=covers).covers == covers
        assert policy().covers == {}

    @pytest.mark.parametrize(
        ("covers", "fault"),
        [
            ({"P0": ["hate"]}, "covers: 'P0' is no declared label with violation: true"),
            ({"P9": []}, "covers: 'P9' is no declared label"),
            ({"P3": ["hate", "spam"]}, "'spam' is no category of OpenAI's; take one of harassment, "),
            ({"P3": ["Hate"]}, "'Hate' is no category"),
        ],
    )
    def test_and_nothing_else_may(self, covers, fault):
        with pytest.raises(PolicyError, match=fault):
            policy(covers=covers)


class TestRefusalWords:
    def test_are_kept_by_language(self):
        texts = {"": "no", "de": "nein", "pt-br": "não"}
        assert policy(refusal=texts).refusal == texts
        assert policy().refusal == {}

    @pytest.mark.parametrize(
        ("texts", "fault"),
        [
            ({"german": "nein"}, "'german' is no language; write it like de or pt-br"),
            ({"DE": "nein"}, "'DE' is no language"),
            ({"de": " "}, "the text is empty"),
        ],
    )
    def test_need_a_language_and_a_text(self, texts, fault):
        with pytest.raises(PolicyError, match=fault):
            policy(refusal=texts)


class TestPolicySet:
    def test_keeps_the_order_given(self):
        policies = PolicySet([policy("b"), policy("a"), policy("c")])
        assert [p.id for p in policies] == ["b", "a", "c"]
        assert len(policies) == 3

    def test_finds_by_id(self):
        policies = PolicySet([policy("b")])
        assert "b" in policies
        assert "a" not in policies
        assert policies["b"].id == "b"
        with pytest.raises(KeyError):
            policies["a"]

    def test_refuses_a_second_policy_of_one_id(self):
        with pytest.raises(PolicyError, match="'a' is used twice; rename one"):
            PolicySet([policy("a"), policy("b"), policy("a", "another body")])
