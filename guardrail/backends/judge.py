"""JudgeClassifier: gpt-oss-safeguard behind an OpenAI-compatible HTTP endpoint.

One policy per call: the policy is the whole system message, the subject one user message. What is
transient is tried again inside the deadline of the caller's cancel scope; what is permanent is not.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import anyio
import orjson

from guardrail.backends.outbound import NETWORK_ERRORS, Outbound, bearer, upload
from guardrail.backends.presets import PRESETS, Preset
from guardrail.core.answer import read_answer
from guardrail.core.conversation import Subject
from guardrail.core.policy import Policy
from guardrail.core.prompt import prefix, user_message
from guardrail.core.verdict import Usage, Verdict
from guardrail.errors import (
    ClassifierError,
    ClassifierRateLimited,
    ClassifierRejected,
    ClassifierUnavailable,
    ConfigError,
    FailureCode,
    MalformedVerdict,
)

__all__ = ["JudgeClassifier", "JudgeSettings"]

MAX_TRIES: Final = 4  # calls for one verdict, the second reading of a malformed answer included
FIRST_PAUSE_S: Final = 0.1
MAX_CHARS_PER_TOKEN: Final = 10.0  # of text without blanks: base64 has 1.3, Chinese 1 to 2
LONG_WORD: Final = 40  # characters
_TRUNCATION_MATTERS: Final = 4_000  # characters; no server's window is smaller than this
_RUN: Final = re.compile(r"(.)\1{3,}", re.DOTALL)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_CONTEXT: Final = re.compile(
    r"context.{0,40}(?:length|size|window)|exceed_context|request too large|too many tokens",
    re.IGNORECASE | re.DOTALL,
)
_TRANSIENT: Final = frozenset({408, 409, 425, 429, 498})


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """Where and how the judge is asked. ``max_tokens`` limits reasoning and answer together."""

    base_url: str
    model: str
    api_key: str = ""
    preset: Preset = PRESETS["generic"]
    max_tokens: int = 2048
    max_concurrent: int = 64

    def __repr__(self) -> str:
        return f"JudgeSettings(base_url={self.base_url!r}, model={self.model!r}, api_key=…)"


@dataclass(frozen=True, slots=True)
class _Answer:
    content: str | None
    finish_reason: str | None
    usage: Usage | None


class Transient(Exception):
    """One call failed in a way that another may not; ``error`` is raised when no time is left."""

    def __init__(self, error: ClassifierError, retry_after_s: float | None = None) -> None:
        self.error = error
        self.retry_after_s = retry_after_s


async def until_sound(ask: Callable[[int], Awaitable[Verdict]], budget: int) -> Verdict:
    """Call ``ask`` with a budget of tokens until there is one sound verdict, inside the deadline.

    A malformed answer is asked for once more, with twice the budget if it was cut by it; what raised
    ``Transient`` is tried again after a pause. Raises ``ClassifierError``.
    """
    read_again = True
    pause = FIRST_PAUSE_S
    for attempt in range(1, MAX_TRIES + 1):
        try:
            return await ask(budget)
        except MalformedVerdict as error:
            if not read_again or attempt == MAX_TRIES:
                raise
            read_again = False
            if error.code is FailureCode.TRUNCATED:
                budget *= 2
        except Transient as failed:
            wait = failed.retry_after_s if failed.retry_after_s is not None else pause
            if attempt == MAX_TRIES or not _time_for(wait):
                raise failed.error from None
            pause *= 2
            await anyio.sleep(wait)
    raise AssertionError("unreachable: the last try raises")


class JudgeClassifier:
    """A ``Classifier`` over HTTP. The deadline is that of the cancel scope it is called in.

    Raises ``ConfigError`` for an address or a key that cannot be one.
    """

    def __init__(self, settings: JudgeSettings, outbound: Outbound | None = None) -> None:
        if not settings.base_url.startswith(("http://", "https://")):
            raise ConfigError("classifier.base_url: must begin with http:// or https://")
        self._settings = settings
        self._outbound = outbound or Outbound(read_timeout_s=120, most=settings.max_concurrent)
        self._url = settings.base_url.rstrip("/") + "/chat/completions"
        # identity: the session does not decompress.
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if authorization := bearer(settings.api_key, "classifier.api_key"):
            self._headers["Authorization"] = authorization

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        await self._outbound.aclose()

    async def reachable(self) -> bool:
        """Whether the judge's server answers at all, within two seconds."""
        url = self._settings.base_url.rstrip("/") + "/models"
        with anyio.move_on_after(2):
            try:
                async with self._outbound.session().get(url, headers=self._headers) as response:
                    return response.status < 500
            except NETWORK_ERRORS:
                pass
        return False

    def identity(self, policy: Policy) -> str:
        """Model and effort."""
        return f"judge:{self._settings.model}:{policy.reasoning_effort.value}"

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        """Ask until there is one sound verdict. Raises ``ClassifierError``."""
        user = sendable(user_message(policy, subject, secrets.token_hex(12)))

        async def ask(budget: int) -> Verdict:
            return self._read(policy, subject, user, await self._call(policy, user, budget))

        return await until_sound(ask, self._settings.max_tokens)

    def _read(self, policy: Policy, subject: Subject, user: str, answer: _Answer) -> Verdict:
        usage = answer.usage
        if usage is not None and _was_cut(prefix(policy) + user, usage.prompt):
            raise ClassifierRejected(
                f"the judge read {usage.prompt} tokens of a much longer prompt; "
                "give its server a larger context",
                code=FailureCode.TRUNCATED,
            )
        verdict = read_answer(
            policy, answer.content, finish_reason=answer.finish_reason, judged=subject.read_text
        )
        return replace(verdict, judge=self._settings.model, usage=usage)

    def _payload(self, policy: Policy, user: str, budget: int) -> bytes:
        settings, preset = self._settings, self._settings.preset
        effort = policy.reasoning_effort.value
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": [
                {"role": "system", "content": prefix(policy)},
                {"role": "user", "content": user},
            ],
            "temperature": 0,
            preset.tokens: budget,
            "stream": False,
        }
        if preset.effort == "reasoning.effort":
            body["reasoning"] = {"effort": effort}
        else:
            body["reasoning_effort"] = effort
        if preset.cache_key:
            body[preset.cache_key] = f"{policy.id}-{policy.revision[:16]}"
        return orjson.dumps(body | dict(preset.extra))

    async def _call(self, policy: Policy, user: str, budget: int) -> _Answer:
        try:
            async with self._outbound.session().post(
                self._url,
                data=upload(self._payload(policy, user, budget)),
                headers=self._headers,
                allow_redirects=False,
            ) as response:
                body = await response.read()
                status, retry = response.status, response.headers.get("retry-after")
        except NETWORK_ERRORS as error:
            raise Transient(
                ClassifierUnavailable(f"no answer from the judge ({type(error).__name__})")
            ) from None
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            value = None
        inner = _error_in(value)
        if status == 200 and inner:  # OpenRouter, once generation has begun
            status = _code_of(inner)
        if status != 200:
            return _failed(status, inner or value, retry)
        return _answer(value)


