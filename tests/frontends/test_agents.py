"""The twin of guardrail/frontends/agents.py: the real OpenAI Agents SDK, its model on loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pydantic
import pytest

from guardrail import GuardrailEngine
from guardrail.core.policy import FailMode, Stage
from guardrail.engine.fail_rules import FailRules
from guardrail.testing import MemorySink, ScriptedClassifier
from tests.fakes import FakeUpstream, Say, completion
from tests.frontends.configs import written
from tests.frontends.test_filters import MAIL, RULES, engine
from tests.processes import run_code

agents = pytest.importorskip("agents", reason="the OpenAI Agents SDK is not installed")

from guardrail.frontends.agents import AgentGuardrails  # noqa: E402

pytestmark = pytest.mark.anyio
MARK = "[REDACTED:HIDE]"
REFUSAL = "I can't help with that."


class Person(pydantic.BaseModel):
    """Who it is."""

    name: str


@pytest.fixture(scope="module", autouse=True)
def _no_traces() -> None:
    agents.set_tracing_disabled(True)  # else the SDK would send them away


@pytest.fixture
async def model(upstream: FakeUpstream) -> AsyncIterator[Any]:
    async with httpx.AsyncClient() as http:
        client = openai.AsyncOpenAI(base_url=upstream.url, api_key="k", http_client=http, max_retries=0)
        yield agents.OpenAIChatCompletionsModel("m", client)


class Bench:
    """An agent with every guardrail on it, and a tool that says what it is told to."""

    def __init__(self, model: Any, guard: GuardrailEngine | None = None, **options: Any) -> None:
        self.called: list[str] = []
        self.says: Any = "sent"
        self.guard = AgentGuardrails(guard or engine(), **options)
        self.agent = agents.Agent(
            name="a",
            model=model,
            tools=[self.tool()],
            input_guardrails=[self.guard.input_guardrail],
            output_guardrails=[self.guard.output_guardrail],
        )

    def tool(self) -> Any:
        @agents.function_tool(
            tool_input_guardrails=[self.guard.tool_input_guardrail],
            tool_output_guardrails=[self.guard.tool_output_guardrail],
        )
        def mail(to: str) -> Any:
            """Send a mail."""
            self.called.append(to)
            return self.says

        return mail

    async def ask(self, given: Any) -> Any:
        return await agents.Runner.run(self.agent, given)


def calls(to: str) -> Say:
    function = {"name": "mail", "arguments": json.dumps({"to": to})}
    call = {"id": "c", "type": "function", "function": function}
    return Say(completion(None, finish_reason="tool_calls", tool_calls=[call]))


def tool_result(upstream: FakeUpstream) -> Any:
    return upstream.seen[-1].json["messages"][-1]["content"]


class TestInput:
    async def test_a_pass_is_recorded_and_tells(self, model: Any):
        sink = MemorySink()
        done = await Bench(model, engine(sink)).ask("Hi")
        assert done.final_output == "Fine."
        assert [(r.decision.stage, r.dialect, r.text) for r in sink.records] == [
            ("input", "agents", "Hi"),
            ("output", "agents", "Fine."),
        ]
        (told,) = done.input_guardrail_results
        assert told.output.output_info == {
            "id": sink.records[0].decision.id,
            "action": "pass",
            "policies": [],
            "degraded": [],
            "unjudged": [],
        }

    @pytest.mark.parametrize(
        "given", ["a forbidden zebra", [{"role": "user", "content": "a forbidden zebra"}]]
    )
    async def test_a_block_trips_before_the_model_is_asked(
        self, model: Any, upstream: FakeUpstream, given: Any
    ):
        with pytest.raises(agents.InputGuardrailTripwireTriggered) as caught:
            await Bench(model).ask(given)
        told = caught.value.guardrail_result.output.output_info
        assert (told["action"], told["policies"]) == ("block", ["house-rules"])
        assert "zebra" not in f"{caught.value}{told}"
        assert upstream.seen == []

    async def test_a_redaction_trips_unless_told_otherwise(self, model: Any, upstream: FakeUpstream):
        with pytest.raises(agents.InputGuardrailTripwireTriggered):
            await Bench(model).ask(f"I am {MAIL}")
        done = await Bench(model, on_redact="pass").ask(f"I am {MAIL}")
        assert done.input_guardrail_results[0].output.output_info["action"] == "redact"

    async def test_every_item_is_judged(self, model: Any):
        judge = ScriptedClassifier(RULES)
        items = [
            {"role": "user", "content": [{"type": "input_text", "text": "one"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": "two"}'},
            {"type": "function_call_output", "call_id": "c", "output": "three"},
            {"role": "user", "content": "four"},
        ]
        await Bench(model, engine(classifier=judge)).ask(items)
        subject = judge.asked[0][1]
        assert subject.text.split("\n") == ["one", '{"a": "two"}', "three", "four"]

    async def test_an_outage(self, model: Any):
        with pytest.raises(agents.InputGuardrailTripwireTriggered) as caught:
            await Bench(model).ask("an outage")
        told = caught.value.guardrail_result.output.output_info
        assert told["degraded"] == ["house-rules=unavailable"]
        open_ = {stage: FailRules(FailMode.OPEN) for stage in Stage}
        assert (await Bench(model, engine(on_error=open_)).ask("an outage")).final_output == "Fine."

    async def test_it_may_run_beside_the_agent(self, model: Any):
        assert Bench(model).guard.input_guardrail.run_in_parallel is False
        assert Bench(model, in_parallel=True).guard.input_guardrail.run_in_parallel is True


class TestOutput:
    async def test_a_block_trips(self, model: Any, upstream: FakeUpstream):
        upstream.text = "forbidden"
        with pytest.raises(agents.OutputGuardrailTripwireTriggered) as caught:
            await Bench(model).ask("Hi")
        assert caught.value.guardrail_result.output.output_info["action"] == "block"

    async def test_it_is_judged_with_the_question(self, model: Any):
        judge = ScriptedClassifier(RULES)
        await Bench(model, engine(classifier=judge)).ask("Hi")
        subject = judge.asked[-1][1]
        assert [s.text for turn in subject.context for s in turn.segments] == ["Hi"]

    async def test_an_object_is_read_as_json(self, model: Any, upstream: FakeUpstream):
        upstream.text = '{"name": "forbidden"}'
        bench = Bench(model)
        bench.agent = bench.agent.clone(output_type=Person)
        with pytest.raises(agents.OutputGuardrailTripwireTriggered):
            await bench.ask("Hi")


class TestTools:
    async def test_a_pass(self, model: Any, upstream: FakeUpstream):
        upstream.script.append(calls("kim"))
        bench = Bench(model)
        assert (await bench.ask("Hi")).final_output == "Fine."
        assert (bench.called, tool_result(upstream)) == (["kim"], "sent")

    @pytest.mark.parametrize("to", ["forbidden", MAIL])
    async def test_a_call_that_is_blocked_or_would_be_redacted_is_not_made(
        self, model: Any, upstream: FakeUpstream, to: str
    ):
        upstream.script.append(calls(to))
        bench = Bench(model)
        assert (await bench.ask("Hi")).final_output == "Fine."
        assert (bench.called, tool_result(upstream)) == ([], REFUSAL)

    async def test_a_blocked_call_may_raise(self, model: Any, upstream: FakeUpstream):
        upstream.script.append(calls("forbidden"))
        bench = Bench(model, on_tool_block="raise")
        with pytest.raises(agents.ToolInputGuardrailTripwireTriggered):
            await bench.ask("Hi")
        assert bench.called == []

    async def test_a_call_that_cannot_be_judged_raises(self, model: Any, upstream: FakeUpstream):
        upstream.script.append(calls("outage"))
        with pytest.raises(agents.ToolInputGuardrailTripwireTriggered):
            await Bench(model).ask("Hi")

    @pytest.mark.parametrize(
        ("says", "shown"),
        [
            ("forbidden", REFUSAL),
            (f"ask {MAIL}", f"ask {MARK}"),
            ({"to": [MAIL]}, '{"to": ["[REDACTED:HIDE]"]}'),
            (Person(name="forbidden"), REFUSAL),
        ],
    )
    async def test_a_result_is_replaced(self, model: Any, upstream: FakeUpstream, says: Any, shown: str):
        upstream.script.append(calls("kim"))
        bench = Bench(model)
        bench.says = says
        await bench.ask("Hi")
        assert tool_result(upstream) == shown

    async def test_a_blocked_result_may_raise(self, model: Any, upstream: FakeUpstream):
        upstream.script.append(calls("kim"))
        bench = Bench(model, on_tool_block="raise")
        bench.says = "forbidden"
        with pytest.raises(agents.ToolOutputGuardrailTripwireTriggered):
            await bench.ask("Hi")

    async def test_an_image_is_named(self, model: Any, upstream: FakeUpstream):
        upstream.script.append(calls("kim"))
        bench = Bench(model, engine(strict=True))
        bench.says = agents.ToolOutputImage(image_url="http://127.0.0.1:9/x.png")
        await bench.ask("Hi")
        assert tool_result(upstream) == REFUSAL


class TestLife:
    async def test_from_a_configuration(self, tmp_path: Path, model: Any):
        guard = AgentGuardrails.from_config(written(tmp_path), on_redact="pass")
        agent = agents.Agent(name="a", model=model, input_guardrails=[guard.input_guardrail])
        assert (await agents.Runner.run(agent, "Hi")).final_output == "Fine."
        await guard.aclose()
        guard.close()
        assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 1

    def test_without_the_sdk_the_error_names_the_extra(self):
        code = "import sys; sys.modules['agents'] = None; import guardrail, guardrail.frontends.agents"
        done = run_code(code)
        assert done.stderr.rstrip().endswith("install it with pip install 'guardrail[agents]'")
