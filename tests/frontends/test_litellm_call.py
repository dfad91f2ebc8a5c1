"""The twin of guardrail/frontends/litellm_call.py: one call, prompt and answer, with LiteLLM's values."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.policy import Action
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.frontends.litellm_call import GuardedCall, Stopped, Ticket
from guardrail.wire.chat import ChatDialect
from guardrail.wire.completions import CompletionsDialect
from guardrail.wire.dialect import Dialect
from guardrail.wire.messages import MessagesDialect
from guardrail.wire.responses import ResponsesDialect
from tests.frontends.guards import Guards
from tests.frontends.litellms import answer, chat, chunks, guard_of, piece, told

pytestmark = [
    pytest.mark.anyio,
    # Pydantic about a type of LiteLLM's own, whenever LiteLLM first builds it.
    pytest.mark.filterwarnings("ignore:.*ReadOnly.*:UserWarning"),
]


def call_of(guards: Guards, data: dict[str, Any]) -> GuardedCall:
    return GuardedCall(guard_of(guards), ChatDialect(), "/v1/chat/completions", data)


class TestBefore:
    async def test_a_calm_prompt_stays_as_it_is(self):
        guards, data = Guards(), chat("hello", "again")
        kept = dict(data)
        await call_of(guards, data).before(data)
        assert data == kept
        assert guards.recorded == [("chat.completions", "input", "pass")]

    async def test_a_redacted_one_is_changed_in_place_and_nothing_else_is(self):
        data = chat("my secret here")
        logging, messages = data["litellm_logging_obj"], data["messages"]
        await call_of(Guards(), data).before(data)
        assert data["messages"] == [{"role": "user", "content": "my [REDACTED:HIDE] here"}]
        assert data["messages"] is messages
        assert data["litellm_logging_obj"] is logging

    async def test_a_blocked_one_stops(self):
        data = chat("forbidden")
        with pytest.raises(Stopped) as caught:
            await call_of(Guards(), data).before(data)
        assert (caught.value.status, caught.value.message) == (400, "I can't help with that.")
        assert "forbidden" not in str(caught.value)

    async def test_one_that_cannot_be_checked_stops(self):
        data = chat("slow")
        with pytest.raises(Stopped) as caught:
            await call_of(Guards(), data).before(data)
        assert caught.value.status == 503
        assert caught.value.decision.unavailable

    def test_what_is_no_request_is_unreadable(self):
        with pytest.raises(UnreadableRequest):
            call_of(Guards(), {"model": "m"})
        with pytest.raises(UnreadableRequest, match="not JSON"):
            call_of(Guards(), chat("hello", tools=[object()]))

    async def test_fields_that_nobody_knows_are_recorded_as_unjudged(self):
        guards, data = Guards(), chat("hello", documents="a text from elsewhere")
        await call_of(guards, data).before(data)
        assert guards.sink.records[0].decision.unjudged == ("$.documents",)


PROMPT = [{"role": "user", "content": "hi"}]
TURNS = [{"role": "user", "content": "forbidden"}]
REPLACING: list[dict[str, Any]] = [
    {"extra_body": {"messages": TURNS}},
    {"extra_body": {"input": "forbidden"}},
    {"extra_body": {"temperature": 0}},
    {"prompt_id": "stored"},
    {"prompt_id": "stored", "prompt_variables": {"name": "forbidden"}},
    {"prompt_variables": {"name": "forbidden"}},
    {"litellm_system_prompt": "forbidden"},
    {"roles": {"user": {"pre_message": "forbidden"}}},
    {"initial_prompt_value": "forbidden"},
    {"final_prompt_value": "forbidden"},
    {"bos_token": "forbidden"},
    {"eos_token": "forbidden"},
    {"custom_prompt_dict": {"m": {"initial_prompt_value": "forbidden"}}},
    {"hf_model_name": "someone/a-template"},
    {"user_continue_message": TURNS[0]},
    {"assistant_continue_message": TURNS[0]},
    {"user_config": {"model_list": []}},
    {"model_list": [{"model_name": "m"}]},
    {"fallbacks": [{"model": "chat", "messages": TURNS}]},
    {"fallbacks": [{"messages": TURNS}]},
    {"fallbacks": ["other", {"model": "chat", "extra_body": {"messages": TURNS}}]},
    {"fallbacks": [{"model": "chat", "litellm_system_prompt": "forbidden"}]},
    {"fallbacks": [{"model": "chat"}, {"input": ["forbidden"]}]},
    {"fallbacks": [{"m": ["other", {"model": "chat", "messages": TURNS}]}]},
    {"fallbacks": [{"m": [{"input": ["forbidden"]}]}]},
    {"fallbacks": [{"m": [["other"]]}]},
    {"fallbacks": {"model": "chat", "messages": TURNS}},
    {"fallbacks": '[{"model": "chat"}]'},
    {"context_window_fallbacks": [{"m": [{"model": "chat", "messages": TURNS}]}]},
    {"content_policy_fallbacks": [{"m": [{"model": "chat", "messages": TURNS}]}]},
    {"router_settings_override": {"fallbacks": [{"model": "chat", "messages": TURNS}]}},
    {"prompt": "forbidden"},
    {"input": "forbidden"},
    {"inputs": ["forbidden"]},
    {"instructions": "forbidden"},
    {"system": "forbidden"},
    {"contents": [{"parts": [{"text": "forbidden"}]}]},
    {"instances": [{"prompt": "forbidden"}]},
]
PLAIN: list[dict[str, Any]] = [
    {"extra_body": None},
    {"extra_body": {}},
    {"prompt_id": None},
    {"roles": {}},
    {"fallbacks": None},
    {"fallbacks": []},
    {"fallbacks": ["other", "another"]},
    {"fallbacks": ["other", {"model": "chat"}]},
    {"fallbacks": [{"model": "chat", "temperature": 0.5, "stream": False, "seed": None}]},
    {"fallbacks": [{"m": ["other"]}, {"*": ["another", {"model": "chat", "max_tokens": 5}]}]},
    {"context_window_fallbacks": [{"m": ["other"]}]},
    {"router_settings_override": {"fallbacks": [{"m": ["other"]}]}},
    {"router_settings_override": None},
]
TEXTS = st.sampled_from(["forbidden", "hello"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["model", "messages", "input", "m", "content"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


class TestOtherPrompts:
    """Fields out of which LiteLLM would ask with another prompt."""

    @pytest.mark.parametrize("fields", REPLACING, ids=json.dumps)
    async def test_one_is_refused_whatever_the_rule_for_what_cannot_be_read(self, fields: dict[str, Any]):
        with pytest.raises(UnreadableRequest) as caught:
            call_of(Guards({"on_unreadable": Action.PASS}), chat("hello", **fields))
        assert caught.value.status == 400
        assert caught.value.param in fields or "router_settings_override" in fields
        assert "forbidden" not in str(caught.value)

    @pytest.mark.parametrize("fields", PLAIN, ids=json.dumps)
    async def test_what_changes_no_prompt_stays_as_it_is(self, fields: dict[str, Any]):
        data = chat("hello", **fields)
        kept = dict(data)
        await call_of(Guards(), data).before(data)
        assert data == kept

    @given(fallbacks=VALUES)
    async def test_no_fallback_that_is_taken_brings_a_prompt(self, fallbacks: Any):
        """What LiteLLM's router would ask a fallback with has the messages that were judged."""
        data = chat("hello", fallbacks=fallbacks)
        try:
            call_of(Guards(), data)
        except UnreadableRequest:
            return
        for entry in fallbacks or ():
            groups = entry.values() if isinstance(entry, dict) else ()
            for target in (entry, *(one for group in groups if isinstance(group, list) for one in group)):
                if isinstance(target, dict):
                    assert not isinstance(target.get("messages"), list | dict | str)
                    assert not isinstance(target.get("input"), list | dict | str)

    @pytest.mark.parametrize(
        ("dialect", "data"),
        [
            (ResponsesDialect(), {"input": "hi", "instructions": "Be kind."}),
            (MessagesDialect(), {"messages": PROMPT, "max_tokens": 5, "system": "Be kind."}),
            (CompletionsDialect(), {"prompt": "hi"}),
        ],
        ids=["responses", "messages", "completions"],
    )
    async def test_a_prompt_in_the_place_of_the_routes_own_is_taken(
        self, dialect: Dialect, data: dict[str, Any]
    ):
        data = {"model": "m", **data}
        kept = dict(data)
        await GuardedCall(guard_of(Guards()), dialect, "/v1/any", data).before(data)
        assert data == kept
        for name in {"messages", "input", "prompt"} - data.keys() - {"prompt"}:
            with pytest.raises(UnreadableRequest, match=f"^{name} "):
                GuardedCall(guard_of(Guards()), dialect, "/v1/any", {**data, name: TURNS})


