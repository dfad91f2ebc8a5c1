"""The twin of guardrail/frontends/langchain.py: real Runnables around a real ``ChatOpenAI`` on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph

from guardrail import PolicyViolation
from guardrail.core.policy import Stage, Strategy
from guardrail.core.release import StreamRules
from guardrail.core.vault import RedactionRules
from guardrail.errors import ConfigError, UnreadableRequest, UnreadableResponse
from guardrail.frontends.langchain import CompletionFilter, PromptFilter, guarded
from guardrail.testing import MemorySink
from tests.fakes import DONE, FakeUpstream, Say, chunk, completion
from tests.frontends.configs import written
from tests.frontends.test_filters import MAIL, engine
from tests.processes import run_code
from tests.threads import threads

MARK = "[REDACTED:HIDE]"
SHORT = StreamRules(window=20, overlap=10, first=5)
CALM = "One calm word after another and so on. "


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def prompts(sink: MemorySink) -> Iterator[PromptFilter]:
    with PromptFilter(engine(sink)) as one:
        yield one


@pytest.fixture
def completions(sink: MemorySink) -> Iterator[CompletionFilter]:
    with CompletionFilter(engine(sink), streaming=SHORT) as one:
        yield one


def streamed(chunks: Any) -> str:
    return "".join(c if isinstance(c, str) else c.content for c in chunks)


class TestPromptFilter:
    def test_the_same_kind_comes_out(self, prompts: PromptFilter):
        template = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "I am {who}")])
        assert prompts.invoke(f"I am {MAIL}") == f"I am {MARK}"
        assert prompts.invoke([("human", MAIL)]) == [HumanMessage(MARK)]
        assert prompts.invoke(HumanMessage(MAIL, id="x")) == HumanMessage(MARK, id="x")
        got = (template | prompts).invoke({"who": MAIL})
        assert got.to_messages() == [SystemMessage("Be brief."), HumanMessage(f"I am {MARK}")]

    @pytest.mark.parametrize("prompt", ["Hi", [("human", "Hi")], HumanMessage("Hi")])
    def test_a_pass_gives_the_very_thing(self, prompts: PromptFilter, prompt: Any):
        assert prompts.invoke(prompt) is prompt

    def test_a_block_raises_and_the_model_is_not_asked(
        self, prompts: PromptFilter, model: ChatOpenAI, upstream: FakeUpstream
    ):
        with pytest.raises(PolicyViolation) as caught:
            (prompts | model).invoke("a forbidden zebra")
        assert caught.value.decision.blocking == ("house-rules",)
        assert "zebra" not in str(caught.value)
        assert upstream.seen == []

    def test_many_at_once(self, prompts: PromptFilter):
        got = prompts.batch(["Hi", MAIL, "forbidden"] * 5, return_exceptions=True)
        assert got[:2] * 5 == [one for one in got if isinstance(one, str)]
        assert [type(one) for one in got[2::3]] == [PolicyViolation] * 5

    def test_anything_else_is_refused(self, prompts: PromptFilter):
        with pytest.raises(UnreadableRequest):
            prompts.invoke({"question": "Hi"})

    def test_it_is_recorded(self, prompts: PromptFilter, sink: MemorySink):
        prompts.invoke("Hi")
        assert [(r.decision.stage, r.dialect, r.text) for r in sink.records] == [
            ("input", "langchain", "Hi")
        ]


class TestCompletionFilter:
    def test_the_same_kind_comes_out(self, completions: CompletionFilter):
        assert completions.invoke(f"Ask {MAIL}") == f"Ask {MARK}"
        whole = AIMessage(f"Ask {MAIL}", id="i", additional_kwargs={"reasoning_content": f"Hm, {MAIL}"})
        got = completions.invoke(whole)
        assert (type(got), got.id, got.content) == (AIMessage, "i", f"Ask {MARK}")
        assert got.additional_kwargs == {"reasoning_content": f"Hm, {MARK}"}
        messages = [HumanMessage(MAIL), AIMessage(MAIL)]
        assert completions.invoke(messages) == [HumanMessage(MAIL), AIMessage(MARK)]
        assert messages[1] == AIMessage(MAIL)

    def test_a_pass_gives_the_very_thing(self, completions: CompletionFilter):
        for answer in ("Fine.", AIMessage("Fine."), [HumanMessage("Hi"), AIMessage("Fine.")]):
            assert completions.invoke(answer) is answer

    def test_a_whole_answer_streams_as_it_is_invoked(self, completions: CompletionFilter):
        for answer in (MAIL, AIMessage(MAIL), [HumanMessage("Hi"), AIMessage(MAIL)]):
            assert list(completions.stream(answer)) == [completions.invoke(answer)]

    @pytest.mark.parametrize("answer", [[{"role": "zebra", "content": "zebra"}], [{"content": "zebra"}]])
    def test_a_list_of_anything_else_is_refused_without_its_text(
        self, completions: CompletionFilter, answer: Any
    ):
        for ask in (completions.invoke, lambda one: list(completions.stream(one))):
            with pytest.raises(UnreadableResponse) as caught:
                ask(answer)
            assert "zebra" not in str(caught.value)

    def test_tool_calls_are_judged(self, completions: CompletionFilter):
        call = {"name": "mail", "args": {"to": MAIL, "n": 1}, "id": "c"}
        got = completions.invoke(AIMessage("", tool_calls=[call]))
        assert got.tool_calls[0]["args"] == {"to": MARK, "n": 1}
        with pytest.raises(PolicyViolation):
            completions.invoke(AIMessage("", tool_calls=[{**call, "args": {"to": "forbidden"}}]))

    @pytest.mark.parametrize("answer", [{"a": 1}, HumanMessage("x"), None, []])
    def test_anything_else_is_refused(self, completions: CompletionFilter, answer: Any):
        with pytest.raises(UnreadableResponse):
            completions.invoke(answer)

    def test_a_chain_streams_what_was_judged(
        self,
        prompts: PromptFilter,
        completions: CompletionFilter,
        model: ChatOpenAI,
        upstream: FakeUpstream,
    ):
        upstream.text = f"{CALM * 3}Ask {MAIL} about it. {CALM * 3}"
        expected = upstream.text.replace(MAIL, MARK)
        for chain in (prompts | model | completions, prompts | model | StrOutputParser() | completions):
            chunks = list(chain.stream(f"I am {MAIL}"))
            assert streamed(chunks).strip() == expected.strip()
            assert len(chunks) > 20
            assert len({isinstance(one, str) for one in chunks}) == 1
            assert upstream.seen[-1].json["messages"][-1]["content"] == f"I am {MARK}"

    def test_a_stream_that_is_blocked_shows_nothing_of_it(
        self, completions: CompletionFilter, model: ChatOpenAI, upstream: FakeUpstream, sink: MemorySink
    ):
        upstream.text, upstream.pause_s = CALM * 3 + "Then forbidden words. " + CALM * 9, 0.002
        seen: list[AIMessageChunk] = []
        with pytest.raises(PolicyViolation):
            seen.extend((model | completions).stream("Hi"))
        assert streamed(seen).startswith("One calm")
        assert "forbidden" not in streamed(seen)
        assert sink.records[-1].decision.blocking == ("house-rules",)

    def test_streamed_calls_leave_whole_and_redacted(
        self, completions: CompletionFilter, model: ChatOpenAI, upstream: FakeUpstream
    ):
        args = f'{{"to": "{MAIL}", "n": 2}}'
        head = {"index": 0, "id": "c", "type": "function", "function": {"name": "mail", "arguments": ""}}
        parts = [
            {"index": 0, "function": {"arguments": args[at : at + 5]}} for at in range(0, len(args), 5)
        ]
        chunks = [chunk({"tool_calls": [part]}) for part in [head, *parts]]
        chunks += [chunk({}, finish_reason="tool_calls"), DONE]
        upstream.script.append(Say(headers={"content-type": "text/event-stream"}, chunks=chunks))
        first, *others = (model | completions).stream("Hi")
        whole = sum(others, first)
        assert whole.tool_calls[0]["args"] == {"to": MARK, "n": 2}
        assert whole.response_metadata["finish_reason"] == "tool_calls"


class TestGuarded:
    def test_what_was_hidden_comes_back(self, model: ChatOpenAI, upstream: FakeUpstream):
        with guarded(model, engine(redaction=RedactionRules(Strategy.PLACEHOLDER))) as whole:
            upstream.default, before = _echo, upstream.default
            try:
                answer = whole.invoke([("system", "Be brief."), ("human", f"I am {MAIL}")])
                text = streamed(whole.stream(f"I am {MAIL}"))
            finally:
                upstream.default = before
        assert answer.content == text == f"You said: I am {MAIL}"
        assert all(MAIL not in str(seen.json) for seen in upstream.seen)
        assert answer.response_metadata["model_name"] == "fake-model"
        assert answer.usage_metadata["total_tokens"] == 709

    def test_blocks_on_both_sides(self, model: ChatOpenAI, upstream: FakeUpstream):
        with guarded(model, engine()) as whole:
            with pytest.raises(PolicyViolation) as caught:
                whole.invoke("forbidden")
            assert (caught.value.decision.stage, upstream.seen) == ("input", [])
            upstream.text = "forbidden"
            for call in (whole.invoke, lambda prompt: list(whole.stream(prompt))):
                with pytest.raises(PolicyViolation) as caught:
                    call("Hi")
                assert caught.value.decision.stage == "output"

    def test_the_answer_is_judged_with_the_prompt(self, model: ChatOpenAI, sink: MemorySink):
        with guarded(model, engine(sink)) as whole:
            whole.invoke("Hi")
            list(whole.stream("Hi"))
        assert [(r.decision.stage, r.text.strip()) for r in sink.records] == [
            ("input", "Hi"),
            ("output", "Fine."),
        ] * 2
        assert len({record.decision.id for record in sink.records}) == 2

    def test_in_a_chain_with_tools_parsers_and_options(self, model: ChatOpenAI, upstream: FakeUpstream):
        tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
        with guarded(model.bind_tools([tool]), engine()) as whole:
            said = ChatPromptTemplate.from_template("Say {what}")
            chain = said | whole.bind(stop=["x"]) | StrOutputParser()
            assert chain.invoke({"what": "this"}) == "Fine."
            assert streamed(chain.stream({"what": "this"})).strip() == "Fine."
        assert [seen.json["tools"][0]["function"]["name"] for seen in upstream.seen] == ["f", "f"]
        assert [seen.json["stop"] for seen in upstream.seen] == [["x"], ["x"]]

    def test_tools_are_named_and_refused_where_nothing_may_be_unread(
        self, model: ChatOpenAI, upstream: FakeUpstream, sink: MemorySink
    ):
        tools = [
            {"type": "function", "function": {"name": "f", "description": "Zebras.", "parameters": {}}}
        ]
        with guarded(model.bind_tools(tools), engine(sink)) as one:
            assert one.invoke("Hi").content == "Fine."
            assert streamed(one.stream("Hi")).strip() == "Fine."
        with guarded(model, engine(sink)) as one:
            one.invoke("Hi", tools=tools)
            one.invoke("Hi")
        inputs = [r.decision.unjudged for r in sink.records if r.decision.stage is Stage.INPUT]
        assert inputs == [("$.tools",)] * 3 + [()]
        upstream.seen.clear()
        with (
            guarded(model.bind_tools(tools).with_retry(), engine(strict=True)) as one,
            pytest.raises(PolicyViolation),
        ):
            one.invoke("Hi")
        assert upstream.seen == []

    def test_a_parser_stands_behind_it(self, model: ChatOpenAI, upstream: FakeUpstream):
        upstream.text = '{"a": 1}'
        wrong = guarded(model | JsonOutputParser(), engine())
        with wrong, pytest.raises(UnreadableResponse, match="behind the guard"):
            wrong.invoke("Hi")
        with guarded(model, engine()) as whole:
            assert (whole | JsonOutputParser()).invoke("Hi") == {"a": 1}

    def test_a_model_that_answers_with_text(self):
        with guarded(RunnableLambda(lambda messages: f"Ask {MAIL}"), engine()) as whole:
            assert whole.invoke("Hi") == f"Ask {MARK}"
            assert list(whole.stream("Hi")) == [f"Ask {MARK}"]

    def test_langgraph_does_not_show_the_model_s_own_tokens(
        self, model: ChatOpenAI, upstream: FakeUpstream
    ):
        upstream.text = f"{CALM}Ask {MAIL} about it."
        with guarded(model, engine()) as whole:
            graph = StateGraph(MessagesState)
            graph.add_node("model", lambda state: {"messages": [whole.invoke(state["messages"])]})
            graph.add_edge(START, "model")
            asked: Any = {"messages": [("human", "Hi")]}
            shown = [m.content.strip() for m, _ in graph.compile().stream(asked, stream_mode="messages")]
        assert shown == [upstream.text.replace(MAIL, MARK)]

    def test_an_error_of_the_model_is_its_own(self, model: ChatOpenAI, upstream: FakeUpstream):
        upstream.script.append(Say(b'{"error": {"message": "no"}}', status=401))
        with guarded(model, engine()) as whole, pytest.raises(Exception, match="401"):
            whole.invoke("Hi")


def _echo(seen: Any) -> Say:
    text = "You said: " + seen.json["messages"][-1]["content"]
    if not seen.json.get("stream"):
        return Say(completion(text))
    chunks = [
        *(chunk({"content": text[at : at + 3]}) for at in range(0, len(text), 3)),
        chunk({}, finish_reason="stop"),
        DONE,
    ]
    return Say(headers={"content-type": "text/event-stream"}, chunks=chunks)


@pytest.mark.anyio
class TestAsynchronous:
    @pytest.fixture
    async def amodel(self, upstream: FakeUpstream, model: ChatOpenAI) -> AsyncIterator[ChatOpenAI]:
        async with httpx.AsyncClient() as client:
            yield ChatOpenAI(
                model="m", base_url=upstream.url, api_key="k", max_retries=0, http_async_client=client
            )

    async def test_filters(self, amodel: ChatOpenAI, upstream: FakeUpstream):
        upstream.text = f"{CALM * 3}Ask {MAIL} about it. {CALM * 3}"
        async with (
            PromptFilter(engine()) as prompts,
            CompletionFilter(engine(), streaming=SHORT) as answers,
        ):
            chain = prompts | amodel | answers
            assert MARK in (await chain.ainvoke("Hi")).content
            text = streamed([part async for part in chain.astream("Hi")])
            assert text.strip() == upstream.text.replace(MAIL, MARK).strip()
            assert await prompts.abatch(["a", MAIL]) == ["a", MARK]
            assert [part async for part in answers.astream(f"x {MAIL}")] == [f"x {MARK}"]
            with pytest.raises(PolicyViolation):
                await chain.ainvoke("forbidden")
        assert [thread for thread in threads() if "portal" in thread.name] == []

    async def test_guarded(self, amodel: ChatOpenAI, upstream: FakeUpstream):
        async with guarded(amodel, engine(redaction=RedactionRules(Strategy.PLACEHOLDER))) as whole:
            upstream.default, before = _echo, upstream.default
            try:
                assert (await whole.ainvoke(f"I am {MAIL}")).content == f"You said: I am {MAIL}"
                text = streamed([part async for part in whole.astream(f"I am {MAIL}")])
            finally:
                upstream.default = before
            assert text == f"You said: I am {MAIL}"
            upstream.text = "forbidden"
            with pytest.raises(PolicyViolation):
                [part async for part in whole.astream("Hi")]

    async def test_leaving_a_stream_early(
        self, amodel: ChatOpenAI, upstream: FakeUpstream, sink: MemorySink
    ):
        upstream.text, upstream.pause_s = CALM * 300, 0.002
        async with guarded(amodel, engine(sink), streaming=SHORT) as whole:
            parts = whole.astream("Hi")
            async for part in parts:
                if part.content:
                    break
            await parts.aclose()  # type: ignore[attr-defined]
        assert [record.cancelled for record in sink.records] == [False, True]


class TestLife:
    @pytest.mark.anyio
    async def test_both_kinds_of_calls_on_one(self):
        closed: list[str] = []

        async def on_close() -> None:
            closed.append("closed")

        async with PromptFilter(engine(), on_close) as one:
            assert one.invoke("Hi") == await one.ainvoke("Hi") == "Hi"
        assert closed == ["closed", "closed"], "once in each loop"
        assert [thread for thread in threads() if "portal" in thread.name] == []

    def test_no_thread_is_left(self):
        before = threads()
        for make in (PromptFilter, CompletionFilter):
            with make(engine()) as one:
                one.invoke("Hi")
        assert threads() <= before

    def test_from_a_configuration(self, tmp_path: Path, model: ChatOpenAI):
        file = written(tmp_path)
        with PromptFilter.from_config(file) as prompts, CompletionFilter.from_config(str(file)) as answers:
            assert (prompts | model | answers).invoke("Hi").content == "Fine."
        with guarded(model, file) as whole:
            assert whole.invoke("Hi").content == "Fine."
        assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 4
        with pytest.raises(ConfigError):
            guarded(model, tmp_path / "nowhere.yaml")

    @pytest.mark.parametrize(
        ("missing", "module"),
        [
            ("langchain_core", "guardrail.frontends.langchain"),
            ("langchain.agents", "guardrail.frontends.langchain_agent"),
        ],
    )
    def test_without_langchain_the_error_names_the_extra(self, missing: str, module: str):
        code = f"import sys; sys.modules[{missing!r}] = None; import guardrail, {module}"
        done = run_code(code)
        assert done.returncode == 1
        assert done.stderr.rstrip().endswith("install it with pip install 'guardrail[langchain]'")
