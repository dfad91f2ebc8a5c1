"""Turns of a request of messages: who said what, and taking turns out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Conversation, Kind
from guardrail.errors import UnreadableRequest
from guardrail.wire.messages_turns import read_turns, without
from tests.wire.claudes import assistant, body, contents, text, tool_result, tool_use, user

IMAGE = {"type": "image", "source": {"type": "base64", "data": "xx"}}


def read(*messages: Any, **fields: Any) -> Conversation:
    raw = body(*messages, **fields)
    return read_turns(raw, orjson.loads(raw))


def said(conversation: Conversation) -> list[tuple[str, list[str]]]:
    return [(turn.role, [s.text for s in turn.segments]) for turn in conversation.turns]


class TestRead:
    def test_roles_are_those_of_the_messages(self):
        conversation = read(user("hi"), assistant(text("yes")), {"role": "system", "content": "be kind"})
        assert said(conversation) == [("user", ["hi"]), ("assistant", ["yes"]), ("system", ["be kind"])]
        assert [s.address for turn in conversation.turns for s in turn.segments] == [
            ("messages", 0, "content"),
            ("messages", 1, "content", 0, "text"),
            ("messages", 2, "content"),
        ]

    @pytest.mark.parametrize(
        ("system", "texts"),
        [
            ("be kind", ["be kind"]),
            ([text("a", cache_control={"type": "ephemeral"}), text("b")], ["a", "b"]),
        ],
    )
    def test_the_system_field_is_the_first_turn(self, system: Any, texts: list[str]):
        assert said(read(user("hi"), system=system)) == [("system", texts), ("user", ["hi"])]

    def test_no_system_is_no_turn(self):
        assert said(read(user("hi"), system=None)) == said(read(user("hi"))) == [("user", ["hi"])]

    def test_results_of_tools_are_a_turn_of_their_own(self):
        mixed = user([tool_result("found"), text("and now?"), tool_result([text("more"), IMAGE])])
        conversation = read(user("hi"), assistant(tool_use({"a": 1})), mixed)
        assert said(conversation)[1:] == [
            ("assistant", ['{"a":1}']),
            ("tool", ["found", "more"]),
            ("user", ["and now?"]),
        ]
        assert conversation.turns[1].segments[0].kind is Kind.TOOL_ARGUMENTS
        assert conversation.unreadable == ("$.messages[2].content[2].content[1]",)

    def test_a_message_of_results_alone_is_one_turn(self):
        assert said(read(user([tool_result("found")]))) == [("tool", ["found"])]

    @given(st.lists(st.sampled_from("rt"), max_size=12))
    def test_results_and_the_rest_keep_their_order(self, kinds: list[str]):
        blocks = [tool_result(f"r{at}") if kind == "r" else text(f"t{at}") for at, kind in enumerate(kinds)]
        names = [f"{kind}{at}" for at, kind in enumerate(kinds)]
        results, rest = ([n for n in names if n[0] == kind] for kind in "rt")
        wanted = [("tool", results)] * bool(results) + [("user", rest)] * bool(rest or not results)
        assert said(read(user(blocks))) == wanted

    def test_many_blocks_beside_many_results(self):
        message = user([{"type": "tool_result"}] * 20_000 + [text("x")] * 200_000)
        raw = b""  # read with no text of its own: tool calls alone are looked up in it
        turns = read_turns(raw, {"messages": [message]}).turns
        assert [(turn.role, len(turn.segments)) for turn in turns] == [("tool", 0), ("user", 200_000)]

    def test_only_a_users_results_are_those_of_tools(self):
        assert said(read(assistant(tool_result("x")))) == [("assistant", ["x"])]

    def test_a_role_that_is_no_name_is_judged(self):
        conversation = read({"role": "a user, who", "content": "hi"})
        assert said(conversation) == [("a user, who", ["hi", "a user, who"])]

    def test_other_fields_are_named(self):
        message = {"role": "user", "content": [text("x")], "name": "y"}
        assert read(message).unreadable == ("$.messages[0].name",)

    @pytest.mark.parametrize(
        ("message", "param"),
        [
            (5, "messages[1]"),
            ({"content": "x"}, "messages[1]"),
            ({"role": 5}, "messages[1]"),
            (user(5), "messages[1].content"),
            ({"role": "user", "content": "x", "Content": "y"}, "messages[1]"),
        ],
    )
    def test_what_is_no_message_says_where(self, message: Any, param: str):
        with pytest.raises(UnreadableRequest) as caught:
            read(user("hi"), message)
        assert caught.value.param == param


class TestWithout:
    MESSAGES = (
        user("hi"),
        assistant(tool_use({"a": 1})),
        user([tool_result("found"), text("and now?")]),
        assistant(text("well")),
    )

    @pytest.mark.parametrize(
        ("turns", "left"),
        [
            ([], [0, 1, 2, 3]),
            ([1], [1, 2, 3]),
            ([2, 3, 4], [0, 3]),
            ([0, 1, 2, 3, 4, 5], []),
        ],
    )
    def test_whole_messages_go(self, turns: list[int], left: list[int]):
        raw = body(*self.MESSAGES, system="be kind")
        rest = {} if 0 in turns else {"system": "be kind"}
        assert without(raw, turns) == body(*[self.MESSAGES[index] for index in left], **rest)

    def test_many_messages_of_two_turns_each(self):
        message = user([tool_result("a"), text("b")])
        raw = body(*[message] * 15_000)
        assert without(raw, list(range(30_000))) == body()

    @pytest.mark.parametrize(("turn", "place"), [(2, 1), (3, 0)])
    def test_of_two_turns_in_a_message_one_may_stay(self, turn: int, place: int):
        after = orjson.loads(without(body(*self.MESSAGES), [turn]))
        assert after["messages"][2]["content"] == [self.MESSAGES[2]["content"][place]]

    @given(
        st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), contents), max_size=4),
        st.none() | st.text(max_size=3),
        st.data(),
    )
    def test_what_is_left_are_the_other_turns(self, messages: list[Any], system: Any, data: Any):
        raw = body(*[{"role": role, "content": content} for role, content in messages], system=system)
        try:
            before = read_turns(raw, orjson.loads(raw))
        except UnreadableRequest:
            return
        gone = data.draw(st.sets(st.integers(0, max(0, len(before.turns) - 1))))
        if not before.turns:
            gone = set()
        left = without(raw, sorted(gone))
        after = read_turns(left, orjson.loads(left))
        assert said(after) == [one for index, one in enumerate(said(before)) if index not in gone]
