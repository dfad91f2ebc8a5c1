"""The Responses API through the proxy, with the real OpenAI SDK: bodies, streams, tools, reasoning."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import openai
import orjson
import pydantic
import pytest

from tests.e2e.conftest import MARK, REFUSAL, Proxies, Proxy, until
from tests.fakes import FakeUpstream, Say, Seen
from tests.wire.responses import (
    Json,
    answer,
    call,
    citation,
    decoded,
    encoded,
    gathered,
    in_order,
    message,
    reasoning,
    said,
    spoken,
    told,
)

PATH = "/v1/responses"
EVENTS = {"content-type": "text/event-stream"}
CALM = [{"role": "user", "content": "hello"}]
LONG = "Some words that pass without any doubt. " * 8
OPEN = {"on_error": {"input": "open", "output": "open"}}
RESTORING: dict[str, Any] = {
    "redaction": {"strategy": "placeholder", "secret": "a secret of sixteen characters or more"}
}
PLACEHOLDER = re.compile(r"\[RED_[A-Z0-9]{8}\]")
both_ways = pytest.mark.parametrize("streaming", [False, True], ids=["body", "stream"])


class Weather(pydantic.BaseModel):
    city: str
    degrees: int


@pytest.fixture(autouse=True)
def _default(upstream: FakeUpstream) -> Iterator[None]:
    default = upstream.default
    yield
    upstream.default = default


def saying(*items: Json, size: int = 5, pause_s: float = 0.0, **fields: Any) -> Callable[[Seen], Say]:
    """An upstream that answers with these items, as it is asked to."""

    def reply(seen: Seen) -> Say:
        if not seen.json.get("stream"):
            return Say(answer(*items, **fields))
        chunks = [encoded([one]) for one in told(*items, size=size, **fields)]
        return Say(headers=EVENTS, chunks=chunks, pause_s=pause_s)

    return reply


def post(proxy: Proxy, body: Any) -> Any:
    raw = orjson.dumps({"model": "m", **body})
    return proxy.http.post(PATH, content=raw, headers={"content-type": "application/json"})


def output_of(proxy: Proxy, *, streaming: bool, **fields: Any) -> tuple[list[Json], str, str]:
    """The output that a client gets, all that it read, and the status of the response."""
    got = post(proxy, {"input": "hello", "stream": streaming, **fields})
    assert got.status_code == 200, got.text
    if not streaming:
        body = got.json()
        return body["output"], got.text, body["status"]
    events = decoded(got.content)
    assert in_order(events)
    last = events[-1]["response"]
    pieces = {place: text for place, text in gathered(events).items() if text}
    assert pieces == spoken(last["output"]), "a stream's end says what its pieces said"
    return last["output"], got.text, last["status"]


class TestInput:
    @both_ways
    def test_a_prompt_passes_byte_for_byte(self, proxy: Proxy, upstream: FakeUpstream, streaming: bool):
        upstream.default = saying(message("All is well."))
        raw = b'{"model":"m",  "input":"hello", "stream":%s, "store": false}' % (
            b"true" if streaming else b"false"
        )
        got = proxy.http.post(PATH, content=raw, headers={"content-type": "application/json"})
        assert (got.status_code, got.headers["x-guardrail-decision"]) == (200, "pass")
        assert upstream.seen[-1].body == raw
        items = [message("All is well.")]
        assert got.content == (encoded(told(*items, size=5)) if streaming else answer(*items))
        proxy.recorded(got.headers["x-guardrail-id"], "input", "output")

    @both_ways
    def test_a_blocked_prompt_is_refused_and_not_forwarded(
        self, proxy: Proxy, upstream: FakeUpstream, client: openai.OpenAI, streaming: bool
    ):
        if streaming:
            with client.responses.stream(model="m", input="a blockword") as events:
                final = [event for event in events if event.type == "response.incomplete"][-1].response
        else:
            final = client.responses.create(model="m", input="a blockword")
        assert upstream.seen == []
        assert (final.status, final.output_text) == ("incomplete", "")
        assert final.incomplete_details is not None
        assert final.incomplete_details.reason == "content_filter"
        part: Any = final.output[0].content[0]  # type: ignore[union-attr, index]
        assert (part.type, part.refusal) == ("refusal", REFUSAL)

    @pytest.mark.parametrize(
        "body",
        [
            {
                "input": [
                    *CALM,
                    {"role": "assistant", "content": "hi"},
                    {"role": "user", "content": "blockword"},
                ]
            },
            {"input": [{"role": "user", "content": [said("fine"), said("a blockword")]}]},
            {
                "input": [
                    *CALM,
                    call("{}"),
                    {"type": "function_call_output", "call_id": "c", "output": "blockword"},
                ]
            },
            {
                "input": [
                    *CALM,
                    call("{}"),
                    {"type": "function_call_output", "call_id": "c", "output": [said("blockword")]},
                ]
            },
            {"input": [*CALM, call('{"who": "blockword"}')]},
            {"input": [*CALM, reasoning("blockword")]},
            {"input": [*CALM, message("blockword")]},
            {"input": [*CALM, {"role": "system", "content": "blockword"}]},
            {"input": [*CALM, {"type": "custom_tool_call_output", "call_id": "c", "output": "blockword"}]},
            {
                "input": [
                    *CALM,
                    {"type": "web_search_call", "action": {"type": "search", "query": "blockword"}},
                ]
            },
            {"input": "hello", "prompt": {"id": "p", "variables": {"x": "blockword"}}},
        ],
    )
    def test_every_text_that_is_not_the_applications_is_judged(
        self, proxy: Proxy, upstream: FakeUpstream, body: Json
    ):
        got = post(proxy, body)
        assert (got.status_code, got.headers["x-guardrail-decision"]) == (200, "block")
        assert got.json()["output"][0]["content"][0]["refusal"] == REFUSAL
        assert upstream.seen == []

    @pytest.mark.parametrize(
        "body",
        [
            {"input": "hello", "instructions": "never say blockword"},
            {"input": [{"role": "developer", "content": "never say blockword"}, *CALM]},
        ],
    )
    def test_what_leads_is_the_applications_own(self, proxy: Proxy, upstream: FakeUpstream, body: Json):
        upstream.default = saying(message("All is well."))
        got = post(proxy, body)
        assert (got.status_code, got.headers["x-guardrail-decision"]) == (200, "pass")
        assert upstream.seen[-1].json == {"model": "m", **body}

    def test_a_redaction_touches_nothing_else(self, proxy: Proxy, upstream: FakeUpstream):
        upstream.default = saying(message("All is well."))
        raw = (
            b'{"model":"m", "input":[{"role":"user","content":'
            b'[{"type":"input_text", "text":"a redactword"}]},\n'
            b' {"type":"function_call","call_id":"c","name":"n",'
            b'"arguments":"{\\"who\\": \\"redactword\\"}"},'
            b' {"type":"function_call_output","call_id":"c","output":"redactword"}],"x":1.0E2}'
        )
        got = proxy.http.post(PATH, content=raw, headers={"content-type": "application/json"})
        assert got.headers["x-guardrail-decision"] == "redact"
        assert upstream.seen[-1].body == raw.replace(b"redactword", MARK.encode())

    def test_history_on_the_server_is_named(self, proxy: Proxy, upstream: FakeUpstream, proxies: Proxies):
        upstream.default = saying(message("All is well."))
        body = {"input": "hello", "previous_response_id": "resp_0"}
        assert post(proxy, body).headers["x-guardrail-unjudged"] == "$.previous_response_id"
        strict = post(proxies(strict=True), body)
        assert strict.headers["x-guardrail-decision"] == "block"
        assert strict.json()["status"] == "incomplete"

    def test_an_answer_in_the_background_is_refused(self, client: openai.OpenAI, upstream: FakeUpstream):
        with pytest.raises(openai.BadRequestError, match="background") as caught:
            client.responses.create(model="m", input="hello", background=True)
        assert (caught.value.code, caught.value.param) == ("invalid_request_error", "background")
        assert upstream.seen == []

    def test_a_stored_response_cannot_be_fetched_unguarded(self, client: openai.OpenAI):
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.responses.retrieve("resp_1")
        assert caught.value.code == "unguarded_path"

    def test_several_turns_in_which_the_output_comes_back(self, proxy: Proxy, upstream: FakeUpstream):
        items = [reasoning("think"), call('{"who": "Ann"}', at=1)]
        upstream.default = saying(*items)
        with proxy.openai(max_retries=0) as sdk:
            first = sdk.responses.create(model="m", input=CALM)  # type: ignore[arg-type]
            upstream.default = saying(message("Ann comes."))
            given: Any = [*CALM, *first.output]
            given.append({"type": "function_call_output", "call_id": "call_1", "output": "yes"})
            second = sdk.responses.create(model="m", input=given)
        assert second.output_text == "Ann comes."
        assert [item.get("type") for item in upstream.seen[-1].json["input"]] == [
            None,
            "reasoning",
            "function_call",
            "function_call_output",
        ]


class TestOutput:
    @both_ways
    def test_a_text_is_redacted_wherever_it_stands(
        self, proxy: Proxy, upstream: FakeUpstream, streaming: bool
    ):
        notes = [citation(0, 3), citation(6, 16)]
        upstream.default = saying(
            reasoning("think of redactword", "and more"),
            message(said("Say a redactword now.", "output_text", annotations=notes)),
            call('{"who": "a \\"redactword\\"", "n": 2}', at=2),
        )
        output, text, status = output_of(proxy, streaming=streaming)
        assert "redactword" not in text
        assert status == "completed"
        assert [part["text"] for part in output[0]["summary"]] == [f"think of {MARK}", "and more"]
        part = output[1]["content"][0]
        assert (part["text"], part["annotations"]) == (f"Say a {MARK} now.", notes[:1])
        assert json.loads(output[2]["arguments"]) == {"who": f'a "{MARK}"', "n": 2}

    @both_ways
    def test_a_blocked_answer_is_refused(
        self, proxy: Proxy, upstream: FakeUpstream, client: openai.OpenAI, streaming: bool
    ):
        upstream.default = saying(message("Take the blockword."))
        output, text, status = output_of(proxy, streaming=streaming)
        assert "blockword" not in text
        assert status == "incomplete"
        assert [part["refusal"] for part in output[-1]["content"]] == [REFUSAL]

    @both_ways
    @pytest.mark.parametrize(
        "items",
        [
            [reasoning("the blockword"), message("All is well.")],
            [message("All is well."), call('{"who": "blockword"}', at=1)],
            [{"type": "custom_tool_call", "id": "i", "call_id": "c", "name": "n", "input": "blockword"}],
            [
                message(
                    said("All is well.", "output_text", annotations=[citation(0, 3, title="a blockword")])
                )
            ],
        ],
        ids=["reasoning", "arguments", "input", "title"],
    )
    def test_no_part_of_it_is_forgotten(
        self, proxy: Proxy, upstream: FakeUpstream, items: list[Json], streaming: bool
    ):
        upstream.default = saying(*items)
        output, text, status = output_of(proxy, streaming=streaming)
        assert "blockword" not in text
        assert status == "incomplete"
        assert not [item for item in output if item["type"].endswith("_call")]

    @both_ways
    def test_placeholders_are_restored_everywhere(
        self, proxies: Proxies, upstream: FakeUpstream, streaming: bool
    ):
        def reply(seen: Seen) -> Say:
            match = PLACEHOLDER.search(seen.json["input"])
            assert match is not None
            assert "redactword" not in seen.body.decode()
            items = [
                reasoning(f"think of {match[0]}"),
                message(f"I wrote to {match[0]} at once."),
                call(json.dumps({"to": match[0]}), at=2),
            ]
            return saying(*items, size=3)(seen)

        upstream.default = reply
        output, text, _ = output_of(proxies(**RESTORING), streaming=streaming, input="Write to redactword.")
        assert PLACEHOLDER.search(text) is None
        assert output[0]["summary"][0]["text"] == "think of redactword"
        assert output[1]["content"][0]["text"] == "I wrote to redactword at once."
        assert json.loads(output[2]["arguments"]) == {"to": "redactword"}

    @both_ways
    def test_structured_output_is_parsed_after_a_redaction(
        self, proxy: Proxy, upstream: FakeUpstream, client: openai.OpenAI, streaming: bool
    ):
        upstream.default = saying(message('{"city": "redactword", "degrees": 3}'))
        if streaming:
            with client.responses.stream(model="m", input="hello", text_format=Weather) as events:
                parsed = events.get_final_response().output_parsed
        else:
            parsed = client.responses.parse(model="m", input="hello", text_format=Weather).output_parsed
        assert parsed == Weather(city=MARK, degrees=3)

    @both_ways
    def test_a_blocked_structured_output_is_a_refusal_and_not_parsed(
        self, proxies: Proxies, upstream: FakeUpstream, streaming: bool
    ):
        proxy = proxies(refusal={"output": {"finish_reason": "stop"}})
        upstream.default = saying(
            message('{"city": "' + LONG + ' blockword", "degrees": 3}'), pause_s=0.002
        )
        with proxy.openai(max_retries=0) as client:
            if streaming:
                with client.responses.stream(model="m", input="hello", text_format=Weather) as events:
                    final: Any = events.get_final_response()
            else:
                final = client.responses.parse(model="m", input="hello", text_format=Weather)
        assert final.output_parsed is None
        assert final.output[-1].content[0].refusal == REFUSAL

    @both_ways
    def test_a_block_in_error_style(self, proxies: Proxies, upstream: FakeUpstream, streaming: bool):
        proxy = proxies(refusal={"output": {"style": "error"}})
        upstream.default = saying(message("Take the blockword."))
        with proxy.openai(max_retries=0) as client, pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(model="m", input="hello", stream=streaming)
        assert caught.value.code == "content_filter"


class TestHalt:
    def test_in_mid_text_the_end_says_what_left(
        self, proxy: Proxy, upstream: FakeUpstream, client: openai.OpenAI
    ):
        upstream.default = saying(reasoning("Think."), message(LONG + "Then a blockword."), pause_s=0.003)
        with client.responses.stream(model="m", input="hello") as stream:
            events = list(stream)
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert text
        assert LONG.startswith(text)
        last: Any = events[-1]
        assert last.type == "response.incomplete"
        assert last.response.incomplete_details.reason == "content_filter"
        assert last.response.output_text == text
        assert [item.status for item in last.response.output][1:] == ["incomplete"]
        done = [event.text for event in events if event.type == "response.output_text.done"]
        assert done == [text]

    def test_in_mid_text_the_upstream_is_cancelled(self, proxy: Proxy, upstream: FakeUpstream):
        endless = message(LONG + "Then a blockword. " + LONG * 40)
        upstream.default = saying(endless, pause_s=0.002)
        _, text, status = output_of(proxy, streaming=True)
        assert (status, "blockword" in text) == ("incomplete", False)
        until(lambda: upstream.seen[-1].cancelled, "the upstream is cancelled")

    def test_in_the_reasoning(self, proxy: Proxy, upstream: FakeUpstream):
        upstream.default = saying(reasoning(LONG + "a blockword"), message("Never said."), pause_s=0.003)
        output, text, status = output_of(proxy, streaming=True)
        assert (status, "Never" in text, "blockword" in text) == ("incomplete", False, False)
        assert [item["type"] for item in output] == ["reasoning"]
        assert LONG.startswith(output[0]["summary"][0]["text"])

    def test_at_a_call_behind_a_text(self, proxy: Proxy, upstream: FakeUpstream):
        upstream.default = saying(message(LONG), call('{"who": "blockword"}', at=1), pause_s=0.002)
        output, text, status = output_of(proxy, streaming=True)
        assert (status, "look_up" in text, "function_call" in text) == ("incomplete", False, False)
        assert [item["type"] for item in output] == ["message"]
        assert output[0]["content"][0]["text"] == LONG

    def test_with_finish_reason_stop_there_is_a_final_response(
        self, proxies: Proxies, upstream: FakeUpstream
    ):
        proxy = proxies(refusal={"output": {"finish_reason": "stop"}})
        upstream.default = saying(message(LONG + "Then a blockword."), pause_s=0.003)
        with (
            proxy.openai(max_retries=0) as client,
            client.responses.stream(model="m", input="hello") as stream,
        ):
            final = stream.get_final_response()
        assert final.status == "completed"
        assert final.output_text
        assert LONG.startswith(final.output_text)

    def test_in_error_style_after_text_an_error_is_raised(self, proxies: Proxies, upstream: FakeUpstream):
        proxy = proxies(refusal={"output": {"style": "error"}})
        upstream.default = saying(message(LONG + "Then a blockword."), pause_s=0.003)
        with proxy.openai(max_retries=0) as client, pytest.raises(openai.APIError, match="help"):
            list(client.responses.create(model="m", input="hello", stream=True))

    @pytest.mark.parametrize("release", ["whole", "window", "live"])
    def test_in_every_release_mode_the_end_says_what_left(
        self, proxies: Proxies, upstream: FakeUpstream, release: str
    ):
        policies = {"input": ["stern"], "output": ["stern"]}  # live takes none that redacts
        proxy = proxies(streaming={"release": release}, policies=policies)
        upstream.default = saying(reasoning("Think."), message(LONG + "A blockword."), pause_s=0.003)
        output, text, status = output_of(proxy, streaming=True)
        assert status == "incomplete"
        assert "blockword" not in text or release == "live"
        if release == "whole":
            assert [part["refusal"] for part in output[0]["content"]] == [REFUSAL]
            return
        assert output[0] == reasoning("Think.")
        left = output[1]["content"][0]["text"]
        assert left
        assert (LONG + "A blockword.").startswith(left)


class TestHistory:
    @both_ways
    def test_an_answer_that_comes_back_is_not_judged_again(
        self, proxies: Proxies, upstream: FakeUpstream, streaming: bool
    ):
        proxy = proxies(history={"max_entries": 1000})
        items = [reasoning("think"), message("All is well."), call('{"who": "Ann"}', at=2)]
        upstream.default = saying(*items)
        given = [{"role": "user", "content": f"hello, streaming {streaming}"}]
        output, _, _ = output_of(proxy, streaming=streaming, input=given)
        proxy.judge.seen.clear()
        upstream.default = saying(message("Bye."))
        result = {"type": "function_call_output", "call_id": "call_2", "output": "Ann comes."}
        output_of(proxy, streaming=streaming, input=[*given, *output, result])
        assert proxy.judge.judged == ["Ann comes.", "Bye."]

    @both_ways
    def test_a_blocked_turn_does_not_block_the_chat(
        self, proxies: Proxies, upstream: FakeUpstream, streaming: bool
    ):
        proxy = proxies(history={"max_entries": 1000})
        upstream.default = saying(message("Bye."))
        given = [{"role": "user", "content": f"a blockword, streaming {streaming}"}]
        refused, _, _ = output_of(proxy, streaming=streaming, input=given)
        output, _, _ = output_of(proxy, streaming=streaming, input=[*given, *refused, *CALM])
        assert output == [message("Bye.")]
        assert b"blockword" not in upstream.seen[-1].body
        assert upstream.seen[-1].json["input"][-1:] == CALM


class TestOutage:
    @both_ways
    @pytest.mark.parametrize("where", ["prompt", "answer"])
    def test_closed(self, proxy: Proxy, upstream: FakeUpstream, where: str, streaming: bool):
        upstream.default = saying(message("An outageword."))
        asked = "an outageword" if where == "prompt" else "hello"
        with proxy.openai() as client, pytest.raises(openai.InternalServerError) as caught:
            client.responses.create(model="m", input=asked, stream=streaming)
        assert caught.value.status_code == 503
        assert caught.value.code == "guardrail_unavailable"
        assert len(upstream.seen) == (where == "answer")

    @both_ways
    @pytest.mark.parametrize("where", ["prompt", "answer"])
    def test_open(self, proxies: Proxies, upstream: FakeUpstream, where: str, streaming: bool):
        proxy = proxies(**OPEN)
        said_at_all = "An outageword." if where == "answer" else "All is well."
        upstream.default = saying(message(said_at_all))
        asked = "an outageword" if where == "prompt" else "hello"
        output, _, status = output_of(proxy, streaming=streaming, input=asked)
        assert output == [message(said_at_all)]
        assert status == "completed"

    def test_closed_after_text_has_left(self, proxy: Proxy, upstream: FakeUpstream):
        upstream.default = saying(message(LONG + "Then an outageword."), pause_s=0.003)
        got = post(proxy, {"input": "hello", "stream": True})
        events = decoded(got.content)
        assert in_order(events)
        assert (events[-1]["type"], events[-1]["code"]) == ("error", "guardrail_unavailable")
        assert "response.completed" not in got.text
        assert "outageword" not in got.text

    def test_a_stream_that_breaks_off_never_looks_whole(self, proxy: Proxy, upstream: FakeUpstream):
        chunks = [encoded([one]) for one in told(message(LONG), size=5)][:-20]
        upstream.script.append(Say(headers=EVENTS, chunks=chunks, drop=True))
        got = post(proxy, {"input": "hello", "stream": True})
        events = decoded(got.content)
        assert (events[-1]["type"], events[-1]["code"]) == ("error", "upstream_unavailable")
        assert in_order(events)

    @pytest.mark.parametrize("raw", [b"{}", b'{"output": 1}', b'{"output": [], "output": []}'])
    def test_what_is_no_response_is_not_let_through(self, proxy: Proxy, upstream: FakeUpstream, raw: bytes):
        upstream.script.append(Say(raw))
        got = post(proxy, {"input": "hello"})
        assert (got.status_code, got.json()["error"]["code"]) == (502, "upstream_unreadable")

    def test_the_upstreams_own_error_passes(self, proxy: Proxy, upstream: FakeUpstream):
        upstream.script.append(Say(b'{"error": {"message": "no such model"}}', status=404))
        got = post(proxy, {"input": "hello"})
        assert (got.status_code, got.content) == (404, b'{"error": {"message": "no such model"}}')


class TestTools:
    @pytest.mark.anyio
    async def test_the_asynchronous_sdk_streams_too(self, proxy: Proxy, upstream: FakeUpstream):
        upstream.default = saying(message("A redactword."), call('{"a": 1}', at=1))
        async with (
            proxy.async_openai(max_retries=0) as client,
            client.responses.stream(model="m", input="hello") as stream,
        ):
            final = await stream.get_final_response()
        assert final.output_text == f"A {MARK}."
        assert final.output[1].arguments == '{"a": 1}'  # type: ignore[union-attr]

    def test_calls_side_by_side_are_judged_and_leave(self, proxy: Proxy, upstream: FakeUpstream):
        upstream.default = saying(call('{"who": "Ann"}'), call('{"who": "redactword"}', at=1))
        output, _, _ = output_of(proxy, streaming=True)
        assert [item["arguments"] for item in output] == ['{"who": "Ann"}', f'{{"who": "{MARK}"}}']

    def test_a_search_of_the_servers_does_not_keep_the_answer_back(
        self, proxy: Proxy, upstream: FakeUpstream
    ):
        search = {
            "type": "web_search_call",
            "id": "ws_0",
            "status": "completed",
            "action": {"type": "search", "query": "the weather of redactword"},
        }
        upstream.default = saying(search, message(LONG + "Then a blockword."), pause_s=0.003)
        output, text, status = output_of(proxy, streaming=True)
        assert status == "incomplete"
        assert output[0]["action"]["query"] == f"the weather of {MARK}"
        assert output[1]["content"][0]["text"]
        assert "redactword" not in text
