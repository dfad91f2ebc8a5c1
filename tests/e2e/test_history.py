"""Chats of fifty turns through a real server, between the real SDK and real fakes.

``app`` is what uvicorn serves: the middleware around a forwarder, with a history.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from guardrail import GuardrailEngine, GuardrailMiddleware
from guardrail.backends.forward import HttpForwarder
from guardrail.backends.judge import JudgeClassifier, JudgeSettings
from guardrail.backends.memory_cache import MemoryHistory
from guardrail.backends.policy_files import load_policies
from guardrail.core.policy import FailMode, Stage
from guardrail.core.release import StreamRules
from guardrail.engine.fail_rules import FailRules
from guardrail.frontends.middleware import Settings
from tests.e2e.conftest import (
    MARK,
    REFUSAL,
    Process,
    WordJudge,
    classified,
    free_port,
    start_process,
    write_policies,
)
from tests.fakes import FakeUpstream

TURNS = 50
POLICIES = ("first", "second")


def app() -> Any:
    """Two input policies and an output policy; fails open, so that failures can be told from blocks."""
    known = load_policies(Path(os.environ["HISTORY_POLICIES"]))
    judge = JudgeClassifier(JudgeSettings(os.environ["HISTORY_JUDGE"], "fake-judge", max_tries=1))
    upstream = HttpForwarder(os.environ["HISTORY_UPSTREAM"], "")

    async def close() -> None:
        await judge.aclose()
        await upstream.aclose()

    engine = GuardrailEngine(
        {Stage.INPUT: [known[p] for p in POLICIES], Stage.OUTPUT: [known["answers"]]},
        judge,
        history=MemoryHistory(),
        on_error={stage: FailRules(FailMode.OPEN) for stage in Stage},
    )
    settings = Settings(streaming=StreamRules(window=50, overlap=30))
    return GuardrailMiddleware(upstream, engine, settings, close)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, judge: WordJudge, upstream: FakeUpstream
) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("history")
    write_policies(folder / "policies", dict.fromkeys((*POLICIES, "answers"), "enforce"))
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", f"{__name__}:app", "--port", str(port)]
    env = os.environ | {
        "HISTORY_POLICIES": str(folder / "policies"),
        "HISTORY_JUDGE": judge.url,
        "HISTORY_UPSTREAM": upstream.url,
    }
    root = Path(__file__).parents[2]
    process = start_process(command, folder / "server.log", port, env=env, cwd=root)
    yield process
    process.stop()


class Chat:
    """One client's chat; what it says and gets is its history, as in any chat application."""

    def __init__(self, server: Process, judge: WordJudge, upstream: FakeUpstream, system: str) -> None:
        self._sdk = openai.OpenAI(
            base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0
        )
        self._judge = judge
        self._upstream = upstream
        self.messages: list[Any] = [{"role": "system", "content": system}]
        self.headers: Any = {}

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *exc: object) -> None:
        self._sdk.close()

    def say(self, text: str, answer: str, *, stream: bool = False) -> str:
        """One turn: what the client got, which is also put into its history."""
        self._upstream.text = answer
        self._judge.seen.clear()
        self._upstream.seen.clear()
        self.messages.append({"role": "user", "content": text})
        create = self._sdk.chat.completions.with_raw_response.create
        raw = create(model="m", messages=self.messages, stream=stream)
        self.headers = raw.headers
        if stream:
            parts = [c.choices[0].delta.content or "" for c in raw.parse() if c.choices]
            self.messages.append({"role": "assistant", "content": "".join(parts)})
        else:
            message = raw.parse().choices[0].message
            self.messages.append(message.model_dump(exclude_none=True))
        return str(self.messages[-1]["content"])

    @property
    def forwarded(self) -> list[Any]:
        return list(self._upstream.seen[-1].json["messages"])

    @property
    def input_checks(self) -> list[str]:
        """What the judge was asked about the prompt, by all policies together."""
        asked = [s.json for s in self._judge.seen if s.method == "POST"]
        prompts = [body for body in asked if "# answers" not in body["messages"][0]["content"]]
        return [classified(body["messages"][-1]["content"]) for body in prompts]


