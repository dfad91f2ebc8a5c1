"""The twin of guardrail/backends/ollama.py, over real HTTP on loopback.

The replies are those recorded of Ollama 0.12.5, 0.12.6 and 0.40; no Ollama runs here.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from guardrail.backends import retry
from guardrail.backends.judge import JudgeClassifier, JudgeSettings
from guardrail.backends.judge_requests import schema
from guardrail.backends.ollama import NATIVE, was_filled
from guardrail.backends.presets import PRESETS
from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.policy import Action, LabelRule, Policy, Stage
from guardrail.core.verdict import Usage, Verdict
from guardrail.errors import (
    ClassifierError,
    ClassifierRejected,
    ClassifierUnavailable,
    FailureCode,
    MalformedVerdict,
)
from tests.fakes import FakeServer, Say, verdict

pytestmark = pytest.mark.anyio

LABELS = {"OK": LabelRule("OK", violation=False), "BAD": LabelRule("BAD", True, Action.BLOCK)}
POLICY = Policy("p", "The policy.\n", LABELS)
SUBJECT = Subject(Stage.INPUT, (), (Turn("user", (Segment("what the user wrote", ()),)),))
RULING = json.dumps({"violation": 1, "label": "BAD", "rationale": "r."})


def reply(content: Any = RULING, **more: Any) -> bytes:
    value = {
        "model": "gpt-oss-safeguard:20b",
        "created_at": "2026-11-20T10:00:00Z",
        "message": {"role": "assistant", "content": content, "thinking": "It is bad."},
        "done": True,
        "done_reason": "stop",
        "total_duration": 1_000_000,
        "prompt_eval_count": 318,
        "eval_count": 70,
    }
    return json.dumps(value | more).encode()


@asynccontextmanager
async def judge(server: FakeServer, **settings: Any) -> AsyncIterator[JudgeClassifier]:
    root = server.url.removesuffix("/v1")
    settings = {"model": "gpt-oss-safeguard:20b", "preset": PRESETS["ollama"]} | settings
    classifier = JudgeClassifier(JudgeSettings(root, **settings))
    try:
        yield classifier
    finally:
        await classifier.aclose()


async def classify(say: Say, **settings: Any) -> tuple[Verdict, FakeServer]:
    with FakeServer(say) as server:
        async with judge(server, **settings) as classifier:
            return await classifier.classify(POLICY, SUBJECT), server


async def test_what_it_is_asked():
    _, server = await classify(Say(reply()))
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("POST", "/api/chat")
    body = seen.json
    system, user = body.pop("messages")
    assert system == {"role": "system", "content": "The policy.\n"}
    assert user["role"] == "user"
    assert user["content"].count("what the user wrote") == 1
    assert body == {
        "model": "gpt-oss-safeguard:20b",
        "stream": False,
        "think": "low",
        "options": {"temperature": 0, "num_predict": 2048, "num_ctx": 8192},
        "truncate": False,
        "shift": False,
        "keep_alive": -1,
    }


async def test_its_window_is_the_configured_one_and_json_is_enforced_when_asked():
    _, server = await classify(Say(reply()), context_tokens=20_000, max_tokens=900, json_mode=True)
    assert server.seen[0].json["options"] == {"temperature": 0, "num_predict": 900, "num_ctx": 20_000}
    assert server.seen[0].json["format"] == schema(POLICY)


async def test_a_verdict_with_its_usage():
    found, _ = await classify(Say(reply()))
    assert (found.label, found.judge, found.usage) == ("BAD", "gpt-oss-safeguard:20b", Usage(318, 70))


async def test_one_call_tells_its_reasoning_and_model():
    with FakeServer(Say(reply())) as server:
        async with judge(server) as classifier:
            answer = await classifier.ask(POLICY, "U", 10)
    assert (answer.reasoning, answer.model) == ("It is bad.", "gpt-oss-safeguard:20b")
    assert (answer.content, answer.finish_reason) == (RULING, "stop")


async def test_reasoning_is_never_the_verdict():
    value = {"role": "assistant", "content": "", "thinking": RULING}
    with pytest.raises(MalformedVerdict):
        await classify(Say(reply(message=value)))


async def test_without_counts_the_usage_is_unknown():
    found, _ = await classify(Say(reply(prompt_eval_count=None)))
    assert found.usage is None


OVERFLOW = {
    "error": json.dumps(
        {"error": {"code": 400, "message": "too big", "type": "exceed_context_size_error", "n_ctx": 8192}}
    )
}
TRUNCATED, TOO_LONG = FailureCode.TRUNCATED, FailureCode.TOO_LONG
MALFORMED = FailureCode.MALFORMED
NO_MODEL = b'{"error": "model \'x\' not found"}'

TABLE = {
    "0.40 refuses": (Say(json.dumps(OVERFLOW).encode(), 400), ClassifierRejected, TOO_LONG, 1),
    "0.12.6 refuses": (
        Say(b'{"error": "the input length exceeds the context length"}', 400),
        ClassifierRejected,
        TOO_LONG,
        1,
    ),
    "0.12.5 cuts": (Say(reply(prompt_eval_count=8192)), ClassifierRejected, TRUNCATED, 1),
    "0.12.6 shifts": (
        Say(reply(prompt_eval_count=8000, eval_count=500)),
        ClassifierRejected,
        TRUNCATED,
        1,
    ),
    "the answer fills the window": (Say(reply(done_reason="length")), MalformedVerdict, TRUNCATED, 2),
    "still loading": (Say(reply("", done_reason="load")), MalformedVerdict, MALFORMED, 2),
    "not done": (Say(reply(done=False)), MalformedVerdict, MALFORMED, 2),
    "content of parts": (Say(reply([RULING])), MalformedVerdict, MALFORMED, 2),
    "a chat completion": (Say(verdict(0, None)), MalformedVerdict, MALFORMED, 2),
    "no JSON": (Say(b"<html>"), MalformedVerdict, MALFORMED, 2),
    "unknown model": (Say(NO_MODEL, 404), ClassifierRejected, FailureCode.AUTH, 1),
    "busy": (
        Say(b'{"error": "server busy, please try again. maximum pending requests exceeded"}', 503),
        ClassifierUnavailable,
        FailureCode.UNAVAILABLE,
        4,
    ),
}


@pytest.mark.parametrize("row", TABLE)
async def test_what_goes_wrong(row: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.001)
    say, wanted, code, calls = TABLE[row]
    with FakeServer(say) as server:
        async with judge(server) as classifier:
            with pytest.raises(ClassifierError) as caught:
                await classifier.classify(POLICY, SUBJECT)
    assert (type(caught.value), caught.value.code, len(server.seen)) == (wanted, code, calls)


async def test_a_model_that_cannot_think_is_asked_without_and_says_so():
    say = Say(b'{"error": "\\"llama3\\" does not support thinking"}', 400)
    with FakeServer(Say(reply())) as server:
        server.script.append(say)
        async with judge(server) as classifier:
            found = await classifier.classify(POLICY, SUBJECT)
            again = await classifier.classify(POLICY, SUBJECT)
    assert [("think" in seen.json) for seen in server.seen] == [True, False, False]
    assert found.effort is None
    assert again.effort is None


async def test_it_is_reachable_where_its_own_api_is():
    with FakeServer(Say(b'{"version": "0.40.2"}')) as server:
        async with judge(server) as classifier:
            assert await classifier.reachable()
    assert (server.seen[0].method, server.seen[0].path) == ("GET", "/api/version")


@pytest.mark.parametrize("slash", ["", "/"])
async def test_an_address_that_ends_in_v1_is_asked_in_openais_form_and_its_window_is_small(slash: str):
    with FakeServer(Say(verdict(0, None))) as server:
        settings = JudgeSettings(server.url + slash, "m", preset=PRESETS["ollama"])
        classifier = JudgeClassifier(settings)
        assert (await classifier.classify(POLICY, SUBJECT)).violation is False
        await classifier.aclose()
    assert server.seen[0].path == "/v1/chat/completions"
    assert server.seen[0].json["reasoning_effort"] == "low"
    assert (classifier.context_tokens, PRESETS["ollama"].context_tokens) == (4096, 8192)


@pytest.mark.parametrize(
    ("usage", "filled"),
    [
        (Usage(500, 12), False),  # ends exactly with the window
        (Usage(500, 13), True),
        (Usage(512, 0), True),
        (Usage(511, 1), False),
    ],
)
def test_the_window_is_overrun_from_its_first_token_beyond(usage: Usage, filled: bool):
    assert was_filled(usage, 512) is filled


def test_what_asks_it_not_to_cut_is_in_every_preset_of_its_own_api():
    for preset in PRESETS.values():
        if preset.native:
            assert preset.extra["truncate"] is preset.extra["shift"] is False
    assert NATIVE.path == "/api/chat"
