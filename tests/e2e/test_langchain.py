"""The real LangChain: ``ChatOpenAI`` with its base_url on the proxy, and guarded in-process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pydantic
import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from guardrail import PolicyViolation
from guardrail.frontends.langchain import CompletionFilter, GuardrailAgentMiddleware, PromptFilter, guarded
from guardrail.frontends.openai_client import openai_http_client
from tests.e2e.conftest import CALLER_KEY, CALM, JUDGE_KEY, MARK, REFUSAL, Proxy, WordJudge
from tests.e2e.test_openai_client import written
from tests.fakes import DONE, FakeUpstream, Say, chunk, completion


class Weather(pydantic.BaseModel):
    """What the weather is like."""

    city: str
    degrees: int


@tool
def book(who: str, seats: int) -> str:
    """Book a table."""
    return f"{seats} seats for {who}"


def chat(proxy: Proxy, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(model="fake-model", base_url=proxy.url, api_key=CALLER_KEY, max_retries=0, **options)


@pytest.fixture
def model(proxy: Proxy) -> Iterator[ChatOpenAI]:
    with httpx.Client() as client:
        yield chat(proxy, http_client=client)


@pytest.fixture
async def amodel(proxy: Proxy) -> AsyncIterator[ChatOpenAI]:
    async with httpx.AsyncClient() as client:
        yield chat(proxy, http_async_client=client)


def called(arguments: dict[str, Any], name: str = "book") -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"index": 0, "id": "call_0", "type": "function", "function": function}


class TestInvoke:
    def test_an_answer_that_passes(self, model: ChatOpenAI) -> None:
        answer = model.invoke("hello")
        assert answer.content == CALM
        assert answer.response_metadata["finish_reason"] == "stop"

    def test_a_blocked_prompt_is_a_refusal(self, proxy: Proxy, model: ChatOpenAI) -> None:
        answer = model.invoke("a blockword")
        assert answer.content == REFUSAL
        assert answer.response_metadata["finish_reason"] == "content_filter"
        assert proxy.upstream.seen == []

    def test_redactions_on_both_ways(self, proxy: Proxy, model: ChatOpenAI) -> None:
        proxy.upstream.text = "You said redactword."
        assert model.invoke("my redactword").content == f"You said {MARK}."
        assert proxy.upstream.seen[-1].json["messages"][-1]["content"] == f"my {MARK}"

    def test_a_closed_outage_raises(self, proxy: Proxy, model: ChatOpenAI) -> None:
        with pytest.raises(openai.InternalServerError) as caught:
            model.invoke("an outageword")
        assert caught.value.code == "guardrail_unavailable"
        assert proxy.upstream.seen == []

    def test_messages_of_every_kind_are_sent_and_judged(self, proxy: Proxy, model: ChatOpenAI) -> None:
        turns: Any = [
            ("system", "Be brief."),
            ("human", "hello"),
            AIMessage("", tool_calls=[{"name": "book", "args": {"who": "blockword"}, "id": "c"}]),
        ]
        assert model.invoke(turns).content == REFUSAL
        assert model.invoke(turns[:2]).content == CALM
        assert "Be brief." not in proxy.judge.judged[-2], "the application's own turn is context"

    def test_a_bound_tool_is_called_with_redacted_arguments(self, proxy: Proxy, model: ChatOpenAI) -> None:
        calls = [called({"who": "redactword", "seats": 2})]
        proxy.upstream.script.append(Say(completion(None, finish_reason="tool_calls", tool_calls=calls)))
        answer: Any = model.bind_tools([book]).invoke("hello")
        assert [call["args"] for call in answer.tool_calls] == [{"who": MARK, "seats": 2}]
        assert answer.invalid_tool_calls == []
        assert book.invoke(answer.tool_calls[0]["args"]) == f"2 seats for {MARK}"

    def test_a_blocked_tool_call_is_not_there(self, proxy: Proxy, model: ChatOpenAI) -> None:
        calls = [called({"who": "blockword", "seats": 2})]
        proxy.upstream.script.append(Say(completion(None, finish_reason="tool_calls", tool_calls=calls)))
        answer: Any = model.bind_tools([book]).invoke("hello")
        assert (answer.tool_calls, answer.content) == ([], REFUSAL)

    @pytest.mark.anyio
    async def test_asynchronous(self, amodel: ChatOpenAI) -> None:
        assert (await amodel.ainvoke("hello")).content == CALM
        assert (await amodel.ainvoke("a blockword")).content == REFUSAL


class TestStream:
    def test_a_stream_adds_up_to_the_answer(self, model: ChatOpenAI) -> None:
        parts = [part.content for part in model.stream("hello")]
        assert "".join(map(str, parts)).strip() == CALM
        assert len([part for part in parts if part]) > 1

    def test_a_redacted_stream(self, proxy: Proxy, model: ChatOpenAI) -> None:
        proxy.upstream.text = "The code is redactword, and that is that. " * 5
        text = "".join(str(part.content) for part in model.stream("hello"))
        assert text.strip() == proxy.upstream.text.replace("redactword", MARK).strip()

    def test_a_halted_stream_says_why(self, proxy: Proxy, model: ChatOpenAI) -> None:
        proxy.upstream.text = "Words that pass without any doubt. " * 8 + "Then a blockword."
        parts = list(model.stream("hello"))
        assert "blockword" not in "".join(str(part.content) for part in parts)
        reasons = [part.response_metadata.get("finish_reason") for part in parts]
        assert [reason for reason in reasons if reason] == ["content_filter"]

    def test_a_stream_cut_by_an_outage_raises(self, proxy: Proxy, model: ChatOpenAI) -> None:
        proxy.upstream.text = "Words that pass without any doubt. " * 8 + "Then an outageword."
        with pytest.raises(openai.APIError):
            list(model.stream("hello"))

    def test_streamed_tool_calls_are_whole_and_redacted(self, proxy: Proxy, model: ChatOpenAI) -> None:
        args = '{"who": "redactword", "seats": 2}'
        head = {"index": 0, "id": "c", "type": "function", "function": {"name": "book", "arguments": ""}}
        pieces = [
            {"index": 0, "function": {"arguments": args[at : at + 4]}} for at in range(0, len(args), 4)
        ]
        chunks = [chunk({"tool_calls": [piece]}) for piece in [head, *pieces]]
        chunks += [chunk({}, finish_reason="tool_calls"), DONE]
        proxy.upstream.script.append(Say(headers={"content-type": "text/event-stream"}, chunks=chunks))
        parts = iter(model.bind_tools([book]).stream("hello"))
        whole: Any = next(parts)
        for part in parts:
            whole += part
        assert [call["args"] for call in whole.tool_calls] == [{"who": MARK, "seats": 2}]

    @pytest.mark.anyio
    async def test_asynchronous(self, amodel: ChatOpenAI) -> None:
        text = "".join([str(part.content) async for part in amodel.astream("hello")])
        assert text.strip() == CALM


class TestStructuredOutput:
    @pytest.mark.parametrize("method", ["json_schema", "json_mode"])
    def test_json_methods(self, proxy: Proxy, model: ChatOpenAI, method: Any) -> None:
        proxy.upstream.script.append(Say(completion('{"city": "redactword", "degrees": 3}')))
        structured = model.with_structured_output(Weather, method=method)
        assert structured.invoke("hello") == Weather(city=MARK, degrees=3)

    def test_function_calling(self, proxy: Proxy, model: ChatOpenAI) -> None:
        calls = [called({"city": "Oslo", "degrees": 3}, "Weather")]
        proxy.upstream.script.append(Say(completion(None, finish_reason="tool_calls", tool_calls=calls)))
        structured = model.with_structured_output(Weather, method="function_calling")
        assert structured.invoke("hello") == Weather(city="Oslo", degrees=3)

    def test_a_block_raises_and_is_never_an_object(self, proxy: Proxy, model: ChatOpenAI) -> None:
        structured = model.with_structured_output(Weather, method="json_schema")
        with pytest.raises(openai.ContentFilterFinishReasonError):
            structured.invoke("a blockword")
        assert proxy.upstream.seen == []


class TestInProcess:
    """No proxy: the chain itself asks the judge."""

    @pytest.fixture
    def config(self, tmp_path: Path, judge: WordJudge) -> Path:
        return written(tmp_path, judge)

    @pytest.fixture
    def plain(self, upstream: FakeUpstream) -> Iterator[ChatOpenAI]:
        with httpx.Client() as client:
            yield self.chat(upstream, client)

    @staticmethod
    def chat(upstream: FakeUpstream, client: httpx.Client) -> ChatOpenAI:
        own: dict[str, Any] = {"api_key": CALLER_KEY, "max_retries": 0, "http_client": client}
        return ChatOpenAI(model="fake-model", base_url=upstream.url, **own)

    def test_a_guarded_model(
        self, config: Path, plain: ChatOpenAI, upstream: FakeUpstream, judge: WordJudge
    ) -> None:
        with guarded(plain, config) as model:
            upstream.text = "You said redactword."
            assert model.invoke("my redactword").content == f"You said {MARK}."
            assert upstream.seen[-1].json["messages"][-1]["content"] == f"my {MARK}"
            with pytest.raises(PolicyViolation):
                model.invoke("a blockword")
            with pytest.raises(PolicyViolation) as caught:
                model.invoke("an outageword")
        assert caught.value.decision.unavailable
        assert {seen.headers["Authorization"] for seen in judge.seen} == {f"Bearer {JUDGE_KEY}"}

    def test_a_chain_of_filters_streams(
        self, config: Path, plain: ChatOpenAI, upstream: FakeUpstream
    ) -> None:
        upstream.text = "Words that pass without any doubt. " * 8 + "Then a blockword. " + "And more. " * 9
        upstream.pause_s = 0.005
        seen: list[str] = []
        with PromptFilter.from_config(config) as ask, CompletionFilter.from_config(config) as answer:
            chain = ask | plain | StrOutputParser() | answer
            with pytest.raises(PolicyViolation):
                seen.extend(chain.stream("hello"))
        assert "".join(seen).startswith("Words that pass")
        assert "blockword" not in "".join(seen)

    def test_an_agent(self, config: Path, plain: ChatOpenAI, upstream: FakeUpstream) -> None:
        calls = [called({"who": "redactword", "seats": 2})]
        upstream.script.append(Say(completion(None, finish_reason="tool_calls", tool_calls=calls)))
        guard = GuardrailAgentMiddleware.from_config(config)
        agent = create_agent(plain, [book], middleware=[guard])
        messages = agent.invoke({"messages": [("user", "hello")]})["messages"]
        assert [message.content for message in messages[-2:]] == [f"2 seats for {MARK}", CALM]
        blocked = agent.invoke({"messages": [("user", "a blockword")]})["messages"]
        assert blocked[-1].content == REFUSAL
        guard.close()

    def test_an_agent_over_a_guarded_client_streams_what_was_judged(
        self, config: Path, upstream: FakeUpstream
    ) -> None:
        upstream.text = "The code is redactword, and that is that. " * 5
        with openai_http_client(config) as client:
            agent = create_agent(self.chat(upstream, client), [book])
            asked: Any = {"messages": [("user", "hello")]}
            parts = [str(m.content) for m, _ in agent.stream(asked, stream_mode="messages")]
        assert len(parts) > 20
        assert "".join(parts).strip() == upstream.text.replace("redactword", MARK).strip()
