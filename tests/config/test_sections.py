"""The twin of guardrail/config/sections.py: laws that a section keeps by itself."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from guardrail.config.sections import (
    CacheConfig,
    Config,
    HistoryConfig,
    OnErrorConfig,
    PathsConfig,
    RedactionConfig,
)
from guardrail.core.policy import FailMode, Strategy
from guardrail.errors import FailureCode


def refused(model: type[Any], **values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(values)
    return str(caught.value)


def test_the_fail_mode_of_one_policy_by_stage_and_class():
    config = OnErrorConfig.model_validate(
        {"output": "open", "policies": {"pii": {"input": {"default": "closed", "timeout": "open"}}}}
    )
    own = config.policies["pii"]
    assert own.input is not None
    assert own.input.default is FailMode.CLOSED
    assert own.input.by_code() == {FailureCode.TIMEOUT: FailMode.OPEN}
    assert own.output is None
    short = OnErrorConfig.model_validate({"policies": {"pii": {"output": "open"}}}).policies["pii"].output
    assert short is not None
    assert short.default is FailMode.OPEN


def test_no_two_routes_have_one_place():
    route = {"path": "/chat", "input": "$.message"}
    whole = {"version": 1, "policies": {"input": ["pii"]}}
    other = {**route, "method": "PUT"}
    assert len(Config.model_validate({**whole, "routes": [route, other]}).routes) == 2
    assert "stands there twice" in refused(Config, **whole, routes=[route, other, route])


def test_auth_is_no_class_that_could_be_open():
    assert "auth" in refused(OnErrorConfig, policies={"pii": {"input": {"auth": "open"}}})


def test_redis_is_named_by_its_url_and_its_secret_needs_it():
    assert CacheConfig(redis_url="rediss://h:1/0", secret="s").secret == "s"
    assert "must begin with redis://" in refused(CacheConfig, redis_url="http://h")
    assert "give redis_url" in refused(CacheConfig, secret="zebra")
    assert "zebra" not in refused(CacheConfig, secret="zebra")
    assert "zebra" not in repr(CacheConfig(redis_url="redis://:zebra@h:1"))


def test_a_redaction_names_its_strategy_and_keeps_its_secret():
    assert RedactionConfig.model_validate({"strategy": "placeholder"}).strategy is Strategy.PLACEHOLDER
    assert "strategy" in refused(RedactionConfig, strategy="forget")
    assert "keep_last" in refused(RedactionConfig, keep_last=9)
    assert "at least 16 characters" in refused(RedactionConfig, secret="zebra")
    assert "zebra" not in refused(RedactionConfig, secret="zebra")
    assert "zebra" not in repr(RedactionConfig(secret="zebra" * 4))


@pytest.mark.parametrize("key", ["allow", "exempt"])
def test_paths_begin_with_a_slash(key: str):
    assert getattr(PathsConfig.model_validate({key: ["/a/*"]}), key) == ["/a/*"]
    assert f"{key}: 'a' does not begin with /" in refused(PathsConfig, **{key: ["/b", "a"]})


def test_blocked_turns_are_dropped_or_block():
    assert HistoryConfig().blocked_turns == "drop"
    assert "blocked_turns" in refused(HistoryConfig, blocked_turns="forget")


def test_the_sections_of_the_whole():
    assert list(Config.model_fields) == [
        "version",
        "server",
        "upstream",
        "classifier",
        "policies",
        "presidio",
        "on_error",
        "streaming",
        "redaction",
        "cache",
        "history",
        "refusal",
        "audit",
        "metrics",
        "limits",
        "paths",
        "routes",
        "input_check",
        "unreadable",
        "strict",
        "trusted_roles",
    ]
