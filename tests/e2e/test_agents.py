"""The real OpenAI Agents SDK, guarded by its own guardrails and by its HTTP client, over real sockets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from guardrail.frontends.openai_client import openai_async_http_client
from tests.e2e.conftest import CALLER_KEY, CALM, MARK, REFUSAL, WordJudge
from tests.e2e.test_openai_client import written
from tests.fakes import FakeUpstream, Say, completion

agents = pytest.importorskip("agents", reason="the OpenAI Agents SDK is not installed")

from guardrail.frontends.agents import AgentGuardrails  # noqa: E402

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _no_traces() -> None:
    agents.set_tracing_disabled(True)  # else the SDK would send them away


@pytest.fixture
def config(tmp_path: Path, judge: WordJudge) -> Path:
    return written(tmp_path, judge)


def chat(upstream: FakeUpstream, http: Any = None) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=upstream.url, api_key=CALLER_KEY, http_client=http, max_retries=0)


async def test_its_guardrails(config: Path, upstream: FakeUpstream) -> None:
    guard = AgentGuardrails.from_config(config)
    async with chat(upstream) as client:
        agent = agents.Agent(
            name="a",
            model=agents.OpenAIChatCompletionsModel("fake-model", client),
            input_guardrails=[guard.input_guardrail],
            output_guardrails=[guard.output_guardrail],
        )
        assert (await agents.Runner.run(agent, "hello")).final_output == CALM
        with pytest.raises(agents.InputGuardrailTripwireTriggered):
            await agents.Runner.run(agent, "a blockword")
        assert len(upstream.seen) == 1
        upstream.text = "a blockword"
        with pytest.raises(agents.OutputGuardrailTripwireTriggered):
            await agents.Runner.run(agent, "hello")
    await guard.aclose()


async def test_its_client(config: Path, upstream: FakeUpstream) -> None:
    """What the SDK's guardrails cannot do: redact, and stream only what was judged."""
    async with chat(upstream, openai_async_http_client(config)) as client:
        model = agents.OpenAIChatCompletionsModel("fake-model", client)
        booked: list[str] = []

        @agents.function_tool
        def book(who: str) -> str:
            """Book a table."""
            booked.append(who)
            return "booked, redactword"

        agent = agents.Agent(name="a", model=model, tools=[book])
        function = {"name": "book", "arguments": json.dumps({"who": "redactword"})}
        call = {"id": "c", "type": "function", "function": function}
        upstream.script.append(Say(completion(None, finish_reason="tool_calls", tool_calls=[call])))
        assert (await agents.Runner.run(agent, "my redactword")).final_output == CALM
        assert booked == [MARK]
        sent = [message["content"] for message in upstream.seen[-1].json["messages"]]
        assert (sent[0], sent[-1]) == (f"my {MARK}", f"booked, {MARK}")
        upstream.text = "The code is redactword, and that is that. " * 5
        streamed = agents.Runner.run_streamed(agent, "hello")
        parts = [
            e.data.delta
            async for e in streamed.stream_events()
            if getattr(getattr(e, "data", None), "type", "") == "response.output_text.delta"
        ]
        assert "".join(parts).strip() == upstream.text.replace("redactword", MARK).strip()
        assert len(parts) > 5
        assert (await agents.Runner.run(agent, "a blockword")).final_output == REFUSAL
