"""Moderations: each text is judged once, some at a time, and what was not judged is an error."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from guardrail.core.conversation import Subject
from guardrail.core.policy import FailMode, Mode, Policy, PolicySet, Stage
from guardrail.engine.check import GuardrailEngine
from guardrail.engine.fail_rules import FailRules
from guardrail.errors import UnreadableRequest
from guardrail.frontends.api_moderations import AT_ONCE, moderate
from guardrail.frontends.controls import adding
from guardrail.frontends.endpoint import Answer, Asking
from guardrail.testing import ScriptedClassifier
from guardrail.wire.policies import Catalogue
from tests.frontends.guards import LABELS, Guards

pytestmark = pytest.mark.anyio

MODES = [("house", Mode.ENFORCE), ("quiet", Mode.SHADOW)]


async def ask(guards: Guards, given: Any, **more: Any) -> Answer:
    raw = json.dumps({"input": given, **more}).encode()
    return await moderate(guards.catalogue, Asking(guards.engine, raw, "gr-1"))


async def test_one_result_a_text_in_order():
    guards = Guards()
    texts = ["calm", "forbidden", "my secret", "calm too", ""]
    answer = await ask(guards, texts)
    told = json.loads(answer.reply.body)
    assert (answer.reply.status, told["id"]) == (200, "gr-1")
    assert [result["flagged"] for result in told["results"]] == [False, True, True, False, False]
    assert told["results"][1]["categories"] == {"house": True, "violence": True}
    assert dict(answer.headers)[b"x-guardrail-decision"] == b"block"
    assert sorted(guards.recorded) == sorted(
        ("moderations", "input", action) for action in ("pass", "block", "redact", "pass", "pass")
    )
    assert {record.decision.id for record in guards.sink.records} == {"gr-1"}
    assert sorted(subject.text for _, subject in guards.judge.asked) == sorted(texts[:-1])


async def test_a_policy_more():
    answer = await ask(Guards(), "forbidden", guardrails=["more"])
    [result] = json.loads(answer.reply.body)["results"]
    assert result["categories"] == {"house": True, "violence": True, "more": True}


async def test_body_and_header_both_add():
    for added, given in (("more", None), ("house", ["more"]), ("more", ["more"])):
        guards = Guards()
        ids = (added,)
        raw = json.dumps({"input": ["forbidden", "calm"], "guardrails": given}).encode()
        answer = await moderate(guards.catalogue, Asking(adding(guards.engine, ids), raw, "gr-1", ids))
        for result, found in zip(json.loads(answer.reply.body)["results"], (True, False), strict=True):
            assert result["categories"] == {"house": found, "violence": found, "more": found}


async def test_a_shadow_has_a_category_where_it_is_to_act():
    house, quiet = (Policy(name, "Judge.", LABELS, mode=mode) for name, mode in MODES)
    stages = dict.fromkeys(Stage, (house, quiet))
    catalogue = Catalogue(PolicySet([house, quiet]), stages)
    engine = GuardrailEngine(stages, ScriptedClassifier([("bad", "STOP")]), addable=[house, quiet])
    acting = {"name": "quiet", "mode": "enforce"}
    for given, categories in (
        (["quiet"], ["house"]),
        ([acting], ["house", "quiet"]),
        ([acting, "quiet"], ["house", "quiet"]),
    ):
        raw = json.dumps({"input": ["bad", "calm"], "guardrails": given}).encode()
        answer = await moderate(catalogue, Asking(engine, raw, "gr-1"))
        for result, found in zip(json.loads(answer.reply.body)["results"], (True, False), strict=True):
            assert result["categories"] == dict.fromkeys(categories, found)


async def test_one_nobody_knows():
    with pytest.raises(UnreadableRequest) as caught:
        await ask(Guards(), "calm", guardrails=["nobody"])
    assert caught.value.param == "guardrails"


@pytest.mark.parametrize("mode", FailMode)
async def test_what_was_not_judged_is_an_error_in_every_mode(mode: FailMode):
    guards = Guards({"on_error": {Stage.INPUT: FailRules(mode)}})
    answer = await ask(guards, ["forbidden", "slow"])
    assert answer.reply.status == 503
    assert json.loads(answer.reply.body)["error"]["code"] == "guardrail_unavailable"
    assert {b"retry-after", b"x-should-retry"} <= dict(answer.reply.headers).keys()
    told = dict(answer.headers)
    assert told[b"x-guardrail-decision"] == b"block"
    assert told[b"x-guardrail-degraded"] == b"house=timeout"
    assert len(guards.recorded) == 2


async def test_never_more_at_once_than_a_request_may_ask_for():
    running = most = 0

    def delay(subject: Subject) -> float:
        nonlocal running, most
        running += 1
        most = max(most, running)
        return 0.001

    guards = Guards()
    guards.judge.delay_s = delay
    classify = guards.judge.classify

    async def noting(policy: Any, subject: Subject) -> Any:
        nonlocal running
        try:
            return await classify(policy, subject)
        finally:
            running -= 1

    guards.judge.classify = noting  # type: ignore[method-assign]
    with anyio.fail_after(20):
        answer = await ask(guards, [f"text {index}" for index in range(50)])
    assert len(json.loads(answer.reply.body)["results"]) == 50
    assert most == AT_ONCE
