"""What a judge's server answers, sorted: an answer, transient, too long, or refused for good."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
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

__all__ = [
    "Answer",
    "after_analysis",
    "chat_answer",
    "least_tokens",
    "read_reply",
    "refused_field",
    "text_of",
    "was_cut",
]

MAX_CHARS_PER_TOKEN: Final = 10.0  # of text without blanks: base64 has 1.3, Chinese 1 to 2
LONG_WORD: Final = 40  # characters
_TRUNCATION_MATTERS: Final = 4_000  # characters; no server's window is smaller than this
_BLANKS: Final = b" \t\n\r\v\f\x1c\x1d\x1e\x1f"  # where str.split() parts ASCII
_RUN: Final = re.compile(r"(.)\1{3,}", re.DOTALL)
_CONTEXT: Final = re.compile(
    r"context.{0,40}(?:length|size|window)|exceed_context|request too large|too many tokens",
    re.IGNORECASE | re.DOTALL,
)
_TRANSIENT: Final = frozenset({408, 409, 425, 429, 498})
_FORBIDDEN: Final = frozenset({401, 402, 403, 404})  # whatever the message says
_UNKNOWN_FIELD: Final = re.compile(
    r"unsupported|unrecogni[sz]ed|unknown|unexpected|(?:not|n't) support|extra (?:inputs|fields)|"
    r"not (?:permitted|allowed)",
    re.IGNORECASE,
)
_OFTEN_REFUSED: Final = {
    "reasoning_effort": "reasoning_effort",
    "reasoning": r"reasoning(?:\.effort)?",
    "chat_template_kwargs": "chat_template_kwargs",
    "think": "think(?:ing)?",
    "response_format": "response_format",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_completion_tokens",
    "temperature": "temperature",
    "session_id": "session_id",
}
_MAX_MESSAGE: Final = 600  # characters of an error that are looked at: some quote the whole request
_ANALYSIS: Final = re.compile(r"\s*analysis.*assistantfinal", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back of one call: the final channel, how it ended, and the tokens as reported.

    ``reasoning`` is for audit only, never the verdict and never for end users. ``model`` is the name
    that the server gives itself, "" where it gives none.
    """

    content: str | None = field(repr=False)
    finish_reason: str | None
    usage: Usage | None
    reasoning: str = field(default="", repr=False)
    model: str = ""


def read_reply(
    status: int,
    body: bytes,
    retry_after: str | None,
    read: Callable[[Any], Answer] | None = None,
) -> Answer:
    """One HTTP reply as an answer; ``read`` takes apart the JSON of a good one (OpenAI's by default).

    Raises ``Transient`` or ``ClassifierError``.
    """
    value = _json(body)
    inner = _error_in(value)
    if status == 200 and inner:  # OpenRouter, once generation has begun; LM Studio
        status = _code_of(inner)
    if status != 200:
        return _failed(status, inner or value, retry_after)
    return (read or chat_answer)(value)


def refused_field(status: int, body: bytes, sent: Iterable[str]) -> str | None:
    """The field of ``sent`` that the server says it does not take, if that is why it refuses the call.

    A field whose value alone is wrong is not meant.
    """
    if status not in (400, 422):
        return None
    value = _json(body)
    details = _details(_error_in(value) or value)
    text = _message(details)[:_MAX_MESSAGE]
    if _CONTEXT.search(text) or not _UNKNOWN_FIELD.search(text):
        return None
    for name in sent:
        if name in _OFTEN_REFUSED and re.search(rf"(?<!\w){_OFTEN_REFUSED[name]}(?!\w)", text):
            return name
    return None


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _error_in(value: Any) -> Any:
    """The error of a body: its own, or its first choice's (OpenRouter)."""
    if not isinstance(value, dict):
        return None
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return value.get("error") or (choice.get("error") if isinstance(choice, dict) else None)


def _details(error: Any) -> dict[str, Any]:
    """``error`` is the body's error object, or a bare message, or the whole body (SGLang, older vLLM)."""
    return error if isinstance(error, dict) else {"message": error}


def _message(details: dict[str, Any]) -> str:
    """What it says in words; ``detail`` is FastAPI's (transformers)."""
    return " ".join(
        str(details[key]) for key in ("param", "type", "code", "message", "detail") if details.get(key)
    )


def _code_of(error: Any) -> int:
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and code >= 400 else 502


