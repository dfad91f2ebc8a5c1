"""LiteLLM's generic guardrail API, from its request to what it is told to do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guardrail.core.policy import FailMode, Stage
from guardrail.core.release import StreamRules
from guardrail.engine.fail_rules import FailRules
from guardrail.errors import UnreadableRequest
from guardrail.frontends.api_litellm import guard
from guardrail.frontends.endpoint import Asking
from guardrail.frontends.exchange import Settings
from guardrail.wire.refusals import Refusals
from guardrail.wire.replies import Reply
from tests.frontends.guards import Guards

pytestmark = pytest.mark.anyio

SETTINGS = Settings(streaming=StreamRules(overlap=10))
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"secret": 1}'}}


async def ask(
    guards: Guards, input_type: str, *texts: str, **more: Any
) -> tuple[Reply, dict[bytes, bytes]]:
    raw = json.dumps({"input_type": input_type, "texts": texts, **more}).encode()
    answer = await guard(SETTINGS, Asking(guards.engine, raw, "gr-1"))
    return answer.reply, dict(answer.headers)


async def told(guards: Guards, input_type: str, *texts: str, **more: Any) -> dict[str, Any]:
    reply, _ = await ask(guards, input_type, *texts, **more)
    assert reply.status == 200
    found: dict[str, Any] = json.loads(reply.body)
    return found


async def test_a_request_that_passes():
    guards = Guards()
    found = await told(guards, "request", "calm", "quiet")
    assert (found["action"], found["texts"]) == ("NONE", ["calm", "quiet"])
    assert found["stream_holdback_chars"] is None
    assert guards.recorded == [("litellm", "input", "pass")]


async def test_one_that_is_blocked():
    reply, headers = await ask(Guards(), "request", "calm", "forbidden")
    found = json.loads(reply.body)
    assert (found["action"], found["blocked_reason"]) == ("BLOCKED", "I can't help with that.")
    assert b"forbidden" not in reply.body
    assert headers[b"x-guardrail-policies"] == b"house"


async def test_the_refusal_is_in_the_callers_language():
    words = {"de": "Das geht nicht.", "fr": "Non."}
    settings = Settings(refusals=Refusals(words=words))
    for language, reason in (("de-AT, fr;q=0.5", "Das geht nicht."), ("\u20ac", "I can't help with that.")):
        body = {"input_type": "request", "texts": ["forbidden"]}
        raw = json.dumps(body | {"request_headers": {"accept-language": language}}).encode()
        answer = await guard(settings, Asking(Guards().engine, raw, "gr-1"))
        assert json.loads(answer.reply.body)["blocked_reason"] == reason


async def test_one_that_is_redacted():
    found = await told(Guards(), "request", "my secret", "calm")
    assert (found["action"], found["texts"]) == ("GUARDRAIL_INTERVENED", ["my [REDACTED:HIDE]", "calm"])


async def test_an_answer_says_how_much_is_to_be_withheld():
    guards = Guards()
    found = await told(guards, "response", "my secret " + "calm " * 10)
    assert found["texts"] == ["my [REDACTED:HIDE] " + "calm " * 10]
    assert found["stream_holdback_chars"] == [10]
    assert (await told(guards, "response", "calm " * 10))["stream_holdback_chars"] == [10]
    assert guards.recorded == [("litellm", "output", "redact"), ("litellm", "output", "pass")]


async def test_what_litellm_cannot_redact_is_blocked():
    reply, headers = await ask(Guards(), "response", tool_calls=[CALL])
    assert json.loads(reply.body)["action"] == "BLOCKED"
    assert headers[b"x-guardrail-decision"] == b"block"


@pytest.mark.parametrize("input_type", ["request", "response"])
async def test_a_judge_that_is_down(input_type: str):
    reply, headers = await ask(Guards(), input_type, "slow")
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (503, "guardrail_unavailable")
    assert headers[b"x-guardrail-degraded"] == b"house=timeout"


async def test_with_open_fail_mode_it_lets_through_and_says_so():
    guards = Guards({"on_error": {stage: FailRules(FailMode.OPEN) for stage in Stage}})
    reply, headers = await ask(guards, "request", "slow")
    assert json.loads(reply.body)["action"] == "NONE"
    assert headers[b"x-guardrail-degraded"] == b"house=timeout"


async def test_images_and_tools_are_said_to_be_unread():
    for input_type in ("request", "response"):
        _, headers = await ask(Guards(), input_type, "calm", images=["u"], tools=[{"type": "function"}])
        assert headers[b"x-guardrail-decision"] == b"flag"
        assert headers[b"x-guardrail-unjudged"] == b"$.images[0], $.tools"


async def test_policies_may_be_added_and_must_be_known():
    guards = Guards()
    more = {"additional_provider_specific_params": {"guardrails": ["more"]}}
    await told(guards, "request", "calm", **more)
    assert {policy.id for policy, _ in guards.judge.asked} == {"house", "more"}
    with pytest.raises(UnreadableRequest):
        await ask(guards, "request", additional_provider_specific_params={"guardrails": ["nobody"]})
