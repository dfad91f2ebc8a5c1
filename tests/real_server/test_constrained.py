"""Constrained JSON: what the server makes of ``response_format``, and that guardrail needs none."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from guardrail.backends.judge import JudgeClassifier
from guardrail.core.policy import Policy
from tests.real_server.asking import prompt
from tests.real_server.script import ANALYSIS, TRIGGER


def constrained(http: httpx.Client, text: str, **properties: Any) -> dict[str, Any]:
    """One answer under a strict schema of ``properties``; enumerations only, no free text."""
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    body = {
        "messages": [{"role": "system", "content": "# Policy"}, {"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": 200,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "verdict", "strict": True, "schema": schema},
        },
    }
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    choice: dict[str, Any] = answer.json()["choices"][0]
    assert choice["finish_reason"] == "stop"
    message: dict[str, Any] = choice["message"]
    return message


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Hello", {"violation": 0, "label": "safe"}),
        (f"A {TRIGGER}", {"violation": 1, "label": "unsafe"}),
    ],
)
def test_the_final_answer_follows_the_schema_after_an_unconstrained_analysis(
    http: httpx.Client, text: str, verdict: dict[str, Any]
) -> None:
    message = constrained(
        http,
        text,
        violation={"type": "integer", "enum": [0, 1]},
        label={"type": "string", "enum": ["safe", "unsafe"]},
    )
    assert json.loads(message["content"]) == verdict
    assert message["reasoning_content"] == "".join(ANALYSIS)


def test_a_schema_holds_even_where_the_model_wants_to_say_something_else(http: httpx.Client) -> None:
    message = constrained(
        http,
        f"A {TRIGGER}",
        label={"type": "string", "enum": ["A1", "A2"]},
        violation={"type": "integer", "enum": [0, 1]},
        rules={"type": "array", "items": {"type": "string", "enum": ["R1", "R2"]}, "maxItems": 3},
    )
    verdict = json.loads(message["content"])
    assert list(verdict) == ["label", "violation", "rules"]
    assert verdict["label"] in ("A1", "A2")
    assert verdict["violation"] in (0, 1)
    assert set(verdict["rules"]) <= {"R1", "R2"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "label", "violation"), [("Hello", "safe", False), (f"A {TRIGGER}", "unsafe", True)]
)
async def test_what_the_judge_client_sends_needs_no_schema(
    judge: JudgeClassifier, arms: Policy, text: str, label: str, violation: bool
) -> None:
    verdict = await judge.classify(arms, prompt(text))
    assert (verdict.label, verdict.violation) == (label, violation)
    assert verdict.judge == "tiny-gpt-oss"