class TestAfter:
    async def test_each_choice_is_judged_and_redacted(self):
        guards, data, response = Guards(), chat("hello"), answer("my secret here", "calm")
        call = call_of(guards, data)
        await call.before(data)
        await call.after(response)
        assert [choice.message.content for choice in response.choices] == [
            "my [REDACTED:HIDE] here",
            "calm",
        ]
        assert guards.recorded[1:] == [
            ("chat.completions", "output", "redact"),
            ("chat.completions", "output", "pass"),
        ]
        assert len({record.decision.id for record in guards.sink.records}) == 1

    @pytest.mark.parametrize(("text", "status"), [("forbidden", 400), ("slow", 503)])
    async def test_one_that_blocks_stops_all(self, text: str, status: int):
        data, response = chat("hello"), answer("my secret here", text)
        call = call_of(Guards(), data)
        await call.before(data)
        with pytest.raises(Stopped) as caught:
            await call.after(response)
        assert caught.value.status == status
        assert response.choices[0].message.content == "my secret here"

    async def test_what_is_no_answer_is_unreadable(self):
        data = chat("hello")
        call = call_of(Guards(), data)
        await call.before(data)
        with pytest.raises(UnreadableResponse):
            await call.after({"choices": "none"})


async def test_a_stream_leaves_judged():
    guards, data = Guards(), chat("hello")
    call = call_of(guards, data)
    await call.before(data)
    words = ["One ", "calm ", "word ", "after ", "another."]
    items = [*(piece(word) for word in words), piece(None, finish_reason="stop")]
    left = [chunk async for chunk in call.stream(chunks(*items))]
    assert told(left) == "".join(words)
    assert guards.recorded[-1] == ("chat.completions", "output", "pass")


class TestTicket:
    def test_it_is_text_that_nobody_can_guess(self):
        ticket, other = Ticket.new(), Ticket.new()
        assert ticket != other
        assert len(ticket) == 16
        assert json.loads(json.dumps({"ticket": ticket})) == {"ticket": str(ticket)}

    def test_a_copy_is_itself_and_what_is_written_out_is_text(self):
        metadata = {"ticket": Ticket.new()}
        assert copy.deepcopy(metadata)["ticket"] is metadata["ticket"]
        assert copy.copy(metadata["ticket"]) is metadata["ticket"]
        written = pickle.loads(pickle.dumps(metadata))["ticket"]
        assert (type(written), written) == (str, metadata["ticket"])
