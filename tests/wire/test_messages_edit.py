"""Edits in place: inputs as they are written, thinking and its signature, and what stays with the guard."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Kind, Segment
from guardrail.core.redaction import Span, apply, edits
from guardrail.wire.messages_edit import EDITED, forwarded, put, written
from tests.wire.chats import at, values
from tests.wire.claudes import answer, assistant, body, text, thinking, tool_result, tool_use, user

SPACED = (
    b'{ "content" : [ {"input": { "a" : 1.50, "big": 123456789012345678901234567890,'
    b' "who" : "caf\\u00e9 x" } , "type":"tool_use"} ,\n {"input":[ ]} ] }'
)
INPUT = '{ "a" : 1.50, "big": 123456789012345678901234567890, "who" : "caf\\u00e9 x" }'


class TestWritten:
    def test_a_value_is_given_as_it_stands_in_the_body(self):
        addresses = [("content", 0, "input"), ("content", 1, "input")]
        assert written(SPACED, orjson.loads(SPACED), addresses) == {
            addresses[0]: INPUT,
            addresses[1]: "[ ]",
        }

    def test_nothing_is_asked_for(self):
        assert written(b"no JSON at all", None, []) == {}

    @given(st.lists(values, max_size=4), st.booleans())
    def test_any_values_are_found(self, found: list[Any], indented: bool):
        raw = orjson.dumps({"x": found}, option=orjson.OPT_INDENT_2 if indented else None)
        texts = written(raw, {"x": found}, [("x", index) for index in range(len(found))])
        assert all(one in raw.decode() for one in texts.values())
        assert [orjson.loads(one) for one in texts.values()] == found


class TestPut:
    def test_a_redacted_input_changes_one_leaf_and_no_other_byte(self):
        here = ("content", 0, "input")
        segment = Segment(INPUT, here, Kind.TOOL_ARGUMENTS)
        start = INPUT.index("x")
        changes = edits(segment, [Span(start, start + 1, "RED")], lambda *_: "new")
        assert put(SPACED, {here: apply(INPUT, changes)}) == SPACED.replace(b" x", b" new")

    def test_an_input_that_is_a_string_stays_one(self):
        raw = answer(tool_use("old"))
        assert put(raw, {("content", 0, "input"): '{"a": 1}'}) == raw.replace(b'"old"', b'"{\\"a\\": 1}"')

    def test_texts_are_replaced_beside_it(self):
        raw = body(user([text("one"), text("two", cache_control={"type": "ephemeral"})]))
        changed = put(raw, {("messages", 0, "content", 1, "text"): "new"})
        assert changed == raw.replace(b"two", b"new")

    def test_thinking_that_changes_on_its_way_out_loses_its_signature(self):
        raw = answer(thinking("old", "c2ln"), text("x"))
        changed = put(raw, {("content", 0, "thinking"): "new"})
        assert changed == raw.replace(b"old", b"new").replace(b"c2ln", EDITED.encode())

    def test_thinking_without_a_signature_is_edited_like_any_text(self):
        for raw in (answer(thinking("old", "")), body(assistant(thinking("old", "")))):
            way = ("content", 0) if b"stop_reason" in raw else ("messages", 0, "content", 0)
            assert put(raw, {(*way, "thinking"): "new"}) == raw.replace(b"old", b"new")

    def test_signed_thinking_that_is_redacted_in_the_history_is_left_out(self):
        raw = body(assistant(thinking("old"), text("one")))
        here = ("messages", 0, "content")
        changed = put(raw, {(*here, 0, "thinking"): "new", (*here, 1, "text"): "two"})
        assert changed == body(assistant(text("two")))

    def test_what_a_user_calls_thinking_stays_where_it_is(self):
        raw = body(user([thinking("old")]))
        assert put(raw, {("messages", 0, "content", 0, "thinking"): "new"}) == raw.replace(b"old", b"new")

    def test_what_is_called_so_in_a_result_is_text_like_any(self):
        for block in ({"type": "x", "signature": "s"}, {"signature": "s"}):
            found = tool_result([{**block, "thinking": "old", "input": "one"}])
            for raw in (body(assistant(found)), answer(found)):
                way = ("content", 0, "content", 0)
                here = way if b"stop_reason" in raw else ("messages", 0, *way)
                changed = put(raw, {(*here, "thinking"): "new", (*here, "input"): "two"})
                assert changed == raw.replace(b'"old"', b'"new"').replace(b'"one"', b'"two"')


class TestForwarded:
    def test_a_body_without_anything_of_ours_is_the_same_object(self):
        raw = body(user("hi"), assistant(thinking("x"), text("y")))
        assert forwarded(raw, orjson.loads(raw)) is raw

    def test_policies_that_were_asked_for_and_edited_thinking_stay_here(self):
        raw = body(user("hi"), assistant(thinking("x", EDITED), text("y")), guardrails=["p"])
        assert forwarded(raw, orjson.loads(raw)) == body(user("hi"), assistant(text("y")))

    def test_a_message_of_nothing_else_goes_as_a_whole(self):
        raw = body(user("hi"), assistant(thinking("x", EDITED), thinking("y", EDITED)), user("go on"))
        assert forwarded(raw, orjson.loads(raw)) == body(user("hi"), user("go on"))

    def test_what_is_no_message_is_left_to_others(self):
        for found in ({"messages": 5}, {"messages": [5, {"content": [5]}, {"content": None}]}):
            raw = orjson.dumps(found)
            assert forwarded(raw, found) is raw

    def test_what_was_edited_in_an_answer_does_not_come_back_to_the_model(self):
        raw = answer(thinking("old"), text("x"))
        sent_back = orjson.loads(put(raw, {("content", 0, "thinking"): "new"}))["content"]
        again = body(user("hi"), {"role": "assistant", "content": sent_back})
        content = at(orjson.loads(forwarded(again, orjson.loads(again))), ("messages", 1, "content"))
        assert content == [text("x")]
