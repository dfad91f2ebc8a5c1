"""The twin of guardrail/frontends/langchain_agent.py: real LangChain agents, their model on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pydantic
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelResponse, wrap_model_call
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain.chat_models import init_chat_model
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver

from guardrail import GuardrailEngine, PolicyViolation
from guardrail.backends.memory_cache import MemoryHistory
from guardrail.core.policy import Action, Stage
from guardrail.frontends import langchain as front
from guardrail.frontends.langchain_agent import GuardrailAgentMiddleware
from guardrail.testing import MemorySink, ScriptedClassifier
from tests.fakes import DONE, FakeUpstream, Say, chunk, completion
from tests.frontends.configs import written
from tests.frontends.test_filters import MAIL, RULES, engine
from tests.threads import threads

MARK = "[REDACTED:HIDE]"
REFUSAL = "I can't help with that."
MAILED: list[str] = []


@tool
def mail(to: str) -> str:
    """Send a mail."""
    MAILED.append(to)
    return f"sent to {to}"


@tool
def page(number: int) -> str:
    """Read a page."""
    return {1: "calm words", 2: "forbidden words", 3: f"write to {MAIL}"}[number]


class Person(pydantic.BaseModel):
    """Who it is."""

    name: str
    mail: str


MODES = ["messages", "updates", "values", "custom", "debug", "tasks", "checkpoints"]
WRAPS: dict[str, Callable[[ChatOpenAI], Any]] = {
    "plain": lambda model: model,
    "bind": lambda model: model.bind(temperature=0),
    "with_config": lambda model: model.with_config(tags=["mine"]),
    "with_fallbacks": lambda model: model.with_fallbacks([model]),
    "with_retry": lambda model: model.with_retry(),
    "all of them": lambda model: model.bind(temperature=0).with_config(tags=["a"]).with_fallbacks([model]),
    "configurable": lambda model: init_chat_model(
        "openai:m",
        configurable_fields=("model",),
        base_url=model.openai_api_base,
        api_key="k",
        http_client=model.http_client,
        http_async_client=model.http_async_client,
    ),
}


def calls(name: str, /, **args: Any) -> Say:
    function = {"name": name, "arguments": json.dumps(args)}
    call = {"id": f"call_{name}", "type": "function", "function": function}
    return Say(completion(None, finish_reason="tool_calls", tool_calls=[call]))


@pytest.fixture(autouse=True)
def _nothing_mailed() -> None:
    MAILED.clear()


Make = Callable[..., Any]


@pytest.fixture
def make(model: ChatOpenAI) -> Iterator[Make]:
    """Makes agents; their guards are closed in the end, and no thread is left."""
    before, made = threads(), []

    def one(guard: GuardrailEngine | None = None, *, agent: Any = (), **options: Any) -> Any:
        made.append(GuardrailAgentMiddleware(guard or engine(), **options))
        own = {"model": model, "tools": [mail, page], "middleware": [made[-1]], **dict(agent)}
        return create_agent(**own)

    yield one
    for guard in made:
        guard.close()
    assert {thread for thread in threads() - before if "portal" in thread.name} == set()


def ask(agent: Any, *texts: Any, **config: Any) -> list[Any]:
    messages = [HumanMessage(text) if isinstance(text, str) else text for text in texts]
    return agent.invoke({"messages": messages}, **config)["messages"]


def sent(upstream: FakeUpstream) -> list[list[Any]]:
    return [[message.get("content") for message in seen.json["messages"]] for seen in upstream.seen]


class TestInput:
    def test_a_pass(self, make: Make, upstream: FakeUpstream):
        agent = make(agent={"system_prompt": "Be brief."})
        assert [m.content for m in ask(agent, "Hi")] == ["Hi", "Fine."]
        assert sent(upstream) == [["Be brief.", "Hi"]]

    def test_a_block_ends_the_run(self, make: Make, upstream: FakeUpstream):
        answer = ask(make(), "a forbidden thing")[-1]
        assert (type(answer), answer.content) == (AIMessage, REFUSAL)
        assert answer.response_metadata["finish_reason"] == "content_filter"
        assert upstream.seen == []

    def test_a_block_raises(self, make: Make, upstream: FakeUpstream):
        with pytest.raises(PolicyViolation) as caught:
            ask(make(exit_behavior="error"), "a forbidden thing")
        assert caught.value.decision.stage is Stage.INPUT
        assert upstream.seen == []

    def test_a_block_is_replaced(self, make: Make, upstream: FakeUpstream):
        agent = make(exit_behavior="replace", violation_message="Removed by {policies}.")
        assert ask(agent, "Hi", AIMessage("Hello."), "a forbidden thing")[-1].content == "Fine."
        assert sent(upstream) == [["Hi", "Hello.", "Removed by house-rules."]]

    def test_what_is_older_cannot_be_replaced(self, make: Make, upstream: FakeUpstream):
        agent = make(exit_behavior="replace")
        assert ask(agent, "a forbidden thing", AIMessage("Hello."), "Hi")[-1].content == REFUSAL
        assert upstream.seen == []

    def test_two_messages_in_a_row_are_both_judged(self, make: Make):
        assert ask(make(), "a forbidden thing", "Hi")[-1].content == REFUSAL

    def test_the_model_gets_redacted_text_and_the_state_keeps_it(self, make: Make, upstream: FakeUpstream):
        messages = ask(make(), f"I am {MAIL}")
        assert sent(upstream) == [[f"I am {MARK}"]]
        assert messages[0].content == f"I am {MAIL}"

    @pytest.mark.parametrize(
        ("strategy", "shown"), [("redact", MARK), ("mask", "***@*******.com"), ("hash", "[HASH:")]
    )
    def test_strategies(self, make: Make, upstream: FakeUpstream, strategy: Any, shown: str):
        ask(make(strategy=strategy), MAIL)
        assert sent(upstream)[0][0].startswith(shown[:6])
        assert MAIL not in sent(upstream)[0][0]

    def test_an_outage_raises_whatever_the_exit(self, make: Make):
        for exit_behavior in ("end", "error", "replace"):
            with pytest.raises(PolicyViolation) as caught:
                ask(make(exit_behavior=exit_behavior), "an outage")
            assert caught.value.decision.unavailable

    def test_turned_off(self, make: Make, upstream: FakeUpstream):
        assert ask(make(apply_to_input=False), "a forbidden thing")[-1].content == "Fine."
        assert sent(upstream) == [["a forbidden thing"]]

    def test_what_the_model_gets_besides_the_messages_is_named(self, make: Make, upstream: FakeUpstream):
        sink = MemorySink()
        ask(make(engine(sink)), "Hi")
        ask(make(engine(sink), agent={"tools": []}), "Hi")
        inputs = [r.decision.unjudged for r in sink.records if r.decision.stage is Stage.INPUT]
        assert inputs == [("$.tools",), ()]
        upstream.seen.clear()
        assert ask(make(engine(on_unreadable=Action.BLOCK)), "Hi")[-1].content == REFUSAL
        assert upstream.seen == []
        assert (
            ask(make(engine(on_unreadable=Action.BLOCK), apply_to_input=False), "Hi")[-1].content == "Fine."
        )

    def test_a_schema_and_settings_of_the_model_are_named(
        self, make: Make, model: ChatOpenAI, upstream: FakeUpstream
    ):
        sink = MemorySink()
        upstream.script.append(Say(completion(json.dumps({"name": "Kim", "mail": "x"}))))
        bound = model.bind(suffix="forbidden", temperature=0)
        own = {"model": bound, "tools": [], "response_format": ProviderStrategy(Person)}
        make(engine(sink), agent=own).invoke({"messages": [HumanMessage("Hi")]})
        assert sink.records[0].decision.unjudged == ("$.suffix", "$.response_format")


class TestOutput:
    def test_a_block_ends_the_run(self, make: Make, upstream: FakeUpstream):
        upstream.text = "forbidden"
        assert ask(make(violation_message="Not so."), "Hi")[-1].content == "Not so."
        with pytest.raises(PolicyViolation) as caught:
            ask(make(exit_behavior="error"), "Hi")
        assert caught.value.decision.stage is Stage.OUTPUT

    @pytest.mark.parametrize("exit_behavior", ["end", "replace"])
    def test_a_blocked_call_is_not_made(self, make: Make, upstream: FakeUpstream, exit_behavior: Any):
        upstream.script.append(calls("mail", to="forbidden"))
        answer = ask(make(exit_behavior=exit_behavior), "Hi")[-1]
        assert (answer.content, answer.tool_calls, MAILED) == (REFUSAL, [], [])

    def test_a_redacted_call_is_made_redacted(self, make: Make, upstream: FakeUpstream):
        upstream.script.append(calls("mail", to=MAIL))
        ask(make(), "Hi")
        assert MAILED == [MARK]

    def test_a_placeholder_comes_back_in_calls_and_answers(self, make: Make, upstream: FakeUpstream):
        agent = make(strategy="placeholder", agent={"checkpointer": InMemorySaver()})

        def answer(seen: Any) -> Say:
            first = seen.json["messages"][0]["content"]
            assert MAIL not in json.dumps(seen.json)
            placeholder = first.removeprefix("I am ")
            if seen.json["messages"][-1]["role"] == "tool":
                return Say(completion(f"Written to {placeholder}."))
            return calls("mail", to=placeholder)

        upstream.default, before = answer, upstream.default
        try:
            messages = ask(agent, f"I am {MAIL}", config={"configurable": {"thread_id": "1"}})
        finally:
            upstream.default = before
        assert MAILED == [MAIL]
        assert messages[-1].content == f"Written to {MAIL}."

    def test_turned_off(self, make: Make, upstream: FakeUpstream):
        upstream.text = "forbidden"
        assert ask(make(apply_to_output=False), "Hi")[-1].content == "forbidden"

    @pytest.mark.parametrize(("second", "shown"), [("forbidden", [REFUSAL]), (MAIL, ["Fine.", MARK])])
    def test_every_answer_of_a_call_is_judged(self, make: Make, second: str, shown: list[str]):
        @wrap_model_call
        def again(request: Any, handler: Any) -> Any:
            return ModelResponse(result=[*handler(request).result, AIMessage(second)])

        middleware = GuardrailAgentMiddleware(engine())
        messages = ask(make(agent={"middleware": [middleware, again]}), "Hi")
        middleware.close()
        assert [m.content for m in messages[1:]] == shown


class TestToolResults:
    def test_a_block_ends_the_run(self, make: Make, upstream: FakeUpstream):
        upstream.script.append(calls("page", number=2))
        assert ask(make(), "Hi")[-1].content == REFUSAL
        assert len(upstream.seen) == 1

    def test_a_block_is_replaced(self, make: Make, upstream: FakeUpstream):
        upstream.script.append(calls("page", number=2))
        agent = make(exit_behavior="replace", violation_message="Removed.")
        assert ask(agent, "Hi")[-1].content == "Fine."
        assert sent(upstream)[-1] == ["Hi", None, "Removed."]

    def test_the_model_gets_them_redacted(self, make: Make, upstream: FakeUpstream):
        upstream.script.append(calls("page", number=3))
        messages = ask(make(), "Hi")
        assert sent(upstream)[-1][-1] == f"write to {MARK}"
        assert [m.content for m in messages if isinstance(m, ToolMessage)] == [f"write to {MAIL}"]

    def test_turned_off(self, make: Make, upstream: FakeUpstream):
        upstream.script.append(calls("page", number=2))
        assert ask(make(apply_to_tool_results=False), "Hi")[-1].content == "Fine."
        assert sent(upstream)[-1][-1] == "forbidden words"


class TestHistory:
    def test_only_what_is_new_is_judged(self, make: Make, upstream: FakeUpstream):
        judge = ScriptedClassifier(RULES)
        upstream.script.append(calls("page", number=1))
        agent = make(engine(classifier=judge, history=MemoryHistory(100, 600)))
        messages = ask(agent, "Hi")
        ask(agent, *messages, "And?")
        inputs = [subject.text for _, subject in judge.asked if subject.stage is Stage.INPUT]
        assert inputs == ["Hi", "calm words", "And?"]

    def test_a_blocked_message_does_not_block_the_chat_for_good(self, make: Make, upstream: FakeUpstream):
        saver = {"checkpointer": InMemorySaver()}
        agent = make(engine(history=MemoryHistory(100, 600)), agent=saver)
        thread = {"config": {"configurable": {"thread_id": "1"}}}
        assert ask(agent, "a forbidden thing", **thread)[-1].content == REFUSAL
        assert ask(agent, "Hi", **thread)[-1].content == "Fine."
        assert sent(upstream) == [["Hi"]]


class TestStreams:
    WORDS = ("Write to ", MAIL[:5], MAIL[5:], " and wait.")

    def streams(self, *words: str) -> Say:
        chunks = [*(chunk({"content": word}) for word in words), chunk({}, finish_reason="stop"), DONE]
        return Say(headers={"content-type": "text/event-stream"}, chunks=chunks)

    @pytest.fixture
    def words(self, upstream: FakeUpstream) -> Iterator[None]:
        whole, before = Say(completion("".join(self.WORDS))), upstream.default
        upstream.default = lambda seen: self.streams(*self.WORDS) if seen.json.get("stream") else whole
        yield
        upstream.default = before

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(
        ("wrap", "tools"),
        [(wrap, []) for wrap in WRAPS] + [(wrap, [mail]) for wrap in WRAPS if wrap != "with_retry"],
    )  # LangChain binds no tools to a model with retries
    @pytest.mark.usefixtures("words")
    def test_no_stream_shows_what_was_not_judged(
        self, make: Make, model: ChatOpenAI, wrap: str, tools: Any, mode: Any
    ):
        agent = make(agent={"model": WRAPS[wrap](model), "tools": tools})
        shown = list(agent.stream({"messages": [HumanMessage("Hi")]}, stream_mode=mode))
        assert MAIL[:5] not in str(shown)
        assert (f"Write to {MARK} and wait." in str(shown)) == (mode not in ("custom", "checkpoints"))

    @pytest.mark.usefixtures("words")
    def test_nor_does_a_model_that_another_middleware_takes(self, make: Make, model: ChatOpenAI):
        @wrap_model_call
        def other(request: Any, handler: Any) -> Any:
            return handler(request.override(model=model.with_config(tags=["x"])))

        guard = GuardrailAgentMiddleware(engine())
        agent = make(agent={"middleware": [guard, other]})
        shown = list(agent.stream({"messages": [HumanMessage("Hi")]}, stream_mode="messages"))
        guard.close()
        assert [m.content for m, _ in shown] == [f"Write to {MARK} and wait."]

    @pytest.mark.anyio
    @pytest.mark.parametrize("mode", MODES)
    async def test_nor_do_those_of_asynchronous_code(self, make: Make, mode: Any):
        fake = GenericFakeChatModel(messages=iter([AIMessage("".join(self.WORDS))]))
        agent = make(agent={"model": fake.with_config(tags=["x"]), "tools": []})
        shown = [one async for one in agent.astream({"messages": [HumanMessage("Hi")]}, stream_mode=mode)]
        assert MAIL not in str(shown)
        assert (f"Write to {MARK} and wait." in str(shown)) == (mode not in ("custom", "checkpoints"))

    def test_turned_off_the_tokens_come_as_they_are(self, make: Make, upstream: FakeUpstream):
        upstream.script.append(self.streams("One ", "two ", "three."))
        agent = make(apply_to_output=False)
        shown = [
            m.content for m, _ in agent.stream({"messages": [HumanMessage("Hi")]}, stream_mode="messages")
        ]
        assert shown[:3] == ["One ", "two ", "three."]


class TestStructured:
    @pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy])
    def test_it_is_redacted_like_the_answer(self, make: Make, upstream: FakeUpstream, strategy: Any):
        person = {"name": "Kim", "mail": MAIL}
        says = (
            calls("Person", **person) if strategy is ToolStrategy else Say(completion(json.dumps(person)))
        )
        upstream.script.append(says)
        state = make(agent={"response_format": strategy(Person)}).invoke({"messages": [HumanMessage("Hi")]})
        assert state["structured_response"] == Person(name="Kim", mail=MARK)
        assert MAIL not in str(state["messages"])

    def test_one_without_a_class_is_a_dict(self, make: Make, upstream: FakeUpstream):
        schema = Person.model_json_schema()
        says = {"name": "Kim", "mail": MAIL}
        for strategy, answer in (
            (ToolStrategy(schema), calls("Person", **says)),
            (ProviderStrategy(schema), Say(completion(json.dumps(says)))),
        ):
            upstream.script.append(answer)
            state = make(agent={"response_format": strategy}).invoke({"messages": [HumanMessage("Hi")]})
            assert state["structured_response"] == {"name": "Kim", "mail": MARK}

    def test_a_block_leaves_none(self, make: Make, upstream: FakeUpstream):
        upstream.script.append(calls("Person", name="forbidden", mail="x"))
        state = make(agent={"response_format": ToolStrategy(Person)}).invoke(
            {"messages": [HumanMessage("Hi")]}
        )
        assert state.get("structured_response") is None
        assert state["messages"][-1].content == REFUSAL
        assert "forbidden" not in str(state["messages"])

    def test_one_that_no_longer_fits_is_an_error_without_its_text(self, make: Make, upstream: FakeUpstream):
        class Code(pydantic.BaseModel):
            """A mail."""

            mail: str = pydantic.Field(pattern="@")

        upstream.script.append(calls("Code", mail=MAIL))
        with pytest.raises(ValueError, match="does not fit its schema") as caught:
            make(agent={"response_format": ToolStrategy(Code)}).invoke({"messages": [HumanMessage("Hi")]})
        assert MAIL not in str(caught.value)


@pytest.mark.anyio
class TestAsynchronous:
    async def test_both_ways(self, model: ChatOpenAI, upstream: FakeUpstream):
        sink = MemorySink()
        async with httpx.AsyncClient() as client:
            own = {"model": "m", "base_url": upstream.url, "api_key": "k", "http_async_client": client}
            guard = GuardrailAgentMiddleware(engine(sink))
            await self.both_ways(
                create_agent(ChatOpenAI(**own), [mail], middleware=[guard]), upstream, sink
            )

    async def both_ways(self, agent: Any, upstream: FakeUpstream, sink: MemorySink) -> None:
        upstream.script += [calls("mail", to=MAIL), Say(completion(f"Sent to {MAIL}"))]
        state = await agent.ainvoke({"messages": [HumanMessage(f"I am {MAIL}")]})
        assert state["messages"][-1].content == f"Sent to {MARK}"
        assert MAILED == [MARK]
        assert {record.dialect for record in sink.records} == {"langchain"}
        refused = await agent.ainvoke({"messages": [HumanMessage("forbidden")]})
        assert refused["messages"][-1].content == REFUSAL

    async def test_closing(self, make: Make):
        closed: list[str] = []

        async def on_close() -> None:
            closed.append("closed")

        guard = GuardrailAgentMiddleware(engine(), on_close)
        await guard.aclose()
        assert closed == ["closed"]
        guard.close()
        assert closed == ["closed", "closed"]
        make(on_close=on_close).invoke({"messages": [HumanMessage("Hi")]})


class TestOptions:
    def test_other_words_are_refused(self):
        with pytest.raises(ValueError, match="placeholder"):
            GuardrailAgentMiddleware(engine(), strategy="shred")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="replace"):
            GuardrailAgentMiddleware(engine(), exit_behavior="jump")  # type: ignore[arg-type]

    def test_the_room_s_door_leads_here(self):
        assert front.GuardrailAgentMiddleware is GuardrailAgentMiddleware
        with pytest.raises(AttributeError, match="Nothing"):
            _ = front.Nothing

    def test_from_a_configuration(self, tmp_path: Path, model: ChatOpenAI, upstream: FakeUpstream):
        file = written(tmp_path, "refusal: {message: Not here.}")
        guard = GuardrailAgentMiddleware.from_config(file, exit_behavior="end")
        agent = create_agent(model, [], middleware=[guard])
        assert ask(agent, "Hi")[-1].content == "Fine."
        guard.close()
        assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 2
