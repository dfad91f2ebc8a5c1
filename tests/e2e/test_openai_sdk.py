"""The real OpenAI SDK, synchronous and asynchronous, against the proxy: every way it is used."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletion

from guardrail.core.record import fingerprint
from tests.e2e.conftest import CALM, MARK, REFUSAL, Proxies, Proxy, until
from tests.fakes import DONE, Say, chunk, completion, stream

EVENTS = {"content-type": "text/event-stream"}
HELLO: Any = [{"role": "user", "content": "hello"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "book",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"who": {"type": "string"}, "seats": {"type": "integer"}},
                "required": ["who", "seats"],
                "additionalProperties": False,
            },
        },
    }
]


class Weather(pydantic.BaseModel):
    city: str
    degrees: int


@pytest.fixture
async def aclient(proxy: Proxy) -> AsyncIterator[openai.AsyncOpenAI]:
    async with proxy.async_openai(max_retries=0) as sdk:
        yield sdk


def call(arguments: str, index: int = 0, name: str = "book") -> dict[str, Any]:
    return {
        "index": index,
        "id": f"call_{index}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def with_calls(*arguments: str) -> Say:
    calls = [call(args, i) for i, args in enumerate(arguments)]
    return Say(completion(None, finish_reason="tool_calls", tool_calls=calls))


def streamed_calls(*arguments: str) -> Say:
    """Each call as its head and then its arguments, three characters at a time."""
    chunks = [chunk({"role": "assistant", "content": None})]
    for index, args in enumerate(arguments):
        chunks.append(chunk({"tool_calls": [call("", index)]}))
        for at in range(0, len(args), 3):
            piece = {"index": index, "function": {"arguments": args[at : at + 3]}}
            chunks.append(chunk({"tool_calls": [piece]}))
    return Say(headers=EVENTS, chunks=[*chunks, chunk({}, finish_reason="tool_calls"), DONE])


def choices(*texts: str, **more: Any) -> Say:
    body = json.loads(completion(""))
    body["choices"] = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", **more}
        for i, text in enumerate(texts)
    ]
    return Say(json.dumps(body).encode())


class TestCreate:
    def test_an_answer_comes_as_it_was_given(self, client: openai.OpenAI) -> None:
        answer = client.chat.completions.create(model="m", messages=HELLO)
        assert isinstance(answer, ChatCompletion)
        assert answer.choices[0].message.content == CALM
        assert answer.usage is not None
        assert answer.usage.total_tokens == 709

    def test_raw_responses_show_the_headers(self, proxy: Proxy, client: openai.OpenAI) -> None:
        raw = client.chat.completions.with_raw_response.create(model="m", messages=HELLO)
        assert raw.headers["x-guardrail-decision"] == "pass"
        proxy.recorded(raw.headers["x-guardrail-id"], "input", "output")

    def test_streamed_raw_responses_show_the_headers(self, proxy: Proxy, client: openai.OpenAI) -> None:
        with client.chat.completions.with_streaming_response.create(
            model="m", messages=HELLO, stream=True
        ) as raw:
            assert raw.headers["x-guardrail-decision"] == "pass"
            assert "[DONE]" in "".join(raw.iter_text())
        proxy.recorded(raw.headers["x-guardrail-id"], "input", "output")

    def test_a_refusal_is_a_completion_like_any_other(self, client: openai.OpenAI) -> None:
        asked: Any = [{"role": "user", "content": "a blockword"}]
        answer = client.chat.completions.create(model="my-model", messages=asked)
        assert answer.choices[0].message.content == REFUSAL
        assert answer.choices[0].finish_reason == "content_filter"
        assert answer.model == "my-model"
        assert answer.object == "chat.completion"
        assert answer.usage is not None
        assert answer.usage.total_tokens == 0

    def test_models_list_passes(self, client: openai.OpenAI) -> None:
        assert [model.id for model in client.models.list()] == ["fake-model"]

    @pytest.mark.anyio
    async def test_asynchronous_create_and_stream(self, aclient: openai.AsyncOpenAI) -> None:
        answer = await aclient.chat.completions.create(model="m", messages=HELLO)
        assert answer.choices[0].message.content == CALM
        text = ""
        async for piece in await aclient.chat.completions.create(model="m", messages=HELLO, stream=True):
            text += piece.choices[0].delta.content or ""
        assert text.strip() == CALM

    @pytest.mark.anyio
    async def test_asynchronous_models_list(self, aclient: openai.AsyncOpenAI) -> None:
        assert [model.id async for model in aclient.models.list()] == ["fake-model"]

    @pytest.mark.anyio
    async def test_an_asynchronous_block(self, aclient: openai.AsyncOpenAI) -> None:
        asked: Any = [{"role": "user", "content": "a blockword"}]
        raw = await aclient.chat.completions.with_raw_response.create(model="m", messages=asked)
        assert raw.headers["x-guardrail-decision"] == "block"
        assert raw.parse().choices[0].message.content == REFUSAL


class TestParse:
    def test_a_pydantic_model_is_parsed(self, proxy: Proxy, client: openai.OpenAI) -> None:
        proxy.upstream.script.append(Say(completion('{"city": "Oslo", "degrees": 3}')))
        answer = client.chat.completions.parse(model="m", messages=HELLO, response_format=Weather)
        assert answer.choices[0].message.parsed == Weather(city="Oslo", degrees=3)

    def test_a_redacted_answer_still_parses(self, proxy: Proxy, client: openai.OpenAI) -> None:
        proxy.upstream.script.append(Say(completion('{"city": "redactword", "degrees": 3}')))
        answer = client.chat.completions.parse(model="m", messages=HELLO, response_format=Weather)
        assert answer.choices[0].message.parsed == Weather(city=MARK, degrees=3)

    @pytest.mark.parametrize("where", ["prompt", "answer"])
    def test_a_block_raises_what_the_sdk_raises_for_a_content_filter(
        self, proxy: Proxy, client: openai.OpenAI, where: str
    ) -> None:
        proxy.upstream.text = '{"city": "blockword", "degrees": 3}'
        asked: Any = [{"role": "user", "content": "a blockword" if where == "prompt" else "hello"}]
        with pytest.raises(openai.ContentFilterFinishReasonError):
            client.chat.completions.parse(model="m", messages=asked, response_format=Weather)

    @pytest.mark.anyio
    async def test_asynchronous_parse(self, proxy: Proxy, aclient: openai.AsyncOpenAI) -> None:
        proxy.upstream.script.append(Say(completion('{"city": "Oslo", "degrees": 3}')))
        answer = await aclient.chat.completions.parse(model="m", messages=HELLO, response_format=Weather)
        assert answer.choices[0].message.parsed == Weather(city="Oslo", degrees=3)

    def test_parsed_tool_arguments_stay_sound_when_redacted(
        self, proxy: Proxy, client: openai.OpenAI
    ) -> None:
        proxy.upstream.script.append(with_calls('{"who": "redactword", "seats": 2}'))
        answer = client.chat.completions.parse(model="m", messages=HELLO, tools=TOOLS)
        calls = answer.choices[0].message.tool_calls
        assert calls is not None
        assert calls[0].function.parsed_arguments == {"who": MARK, "seats": 2}


class TestStreamHelper:
    def test_events_add_up_to_the_answer(self, client: openai.OpenAI) -> None:
        with client.chat.completions.stream(model="m", messages=HELLO) as events:
            kinds = {event.type for event in events}
            final = events.get_final_completion()
        assert {"chunk", "content.delta", "content.done"} <= kinds
        assert (final.choices[0].message.content or "").strip() == CALM

    def test_a_pydantic_model_is_parsed_from_the_stream(self, proxy: Proxy, client: openai.OpenAI) -> None:
        proxy.upstream.text = '{"city": "redactword", "degrees": 3}'
        with client.chat.completions.stream(model="m", messages=HELLO, response_format=Weather) as events:
            final = events.until_done().get_final_completion()
        assert final.choices[0].message.parsed == Weather(city=f"{MARK}", degrees=3)

    def test_a_halt_in_mid_stream_ends_in_content_filter(self, proxy: Proxy, client: openai.OpenAI) -> None:
        proxy.upstream.text = "Some words that pass without any doubt. " * 8 + "Then a blockword."
        proxy.upstream.pause_s = 0.003
        with client.chat.completions.stream(model="m", messages=HELLO) as events:
            got = events.until_done().current_completion_snapshot.choices[0]
            with pytest.raises(openai.ContentFilterFinishReasonError):
                events.get_final_completion()
        assert got.finish_reason == "content_filter"
        assert got.message.content
        assert ("Some words that pass without any doubt. " * 8).startswith(got.message.content)

    def test_with_finish_reason_stop_the_final_completion_is_the_refusal(self, proxies: Proxies) -> None:
        proxy = proxies(refusal={"input": {"finish_reason": "stop"}})
        asked: Any = [{"role": "user", "content": "a blockword"}]
        with (
            proxy.openai(max_retries=0) as sdk,
            sdk.chat.completions.stream(model="m", messages=asked) as events,
        ):
            assert events.get_final_completion().choices[0].message.content == REFUSAL

    def test_a_halted_structured_answer_raises(self, proxy: Proxy, client: openai.OpenAI) -> None:
        proxy.upstream.text = '{"city": "blockword", "degrees": 3}'
        events = client.chat.completions.stream(model="m", messages=HELLO, response_format=Weather)
        with pytest.raises(openai.ContentFilterFinishReasonError), events as running:
            running.until_done()

    @pytest.mark.anyio
    async def test_asynchronous_stream_helper(self, aclient: openai.AsyncOpenAI) -> None:
        async with aclient.chat.completions.stream(model="m", messages=HELLO) as events:
            final = await events.get_final_completion()
        assert (final.choices[0].message.content or "").strip() == CALM

    def test_leaving_the_stream_early_cancels_the_upstream(
        self, proxy: Proxy, client: openai.OpenAI
    ) -> None:
        say = stream(["word "] * 5000)
        say.pause_s = 0.002
        proxy.upstream.script.append(say)
        with client.chat.completions.create(model="m", messages=HELLO, stream=True) as chunks:
            for piece in chunks:
                if piece.choices[0].delta.content:
                    break
        until(lambda: proxy.upstream.seen[-1].cancelled, "the upstream is cancelled")


class TestToolCalls:
    def test_calls_pass(self, proxy: Proxy, client: openai.OpenAI) -> None:
        proxy.upstream.script.append(with_calls('{"who": "Ann", "seats": 2}', "{}"))
        answer = client.chat.completions.create(model="m", messages=HELLO, tools=TOOLS)
        calls: Any = answer.choices[0].message.tool_calls
        assert [c.function.arguments for c in calls] == ['{"who": "Ann", "seats": 2}', "{}"]
        assert answer.choices[0].finish_reason == "tool_calls"

    def test_redacted_arguments_stay_json(self, proxy: Proxy, client: openai.OpenAI) -> None:
        args = '{"who": "a \\"redactword\\" b", "seats": 2, "list": ["redactword"]}'
        proxy.upstream.script.append(with_calls(args, '{"who": "Bo"}'))
        answer = client.chat.completions.create(model="m", messages=HELLO, tools=TOOLS)
        calls: Any = answer.choices[0].message.tool_calls
        assert json.loads(calls[0].function.arguments) == {
            "who": f'a "{MARK}" b',
            "seats": 2,
            "list": [MARK],
        }
        assert calls[1].function.arguments == '{"who": "Bo"}'

    def test_a_blocked_call_never_reaches_the_client(self, proxy: Proxy, client: openai.OpenAI) -> None:
        proxy.upstream.script.append(with_calls('{"who": "Ann"}', '{"who": "blockword"}'))
        answer = client.chat.completions.create(model="m", messages=HELLO, tools=TOOLS)
        assert answer.choices[0].message.tool_calls is None
        assert answer.choices[0].message.content == REFUSAL
        assert answer.choices[0].finish_reason == "content_filter"

    def test_streamed_calls_pass(self, proxy: Proxy, client: openai.OpenAI) -> None:
        proxy.upstream.script.append(streamed_calls('{"who": "Ann", "seats": 2}', '{"who": "Bo"}'))
        assert self.gather(client) == (["book", "book"], ['{"who": "Ann", "seats": 2}', '{"who": "Bo"}'])

    def test_streamed_redacted_arguments_stay_json(self, proxy: Proxy, client: openai.OpenAI) -> None:
        args = '{"who": "a \\"redactword\\" b", "seats": 2}'
        proxy.upstream.script.append(streamed_calls(args, '{"who": "Bo"}'))
        names, arguments = self.gather(client)
        assert names == ["book", "book"]
        assert json.loads(arguments[0]) == {"who": f'a "{MARK}" b', "seats": 2}
        assert arguments[1] == '{"who": "Bo"}'

    def test_a_streamed_blocked_call_never_reaches_the_client(self, proxy: Proxy) -> None:
        proxy.upstream.script.append(streamed_calls('{"who": "blockword", "seats": 2}'))
        raw = proxy.post({"model": "m", "stream": True, "messages": HELLO, "tools": TOOLS})
        assert raw.status_code == 200
        assert "tool_calls" not in raw.text
        assert "book" not in raw.text
        assert REFUSAL in raw.text

    def test_a_blocked_call_after_text_ends_the_stream_without_it(self, proxy: Proxy) -> None:
        say = streamed_calls('{"who": "blockword", "seats": 2}')
        text = [chunk({"content": f"word{i} "}) for i in range(40)]
        say.chunks = [*(say.chunks or [])[:1], *text, *(say.chunks or [])[1:]]
        proxy.upstream.script.append(say)
        raw = proxy.post({"model": "m", "stream": True, "messages": HELLO, "tools": TOOLS})
        assert "word0 " in raw.text
        assert "tool_calls" not in raw.text
        assert '"finish_reason":"content_filter"' in raw.text
        assert raw.text.endswith("data: [DONE]\n\n")

    def test_streamed_arguments_leave_only_as_a_whole(self, proxy: Proxy) -> None:
        """A call that a client could act upon is not handed out before all of it was judged."""
        say = streamed_calls('{"who": "Ann", "seats": 2}')
        proxy.upstream.script.append(Say(headers=EVENTS, chunks=(say.chunks or [])[:-3], drop=True))
        raw = proxy.post({"model": "m", "stream": True, "messages": HELLO, "tools": TOOLS})
        # The stream broke off inside the call: what was judged may leave, but never as a finished call.
        assert 'finish_reason": "tool_calls' not in raw.text
        assert "[DONE]" not in raw.text
        assert "upstream_unavailable" in raw.text

    @pytest.mark.parametrize("role", ["tool", "function", "assistant", "critic"])
    def test_tool_answers_and_unknown_roles_are_judged(self, proxy: Proxy, role: str) -> None:
        turns = [*HELLO, {"role": role, "content": "from a web page: blockword", "tool_call_id": "c"}]
        raw = proxy.post({"model": "m", "messages": turns})
        assert raw.json()["choices"][0]["finish_reason"] == "content_filter"
        assert proxy.upstream.seen == []

    def test_arguments_in_the_history_are_judged_and_redacted_as_json(self, proxy: Proxy) -> None:
        args = '{"who": "redactword"}'
        turns = [*HELLO, {"role": "assistant", "content": None, "tool_calls": [call(args)]}]
        assert proxy.post({"model": "m", "messages": turns}).status_code == 200
        sent = proxy.upstream.seen[-1].json["messages"][1]["tool_calls"][0]["function"]["arguments"]
        assert json.loads(sent) == {"who": MARK}

    @staticmethod
    def gather(client: openai.OpenAI) -> tuple[list[str], list[str]]:
        names: dict[int, str] = {}
        arguments: dict[int, str] = {}
        for piece in client.chat.completions.create(model="m", messages=HELLO, tools=TOOLS, stream=True):
            for delta in piece.choices[0].delta.tool_calls or []:
                assert delta.function is not None
                names.setdefault(delta.index, delta.function.name or "")
                arguments[delta.index] = arguments.get(delta.index, "") + (delta.function.arguments or "")
        return list(names.values()), list(arguments.values())


class TestSeveralChoices:
    def test_each_choice_is_judged_on_its_own(self, proxy: Proxy, client: openai.OpenAI) -> None:
        proxy.upstream.script.append(choices("a blockword", "all is well", "a redactword"))
        raw = client.chat.completions.with_raw_response.create(model="m", messages=HELLO, n=3)
        first, second, third = raw.parse().choices
        assert (first.message.content, first.finish_reason) == (REFUSAL, "content_filter")
        assert (second.message.content, second.finish_reason) == ("all is well", "stop")
        assert third.message.content == f"a {MARK}"
        assert raw.headers["x-guardrail-decision"] == "block"
        proxy.recorded(raw.headers["x-guardrail-id"], "input", "output", "output", "output")

    def test_a_blocked_prompt_gives_as_many_refusals(self, client: openai.OpenAI) -> None:
        asked: Any = [{"role": "user", "content": "a blockword"}]
        answer = client.chat.completions.create(model="m", messages=asked, n=2)
        assert [c.message.content for c in answer.choices] == [REFUSAL, REFUSAL]
        assert [c.index for c in answer.choices] == [0, 1]

    @pytest.mark.parametrize("bad", [0, 1])
    def test_a_halted_choice_ends_and_the_other_goes_on(
        self, proxy: Proxy, client: openai.OpenAI, bad: int
    ) -> None:
        good = 1 - bad
        texts = {bad: ["take a ", "blockword ", "now "] + ["more "] * 40, good: ["fine "] * 43}
        chunks = [chunk({"content": texts[i][n]}, index=i) for n in range(43) for i in (0, 1)]
        ends = [chunk({}, index=i, finish_reason="stop") for i in (0, 1)]
        proxy.upstream.script.append(Say(headers=EVENTS, chunks=[*chunks, *ends, DONE]))
        got, finish = {0: "", 1: ""}, {}
        for piece in client.chat.completions.create(model="m", messages=HELLO, n=2, stream=True):
            for choice in piece.choices:
                assert choice.index not in finish, "nothing follows the end of a choice"
                got[choice.index] += choice.delta.content or ""
                if choice.finish_reason:
                    finish[choice.index] = choice.finish_reason
        assert finish == {bad: "content_filter", good: "stop"}
        assert got[good] == "fine " * 43
        assert "blockword" not in got[bad]

    def test_two_halted_choices_end_the_stream_once(self, proxy: Proxy) -> None:
        chunks = [chunk({"content": word}, index=i) for word in ("take a ", "blockword") for i in (0, 1)]
        ends = [chunk({}, index=i, finish_reason="stop") for i in (0, 1)]
        proxy.upstream.script.append(Say(headers=EVENTS, chunks=[*chunks, *ends, DONE]))
        raw = proxy.post({"model": "m", "messages": HELLO, "stream": True, "n": 2}).text
        assert raw.count("[DONE]") == 1
        assert raw.endswith("data: [DONE]\n\n")
        assert raw.count('"finish_reason":"content_filter"') == 2
        assert "blockword" not in raw
        assert '"finish_reason": "stop"' not in raw


class TestLogProbabilities:
    """They spell the text once more, so those of a redacted text go with it."""

    @staticmethod
    def logprobs(*tokens: str) -> dict[str, Any]:
        spelled = [
            {"token": t, "logprob": -0.5, "bytes": list(t.encode()), "top_logprobs": []} for t in tokens
        ]
        return {"content": spelled, "refusal": None}

    def test_they_pass_with_an_answer_that_passes(self, proxy: Proxy, client: openai.OpenAI) -> None:
        proxy.upstream.script.append(choices("all well", logprobs=self.logprobs("all", " well")))
        answer = client.chat.completions.create(model="m", messages=HELLO, logprobs=True)
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        assert [t.token for t in logprobs.content] == ["all", " well"]

    def test_they_go_with_a_redacted_answer(self, proxy: Proxy) -> None:
        proxy.upstream.script.append(choices("a redactword", logprobs=self.logprobs("a", " redactword")))
        raw = proxy.post({"model": "m", "messages": HELLO, "logprobs": True})
        assert raw.json()["choices"][0]["message"]["content"] == f"a {MARK}"
        assert raw.json()["choices"][0]["logprobs"] is None
        assert "redactword" not in raw.text

    def test_they_go_with_a_redacted_chunk(self, proxy: Proxy) -> None:
        words = ["The ", "code ", "is ", "redact", "word", " and ", "no ", "more."]
        chunks = []
        for word in words:
            event = json.loads(chunk({"content": word})[6:])
            event["choices"][0]["logprobs"] = self.logprobs(word)
            chunks.append(b"data: " + json.dumps(event).encode() + b"\n\n")
        proxy.upstream.script.append(
            Say(headers=EVENTS, chunks=[*chunks, chunk({}, finish_reason="stop"), DONE])
        )
        raw = proxy.post({"model": "m", "messages": HELLO, "logprobs": True, "stream": True}).text
        assert MARK in raw
        assert '"token": "code "' in raw, "those of untouched chunks stay"
        for part in ("redactword", '"redact"', '"word"'):
            assert part not in raw


class TestRetries:
    """The SDK's own default of two retries stays on in all of these."""

    @pytest.mark.parametrize("streaming", [False, True])
    def test_a_closed_outage_is_asked_for_once(self, proxy: Proxy, streaming: bool) -> None:
        prompt = f"an outageword {streaming}"
        asked: Any = [{"role": "user", "content": prompt}]
        with proxy.openai() as sdk:
            assert sdk.max_retries == 2
            with pytest.raises(openai.InternalServerError) as caught:
                sdk.chat.completions.create(model="m", messages=asked, stream=streaming)
        assert caught.value.status_code == 503
        proxy.recorded(caught.value.response.headers["x-guardrail-id"], "input")
        prints = [record["fingerprint"] for record in proxy.records()]
        assert prints.count(fingerprint(prompt)) == 1, "one request, one decision"
        assert proxy.upstream.seen == []

    def test_a_closed_outage_of_the_output_is_asked_for_once(self, proxy: Proxy) -> None:
        proxy.upstream.text = "An outageword."
        with proxy.openai() as sdk, pytest.raises(openai.InternalServerError):
            sdk.chat.completions.create(model="m", messages=HELLO)
        assert len(proxy.upstream.seen) == 1, "the model is not paid for again"

    def test_a_block_in_error_style_is_asked_for_once(self, proxies: Proxies) -> None:
        proxy = proxies(refusal={"input": {"style": "error"}})
        asked: Any = [{"role": "user", "content": "a blockword"}]
        with proxy.openai() as sdk, pytest.raises(openai.BadRequestError) as caught:
            sdk.chat.completions.create(model="m", messages=asked)
        proxy.recorded(caught.value.response.headers["x-guardrail-id"], "input")
        assert len(proxy.records()) == 1

    def test_the_upstreams_own_503_is_retried_as_without_a_guard(self, proxy: Proxy) -> None:
        busy = Say(b'{"error": {"message": "busy"}}', status=503, headers={"retry-after-ms": "1"})
        proxy.upstream.script.extend([busy, busy])
        with proxy.openai() as sdk:
            answer = sdk.chat.completions.create(model="m", messages=HELLO)
        assert answer.choices[0].message.content == CALM
        assert len(proxy.upstream.seen) == 3


