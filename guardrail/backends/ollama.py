"""Ollama's own API, which unlike its ``/v1`` can be told not to cut a prompt that is too long.

Left to itself, Ollama answers a prompt beyond its window from the part that fits, without the policy at
its front and with an ordinary 200: padding the text would switch the judge off.
"""

from __future__ import annotations

from typing import Any, Final

from guardrail.backends.judge_replies import Answer, text_of
from guardrail.backends.judge_requests import Form, Question, schema, system_text, without_fields
from guardrail.core.verdict import Usage
from guardrail.errors import MalformedVerdict

__all__ = ["NATIVE", "was_filled"]


def _write(question: Question) -> dict[str, Any]:
    policy = question.policy
    body: dict[str, Any] = {
        "model": question.model,
        "messages": [
            {"role": "system", "content": system_text(question.preset, policy)},
            {"role": "user", "content": question.user},
        ],
        "stream": False,
        "think": policy.reasoning_effort.value,
        "options": {
            "temperature": 0,
            "num_predict": question.budget,
            "num_ctx": question.context_tokens,
        },
    }
    if question.enforces:
        body["format"] = schema(policy)
    body.update(question.preset.extra)
    return without_fields(body, question.without)


def _read(value: Any) -> Answer:
    message = value.get("message") if isinstance(value, dict) else None
    if not isinstance(message, dict):
        raise MalformedVerdict("the judge's answer is no chat answer of Ollama")
    if value.get("done") is not True:
        raise MalformedVerdict("the judge's answer is not done")
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        raise MalformedVerdict("the judge's content is no string")
    reason = value.get("done_reason")
    return Answer(
        content,
        reason if isinstance(reason, str) else None,
        _usage(value),
        reasoning=text_of(message.get("thinking")),
        model=text_of(value.get("model")),
    )


def _usage(value: dict[str, Any]) -> Usage | None:
    prompt, completion = value.get("prompt_eval_count"), value.get("eval_count")
    if not isinstance(prompt, int):
        return None
    return Usage(prompt, completion if isinstance(completion, int) else 0)


def was_filled(usage: Usage, context_tokens: int) -> bool:
    """Whether prompt or answer ran over the window that was asked for.

    Servers before 0.12.6 do not know ``truncate`` and ``shift``: a prompt cut to fit counts as exactly
    the window, and an answer that pushed the prompt out as more than it (recorded with 0.12.5 and 0.12.6).
    """
    return usage.prompt >= context_tokens or usage.prompt + usage.completion > context_tokens


NATIVE: Final = Form("/api/chat", "/api/version", _write, _read)
"""What is asked of a ``base_url`` that does not end in ``/v1``."""
