"""The real Anthropic SDK against the proxy: every way it is used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pydantic
import pytest
from anthropic.types import Message

from guardrail.wire.messages_edit import EDITED
from tests.e2e.conftest import CALLER_KEY, CALM, MARK, REFUSAL, SERVER_KEY, Proxies, Proxy, ruling, until
from tests.fakes import Say, Seen
from tests.wire.claudes import (
    Event,
    answer,
    delta,
    piece_of_input,
    said,
    text,
    thinking,
    thought,
    tool_result,
    tool_use,
    whole,
)

EVENTS = {"content-type": "text/event-stream; charset=utf-8"}
HELLO: Any = [{"role": "user", "content": "hello"}]
ASK: Any = {"model": "claude-x", "max_tokens": 99}
TOOLS: Any = [{"name": "book", "input_schema": {"type": "object"}}]
LONG = "Some words that pass without any doubt. " * 8


class Weather(pydantic.BaseModel):
    city: str


def sdk(proxy: Proxy, **options: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=proxy.root, api_key=CALLER_KEY, **options)


@pytest.fixture
def client(proxy: Proxy) -> Iterator[anthropic.Anthropic]:
    """The real SDK without retries, on the plain proxy."""
    with sdk(proxy, max_retries=0) as own:
        yield own


def says(*blocks: Any, **fields: Any) -> Say:
    return Say(answer(*blocks, **fields))


def streams(*blocks: tuple[dict[str, Any], list[Event]], **say: Any) -> Say:
    """Each block with its deltas, numbered."""
    events = []
    index = -1
    for one in whole(*blocks):
        value = json.loads(one.data or b"{}")
        index += value["type"] == "content_block_start"
        if value["type"] == "content_block_delta":
            value["index"] = index
            one = Event(b"event: content_block_delta\ndata: " + json.dumps(value).encode() + b"\n\n", None)
        events.append(one.raw)
    return Say(headers=EVENTS, chunks=events, **say)


def spoken(words: str, **say: Any) -> Say:
    return streams((text(""), [said(word + " ") for word in words.split()]), **say)


def call(arguments: str) -> tuple[dict[str, Any], list[Event]]:
    pieces = [piece_of_input(arguments[at : at + 3]) for at in range(0, len(arguments), 3)]
    return tool_use({}), [piece_of_input(""), *pieces]


SIGNED = delta("signature_delta", signature="c2ln")


def forwarded(proxy: Proxy) -> Any:
    """What the upstream was asked last."""
    return proxy.upstream.seen[-1].json


def of(*turns: Any) -> Any:
    return [{"role": role, "content": content} for role, content in turns]


class TestCreate:
    def test_an_answer_comes_byte_for_byte_and_the_callers_key_goes_along(
        self, proxy: Proxy, client: anthropic.Anthropic
    ) -> None:
        say = says(thinking("hm"), text(CALM), tool_use({"who": "Ann"}), new_field="x")
        proxy.upstream.script.append(say)
        raw = client.messages.with_raw_response.create(
            **ASK, messages=HELLO, system=[{"type": "text", "text": "Be kind."}]
        )
        assert raw.http_response.content == say.body
        assert [block.type for block in raw.parse().content] == ["thinking", "text", "tool_use"]
        assert raw.headers["x-guardrail-decision"] == "flag"
        assert raw.headers["x-guardrail-unjudged"] == "$.new_field"
        seen = proxy.upstream.seen[-1]
        assert seen.path == "/v1/messages"
        headers = {name.lower(): value for name, value in seen.headers.items()}
        assert headers["authorization"] == f"Bearer {CALLER_KEY}"
        assert headers["anthropic-version"]
        proxy.recorded(raw.headers["x-guardrail-id"], "input", "output")
        assert proxy.records(raw.headers["x-guardrail-id"])[0]["dialect"] == "messages"

    def test_a_prompt_is_redacted_and_its_marks_stay(
        self, proxy: Proxy, client: anthropic.Anthropic
    ) -> None:
        proxy.upstream.script.append(says(text(CALM)))
        asked = of(("user", [text("a redactword", cache_control={"type": "ephemeral"}), text("more")]))
        raw = client.messages.with_raw_response.create(**ASK, messages=asked, system="redactword")
        assert raw.headers["x-guardrail-decision"] == "redact"
        assert forwarded(proxy)["system"] == "redactword", "the application's own turn is not judged"
        assert forwarded(proxy)["messages"][0]["content"] == [
            text(f"a {MARK}", cache_control={"type": "ephemeral"}),
            text("more"),
        ]

    def test_a_blocked_prompt_is_refused_and_never_forwarded(
        self, proxy: Proxy, client: anthropic.Anthropic
    ) -> None:
        found = client.messages.create(**ASK, messages=of(("user", "a blockword")))
        assert [block.to_dict() for block in found.content] == [text(REFUSAL)]
        assert (found.stop_reason, found.model, found.role) == ("refusal", "claude-x", "assistant")
        assert proxy.upstream.seen == []

    def test_a_system_turn_in_mid_conversation_is_judged(self, client: anthropic.Anthropic) -> None:
        asked = of(("user", "hello"), ("assistant", "hi"), ("user", "so?"), ("system", "a blockword"))
        found = client.messages.create(**ASK, messages=asked)
        assert found.stop_reason == "refusal"

    @pytest.mark.parametrize("content", ["a blockword", [text("a blockword")]])
    def test_the_result_of_a_tool_is_judged(
        self, proxy: Proxy, client: anthropic.Anthropic, content: Any
    ) -> None:
        asked = of(
            ("user", "hello"), ("assistant", [tool_use({"who": "Ann"})]), ("user", [tool_result(content)])
        )
        assert client.messages.create(**ASK, messages=asked).stop_reason == "refusal"
        assert proxy.upstream.seen == []

    def test_a_history_is_redacted_where_it_must_be(
        self, proxy: Proxy, client: anthropic.Anthropic
    ) -> None:
        proxy.upstream.script.append(says(text(CALM)))
        asked = of(
            ("user", "hello"),
            (
                "assistant",
                [
                    thinking("a redactword"),
                    tool_use({"who": "a redactword", "n": 1.50, "list": ["redactword"]}),
                ],
            ),
            ("user", [tool_result("the redactword"), text("and now?")]),
        )
        client.messages.create(**ASK, messages=asked)
        after = forwarded(proxy)["messages"]
        assert after[1]["content"] == [tool_use({"who": f"a {MARK}", "n": 1.5, "list": [MARK]})]
        assert after[2]["content"] == [tool_result(f"the {MARK}"), text("and now?")]

    def test_what_cannot_be_read_is_named(self, proxy: Proxy, client: anthropic.Anthropic) -> None:
        proxy.upstream.script.append(says(text(CALM)))
        image: Any = {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "xx"},
        }
        raw = client.messages.with_raw_response.create(
            **ASK, messages=of(("user", [image, text("what is it?")])), tools=TOOLS
        )
        assert raw.headers["x-guardrail-unjudged"] == "$.messages[0].content[0], $.tools"

    def test_an_answer_is_redacted(self, proxy: Proxy, client: anthropic.Anthropic) -> None:
        given = {"who": 'a "redactword"', "n": 2, "list": ["redactword"]}
        proxy.upstream.script.append(says(thinking("redactword!"), text("a redactword"), tool_use(given)))
        found = client.messages.create(**ASK, messages=HELLO, tools=TOOLS)
        thoughts, words, tool = (block.to_dict() for block in found.content)
        assert thoughts == {"type": "thinking", "thinking": f"{MARK}!", "signature": EDITED}
        assert words == text(f"a {MARK}")
        assert tool["input"] == {"who": f'a "{MARK}"', "n": 2, "list": [MARK]}
        again = of(("user", "hello"), ("assistant", found.to_param()["content"]), ("user", "so?"))
        proxy.upstream.script.append(says(text(CALM)))
        client.messages.create(**ASK, messages=again)
        assert [block["type"] for block in forwarded(proxy)["messages"][1]["content"]] == [
            "text",
            "tool_use",
        ]

    @pytest.mark.parametrize(
        "block", [text("a blockword"), thinking("blockword"), tool_use({"who": "blockword"})]
    )
    def test_a_blocked_answer_is_a_refusal(
        self, proxy: Proxy, client: anthropic.Anthropic, block: Any
    ) -> None:
        proxy.upstream.script.append(says(text(CALM), block))
        raw = client.messages.with_raw_response.create(**ASK, messages=HELLO)
        found = raw.parse()
        assert raw.headers["x-guardrail-decision"] == "block"
        assert [block.to_dict() for block in found.content] == [text(REFUSAL)]
        assert (found.id, found.stop_reason, found.usage.output_tokens) == ("msg_1", "refusal", 5)

    def test_an_error_of_the_upstream_comes_as_it_is(
        self, proxy: Proxy, client: anthropic.Anthropic
    ) -> None:
        body = b'{"type": "error", "error": {"type": "not_found_error", "message": "no model"}}'
        proxy.upstream.script.append(Say(body, status=404))
        with pytest.raises(anthropic.NotFoundError) as caught:
            client.messages.create(**ASK, messages=HELLO)
        assert caught.value.api_message == "no model"

    def test_what_cannot_be_read_at_all_is_an_error_of_the_dialect(
        self, client: anthropic.Anthropic
    ) -> None:
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.messages.create(**ASK, messages=[{"role": "user", "content": 5}])  # type: ignore[typeddict-item]
        assert (caught.value.type, caught.value.error_code) == ("invalid_request_error",) * 2

    def test_in_error_style_a_block_is_one_error(self, proxies: Proxies) -> None:
        proxy = proxies(refusal={"input": {"style": "error"}})
        with sdk(proxy) as own, pytest.raises(anthropic.BadRequestError) as caught:
            own.messages.create(**ASK, messages=of(("user", "a blockword")))
        assert (caught.value.error_code, caught.value.api_message) == ("content_filter", REFUSAL)

    def test_a_structured_answer_that_is_blocked_parses_to_nothing(
        self, proxy: Proxy, client: anthropic.Anthropic
    ) -> None:
        proxy.upstream.script.append(says(text('{"city": "redactword"}')))
        found = client.messages.parse(**ASK, messages=HELLO, output_format=Weather)
        assert found.parsed_output == Weather(city=MARK)
        proxy.upstream.script.append(says(text('{"city": "blockword"}')))
        found = client.messages.parse(**ASK, messages=HELLO, output_format=Weather)
        assert (found.parsed_output, found.content, found.stop_reason) == (None, [], "refusal")

    @pytest.mark.anyio
    async def test_asynchronous_create_and_stream(self, proxy: Proxy) -> None:
        proxy.upstream.script.extend([says(text("a redactword")), spoken("a redactword")])
        async with anthropic.AsyncAnthropic(base_url=proxy.root, api_key=CALLER_KEY) as own:
            found = await own.messages.create(**ASK, messages=HELLO)
            assert found.content[0].to_dict() == text(f"a {MARK}")
            async with own.messages.stream(**ASK, messages=HELLO) as events:
                assert await events.get_final_text() == f"a {MARK} "


class TestStream:
    @staticmethod
    def final(client: anthropic.Anthropic, **asked: Any) -> Message:
        with client.messages.stream(**{**ASK, "messages": HELLO, **asked}) as events:
            return events.get_final_message()

    def test_an_answer_comes_byte_for_byte(self, proxy: Proxy) -> None:
        thoughts = (thinking("", ""), [thought("let me see"), SIGNED])
        say = streams(thoughts, (text(""), [said(CALM)]), call('{"who": "Ann"}'))
        proxy.upstream.script.append(say)
        raw = proxy.http.post("/v1/messages", json={**ASK, "messages": HELLO, "stream": True})
        assert raw.content == b"".join(say.chunks or [])
        assert raw.headers["content-type"] == EVENTS["content-type"]
        assert raw.headers["x-guardrail-decision"] == "pass"

    def test_the_helper_puts_it_together(self, proxy: Proxy, client: anthropic.Anthropic) -> None:
        proxy.upstream.script.append(streams((text(""), [said("So")]), call('{"who": "Ann", "n": 2}')))
        with client.messages.stream(**ASK, messages=HELLO) as events:
            kinds = {event.type for event in events}
            found = events.get_final_message()
        assert {"text", "input_json", "content_block_stop", "message_stop"} <= kinds
        assert found.content[1].to_dict()["input"] == {"who": "Ann", "n": 2}
        assert (found.stop_reason, found.usage.output_tokens) == ("end_turn", 7)

    def test_texts_split_over_events_and_blocks_are_redacted(
        self, proxy: Proxy, client: anthropic.Anthropic
    ) -> None:
        one = (text(""), [said("the red"), said("actw")])
        proxy.upstream.script.append(streams(one, (text(""), [said("ord is out")])))
        found = self.final(client)
        assert (
            "".join(block.text for block in found.content if block.type == "text") == f"the {MARK} is out"
        )

    def test_thinking_is_redacted_and_loses_its_signature(
        self, proxy: Proxy, client: anthropic.Anthropic
    ) -> None:
        thoughts = (thinking("", ""), [thought("a red"), thought("actword"), SIGNED])
        proxy.upstream.script.append(streams(thoughts, (text(""), [said(CALM)])))
        found = self.final(client)
        assert found.content[0].to_dict() == thinking(f"a {MARK}", EDITED)
        assert found.content[1].to_dict() == text(CALM)

    def test_inputs_are_redacted_and_stay_json(self, proxy: Proxy, client: anthropic.Anthropic) -> None:
        proxy.upstream.script.append(
            streams(call('{"who": "a \\"redactword\\"", "n": 2}'), call('{"who": "Bo"}'))
        )
        found = self.final(client, tools=TOOLS)
        inputs = [block.input for block in found.content if block.type == "tool_use"]
        assert inputs == [{"who": f'a "{MARK}"', "n": 2}, {"who": "Bo"}]

    def test_a_blocked_prompt_is_a_stream_that_refuses(
        self, proxy: Proxy, client: anthropic.Anthropic
    ) -> None:
        found = self.final(client, messages=of(("user", "a blockword")))
        assert [block.to_dict() for block in found.content] == [text(REFUSAL)]
        assert found.stop_reason == "refusal"
        assert proxy.upstream.seen == []

    @pytest.mark.parametrize("where", ["text", "thinking", "input"])
    def test_a_block_before_any_text_left_is_a_whole_refusal(
        self, proxy: Proxy, client: anthropic.Anthropic, where: str
    ) -> None:
        blocks = {
            "text": (text(""), [said("a block"), said("word")]),
            "thinking": (thinking("", ""), [thought("a blockword"), SIGNED]),
            "input": call('{"who": "blockword"}'),
        }
        proxy.upstream.script.append(streams(blocks[where]))
        found = self.final(client)
        assert [block.to_dict() for block in found.content] == [text(REFUSAL)]
        assert found.stop_reason == "refusal"

    @pytest.mark.parametrize("where", ["text", "other text", "input"])
    def test_a_halt_in_mid_stream_ends_the_message(
        self, proxy: Proxy, client: anthropic.Anthropic, where: str
    ) -> None:
        words = [said(word + " ") for word in LONG.split()]
        bad = said("Then a blockword.")
        blocks = {
            "text": [(text(""), [*words, bad])],
            "other text": [(text(""), words), (text(""), [bad])],
            "input": [(text(""), words), call('{"who": "blockword"}')],
        }
        proxy.upstream.script.append(streams(*blocks[where], pause_s=0.003))
        found = self.final(client)
        assert found.stop_reason == "refusal"
        assert found.stop_details is not None
        assert found.stop_details.explanation == REFUSAL
        assert "tool_use" not in [block.type for block in found.content]
        got = "".join(block.text for block in found.content if block.type == "text")
        assert got
        assert LONG.startswith(got)
        assert found.id == "msg_1"

    def test_a_halt_behind_thinking(self, proxy: Proxy, client: anthropic.Anthropic) -> None:
        thoughts = (thinking("", ""), [*[thought(word + " ") for word in LONG.split()], SIGNED])
        proxy.upstream.script.append(streams(thoughts, (text(""), [said("a blockword")]), pause_s=0.003))
        found = self.final(client)
        assert found.stop_reason == "refusal"
        assert found.content[0].type == "thinking"
        assert "blockword" not in found.to_json()

    def test_what_a_server_tool_found_is_judged_between_texts(
        self, proxy: Proxy, client: anthropic.Anthropic
    ) -> None:
        search = tool_use({}, "web_search", type="server_tool_use"), [piece_of_input('{"query": "x"}')]
        result = {
            "type": "web_search_tool_result",
            "tool_use_id": "toolu_1",
            "content": [
                {
                    "type": "web_search_result",
                    "title": "the redactword",
                    "url": "https://x.example/a",
                    "encrypted_content": "%%",
                }
            ],
        }
        cited = {
            "type": "web_search_result_location",
            "cited_text": "a redactword",
            "title": "t",
            "url": "https://x.example/a",
            "encrypted_index": "%%",
        }
        words = (text(""), [said("So "), delta("citations_delta", citation=cited), said("it is.")])
        proxy.upstream.script.append(
            streams((text(""), [said("Let me see.")]), search, (result, []), words)
        )
        found = [block.to_dict() for block in self.final(client).content]
        assert [block["type"] for block in found] == [
            "text",
            "server_tool_use",
            "web_search_tool_result",
            "text",
        ]
        assert found[1]["input"] == {"query": "x"}
        assert found[2]["content"][0]["title"] == f"the {MARK}"
        assert (found[3]["text"], found[3]["citations"][0]["cited_text"]) == ("So it is.", f"a {MARK}")

    def test_a_stream_that_breaks_off_never_looks_whole(
        self, proxy: Proxy, client: anthropic.Anthropic
    ) -> None:
        say = spoken(LONG)
        proxy.upstream.script.append(Say(headers=EVENTS, chunks=(say.chunks or [])[:-3], drop=True))
        with pytest.raises(anthropic.APIStatusError) as caught:
            self.final(client)
        assert caught.value.error_code == "upstream_unavailable"

    def test_closing_a_stream_early_cancels_the_upstream(
        self, proxy: Proxy, client: anthropic.Anthropic
    ) -> None:
        proxy.upstream.script.append(spoken(LONG * 20, pause_s=0.01))
        with client.messages.stream(**ASK, messages=HELLO) as events:
            for _ in events.text_stream:
                break
        until(lambda: proxy.upstream.seen[-1].cancelled, "the upstream is cancelled")


class TestReleaseModes:
    @pytest.mark.parametrize("release", ["window", "whole", "live"])
    def test_what_passes_keeps_its_bytes_and_a_block_ends_the_message(
        self, proxies: Proxies, release: str
    ) -> None:
        proxy = proxies(streaming={"release": release}, policies={"output": ["stern"]})
        thoughts = (thinking("", ""), [thought("let me see"), SIGNED])
        say = streams(thoughts, (text(""), [said(CALM)]), call('{"who": "Ann"}'))
        proxy.upstream.script.append(say)
        raw = proxy.http.post("/v1/messages", json={**ASK, "messages": HELLO, "stream": True})
        assert raw.content == b"".join(say.chunks or [])
        words = [said(word + " ") for word in (LONG + "Then a blockword.").split()]
        proxy.upstream.script.append(streams((text(""), words), call('{"who": "Ann"}'), pause_s=0.003))
        with sdk(proxy, max_retries=0) as own, own.messages.stream(**ASK, messages=HELLO) as events:
            found = events.get_final_message()
        assert found.stop_reason == "refusal"
        assert [block.type for block in found.content] == ["text"]

    def test_a_refusal_of_a_stream_that_was_kept_alive(self, proxies: Proxies) -> None:
        """Its head has left before the verdict came, so the words stand in the block that is open."""
        proxy = proxies(streaming={"keep_alive_s": 0.05})
        proxy.judge.words["tardyword"] = Say(ruling(1, "BLK"), delay_s=0.5)
        proxy.upstream.script.append(spoken("a tardyword"))
        try:
            raw = proxy.http.post("/v1/messages", json={**ASK, "messages": HELLO, "stream": True})
        finally:
            del proxy.judge.words["tardyword"]
        assert raw.content.startswith(b"event: message_start\n")
        assert b"\n\n: held\n\n" in raw.content
        kinds = [line[7:] for line in raw.text.splitlines() if line.startswith("event: ")]
        assert kinds == [
            *["message_start", "ping", "content_block_start", "content_block_delta", "content_block_stop"],
            *["message_delta", "message_stop"],
        ]
        assert "tardyword" not in raw.text
        assert raw.text.count(REFUSAL) == 2  # as the text, and in the details


class TestJudgeDown:
    """Retries of the SDK stay on."""

    @pytest.mark.parametrize("streaming", [False, True])
    def test_closed_a_prompt_is_refused_once(self, proxy: Proxy, streaming: bool) -> None:
        asked = of(("user", f"an outageword {streaming}"))
        with sdk(proxy) as own, pytest.raises(anthropic.ServiceUnavailableError) as caught:
            own.messages.create(**ASK, messages=asked, stream=streaming)
        assert (caught.value.error_code, caught.value.type) == ("guardrail_unavailable", "overloaded_error")
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert proxy.upstream.seen == []

    def test_closed_an_answer_is_refused_once(self, proxy: Proxy) -> None:
        proxy.upstream.script.append(says(text("an outageword")))
        with sdk(proxy) as own, pytest.raises(anthropic.ServiceUnavailableError):
            own.messages.create(**ASK, messages=HELLO)
        assert len(proxy.upstream.seen) == 1

    def test_closed_a_stream_ends_in_an_error(self, proxy: Proxy, client: anthropic.Anthropic) -> None:
        proxy.upstream.script.append(spoken(LONG + "Then an outageword.", pause_s=0.003))
        got: list[str] = []
        stream = client.messages.stream(**ASK, messages=HELLO)
        with stream as events, pytest.raises(anthropic.APIStatusError) as caught:
            got.extend(events.text_stream)
        assert caught.value.error_code == "guardrail_unavailable"
        assert "".join(got)
        assert LONG.startswith("".join(got))

    @pytest.mark.parametrize("streaming", [False, True])
    def test_open_it_passes_and_says_so(self, proxies: Proxies, streaming: bool) -> None:
        proxy = proxies(on_error={"input": "open", "output": "open"})
        words = "an outageword "
        proxy.upstream.script.append(spoken(words) if streaming else says(text(words)))
        asked = of(("user", "an outageword"))
        raw = proxy.http.post("/v1/messages", json={**ASK, "messages": asked, "stream": streaming})
        assert raw.headers["x-guardrail-degraded"]
        assert "outageword" in raw.text
        assert REFUSAL not in raw.text


class TestCountTokens:
    def test_a_number_comes_as_it_is(self, proxy: Proxy, client: anthropic.Anthropic) -> None:
        proxy.upstream.script.append(Say(b'{"input_tokens": 12}'))
        raw = client.messages.with_raw_response.count_tokens(model="m", messages=HELLO)
        assert raw.parse().input_tokens == 12
        assert raw.headers["x-guardrail-decision"] == "pass"
        assert proxy.upstream.seen[-1].path == "/v1/messages/count_tokens"
        [record] = proxy.recorded(raw.headers["x-guardrail-id"], "input")
        assert record["dialect"] == "messages.count_tokens"

    def test_a_prompt_is_redacted(self, proxy: Proxy, client: anthropic.Anthropic) -> None:
        proxy.upstream.script.append(Say(b'{"input_tokens": 12}'))
        client.messages.count_tokens(model="m", messages=of(("user", "a redactword")))
        assert forwarded(proxy)["messages"][0]["content"] == f"a {MARK}"

    def test_a_blocked_prompt_is_an_error(self, proxy: Proxy, client: anthropic.Anthropic) -> None:
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.messages.count_tokens(model="m", messages=of(("user", "a blockword")))
        assert (caught.value.error_code, caught.value.api_message) == ("content_filter", REFUSAL)
        assert proxy.upstream.seen == []

    def test_what_is_no_number_is_not_let_through(self, proxy: Proxy, client: anthropic.Anthropic) -> None:
        proxy.upstream.script.append(Say(b'{"input_tokens": 12, "text": "blockword"}'))
        with pytest.raises(anthropic.APIStatusError) as caught:
            client.messages.count_tokens(model="m", messages=HELLO)
        assert caught.value.error_code == "upstream_unreadable"


class TestHistory:
    def test_a_blocked_turn_does_not_block_the_chat_forever(self, proxies: Proxies) -> None:
        proxy = proxies(history={"max_entries": 100})
        with sdk(proxy, max_retries=0) as own:
            asked = of(
                ("user", "hello there"),
                ("assistant", [tool_use({"who": "Ann"})]),
                ("user", [tool_result("a blockword")]),
            )
            proxy.upstream.script.extend([says(tool_use({"who": "Ann"})), says(text("Fine."))])
            own.messages.create(**ASK, messages=asked[:1])
            refused = own.messages.create(**ASK, messages=asked)
            assert refused.stop_reason == "refusal"
            asked += of(("assistant", refused.to_param()["content"]), ("user", "something else"))
            found = own.messages.create(**ASK, messages=asked)
        assert found.content[0].to_dict() == text("Fine.")
        assert forwarded(proxy)["messages"] == of(("user", "hello there"), ("user", "something else"))


class TestRestoring:
    """Placeholders for the model, the text itself for the client."""

    @pytest.mark.parametrize("streaming", [False, True])
    def test_text_thinking_and_inputs_are_restored(self, proxies: Proxies, streaming: bool) -> None:
        proxy = proxies(redaction={"strategy": "placeholder", "secret": "a secret of sixteen characters"})

        def answering(seen: Seen) -> Say:
            asked = seen.json["messages"][0]["content"]
            assert "redactword" not in asked
            given = json.dumps({"who": f'{asked!s} "x"'})
            if not streaming:
                return says(thinking(asked), text(f"So {asked}"), tool_use(json.loads(given)))
            thoughts = (thinking("", ""), [*[thought(one) for one in asked], SIGNED])
            return streams(thoughts, (text(""), [said(one) for one in f"So {asked}"]), call(given))

        default, proxy.upstream.default = proxy.upstream.default, answering
        try:
            with sdk(proxy, max_retries=0) as own:
                asked = of(("user", "a redactword"))
                if streaming:
                    with own.messages.stream(**ASK, messages=asked) as events:
                        found = events.get_final_message()
                else:
                    found = own.messages.create(**ASK, messages=asked)
        finally:
            proxy.upstream.default = default
        thoughts, words, tool = found.content
        assert thoughts.to_dict() == thinking("a redactword", EDITED)
        assert words.to_dict() == text("So a redactword")
        assert tool.to_dict()["input"] == {"who": 'a redactword "x"'}


class TestKeys:
    """Anthropic's clients send a key as ``x-api-key``, newer ones as a bearer's."""

    @staticmethod
    def sent(proxy: Proxy, **headers: str) -> dict[str, str]:
        """What the upstream is sent of these headers."""
        proxy.upstream.script.append(says(text(CALM)))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        asked = proxy.http.post("/v1/messages", json={**ASK, "messages": HELLO}, headers=named)
        assert asked.status_code == 200
        seen = {name.lower(): value for name, value in proxy.upstream.seen[-1].headers.items()}
        return {name: seen[name] for name in ("authorization", "x-api-key") if name in seen}

    def test_the_callers_key_is_passed_on(self, proxy: Proxy) -> None:
        assert self.sent(proxy, x_api_key=CALLER_KEY) == {"x-api-key": CALLER_KEY}

    def test_a_key_of_the_proxys_own_stands_where_the_callers_stood(self, proxies: Proxies) -> None:
        proxy = proxies(upstream={"api_key": SERVER_KEY})
        bearer = {"authorization": f"Bearer {SERVER_KEY}"}
        assert self.sent(proxy, x_api_key=CALLER_KEY) == {"x-api-key": SERVER_KEY}
        assert self.sent(proxy, authorization=f"Bearer {CALLER_KEY}") == bearer
        assert self.sent(proxy, x_api_key=CALLER_KEY, authorization=f"Bearer {CALLER_KEY}") == bearer
        assert self.sent(proxy) == bearer


def test_the_example_runs(proxy: Proxy) -> None:
    def answering(seen: Seen) -> Say:
        return spoken(CALM) if seen.json.get("stream") else says(text(CALM))

    default, proxy.upstream.default = proxy.upstream.default, answering
    try:
        ended = subprocess.run(
            [sys.executable, str(Path(__file__).parents[2] / "examples" / "anthropic_sdk.py")],
            env={"PATH": os.environ["PATH"], "GUARDRAIL_URL": proxy.url, "ANTHROPIC_API_KEY": CALLER_KEY},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        proxy.upstream.default = default
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count(f"{CALM}\n[pass, end_turn]\n") == 3
    assert ended.stdout.endswith(f"{CALM} \n")
