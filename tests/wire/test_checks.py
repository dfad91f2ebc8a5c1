"""The check of our own API: what is read, what is told, and that no text is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.addition import Addition
from guardrail.core.decision import Decision, Failure, Finding, decide
from guardrail.core.policy import Action, FailMode, LabelRule, Mode, Policy, Stage
from guardrail.core.redaction import Span, merge
from guardrail.core.verdict import Verdict
from guardrail.errors import FailureCode, UnreadableRequest
from guardrail.wire.checks import Asked, Checked, answer, read, redacted

HOUSE = Policy(
    "house",
    "Judge.",
    {
        "OK": LabelRule("OK", False),
        "HIDE": LabelRule("HIDE", True, Action.REDACT),
        "STOP": LabelRule("STOP", True, Action.BLOCK),
    },
)
CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": [{"type": "text", "text": "I am Kim."}, {"type": "image_url"}]},
    {"role": "assistant", "content": "Hello Kim."},
]


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def told(asked: Asked, *findings: Finding, content: Any = None) -> dict[str, Any]:
    subject = asked.subject(frozenset({"system"}))
    decision = decide(subject, findings, unjudged=asked.conversation.unreadable, decision_id="gr-1")
    found: dict[str, Any] = json.loads(answer(decision, subject, content))
    Checked.model_validate(found)
    return found


class TestRead:
    def test_a_text_is_a_prompt(self):
        asked = read(body(text="hi"))
        assert (asked.stage, asked.content, asked.added) == (Stage.INPUT, "hi", ())
        assert (asked.answer.role, asked.answer.segments[0].address) == ("user", ("text",))
        subject = asked.subject(frozenset())
        assert (subject.stage, subject.text, subject.context) == (Stage.INPUT, "hi", ())

    def test_or_an_answer(self):
        asked = read(body(text="hi", stage="output", policies=["a", "b"]))
        assert (asked.stage, asked.added, asked.answer.role) == (Stage.OUTPUT, ("a", "b"), "assistant")
        subject = asked.subject(frozenset())
        assert (subject.stage, subject.text, subject.context) == (Stage.OUTPUT, "hi", ())

    def test_policies_may_be_tightened(self):
        quiet = {"name": "quiet", "mode": "enforce", "on_unavailable": "closed"}
        asked = read(body(text="hi", policies=["a", quiet]))
        assert asked.added == ("a", Addition("quiet", Mode.ENFORCE, FailMode.CLOSED))

    def test_messages_are_a_conversation(self):
        asked = read(body(messages=CHAT))
        assert asked.content == CHAT
        assert asked.conversation.unreadable == ("$.messages[1].content[1]",)
        subject = asked.subject(frozenset({"system"}))
        assert subject.text == "I am Kim.\nHello Kim."
        assert [turn.role for turn in subject.context] == ["system"]

    def test_of_which_the_last_may_be_the_answer(self):
        asked = read(body(messages=CHAT, stage="output"))
        assert [turn.role for turn in asked.earlier.turns] == ["system", "user"]
        subject = asked.subject(frozenset({"system"}))
        assert (subject.stage, subject.text) == (Stage.OUTPUT, "Hello Kim.")
        assert subject.context == asked.earlier.turns

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({}, None),
            ({"stage": "input"}, None),
            ({"text": "a", "messages": CHAT}, None),
            ({"text": None}, "text"),
            ({"text": ["a"]}, "text"),
            ({"text": "a", "stage": "both"}, "stage"),
            ({"text": "a", "policies": "a"}, "policies"),
            ({"text": "a", "policies": None}, "policies"),
            ({"text": "a", "policies": [1]}, "policies"),
            ({"text": "a", "policies": ["a", {"mode": "enforce"}]}, "policies[1].name"),
            ({"text": "a", "policies": [{"name": "a", "mode": "monitor"}]}, "policies[0].mode"),
            ({"text": "a", "extra": 1}, None),
            ({"messages": []}, "messages"),
            ({"messages": ["a"]}, "messages"),
            ({"messages": [{"content": "a"}]}, "messages"),
            ({"messages": [{"role": "user", "content": [3]}]}, "messages"),
            ({"messages": [{"role": "user", "Content": "a"}]}, "messages[0]"),
        ],
    )
    def test_anything_else_is_refused(self, fields: dict[str, Any], param: str | None):
        with pytest.raises(UnreadableRequest) as caught:
            read(body(**fields))
        assert (caught.value.param, caught.value.status) == (param, 400)


class TestRedacted:
    def test_a_text(self):
        assert redacted("a b", {("text",): "a *"}) == "a *"
        assert redacted("a b", {}) == "a b"

    def test_messages_and_the_original_stays(self):
        before = json.dumps(CHAT)
        texts = {("messages", 1, "content", 0, "text"): "I am *.", ("messages", 2, "content"): "Hello *."}
        changed = redacted(CHAT, texts)
        assert isinstance(changed, list)
        assert changed[1]["content"][0]["text"] == "I am *."
        assert (changed[0], changed[2]["content"]) == (CHAT[0], "Hello *.")
        assert json.dumps(CHAT) == before


class TestAnswer:
    def test_a_pass(self):
        found = told(read(body(text="hi")), Verdict(HOUSE, "OK", False, cached=True))
        assert found == {
            "id": "gr-1",
            "stage": "input",
            "action": "pass",
            "unavailable": False,
            "policies": [],
            "degraded": [],
            "findings": [
                {
                    "policy": "house",
                    "revision": HOUSE.revision,
                    "mode": "enforce",
                    "label": "OK",
                    "violation": False,
                    "action": "pass",
                    "status": "cached",
                    "reduced_coverage": False,
                    "error": None,
                    "spans": [],
                }
            ],
            "unjudged": [],
            "redacted": None,
        }

    def test_where_something_was_found(self):
        """Spans of detectors, and excerpts wherever they stand; what overlaps is one place."""
        asked = read(body(messages=CHAT))
        spans = ((0, Span(5, 8, "HIDE", "name")), (1, Span(0, 5, "HIDE")))
        verdict = Verdict(HOUSE, "HIDE", True, excerpts=("Kim.", "nowhere"), spans=spans)
        found = told(asked, verdict, content=[{"role": "user"}])
        assert (found["action"], found["policies"]) == ("redact", ["house"])
        assert found["redacted"] == [{"role": "user"}]
        assert found["unjudged"] == ["$.messages[1].content[1]"]
        one, two = "$.messages[1].content[0].text", "$.messages[2].content"
        places = [
            (p["path"], p["start"], p["end"], p["label"], p["kind"]) for p in found["findings"][0]["spans"]
        ]
        assert places == [(one, 5, 9, "HIDE", "name"), (two, 0, 5, "HIDE", ""), (two, 6, 10, "HIDE", "")]

    def test_a_violation_without_a_label_has_the_strictest(self):
        verdict = Verdict(HOUSE, None, True, excerpts=("hi",))
        [finding] = told(read(body(text="hi")), verdict)["findings"]
        assert (finding["label"], finding["action"]) == (None, "block")
        assert [place["label"] for place in finding["spans"]] == ["STOP"]

    def test_a_check_that_could_not_be_made(self):
        failed = Failure(HOUSE, FailureCode.TIMEOUT, FailMode.CLOSED)
        found = told(read(body(text="hi")), failed)
        assert (found["action"], found["unavailable"]) == ("block", True)
        assert found["degraded"] == ["house=timeout"]
        [finding] = found["findings"]
        assert (finding["status"], finding["error"], finding["label"]) == ("unavailable", "timeout", None)
        assert finding["spans"] == []

    def test_rules_alone_and_shadows_are_told_as_such(self):
        shadow = Policy("watch", "Judge.", HOUSE.labels, mode=Mode.SHADOW)
        found = told(
            read(body(text="hi")), Verdict(HOUSE, "OK", False, reduced=True), Verdict(shadow, "STOP", True)
        )
        assert found["action"] == "pass"
        assert found["degraded"] == ["house=reduced-coverage"]
        assert [(f["reduced_coverage"], f["mode"], f["action"]) for f in found["findings"]] == [
            (True, "enforce", "pass"),
            (False, "shadow", "block"),
        ]

    def test_depth_is_no_limit(self):
        """Content may be nested as deeply as JSON is read at all."""
        deep: Any = "x"
        for _ in range(240):
            deep = [deep]
        messages = [{"role": "user", "content": "Kim", "audio": deep}]
        asked = read(body(messages=messages))
        texts = {("messages", 0, "content"): "*"}
        found = told(asked, Verdict(HOUSE, "OK", False), content=redacted(asked.content, texts))
        assert found["redacted"] == [{"role": "user", "content": "*", "audio": deep}]

    @given(st.text(min_size=1), st.text(alphabet="xyz", min_size=6, max_size=9), st.text())
    def test_no_answer_ever_holds_what_was_judged(self, before: str, secret: str, after: str):
        text = before + secret + after
        asked = read(body(text=text))
        span = Span(len(before), len(before) + len(secret), "HIDE")
        verdict = Verdict(HOUSE, "HIDE", True, spans=((0, span),), excerpts=(secret,), rationale=secret)
        subject = asked.subject(frozenset())
        raw = answer(Decision(Stage.INPUT, Action.REDACT, (verdict,)), subject, "[REDACTED]")
        assert secret not in raw.decode()


class TestManySpans:
    @given(
        st.integers(1, 4),
        st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, 4)), max_size=8),
    )
    def test_are_told_by_segment_in_order(self, parts: int, drawn: list[tuple[int, int, int]]):
        content = [{"type": "text", "text": "some text"}] * parts
        asked = read(body(messages=[{"role": "user", "content": content}]))
        spans = [(at % parts, Span(start, start + length, "HIDE")) for at, start, length in drawn]
        found = told(asked, Verdict(HOUSE, "HIDE", True, spans=tuple(spans)))["findings"][0]["spans"]
        wanted = [
            (f"$.messages[0].content[{index}].text", span.start, span.end)
            for index in range(parts)
            for span in merge(own for at, own in spans if at == index)
        ]
        assert [(one["path"], one["start"], one["end"]) for one in found] == wanted

    def test_are_looked_at_once_and_not_for_each_segment(self):
        class Counted(tuple[Any, ...]):
            times = 0

            def __iter__(self) -> Any:
                Counted.times += 1
                return super().__iter__()

        def times(parts: int) -> int:
            Counted.times = 0
            content = [{"type": "text", "text": "x"}] * parts
            asked = read(body(messages=[{"role": "user", "content": content}]))
            spans = Counted((at, Span(0, 1, "HIDE")) for at in range(parts))
            assert (
                len(told(asked, Verdict(HOUSE, "HIDE", True, spans=spans))["findings"][0]["spans"]) == parts
            )
            return Counted.times

        assert times(50) == times(5) > 0
