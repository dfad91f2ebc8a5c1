"""The check of our own API: the decision is the answer, whatever it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guardrail.core.policy import FailMode, Stage, Strategy
from guardrail.core.vault import RedactionRules
from guardrail.engine.fail_rules import FailRules
from guardrail.errors import UnreadableRequest
from guardrail.frontends.api_check import check
from guardrail.frontends.endpoint import Asking
from tests.frontends.guards import Guards

pytestmark = pytest.mark.anyio

CHAT = [
    {"role": "system", "content": "forbidden"},
    {"role": "user", "content": "my secret"},
    {"role": "assistant", "content": "so: secret it is"},
]


async def ask(guards: Guards, **fields: Any) -> tuple[dict[bytes, bytes], dict[str, Any]]:
    asking = Asking(guards.engine, json.dumps(fields).encode(), "gr-1")
    answer = await check(frozenset({"system"}), asking)
    assert answer.reply.status == 200
    return dict(answer.headers), json.loads(answer.reply.body)


async def test_a_pass():
    guards = Guards()
    headers, told = await ask(guards, text="calm")
    assert (told["id"], told["action"], told["redacted"]) == ("gr-1", "pass", None)
    assert headers == {
        b"x-guardrail-decision": b"pass",
        b"x-guardrail-id": b"gr-1",
        b"x-guardrail-coverage": b"judged=1, redacted=0, unreadable=0, skipped=0",
    }
    assert guards.recorded == [("check", "input", "pass")]


async def test_a_block_is_an_answer_like_any_other():
    headers, told = await ask(Guards(), text="forbidden")
    assert (told["action"], told["policies"], told["redacted"]) == ("block", ["house"], None)
    assert headers[b"x-guardrail-policies"] == b"house"


async def test_a_text_comes_back_redacted():
    guards = Guards()
    for stage in ("input", "output"):
        _, told = await ask(guards, text="my secret", stage=stage)
        assert (told["action"], told["redacted"]) == ("redact", "my [REDACTED:HIDE]")
        [place] = told["findings"][0]["spans"]
        assert (place["path"], place["start"], place["end"]) == ("$.text", 3, 9)
    assert guards.recorded == [("check", "input", "redact"), ("check", "output", "redact")]


async def test_so_do_messages_and_trusted_ones_are_not_judged():
    _, told = await ask(Guards(), messages=CHAT)
    assert told["redacted"] == [CHAT[0], {"role": "user", "content": "my [REDACTED:HIDE]"}, CHAT[2]]
    assert told["findings"][0]["spans"][0]["path"] == "$.messages[1].content"


async def test_an_answer_is_judged_in_its_conversation():
    guards = Guards()
    _, told = await ask(guards, messages=CHAT, stage="output")
    [(_, subject)] = guards.judge.asked
    assert [turn.role for turn in subject.context] == ["system", "user"]
    assert told["redacted"] == [*CHAT[:2], {"role": "assistant", "content": "so:[REDACTED:HIDE]t it is"}]
    assert told["findings"][0]["spans"][0]["path"] == "$.messages[2].content"


async def test_placeholders_are_for_prompts_alone():
    """An answer has nobody behind it who could turn one back."""
    rules = RedactionRules(Strategy.PLACEHOLDER, key=b"a key of sixteen")
    guards = Guards({"redaction": rules})
    _, prompt = await ask(guards, text="my secret")
    assert prompt["redacted"].startswith("my [HIDE_")
    _, answer = await ask(guards, text="my secret", stage="output")
    assert answer["redacted"] == "my [REDACTED:HIDE]"


async def test_a_check_that_could_not_be_made():
    headers, told = await ask(Guards(), text="slow")
    assert (told["action"], told["unavailable"], told["degraded"]) == ("block", True, ["house=timeout"])
    assert headers[b"x-guardrail-degraded"] == b"house=timeout"


async def test_policies_may_be_added_and_must_be_known():
    _, told = await ask(Guards(), text="forbidden", policies=["more", "house"])
    assert told["policies"] == ["house", "more"]
    with pytest.raises(UnreadableRequest, match=r"^policies names an unknown policy$") as caught:
        await ask(Guards(), text="calm", policies=["nobody"])
    assert caught.value.param == "policies"


async def test_they_may_be_tightened_and_not_made_milder():
    opened = {"on_error": dict.fromkeys(Stage, FailRules(FailMode.OPEN))}
    assert (await ask(Guards(opened), text="slow"))[1]["action"] == "pass"
    closed = {"name": "house", "on_unavailable": "closed"}
    _, told = await ask(Guards(opened), text="slow", policies=[closed])
    assert (told["action"], told["unavailable"]) == ("block", True)
    milder = ["more", {"name": "house", "mode": "shadow"}]
    with pytest.raises(UnreadableRequest, match=r"^policies\[1\]\.mode would make") as caught:
        await ask(Guards(), text="calm", policies=milder)
    assert caught.value.param == "policies[1].mode"


async def test_what_nobody_could_read_is_named():
    message = {"role": "user", "content": [{"type": "text", "text": "calm"}, {"type": "image_url"}]}
    for stage in ("input", "output"):
        headers, told = await ask(Guards(), messages=[message], stage=stage)
        assert (told["action"], told["unjudged"]) == ("flag", ["$.messages[0].content[1]"])
        assert headers[b"x-guardrail-unjudged"] == b"$.messages[0].content[1]"
