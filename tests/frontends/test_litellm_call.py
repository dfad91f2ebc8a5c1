"""The twin of guardrail/frontends/litellm_call.py: one call, prompt and answer, with LiteLLM's values."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.frontends.litellm_call import GuardedCall, Stopped, Ticket
from guardrail.wire.chat import ChatDialect
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
        guards, data = Guards(), chat("hello", prompt_id="a text from elsewhere")
        await call_of(guards, data).before(data)
        assert guards.sink.records[0].decision.unjudged == ("$.prompt_id",)


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
