"""LiteLLM's generic guardrail API: what is read, what goes back, and how much of a stream is withheld."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Address, Kind, Segment, Turn
from guardrail.core.decision import Decision
from guardrail.core.policy import Action, Stage, Strategy
from guardrail.core.redaction import Redaction, Span, apply
from guardrail.core.release import ReleaseMode, StreamRules
from guardrail.core.vault import Vault
from guardrail.errors import UnreadableRequest
from guardrail.wire.litellm_api import Asked, Intervention, blocked, holdback, let_through, read

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"q": "Kim"}'}}
ROWS = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": [{"type": "text", "text": "I am Kim."}, {"type": "image_url"}]},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "found Kim"},
]
TEXTS = ["Be kind.", "I am Kim.", "found Kim"]
ROW = "structured_messages"
KEY = b"a key of sixteen"


def asked(input_type: str = "request", **fields: Any) -> Asked:
    return read(json.dumps({"input_type": input_type, **fields}).encode())


def said(body: bytes | None) -> dict[str, Any]:
    assert body is not None
    found: dict[str, Any] = json.loads(body)
    Intervention.model_validate(found)
    return found


def judged(found: Asked) -> list[tuple[str, str, Address]]:
    turns = (*found.conversation.turns, *found.conversation.asides)
    return [(turn.role, segment.text, segment.address) for turn in turns for segment in turn.segments]


class TestRequests:
    def test_with_messages_the_roles_are_known(self):
        found = asked(texts=TEXTS, structured_messages=ROWS, tool_calls=[CALL], images=["u"], model="m")
        assert found.stage is Stage.INPUT
        assert judged(found) == [
            ("system", "Be kind.", (ROW, 0, "content")),
            ("user", "I am Kim.", (ROW, 1, "content", 0, "text")),
            ("assistant", '{"q": "Kim"}', (ROW, 2, "tool_calls", 0, "function", "arguments")),
            ("tool", "found Kim", (ROW, 3, "content")),
        ]
        assert found.conversation.unreadable == (f"$.{ROW}[1].content[1]", "$.images[0]")
        assert found.conversation.turns[2].segments[0].kind is Kind.TOOL_ARGUMENTS

    def test_tool_calls_that_the_messages_do_not_hold_are_judged_beside_them(self):
        other = {"id": "c2", "type": "function", "function": {"name": "g", "arguments": '{"q": "Lee"}'}}
        calls = [CALL, other, {"type": "function"}]
        found = asked(texts=TEXTS, structured_messages=ROWS, tool_calls=calls)
        arguments = ("tool_calls", 1, "function", "arguments")
        assert judged(found)[4:] == [("assistant", '{"q": "Lee"}', arguments)]
        assert found.conversation.unreadable == (f"$.{ROW}[1].content[1]", "$.tool_calls[2]")
        assert let_through(found, {arguments: "{}", (ROW, 0, "content"): "x"}, None) is None

    def test_a_text_of_unknown_type_is_judged_beside_them(self):
        rows = [{"role": "user", "content": [{"type": "thought", "text": "hm"}, "bare"]}]
        found = asked(texts=["hm"], structured_messages=rows)
        assert judged(found) == [
            ("user", "bare", (ROW, 0, "content", 1)),
            ("user", "hm", (ROW, 0, "content", 0, "text")),
        ]
        assert found.conversation.unreadable == ()

    def test_without_messages_every_text_is_a_users(self):
        found = asked(texts=["a", "b"], tool_calls=[CALL], tools=[{"type": "function"}])
        assert judged(found) == [
            ("user", "a", ("texts", 0)),
            ("user", "b", ("texts", 1)),
            ("assistant", '{"q": "Kim"}', ("tool_calls", 0, "function", "arguments")),
        ]
        assert found.conversation.unreadable == ("$.tools",)

    @pytest.mark.parametrize("texts", [["Be kind."], [*TEXTS, "more"], [*reversed(TEXTS)]])
    def test_messages_that_hold_other_texts_are_not_relied_upon(self, texts: list[str]):
        found = asked(texts=texts, structured_messages=ROWS)
        assert [text for _, text, _ in judged(found)] == texts
        assert found.conversation.unreadable == (f"$.{ROW}",)
        assert found.places == ()

    def test_policies_may_be_added(self):
        assert asked(additional_provider_specific_params={"guardrails": ["a"], "x": 1}).added == ("a",)
        assert asked(additional_provider_specific_params={"x": 1}).added == ()
        assert asked().added == ()

    def test_the_language_of_the_caller_is_read_where_it_is_told(self):
        assert asked(request_headers={"Accept-Language": "de", "host": "x"}).languages == "de"
        assert asked(request_headers={"host": "x"}).languages == ""
        assert asked().languages == ""

    def test_an_empty_one(self):
        found = asked(texts=None, structured_messages=[], images=None, tools=[], tool_calls=[])
        assert (found.texts, judged(found), found.conversation.unreadable) == ([], [], ())

    @pytest.mark.parametrize(
        "body",
        [
            b"[]",
            b"{}",
            b'{"input_type": "both"}',
            b'{"input_type": "request", "texts": "a"}',
            b'{"input_type": "request", "texts": [1]}',
            b'{"input_type": "request", "structured_messages": [{}]}',
            b'{"input_type": "request", "additional_provider_specific_params": {"guardrails": "a"}}',
        ],
    )
    def test_anything_else_is_refused(self, body: bytes):
        with pytest.raises(UnreadableRequest):
            read(body)


class TestAnswers:
    def test_texts_and_tool_calls_are_one_answer(self):
        found = asked("response", texts=["a", "b"], tool_calls=[CALL, {"type": "function"}])
        assert found.stage is Stage.OUTPUT
        assert [turn.role for turn in found.conversation.turns] == ["assistant"]
        assert [address for _, _, address in judged(found)] == [
            ("texts", 0),
            ("texts", 1),
            ("tool_calls", 0, "function", "arguments"),
        ]
        assert found.conversation.unreadable == ("$.tool_calls[1]",)

    def test_an_empty_one(self):
        assert asked("response").conversation.turns == (Turn("assistant", ()),)


class TestLetThrough:
    def test_a_pass_repeats_the_texts(self):
        found = said(let_through(asked(texts=["a", "b"]), {}, None))
        assert found == {
            "action": "NONE",
            "blocked_reason": None,
            "texts": ["a", "b"],
            "images": None,
            ROW: None,
            "stream_holdback_chars": None,
        }

    def test_a_block_repeats_nothing(self):
        found = said(blocked("No."))
        assert (found["action"], found["blocked_reason"], found["texts"]) == ("BLOCKED", "No.", None)

    def test_redacted_texts_are_as_many_as_were_sent(self):
        changed: dict[Address, str] = {(ROW, 1, "content", 0, "text"): "I am *."}
        found = said(let_through(asked(texts=TEXTS, structured_messages=ROWS), changed, None))
        assert found["action"] == "GUARDRAIL_INTERVENED"
        assert found["texts"] == ["Be kind.", "I am *.", "found Kim"]
        assert found[ROW] is None

    def test_without_messages_by_number(self):
        found = said(let_through(asked("response", texts=["a", "b"]), {("texts", 1): "*"}, [0, 7]))
        assert (found["texts"], found["stream_holdback_chars"]) == (["a", "*"], [0, 7])

    def test_what_no_text_holds_comes_in_the_messages(self):
        arguments = (ROW, 2, "tool_calls", 0, "function", "arguments")
        changed: dict[Address, str] = {arguments: '{"q": "*"}', (ROW, 3, "content"): "found *"}
        found = said(let_through(asked(texts=TEXTS, structured_messages=ROWS), changed, None))
        assert found["texts"] == ["Be kind.", "I am Kim.", "found *"]
        assert found[ROW][2]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"q": "*"}'}
        assert found[ROW][3]["content"] == "found *"
        assert found[ROW][:2] == ROWS[:2]

    def test_what_has_no_place_in_the_answer_is_nothing_to_let_through(self):
        changed: dict[Address, str] = {("tool_calls", 0, "function", "arguments"): "{}"}
        assert let_through(asked("response", texts=["a"], tool_calls=[CALL]), changed, [0]) is None


def held(text: str, rules: StreamRules, *spans: Span) -> int:
    redactions = (Redaction(Segment(text, ("texts", 0)), spans),) if spans else ()
    decision = Decision(Stage.OUTPUT, Action.REDACT if spans else Action.PASS, redactions=redactions)
    [found] = holdback(asked("response", texts=[text]), decision, rules, Vault(KEY))
    return found


class TestHoldback:
    def test_the_overlap(self):
        assert held("a" * 100, StreamRules(overlap=30)) == 30
        assert held("a" * 20, StreamRules(overlap=30)) == 20
        assert held("", StreamRules(overlap=30)) == 0

    def test_a_run_without_a_break_stays_whole(self):
        text = "one " * 20 + "x" * 50
        assert held(text, StreamRules(overlap=10, unbroken=200)) == 50

    def test_so_does_what_stands_behind_an_opening(self):
        text = "calm words " * 5 + "BEGIN " + "more words " * 5
        rules = StreamRules(overlap=10, openings=(("BEGIN", 500),))
        assert held(text, rules) == len(text) - text.index("BEGIN")

    def test_a_redaction_is_not_cut_and_counts_as_it_leaves(self):
        text = "a" * 50 + "secret" + "b" * 8
        span = Span(50, 56, "RED")
        assert held(text, StreamRules(overlap=10), span) == len("[REDACTED:RED]") + 8
        assert held(text, StreamRules(overlap=8), span) == 8
        assert held(text, StreamRules(overlap=20), span) == len("[REDACTED:RED]") + 14

    def test_redactions_that_touch_stay_together(self):
        text = "a" * 50 + "onetwo" + "b" * 4
        spans = Span(50, 53, "RED"), Span(53, 56, "RED", strategy=Strategy.MASK)
        assert held(text, StreamRules(overlap=7), *spans) == len("[REDACTED:RED]") + 3 + 4

    def test_nor_is_a_character_of_several_code_points(self):
        family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
        assert held("a" * 50 + family + "b" * 8, StreamRules(overlap=10)) == len(family) + 8

    def test_release_modes(self):
        assert held("a" * 100, StreamRules(release=ReleaseMode.WHOLE), Span(0, 90, "R")) == 22
        assert held("a" * 100, StreamRules(release=ReleaseMode.LIVE)) == 0

    def test_each_text_has_its_own(self):
        found = asked("response", texts=["a" * 100, "b" * 5])
        decision = Decision(Stage.OUTPUT, Action.PASS)
        assert holdback(found, decision, StreamRules(overlap=30), Vault(KEY)) == [30, 5]

    @given(
        st.text(alphabet="ab \n", max_size=60),
        st.text(alphabet="ab \n", min_size=1, max_size=60),
        st.lists(st.tuples(st.integers(0, 120), st.integers(1, 10)), max_size=4),
        st.integers(0, 12),
        st.integers(0, 20),
    )
    def test_what_has_left_never_changes(
        self, sent: str, more: str, places: list[tuple[int, int]], overlap: int, unbroken: int
    ):
        """As LiteLLM does it: what leaves now is the beginning of every later text.

        A finding that is no longer than the overlap, and that ends in what is new, has not left.
        """
        rules = StreamRules(overlap=overlap, unbroken=unbroken)
        later = sent + more
        spans = sorted(
            {Span(start, min(start + size, start + overlap), "RED") for start, size in places if overlap}
        )
        apart = [
            s
            for i, s in enumerate(spans)
            if s.end <= len(later) and all(s.start > o.end for o in spans[:i])
        ]
        known = [span for span in apart if span.end <= len(sent)]
        before, after = redacted(sent, known), redacted(later, apart)
        left = before[: len(before) - held(sent, rules, *known)]
        assert after.startswith(left)


def redacted(text: str, spans: list[Span]) -> str:
    return apply(text, Vault(KEY).answer(Segment(text, ()), spans))
