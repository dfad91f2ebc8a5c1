"""Decisions: the strictest finding wins, in whatever order findings come, and no finding softens one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Kind, Segment, Subject, Turn
from guardrail.core.decision import Decision, Failure, decide, strictest
from guardrail.core.policy import JUDGE_REFUSAL, Action, FailMode, LabelRule, Mode, Policy, Stage, Strategy
from guardrail.core.redaction import Redaction, Span, apply
from guardrail.core.vault import Vault
from guardrail.core.verdict import Verdict
from guardrail.errors import FailureCode, PolicyViolation

TEXTS = ("call 0170 now", "or write a@b.example", "")
LABELS = {
    "P0": LabelRule("P0", False),
    "P1": LabelRule("P1", True, Action.FLAG),
    "P2": LabelRule("P2", True, Action.REDACT),
    "P3": LabelRule("P3", True, Action.BLOCK),
}
REDACTING = {label: rule for label, rule in LABELS.items() if label != "P3"}


def policy(policy_id: str = "pii", labels=LABELS, mode: Mode = Mode.ENFORCE) -> Policy:
    return Policy(policy_id, f"Judge {policy_id}.", labels, mode=mode)


def subject(*texts: str, kind: Kind = Kind.TEXT) -> Subject:
    segments = tuple(Segment(text, ("messages", i), kind) for i, text in enumerate(texts))
    return Subject(Stage.INPUT, (), (Turn("user", segments),))


def verdict(label: str | None, policy_: Policy | None = None, **changes) -> Verdict:
    policy_ = policy_ or policy()
    return Verdict(policy_, label, label not in (None, "P0"), **changes)


def failure(mode: FailMode, policy_: Policy | None = None, **changes) -> Failure:
    return Failure(policy_ or policy(), FailureCode.TIMEOUT, mode, **changes)


SPAN = st.builds(
    lambda index, start, length, label: (index, Span(start, start + length, label)),
    st.integers(0, 1), st.integers(0, 8), st.integers(1, 4), st.sampled_from(["P1", "P2"]),
)  # fmt: skip
POLICIES = [
    policy(f"{name}-{mode.value}", labels, mode)
    for name, labels in (("all", LABELS), ("soft", REDACTING))
    for mode in (Mode.ENFORCE, Mode.SHADOW)
]
EXCERPTS = st.lists(st.sampled_from(["0170", "a@b.example", "write A@B", "nowhere", ""]), max_size=2).map(
    tuple
)


@st.composite
def finding(draw, own: Policy):
    if draw(st.booleans()):
        return Failure(
            own, draw(st.sampled_from(FailureCode)), draw(st.sampled_from(FailMode)), draw(st.booleans())
        )
    label = draw(st.sampled_from([*own.labels, None, JUDGE_REFUSAL]))
    spans = tuple(draw(st.lists(SPAN, max_size=2)))
    return Verdict(own, label, label not in (None, "P0"), excerpts=draw(EXCERPTS), spans=spans)


FINDINGS = st.lists(st.sampled_from(POLICIES), unique_by=lambda p: p.id, max_size=4).flatmap(
    lambda own: st.tuples(*map(finding, own))
)


def covered(decision: Decision) -> set[tuple[object, int]]:
    return {
        (redaction.address, offset)
        for redaction in decision.redactions
        for span in redaction.spans
        for offset in range(span.start, span.end)
    }


def after(redaction: Redaction) -> str:
    """The text with its spans replaced."""
    return apply(redaction.segment.text, Vault(b"key").redactions(redaction.segment, redaction.spans))


class TestActions:
    @pytest.mark.parametrize(
        ("made", "action"),
        [
            (verdict("P0"), Action.PASS),
            (verdict(None), Action.PASS),
            (verdict("P1"), Action.FLAG),
            (verdict("P2"), Action.REDACT),
            (verdict("P3"), Action.BLOCK),
            (verdict(JUDGE_REFUSAL), Action.BLOCK),
            (failure(FailMode.OPEN), Action.PASS),
            (failure(FailMode.OPEN, violation=True), Action.PASS),
            (failure(FailMode.CLOSED), Action.BLOCK),
            (failure(FailMode.CLOSED, policy(labels=REDACTING)), Action.BLOCK),
            (failure(FailMode.CLOSED, policy(labels=REDACTING), violation=True), Action.REDACT),
        ],
    )
    def test_the_action_of_one_finding(self, made, action):
        assert made.action is action
        assert decide(subject(*TEXTS), [made]).action is action

    @pytest.mark.parametrize("label", [None, "P0", "unknown"])
    def test_a_violation_without_a_violating_label_takes_the_strictest_action(self, label):
        assert Verdict(policy(), label, violation=True).action is Action.BLOCK

    def test_what_is_no_violation_passes_whatever_its_label(self):
        assert Verdict(policy(), "P3", violation=False).action is Action.PASS

    def test_nothing_asked_is_a_pass(self):
        assert decide(subject("x"), []) == Decision(Stage.INPUT, Action.PASS)

    @pytest.mark.parametrize(
        "made",
        [verdict("P3", policy(mode=Mode.SHADOW)), failure(FailMode.CLOSED, policy(mode=Mode.SHADOW))],
    )
    def test_a_shadow_finding_is_kept_and_does_not_act(self, made):
        decision = decide(subject("x"), [made])
        assert (decision.action, decision.findings) == (Action.PASS, (made,))
        assert decision.blocking == ()
        assert not decision.unavailable

    @pytest.mark.parametrize("on_unreadable", [Action.PASS, Action.FLAG, Action.BLOCK])
    def test_what_nobody_could_read_takes_its_own_action(self, on_unreadable):
        parts = ("$.messages[0].content[1]",)
        decision = decide(subject("x"), [verdict("P0")], unjudged=parts, on_unreadable=on_unreadable)
        assert (decision.action, decision.unjudged) == (on_unreadable, parts)
        assert decide(subject("x"), [verdict("P0")], on_unreadable=on_unreadable).action is Action.PASS

    def test_strictest_is_no_milder_than_its_floor(self):
        assert strictest([], Action.FLAG) is Action.FLAG
        assert strictest([verdict("P3"), verdict("P1")], Action.FLAG) is Action.BLOCK


class TestProperties:
    @given(FINDINGS, st.randoms(use_true_random=False))
    def test_the_order_of_findings_does_not_matter(self, findings, random):
        shuffled = list(findings)
        random.shuffle(shuffled)
        assert decide(subject(*TEXTS), shuffled) == decide(subject(*TEXTS), findings)

    @given(FINDINGS, st.integers(0, 3))
    def test_one_more_finding_never_makes_it_milder(self, findings, index):
        fewer = decide(subject(*TEXTS), findings[:index] + findings[index + 1 :])
        more = decide(subject(*TEXTS), findings)
        assert more.action >= fewer.action
        if more.action is Action.REDACT:
            assert covered(more) >= covered(fewer)

    @given(FINDINGS)
    def test_the_action_is_that_of_the_strictest_finding_that_acts(self, findings):
        decision = decide(subject(*TEXTS), findings)
        assert decision.action == max([f.action for f in findings if f.acts], default=Action.PASS)

    @given(FINDINGS)
    def test_a_redaction_replaces_something_and_only_a_redaction_does(self, findings):
        decision = decide(subject(*TEXTS), findings)
        assert bool(decision.redactions) == (decision.action is Action.REDACT)
        for redaction in decision.redactions:
            assert "[REDACTED:" in after(redaction)

    @given(FINDINGS)
    def test_every_finding_is_kept(self, findings):
        kept = decide(subject(*TEXTS), findings).findings
        assert sorted(f.policy.id for f in kept) == sorted(f.policy.id for f in findings)

    @given(FINDINGS)
    def test_a_printed_decision_holds_no_judged_text(self, findings):
        shown = repr(decide(subject(*TEXTS), findings))
        assert not any(text in shown for text in ("0170", "b.example", "write"))


class TestRedactions:
    def texts(self, made: Decision, *texts: str) -> list[str]:
        """The texts after the redactions, by address."""
        changed = {redaction.address: after(redaction) for redaction in made.redactions}
        return [changed.get(("messages", i), text) for i, text in enumerate(texts)]

    def redacted(self, *findings, texts=TEXTS, kind: Kind = Kind.TEXT) -> list[str]:
        return self.texts(decide(subject(*texts, kind=kind), findings), *texts)

    def test_spans_and_excerpts_of_all_policies_together(self):
        assert self.redacted(
            verdict("P2", spans=((0, Span(5, 9, "P2")),)),
            verdict("P2", policy("mail"), excerpts=("A@B.example",)),
        ) == ["call [REDACTED:P2] now", "or write [REDACTED:P2]", ""]

    def test_an_excerpt_is_looked_for_in_every_segment(self):
        assert self.redacted(verdict("P2", excerpts=("o",)), texts=("now", "or", "x")) == [
            "n[REDACTED:P2]w", "[REDACTED:P2]r", "x",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "excerpts", [("nowhere",), ("0170", "nowhere"), ("",), (), ("now or write",), ("0170", "")]
    )
    def test_an_excerpt_that_is_nowhere_redacts_everything(self, excerpts):
        assert self.redacted(verdict("P2", excerpts=excerpts)) == ["[REDACTED:P2]", "[REDACTED:P2]", ""]

    def test_exact_spans_need_no_excerpts(self):
        made = verdict("P2", spans=((1, Span(9, 20, "P1")),))
        assert self.redacted(made) == ["call 0170 now", "or write [REDACTED:P1]", ""]

    def test_spans_do_not_make_up_for_a_lost_excerpt(self):
        made = verdict("P2", spans=((0, Span(5, 9, "P2")),), excerpts=("nowhere",))
        assert self.redacted(made) == ["[REDACTED:P2]", "[REDACTED:P2]", ""]

    def test_a_refusing_judge_under_a_redacting_policy_redacts_everything(self):
        made = verdict(JUDGE_REFUSAL, policy(labels=REDACTING))
        assert self.redacted(made) == ["[REDACTED:judge-refusal]", "[REDACTED:judge-refusal]", ""]

    def test_a_violation_without_a_label_is_redacted_under_the_strictest(self):
        made = Verdict(policy(labels=REDACTING), None, violation=True)
        assert self.redacted(made) == ["[REDACTED:P2]", "[REDACTED:P2]", ""]

    def test_a_failed_check_that_said_violation_redacts_everything(self):
        made = failure(FailMode.CLOSED, policy(labels=REDACTING), violation=True)
        assert self.redacted(made) == ["[REDACTED:P2]", "[REDACTED:P2]", ""]

    def test_a_milder_or_shadow_finding_redacts_nothing_of_its_own(self):
        assert self.redacted(
            verdict("P2", excerpts=("0170",)),
            verdict("P1", policy("flag"), excerpts=("now",)),
            verdict("P2", policy("shadow", mode=Mode.SHADOW), excerpts=("call",)),
        ) == ["call [REDACTED:P2] now", *TEXTS[1:]]

    def test_a_block_carries_no_redactions(self):
        assert decide(subject(*TEXTS), [verdict("P2"), verdict("P3", policy("b"))]).redactions == ()

    def test_an_excerpt_is_found_behind_the_escapes_of_tool_arguments(self):
        raw = json.dumps({"to": "Zoë", "n": [1, 2]})
        assert self.redacted(verdict("P2", excerpts=("zoe",)), texts=(raw,), kind=Kind.TOOL_ARGUMENTS) == [
            '{"to": "[REDACTED:P2]", "n": [1, 2]}'
        ]

    def test_tool_arguments_that_are_no_json_are_text(self):
        assert self.redacted(
            verdict("P2", excerpts=("zoe",)), texts=('{"to": "Zoë',), kind=Kind.TOOL_ARGUMENTS
        ) == ['{"to": "[REDACTED:P2]']

    def test_arguments_that_are_redacted_as_a_whole_stay_json(self):
        (text,) = self.redacted(verdict("P2"), texts=('{"to": "Zoe", "n": 1}',), kind=Kind.TOOL_ARGUMENTS)
        assert json.loads(text) == {"[REDACTED:P2]": "[REDACTED:P2]", "[REDACTED:P2]#2": "[REDACTED:P2]"}

    def test_a_shortened_excerpt_must_stand_in_one_segment(self):
        assert self.redacted(verdict("P2", excerpts=("call ... now",))) == ["[REDACTED:P2]", *TEXTS[1:]]
        assert self.redacted(verdict("P2", excerpts=("0170 ... write",))) == [
            "[REDACTED:P2]", "[REDACTED:P2]", "",
        ]  # fmt: skip

    @pytest.mark.parametrize("raw", [r'{"to": "say \"hi\" now"}', r'{"to": "say \u0022hi\" now"}'])
    @pytest.mark.parametrize("excerpt", ['say "hi"', r"say \"hi\"", '"say "hi" ..."'])
    def test_excerpts_of_tool_arguments_in_any_quoting(self, raw, excerpt):
        (text,) = self.redacted(verdict("P2", excerpts=(excerpt,)), texts=(raw,), kind=Kind.TOOL_ARGUMENTS)
        assert json.loads(text)["to"] in ("[REDACTED:P2] now", "[REDACTED:P2]")

    def test_spans_keep_their_kind_and_take_the_strategy_of_their_label(self):
        rules = LABELS | {
            "M": LabelRule("M", True, Action.REDACT, strategy=Strategy.MASK),
            "R": LabelRule("R", True, Action.REDACT, strategy=Strategy.REPLACE),
        }
        spans = (Span(0, 1, "M", "email"), Span(2, 3, "R"), Span(4, 5, "P2", "ip"), Span(6, 7, "unknown"))
        made = verdict("P2", policy(labels=rules), spans=tuple((0, span) for span in spans))
        for default in Strategy:
            (redaction,) = decide(subject("a b c d"), [made], strategy=default).redactions
            assert redaction.spans == (
                Span(0, 1, "M", "email", Strategy.MASK),
                Span(2, 3, "R", "", Strategy.REPLACE),
                Span(4, 5, "P2", "ip", default),
                Span(6, 7, "unknown", "", default),
            )
        assert decide(subject("a b c d"), [made]).redactions[0].spans[2].strategy is Strategy.REPLACE

    def test_everything_takes_the_strategy_of_the_label_too(self):
        rules = REDACTING | {"P2": LabelRule("P2", True, Action.REDACT, strategy=Strategy.HASH)}
        for made in (
            verdict("P2", policy(labels=rules)),
            failure(FailMode.CLOSED, policy(labels=rules), violation=True),
        ):
            (redaction,) = decide(subject("abc"), [made], strategy=Strategy.MASK).redactions
            assert redaction.spans == (Span(0, 3, "P2", "", Strategy.HASH),)

    def test_where_policies_overlap_the_strictest_strategy_counts(self):
        masked = REDACTING | {"P2": LabelRule("P2", True, Action.REDACT, strategy=Strategy.MASK)}
        made = [
            verdict("P2", policy("a", masked), spans=((0, Span(0, 5, "P2", "email")),)),
            verdict("P2", policy("b"), spans=((0, Span(3, 7, "P2")),)),
        ]
        (redaction,) = decide(subject("a b c d"), made).redactions
        assert redaction.spans == (Span(0, 7, "P2", "email", Strategy.REPLACE),)


class TestWhatTheDecisionSays:
    def test_the_policies_that_ask_for_the_action(self):
        findings = [
            verdict("P3", policy("b")),
            verdict("P3", policy("a")),
            verdict("P2", policy("c")),
            verdict("P3", policy("d", mode=Mode.SHADOW)),
        ]
        assert decide(subject("x"), findings).blocking == ("a", "b")
        assert decide(subject("x"), findings[2:]).blocking == ("c",)
        assert decide(subject("x"), findings[3:]).blocking == ()

    def test_stage_and_id_are_those_of_the_check(self):
        decision = decide(subject("x"), [], decision_id="gr-7")
        assert (decision.stage, decision.id) == (Stage.INPUT, "gr-7")

    @pytest.mark.parametrize(
        ("findings", "unavailable"),
        [
            ([failure(FailMode.CLOSED)], True),
            ([failure(FailMode.CLOSED), verdict("P2", policy("a"))], True),
            ([failure(FailMode.CLOSED), verdict("P3", policy("a"))], False),
            ([failure(FailMode.CLOSED), verdict("P3", policy("a", mode=Mode.SHADOW))], True),
            ([failure(FailMode.CLOSED, violation=True)], False),
            ([failure(FailMode.CLOSED, policy(mode=Mode.SHADOW)), verdict("P3", policy("a"))], False),
            ([failure(FailMode.OPEN)], False),
            ([verdict("P3")], False),
            ([], False),
        ],
    )
    def test_unavailable_means_that_only_failed_checks_block(self, findings, unavailable):
        assert decide(subject("x"), findings).unavailable is unavailable

    def test_a_block_by_unreadable_parts_alone_is_no_outage(self):
        decision = decide(subject("x"), [], unjudged=("$.a",), on_unreadable=Action.BLOCK)
        assert decision.action is Action.BLOCK
        assert not decision.unavailable
        assert decision.blocking == ()

    @pytest.mark.parametrize(
        ("on_unreadable", "unavailable"), [(Action.BLOCK, False), (Action.FLAG, True), (Action.PASS, True)]
    )
    def test_a_block_by_unreadable_parts_beside_a_failure_is_a_refusal(self, on_unreadable, unavailable):
        failed = [failure(FailMode.CLOSED)]
        decision = decide(subject("x"), failed, unjudged=("$.a",), on_unreadable=on_unreadable)
        assert (decision.action, decision.floor) == (Action.BLOCK, on_unreadable)
        assert decision.unavailable is unavailable
        assert decide(subject("x"), failed, on_unreadable=on_unreadable).unavailable

    def test_every_check_that_no_judge_made_is_named(self):
        findings = [
            failure(FailMode.OPEN, policy("c")),
            verdict("P0", policy("b"), reduced=True),
            verdict("P3", policy("a")),
            failure(FailMode.CLOSED, policy("d", mode=Mode.SHADOW)),
        ]
        assert decide(subject("x"), findings).degraded == ("b=reduced-coverage", "c=timeout", "d=timeout")

    @pytest.mark.parametrize("label", ["P0", "P1", "P2"])
    def test_only_a_block_raises(self, label):
        assert decide(subject(*TEXTS), [verdict(label)]).raise_for_block() is None

    def test_a_block_raises_the_decision(self):
        decision = decide(subject("x"), [verdict("P3")])
        with pytest.raises(PolicyViolation) as caught:
            decision.raise_for_block()
        assert caught.value.decision is decision
