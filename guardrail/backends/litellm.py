"""LiteLLM as classifier, for providers that do not speak OpenAI's API.

LiteLLM takes seconds to import, so this module is imported only where the configuration asks for it.
Needs the extra ``guardrail[litellm]``.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any, Final

from guardrail.backends.judge import JudgeSettings, sendable
from guardrail.backends.judge_requests import json_schema
from guardrail.backends.litellm_library import httpx, litellm
from guardrail.backends.prices import with_cost
from guardrail.backends.retry import AGAIN, Transient, until_sound
from guardrail.core.answer import read_answer
from guardrail.core.conversation import Subject
from guardrail.core.policy import AnswerForm, Policy
from guardrail.core.prompt import prefix, user_message
from guardrail.core.verdict import Usage, Verdict
from guardrail.errors import (
    ClassifierError,
    ClassifierRateLimited,
    ClassifierRejected,
    ClassifierTimeout,
    ClassifierUnavailable,
    FailureCode,
    MalformedVerdict,
)

__all__ = ["LiteLLMClassifier"]

_TRANSIENT: Final = frozenset({408, 409, 425, 498})
_LOST: Final = (httpx.ReadError, httpx.WriteError, httpx.ReadTimeout, httpx.RemoteProtocolError)
_MAY_PASS: Final = (ClassifierTimeout, ClassifierUnavailable, ClassifierRateLimited)


class LiteLLMClassifier:
    """gpt-oss-safeguard through LiteLLM (Bedrock and others). Tries again as the judge over HTTP does."""

    def __init__(self, settings: JudgeSettings) -> None:
        self._settings = settings
        self.name = settings.model
        self.context_tokens = settings.context_tokens or settings.preset.context_tokens

    def identity(self, policy: Policy) -> str:
        """Model and effort, and whether JSON is enforced."""
        enforced = ":json" if self._enforces(policy) else ""
        return f"litellm:{self._settings.model}:{policy.reasoning_effort.value}{enforced}"

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        """Raises ``ClassifierError``."""
        user = sendable(user_message(policy, subject, secrets.token_hex(12)))

        async def ask(budget: int, wrong: FailureCode | None) -> Verdict:
            again = wrong is FailureCode.MALFORMED
            asked = user + AGAIN[policy.answer] if again else user
            enforce = self._enforces(policy) and not again
            return self._read(policy, subject, await self._call(policy, asked, budget, enforce))

        return await until_sound(ask, self._settings.max_tokens, self._settings.max_tries)

    def _enforces(self, policy: Policy) -> bool:
        return self._settings.json_mode and policy.answer is AnswerForm.JSON

    async def _call(self, policy: Policy, user: str, budget: int, enforce: bool) -> Any:
        settings = self._settings
        response_format = json_schema(policy) if enforce else None
        try:
            return await litellm.acompletion(
                model=settings.model,
                messages=[
                    {"role": "system", "content": prefix(policy)},
                    {"role": "user", "content": user},
                ],
                temperature=0,
                max_tokens=budget,
                reasoning_effort=policy.reasoning_effort.value,
                response_format=response_format,
                api_key=settings.api_key or None,
                api_base=settings.base_url or None,
                drop_params=True,
                num_retries=0,  # LiteLLM would also try again what is refused for good
            )
        except Exception as error:
            failure = translated(error)
            if isinstance(failure, _MAY_PASS):
                raise Transient(failure, lost=was_lost(error)) from None
            raise failure from None

    def _read(self, policy: Policy, subject: Subject, answer: Any) -> Verdict:
        try:
            choice = answer.choices[0]
            content, finish = choice.message.content, choice.finish_reason
        except (AttributeError, IndexError):
            raise MalformedVerdict("the judge's answer is no chat completion") from None
        return read_answer(
            policy,
            content,
            finish_reason=finish,
            judged=subject.read_text,
            judge=self._settings.model,
            effort=policy.reasoning_effort,
            usage=self._usage(answer),
        )

    def _usage(self, answer: Any) -> Usage | None:
        usage, prices = _usage(answer), self._settings.prices
        if usage is None or prices is None:
            return usage
        return with_cost(replace(usage, cost_usd=None), prices)


def translated(error: Exception) -> ClassifierError:
    """LiteLLM's exception as ours."""
    name = type(error).__name__
    exceptions = litellm.exceptions
    if isinstance(error, exceptions.Timeout):
        return ClassifierTimeout(f"no answer from the judge ({name})")
    if isinstance(error, exceptions.ContextWindowExceededError):
        return ClassifierRejected("the judge says: too long", code=FailureCode.TOO_LONG)
    if isinstance(error, exceptions.RateLimitError):
        return ClassifierRateLimited("the judge is rate limited")
    status = getattr(error, "status_code", None)
    status = int(status) if isinstance(status, str) and status.isdigit() else status
    if status == 413:
        return ClassifierRejected("the judge says: too long", code=FailureCode.TOO_LONG)
    if isinstance(status, int) and 400 <= status < 500 and status not in _TRANSIENT:
        return ClassifierRejected(f"the judge refuses the call ({name}): check model and api_key")
    if status is not None or isinstance(error, exceptions.APIConnectionError):
        return ClassifierUnavailable(f"no answer from the judge ({name})")
    return ClassifierError(f"the judge's client failed ({name})")


def was_lost(error: Exception) -> bool:
    """Whether the request had been sent when its connection broke or fell silent."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, _LOST):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


def _usage(answer: Any) -> Usage | None:
    usage = getattr(answer, "usage", None)
    if usage is None:
        return None
    details = getattr(usage, "prompt_tokens_details", None)
    cached = getattr(details, "cached_tokens", None)
    cost = getattr(answer, "_hidden_params", {}).get("response_cost")  # by LiteLLM's own price list
    return Usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        cached,
        cost if isinstance(cost, float) and cost else None,
    )
