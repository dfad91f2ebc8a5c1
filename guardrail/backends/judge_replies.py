"""What a judge's server answers, sorted: an answer, transient, too long, or refused for good."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import orjson

from guardrail.backends.retry import Transient
from guardrail.core.verdict import Usage
from guardrail.errors import (
    ClassifierRateLimited,
    ClassifierRejected,
    ClassifierUnavailable,
    FailureCode,
    MalformedVerdict,
)

__all__ = ["Answer", "read_reply", "was_cut"]

MAX_CHARS_PER_TOKEN: Final = 10.0  # of text without blanks: base64 has 1.3, Chinese 1 to 2
LONG_WORD: Final = 40  # characters
_TRUNCATION_MATTERS: Final = 4_000  # characters; no server's window is smaller than this
_RUN: Final = re.compile(r"(.)\1{3,}", re.DOTALL)
_CONTEXT: Final = re.compile(
    r"context.{0,40}(?:length|size|window)|exceed_context|request too large|too many tokens",
    re.IGNORECASE | re.DOTALL,
)
_TRANSIENT: Final = frozenset({408, 409, 425, 429, 498})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back of one call: the final channel, how it ended, and the tokens as reported."""

    content: str | None
    finish_reason: str | None
    usage: Usage | None


def read_reply(status: int, body: bytes, retry_after: str | None) -> Answer:
    """One HTTP reply as an answer. Raises ``Transient`` or ``ClassifierError``."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    inner = _error_in(value)
    if status == 200 and inner:  # OpenRouter, once generation has begun
        status = _code_of(inner)
    if status != 200:
        return _failed(status, inner or value, retry_after)
    return _answer(value)


def _error_in(value: Any) -> Any:
    """The error of a body: its own, or its first choice's (OpenRouter)."""
    if not isinstance(value, dict):
        return None
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return value.get("error") or (choice.get("error") if isinstance(choice, dict) else None)


def _code_of(error: Any) -> int:
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and code >= 400 else 502


def _failed(status: int, error: Any, retry_after: str | None) -> Answer:
    """Sort a failed call: an answer after all, transient, too long, or refused for good.

    ``error`` is the body's error object, or a bare message, or the whole body (SGLang, older vLLM).
    """
    details = error if isinstance(error, dict) else {"message": error}
    text = str(details.get("message", "")) + str(details.get("type", ""))
    if details.get("code") == "json_validate_failed":  # Groq: the model's output, not our request
        generation = details.get("failed_generation")
        return Answer(generation if isinstance(generation, str) else None, None, None)
    if status in (400, 413, 422, 429) and (status == 413 or _CONTEXT.search(text)):
        raise ClassifierRejected(f"the judge says {status}: too long", code=FailureCode.TOO_LONG)
    if status == 429:
        error_429 = ClassifierRateLimited("the judge says 429: rate limited")
        raise Transient(error_429, _seconds(retry_after))
    if status in _TRANSIENT or status >= 500:
        failure = ClassifierUnavailable(f"the judge says {status}")
        raise Transient(failure, _seconds(retry_after))
    raise ClassifierRejected(f"the judge says {status}: check classifier.base_url, model and api_key")


def _seconds(retry_after: str | None) -> float | None:
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        return None


def _answer(value: Any) -> Answer:
    try:
        choice = value["choices"][0]
        content = choice["message"].get("content")
        finish = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise MalformedVerdict("the judge's answer is no chat completion") from None
    if content is not None and not isinstance(content, str):
        raise MalformedVerdict("the judge's content is no string")
    return Answer(content, finish, _usage(value.get("usage")))


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict) or not isinstance(usage.get("prompt_tokens"), int):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    completion = usage.get("completion_tokens")
    return Usage(
        usage["prompt_tokens"],
        completion if isinstance(completion, int) else 0,
        cached if isinstance(cached, int) else None,
    )


def was_cut(prompt: str, prompt_tokens: int) -> bool:
    """Whether the server read far fewer tokens than were sent (Ollama cuts without a word).

    No token of o200k spans two words, and a long word (a run of signs aside) makes several.
    """
    if prompt_tokens <= 0 or len(prompt) < _TRUNCATION_MATTERS:
        return False
    least = 0.0
    for word in prompt.split():
        least += 1 if len(word) <= LONG_WORD else len(_RUN.sub(r"\1\1\1\1", word)) / MAX_CHARS_PER_TOKEN
    return prompt_tokens < least