class TestHelpers:
    """What the SDK's helpers make of a block (docs/refusals.md, ``finish_reason: stop``)."""

    CHAT: ClassVar[Any] = {"model": "m", "messages": [{"role": "user", "content": "a blockword"}]}
    RESPONSE: ClassVar[Any] = {"model": "m", "input": "a blockword"}

    def test_they_raise_where_a_block_is_told(self, client: openai.OpenAI):
        with pytest.raises(openai.ContentFilterFinishReasonError):
            client.chat.completions.parse(**self.CHAT)
        with (
            client.chat.completions.stream(**self.CHAT) as events,
            pytest.raises(openai.ContentFilterFinishReasonError),
        ):
            events.get_final_completion()
        with client.responses.stream(**self.RESPONSE) as told, pytest.raises(RuntimeError):
            told.get_final_response()

    def test_they_show_the_words_where_it_ends_in_stop(self, proxies: Proxies):
        stopping = proxies(refusal={"input": {"finish_reason": "stop"}})
        with stopping.openai() as client:
            assert client.chat.completions.parse(**self.CHAT).choices[0].message.content == REFUSAL
            with client.chat.completions.stream(**self.CHAT) as events:
                assert events.get_final_completion().choices[0].message.content == REFUSAL
            with client.responses.stream(**self.RESPONSE) as told:
                assert REFUSAL in told.get_final_response().model_dump_json()
