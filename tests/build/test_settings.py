"""The twin of guardrail/build/settings.py: what the middleware is told, and what is ruled out."""

from __future__ import annotations

from typing import Any

import pytest

from guardrail.build.settings import settings_of
from guardrail.config import Config
from guardrail.core.policy import Action, LabelRule, Mode, Policy, Stage
from guardrail.core.release import ReleaseMode, StreamRules
from guardrail.errors import ConfigError
from guardrail.frontends.exchange import Settings
from guardrail.wire.replies import Refusal


def policy(action: Action, mode: Mode = Mode.ENFORCE, **detectors: str) -> Policy:
    labels = {"OK": LabelRule("OK", False), "BAD": LabelRule("BAD", True, action)}
    return Policy("house", "Judge it.", labels, mode=mode, detectors=detectors)


STERN, MILD = policy(Action.BLOCK), policy(Action.REDACT)


def settings(*, prompts: Policy = STERN, answers: Policy = STERN, **keys: Any) -> Settings:
    config = Config.model_validate({"version": 1, "policies": {"input": ["house"]}, **keys})
    return settings_of(config, {Stage.INPUT: (prompts,), Stage.OUTPUT: (answers,)})


def test_they_are_those_of_the_configuration():
    found = settings(
        refusal={
            "input": {"style": "error", "status": 451},
            "output": {"finish_reason": "stop"},
            "message": "Not here.",
        },
        streaming={
            "release": "whole",
            "window_chars": 99,
            "first_window_chars": 5,
            "overlap_chars": 7,
            "max_held_chars": 1234,
            "final_check": True,
            "keep_alive_s": 3,
        },
        limits={"max_body_bytes": 77, "max_concurrent_requests": 5},
        input_check="beside",
        paths={"exempt": ["/rooms/*/messages"]},
    )
    assert found.refusals.stages[Stage.INPUT] == Refusal("error", "Not here.", "content_filter", 451)
    assert found.refusals.stages[Stage.OUTPUT] == Refusal("completion", "Not here.", "stop", 400)
    assert found.streaming == StreamRules(
        ReleaseMode.WHOLE, 99, 7, first=5, final_check=True, max_held=1234
    )
    assert found.keep_alive_s == 3
    assert (found.max_body_bytes, found.max_concurrent_requests) == (77, 5)
    assert found.beside
    assert found.exempt == ("/rooms/*/messages",)


def test_the_defaults_agree_with_those_of_the_middleware():
    assert settings() == Settings()


def test_a_prompt_that_may_be_redacted_is_not_sent_before_it_was_judged():
    with pytest.raises(ConfigError, match=r"^input_check: beside .* house could redact nothing in it"):
        settings(prompts=MILD, input_check="beside")
    assert not settings(prompts=MILD).beside
    assert settings(prompts=policy(Action.REDACT, Mode.SHADOW), input_check="beside").beside


def test_an_answer_that_may_be_redacted_does_not_leave_before_it_was_judged():
    live = {"release": "live"}
    with pytest.raises(ConfigError, match=r"^streaming.release: live .* house could redact nothing"):
        settings(answers=MILD, streaming=live)
    assert settings(prompts=MILD, streaming=live).streaming.release is ReleaseMode.LIVE


def test_what_waits_for_a_match_has_room():
    finds_keys = policy(Action.BLOCK, **{"secrets.jwt": "BAD"})
    little = {"max_held_chars": 1500}
    with pytest.raises(ConfigError, match=r"max_held_chars: 1500 is too little .* write \d+ or more"):
        settings(answers=finds_keys, streaming=little)
    assert settings(streaming=little).streaming.max_held == 1500
    assert settings(answers=finds_keys, streaming=little | {"release": "whole"}).streaming.max_held == 1500