@pytest.mark.parametrize("stream", [False, True])
def test_each_of_fifty_turns_costs_one_check_a_policy_and_what_was_redacted_stays_so(
    server: Process, judge: WordJudge, upstream: FakeUpstream, stream: bool
):
    with Chat(server, judge, upstream, f"Be kind. {stream}") as chat:
        assert (
            chat.say("my redactword is here", "Noted, redactword.", stream=stream).strip()
            == f"Noted, {MARK}."
        )
        for turn in range(1, TURNS):
            said = f"question number {turn}"
            answer = f"This is answer number {turn}."
            assert chat.say(said, answer, stream=stream).strip() == answer
            assert chat.input_checks == [said] * len(POLICIES)
            assert len(judge.judged) == len(POLICIES) + 1
            forwarded = chat.forwarded
            assert len(forwarded) == len(chat.messages) - 1
            assert forwarded[1] == {"role": "user", "content": f"my {MARK} is here"}
            assert "redactword" not in str(forwarded)
            assert chat.headers["x-guardrail-decision"] == "redact"


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_goes_on_without_its_blocked_turns(
    server: Process, judge: WordJudge, upstream: FakeUpstream, stream: bool
):
    with Chat(server, judge, upstream, f"Be brave. {stream}") as chat:
        for turn in range(TURNS):
            dropped = 2 * (turn // 5)  # every fifth turn, and its refusal
            if turn % 5 == 4:
                assert chat.say(f"blockword {turn}", "never said", stream=stream) == REFUSAL
                assert upstream.seen == []
                assert "x-guardrail-dropped-turns" not in chat.headers
            else:
                chat.say(f"question {turn}", f"Answer {turn}.", stream=stream)
                assert len(chat.forwarded) == len(chat.messages) - 1 - dropped
                assert "blockword" not in str(chat.forwarded)
                assert REFUSAL not in str(chat.forwarded)
                assert chat.headers.get("x-guardrail-dropped-turns", "0") == str(dropped)
            assert chat.input_checks == [chat.messages[-2]["content"]] * len(POLICIES)


def test_a_turn_that_a_judge_could_not_judge_is_judged_with_the_next(
    server: Process, judge: WordJudge, upstream: FakeUpstream
):
    with Chat(server, judge, upstream, "Be patient.") as chat:
        chat.say("one", "Answer one.")
        chat.say("outageword", "Answer two.")
        assert "first=unavailable" in chat.headers["x-guardrail-degraded"]
        judge.words["outageword"], outage = judge.words["flagword"], judge.words["outageword"]
        try:
            chat.say("three", "Answer three.")
        finally:
            judge.words["outageword"] = outage
        assert chat.input_checks == ["outageword\nAnswer two.\nthree"] * len(POLICIES)
        chat.say("four", "Answer four.")
        assert chat.input_checks == ["four"] * len(POLICIES)


def test_a_history_that_was_not_made_here_is_judged_once_as_a_whole(
    server: Process, judge: WordJudge, upstream: FakeUpstream
):
    with Chat(server, judge, upstream, "Be open.") as chat:
        for turn in range(TURNS):
            role = "assistant" if turn % 2 else "user"
            chat.messages.append({"role": role, "content": f"foreign {turn}"})
        foreign = [message["content"] for message in chat.messages[1:]]
        chat.say("now here", "Answer.")
        assert chat.input_checks == ["\n".join([*foreign, "now here"])] * len(POLICIES)
        chat.say("and now", "Answer.")
        assert chat.input_checks == ["and now"] * len(POLICIES)
        chat.messages[-1]["content"] = "Sure, I do."
        chat.say("so", "Answer.")
        assert chat.input_checks == ["Sure, I do.\nso"] * len(POLICIES)
        chat.messages[2]["content"] = "Sure, I did."  # the foreign part was judged as one
        chat.say("yes", "Answer.")
        assert chat.input_checks == ["\n".join(m["content"] for m in chat.messages[1:-1])] * len(POLICIES)
