"""The twin of guardrail/core/history.py; ``tests/engine/test_history.py`` has the chats."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core import history
from guardrail.core.conversation import Kind, Segment, Turn
from guardrail.core.history import Delivered, Remembered, blocked, changed, forms, judged, redactions, root
from guardrail.core.policy import Action, AnswerForm, Effort, LabelRule, Mode, Policy, Strategy
from guardrail.core.redaction import Redaction, Span

LABELS = {"OK": LabelRule("OK", violation=False), "BAD": LabelRule("BAD", True, Action.REDACT)}
STOPPING = LABELS | {"STOP": LabelRule("STOP", True, Action.BLOCK)}
POLICY = Policy("p", "The body.", LABELS)


def turn(role: str, *texts: str, kind: Kind = Kind.TEXT) -> Turn:
    return Turn(role, tuple(Segment(text, ("messages", i), kind) for i, text in enumerate(texts)))


def roles(*names: str) -> list[Turn]:
    return [turn(name, name) for name in names]


class TestRoot:
    def test_is_the_same_for_the_same(self):
        other = replace(POLICY, labels=dict(reversed(LABELS.items())), title="Another title", version="2")
        assert root([(POLICY, "judge")], 1) == root([(other, "judge")], 1)

    @pytest.mark.parametrize(
        "changes",
        [
            {"id": "q"},
            {"body": "Another body."},
            {"mode": Mode.SHADOW},
            {"labels": LABELS | {"BAD": LabelRule("BAD", True, Action.FLAG)}},
            {"labels": LABELS | {"NEW": LabelRule("NEW", True, Action.FLAG)}},
            {"labels": LABELS | {"BAD": LabelRule("BAD", True, Action.REDACT, escalate=True)}},
            {"labels": LABELS | {"BAD": LabelRule("BAD", True, Action.REDACT, strategy=Strategy.MASK)}},
            {"reasoning_effort": Effort.HIGH},
            {"answer": AnswerForm.BINARY},
            {"detectors": {"email": "BAD"}},
            {"labels": STOPPING, "detectors": {"email": "STOP"}, "prefilter": frozenset({"email"})},
            {"phrases": {"x": "BAD"}},
        ],
    )
    def test_differs_with_all_that_a_verdict_and_its_action_depend_on(self, changes: dict[str, Any]):
        ways = [POLICY, replace(POLICY, labels=STOPPING, detectors={"email": "STOP"})] * (
            "prefilter" in changes
        )
        for policy in ways or [POLICY]:
            assert root([(policy, "judge")], 1) != root([(replace(policy, **changes), "judge")], 1)

    def test_differs_with_the_judge_the_rules_and_the_number_of_policies(self):
        roots = {
            root([(POLICY, "judge")], 1),
            root([(POLICY, "other")], 1),
            root([(POLICY, "judge")], 2),
            root([(POLICY, "judge")] * 2, 1),
            root([], 1),
        }
        assert len(roots) == 5


SPANS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 3)), unique=True)


class TestRedactions:
    @given(SPANS, st.sets(st.integers(0, 2)))
    def test_come_back_as_they_were_but_for_dropped_turns(self, found: list[Any], dropped: set[int]):
        turns = [turn("user", "", "some text", "other text") for _ in range(3)]
        redacted = [
            Redaction(turns[t].segments[s + 1], (Span(at, at + 1, "BAD"),)) for t, s, at in sorted(found)
        ]
        known = judged(turns, redacted, Remembered(dropped=tuple(dropped)))
        assert known.dropped == tuple(dropped)
        assert not known.blocked
        again = redactions(turns, known)
        wanted = {
            (t, s + 1): [Span(at, at + 1, "BAD") for t2, s2, at in sorted(found) if (t2, s2) == (t, s)]
            for t, s, _ in found
            if t not in dropped
        }
        got = {
            next((t, s) for t in range(3) for s in range(3) if turns[t].segments[s] is one.segment): [
                *one.spans
            ]
            for one in again
        }
        assert got == wanted

    def test_a_turn_is_not_gone_through_for_each_of_its_segments(self, monkeypatch: pytest.MonkeyPatch):
        seen: list[Turn] = []
        texts = history._texts
        monkeypatch.setattr(history, "_texts", lambda own: seen.append(own) or texts(own))
        turns = [turn("user", *["a"] * 50), turn("user", *["b"] * 50)]
        redacted = [Redaction(s, (Span(0, 1, "BAD"),) * 2) for own in turns for s in own.segments]
        known = Remembered(spans=judged(turns, redacted, Remembered()).spans)
        seen.clear()
        assert list(redactions(turns, known)) == redacted
        assert len(seen) == 2
        assert len(redactions(turns, replace(known, dropped=(0,)))) == 50

    def test_are_told_by_the_place_among_texts_that_are_not_empty(self):
        redaction = Redaction(Segment("secret", ()), (Span(0, 6, "BAD", "email", Strategy.HASH),))
        known = judged([Turn("user", (Segment("", ()), redaction.segment))], [redaction], Remembered())
        assert known.spans == ((0, 0, redaction.spans[0]),)
        sent_again = turn("user", "secret")
        assert redactions([sent_again], known) == (Redaction(sent_again.segments[0], redaction.spans),)


@pytest.mark.parametrize(
    ("names", "start", "dropped"),
    [
        (["user"], 0, (0,)),
        (["user", "assistant", "user", "user"], 2, (2, 3)),
        (["user", "assistant", "tool"], 2, (1, 2)),
        (["user", "assistant", "function"], 2, (1, 2)),
        (["user", "assistant", "tool", "tool", "user"], 3, (1, 2, 3, 4)),
        (["user", "tool"], 1, (1,)),
        (["tool", "tool"], 1, (1,)),
        (["assistant", "tool"], 1, (0, 1)),
        (["user", "assistant", "user", "tool"], 2, (2, 3)),
    ],
)
def test_what_is_blocked_is_dropped_and_an_answer_to_a_call_with_its_call(
    names: list[str], start: int, dropped: tuple[int, ...]
):
    spans = ((0, 0, Span(0, 1, "BAD")),)
    known = blocked(roles(*names), start, Remembered(spans=spans))
    assert known == Remembered(True, spans, dropped)


def test_what_was_dropped_before_stays_dropped():
    assert blocked(roles("user", "user"), 1, Remembered(dropped=(0,))).dropped == (0, 1)


def test_an_answer_is_changed_only_where_it_has_a_new_text():
    segments = (Segment("secret", ("a",), Kind.REASONING), Segment("secret", ("b",)))
    made = changed(Turn("assistant", segments), {("b",): "new", ("c",): "other"})
    assert made == Turn("assistant", (segments[0], Segment("new", ("b",))))
    assert changed(made, {}) == made


class TestForms:
    def test_of_plain_text_there_is_one(self):
        assert forms(turn("assistant", "a", "b")) == [turn("assistant", "a", "b")]

    def test_leave_out_what_clients_leave_out(self):
        parts = [Segment(kind.value, (), kind) for kind in Kind]
        kinds = [[s.kind for s in form.segments] for form in forms(Turn("assistant", tuple(parts)))]
        assert kinds == [
            list(Kind),
            [kind for kind in Kind if kind is not Kind.REASONING],
            [kind for kind in Kind if kind not in (Kind.REASONING, Kind.REFUSAL)],
        ]


class TestDelivered:
    def test_puts_each_choice_together_as_a_message_is_read(self):
        delivered = Delivered()
        for choice, channel, kind, text, whole in [
            (0, "reasoning", Kind.REASONING, "hm", False),
            (0, "content", Kind.TEXT, "a", False),
            (0, "tool_calls[0]", Kind.TEXT, "in", True),
            (1, "content", Kind.TEXT, "other", False),
            (0, "tool_calls[1]", Kind.TOOL_ARGUMENTS, "{", True),
            (0, "refusal", Kind.REFUSAL, "no", False),
            (0, "content", Kind.TEXT, "b", False),
            (0, "tool_calls[1]", Kind.TOOL_ARGUMENTS, "}", True),
        ]:
            delivered.add(choice, channel, kind, text, whole=whole)
        assert [(s.kind, s.text) for s in delivered.turn(0).segments] == [
            (Kind.TEXT, "ab"),
            (Kind.REASONING, "hm"),
            (Kind.REFUSAL, "no"),
            (Kind.TEXT, "in"),
            (Kind.TOOL_ARGUMENTS, "{}"),
        ]
        assert [s.text for s in delivered.turn(1).segments] == ["other"]
        assert delivered.turn(2) == Turn("assistant", ())