def _failed(status: int, error: Any, retry_after: str | None) -> Answer:
    """Sort a failed call: an answer after all, transient, too long, or refused for good."""
    details = _details(error)
    if details.get("code") == "json_validate_failed":  # Groq: the model's output, not our request
        generation = details.get("failed_generation")
        return Answer(generation if isinstance(generation, str) else None, None, None)
    if status == 413 or (status not in _FORBIDDEN and _CONTEXT.search(_message(details))):
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


def chat_answer(value: Any) -> Answer:
    """A chat completion as an answer. Raises ``MalformedVerdict`` for what is none."""
    try:
        choice = value["choices"][0]
        message = choice["message"]
        content = message.get("content")
        finish = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise MalformedVerdict("the judge's answer is no chat completion") from None
    if content is not None and not isinstance(content, str):
        raise MalformedVerdict("the judge's content is no string")
    return Answer(
        content, finish, _usage(value), reasoning=_reasoning(message), model=text_of(value.get("model"))
    )


def text_of(value: Any) -> str:
    """``value`` where it is a text, else nothing."""
    return value if isinstance(value, str) else ""


def _reasoning(message: dict[str, Any]) -> str:
    """vLLM, Groq, LM Studio: ``reasoning``; llama.cpp, SGLang: ``reasoning_content``; OpenRouter: parts."""
    said = text_of(message.get("reasoning")) or text_of(message.get("reasoning_content"))
    parts = message.get("reasoning_details")
    if said or not isinstance(parts, list):
        return said
    return "".join(text_of(part.get("text")) for part in parts if isinstance(part, dict))


def _usage(value: dict[str, Any]) -> Usage | None:
    usage = value.get("usage")
    if not isinstance(usage, dict) or not isinstance(usage.get("prompt_tokens"), int):
        return None
    completion, cost = usage.get("completion_tokens"), usage.get("cost")
    return Usage(
        usage["prompt_tokens"],
        completion if isinstance(completion, int) else 0,
        _cached(value, usage),
        # OpenRouter, in US dollars.
        cost if isinstance(cost, int | float) and isfinite(cost) and cost >= 0 else None,
    )


def _cached(value: dict[str, Any], usage: dict[str, Any]) -> int | None:
    """OpenAI's place for it, DeepSeek's (some gateways), llama.cpp's; what is not said is unknown."""
    details, timings = usage.get("prompt_tokens_details"), value.get("timings")
    places = (
        details.get("cached_tokens") if isinstance(details, dict) else None,
        usage.get("prompt_cache_hit_tokens"),
        timings.get("cache_n") if isinstance(timings, dict) else None,
    )
    return next((count for count in places if isinstance(count, int)), None)


def after_analysis(content: str | None) -> str | None:
    """``content`` of Hugging Face's server, ``analysis…assistantfinal…``, without the reasoning in it.

    The reasoning may quote the judged text, so where the end of it could be two places nothing is taken
    away, and what is left is no verdict.
    """
    if not content or content.count("assistantfinal") != 1:
        return content
    analysis = _ANALYSIS.match(content)
    return content[analysis.end() :] if analysis else content


def least_tokens(user: str, system: str = "") -> float:
    """A lower bound of the tokens of a user message behind a system message; 0 for short ones.

    No token of o200k spans two words, and a long word (a run of signs aside) makes several.
    """
    if len(system) + len(user) < _TRUNCATION_MATTERS:
        return 0
    return _least_known(system) + _least(user)


def _least(text: str) -> float:
    words = text.split()
    if max(map(len, words), default=0) <= LONG_WORD:  # as nearly every prompt: this is on the hot path
        return len(words)
    least = 0.0
    for word in words:
        least += 1 if len(word) <= LONG_WORD else len(_RUN.sub(r"\1\1\1\1", word)) / MAX_CHARS_PER_TOKEN
    return least


_least_known: Final = lru_cache(maxsize=256)(_least)  # of a system message: one for each policy


def was_cut(user: str, prompt_tokens: int, system: str = "") -> bool:
    """Whether the server read far fewer tokens than were sent (Ollama's ``/v1`` cuts without a word)."""
    if prompt_tokens <= 0 or len(system) + len(user) < _TRUNCATION_MATTERS:
        return False
    most = _least_known(system) + _most(user)
    return prompt_tokens < most and prompt_tokens < least_tokens(user, system)


def _most(text: str) -> float:
    """No less than ``_least(text)``, without a look at each word."""
    if not text.isascii():
        return len(text)
    blanks = len(text) - len(text.encode().translate(None, _BLANKS))
    return blanks + 1 + len(text) / MAX_CHARS_PER_TOKEN
