"""The twin of guardrail/config/classifier.py: the laws of the section ``classifier``."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from guardrail.backends.presets import PRESETS
from guardrail.config.classifier import ClassifierConfig, EscalationConfig, JudgeConfig


def refused(model: type[JudgeConfig], **values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(values)
    return str(caught.value)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_named(preset: str):
    assert JudgeConfig(preset=preset).preset == preset


def test_an_unknown_preset_is_told_which_there_are():
    assert "vllm" in refused(JudgeConfig, preset="vlm")


def test_replicas_are_a_list_of_different_addresses_of_a_judge():
    urls = ["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"]
    assert JudgeConfig(base_url=urls).base_url == urls
    assert "twice" in refused(JudgeConfig, base_url=[urls[0], urls[0]])
    assert "empty list" in refused(JudgeConfig, base_url=[])
    assert "litellm" in refused(JudgeConfig, base_url=urls, kind="litellm")


def test_only_the_classifier_itself_can_be_embedded():
    assert ClassifierConfig(kind="embedded").kind == "embedded"
    assert "kind" in refused(JudgeConfig, kind="embedded")


@pytest.mark.parametrize(
    "values", [{"reasoning_effort": "high"}, {"model": "big"}, {"model": "big", "reasoning_effort": "low"}]
)
def test_an_escalation_is_the_same_judge_with_more_effort_or_another(values: dict[str, Any]):
    assert EscalationConfig.model_validate(values).model_fields_set == set(values)


@pytest.mark.parametrize(
    "values", [{}, {"preset": "vllm"}, {"reasoning_effort": "high", "base_url": "http://127.0.0.1:1/v1"}]
)
def test_an_escalation_that_names_neither_is_refused(values: dict[str, Any]):
    assert "name the model of another judge" in refused(EscalationConfig, **values)


def test_the_chain_is_off_until_asked_for_but_for_the_breaker_and_the_warm_up():
    config = ClassifierConfig()
    assert (config.hedge, config.escalation, config.fallback) == (None, None, None)
    assert config.warm_up
    assert (config.breaker.failures, config.breaker.open_s) == (5, 5.0)
