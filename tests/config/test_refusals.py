"""The twin of guardrail/config/refusals.py: what a refusal may be told."""

from __future__ import annotations

import anthropic
import httpx
import httpx2
import jsonschema
import openai
import pytest
from pydantic import ValidationError

from guardrail.config.refusals import RefusalConfig, RefusalStage


def test_every_key_has_a_default():
    config = RefusalConfig()
    assert config.input == config.output == RefusalStage()
    assert (config.messages, config.rules) == ({}, [])
    assert config.message


def test_languages_are_lower_case_tags():
    assert RefusalConfig(messages={"pt-BR": "não"}).messages == {"pt-br": "não"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"message": ""},
        {"messages": {"german": "nein"}},
        {"messages": {"de": ""}},
        {"rules": [{"paths": ["v1/chat"]}]},
        {"rules": [{"paths": ["/v1/chat/"]}]},
        {"rules": [{"keys": [""]}]},
        {"rules": [{"path": "/v1"}]},
        {"input": {"status": 200}},
        {"input": {"style": "none"}},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong):
    with pytest.raises(ValidationError):
        RefusalConfig.model_validate(wrong)


def test_a_refusal_has_no_status_that_sdks_retry():
    """Asked of the SDKs themselves."""
    openais, anthropics = openai.OpenAI(api_key="k"), anthropic.Anthropic(api_key="k")
    schema = RefusalStage.model_json_schema()
    refused = []
    for status in range(400, 500):
        retried = openais._should_retry(httpx.Response(status))
        retried |= anthropics._should_retry(httpx2.Response(status))
        if retried:
            with pytest.raises(ValidationError, match="write another one"):
                RefusalStage(status=status)
            refused.append(status)
        else:
            assert RefusalStage(status=status).status == status
        assert jsonschema.Draft202012Validator(schema).is_valid({"status": status}) is not retried
    assert refused == [408, 409, 429]
    openais.close()
    anthropics.close()


def test_keys_are_not_shown():
    assert "sk-secret" not in repr(RefusalConfig.model_validate({"rules": [{"keys": ["sk-secret"]}]}))