def sendable(text: str) -> str:
    """``text`` with each lone surrogate, which UTF-8 cannot carry, as U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _time_for(wait_s: float) -> bool:
    """Whether a pause of ``wait_s`` seconds leaves time before the deadline."""
    return anyio.current_effective_deadline() - anyio.current_time() > wait_s


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


def _failed(status: int, error: Any, retry_after: str | None) -> _Answer:
    """Sort a failed call: an answer after all, transient, too long, or refused for good.

    ``error`` is the body's error object, or a bare message, or the whole body (SGLang, older vLLM).
    """
    details = error if isinstance(error, dict) else {"message": error}
    text = str(details.get("message", "")) + str(details.get("type", ""))
    if details.get("code") == "json_validate_failed":  # Groq: the model's output, not our request
        generation = details.get("failed_generation")
        return _Answer(generation if isinstance(generation, str) else None, None, None)
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


def _answer(value: Any) -> _Answer:
    try:
        choice = value["choices"][0]
        content = choice["message"].get("content")
        finish = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise MalformedVerdict("the judge's answer is no chat completion") from None
    if content is not None and not isinstance(content, str):
        raise MalformedVerdict("the judge's content is no string")
    return _Answer(content, finish, _usage(value.get("usage")))


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


def _was_cut(prompt: str, prompt_tokens: int) -> bool:
    """Whether the server read far fewer tokens than were sent (Ollama cuts without a word).

    No token of o200k spans two words, and a long word (a run of signs aside) makes several.
    """
    if prompt_tokens <= 0 or len(prompt) < _TRUNCATION_MATTERS:
        return False
    least = 0.0
    for word in prompt.split():
        least += 1 if len(word) <= LONG_WORD else len(_RUN.sub(r"\1\1\1\1", word)) / MAX_CHARS_PER_TOKEN
    return prompt_tokens < least
