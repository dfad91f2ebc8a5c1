"""LiteLLM as upstream and as classifier, for providers that do not speak OpenAI's API.

LiteLLM takes seconds to import, so this module is imported only where the configuration asks for it.
Needs the extra ``guardrail[litellm]``.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

import orjson

from guardrail.backends.judge import JudgeSettings, sendable
from guardrail.backends.judge_requests import json_schema
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
    ConfigError,
    FailureCode,
    MalformedVerdict,
    UpstreamLost,
)
from guardrail.wire import sse
from guardrail.wire.replies import EVENT_STREAM, JSON, UNREADABLE, openai_error

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else the import fetches a price list
try:
    import httpx
    import litellm
except ImportError:
    raise ConfigError(
        "kind litellm needs LiteLLM: install it with pip install 'guardrail[litellm]'"
    ) from None

litellm.suppress_debug_info = True  # else it prints advice to stdout at every error

__all__ = ["LiteLLMClassifier", "LiteLLMUpstream"]

# The fields of OpenAI's chat API that go on to LiteLLM. No others do: to LiteLLM, a field of the body
# is an argument of a function that takes keys, addresses and headers, a list of other deployments
# (fallbacks, model_list), a made-up answer (mock_response), or messages that nobody has judged
# (extra_body, prompt_id).
_FIELDS: Final = (
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens "
    "messages modalities model n parallel_tool_calls prediction presence_penalty prompt_cache_key "
    "reasoning_effort response_format safety_identifier seed service_tier stop stream stream_options "
    "temperature thinking tool_choice tools top_logprobs top_p user verbosity web_search_options"
)
_PASSED: Final = frozenset(_FIELDS.split())
_CHAT: Final = "/chat/completions"
_TRANSIENT: Final = frozenset({408, 409, 425, 498})
_LOST: Final = (httpx.ReadError, httpx.WriteError, httpx.ReadTimeout, httpx.RemoteProtocolError)
_MAY_PASS: Final = (ClassifierTimeout, ClassifierUnavailable, ClassifierRateLimited)


class LiteLLMUpstream:
    """An ASGI app that answers chat completions through LiteLLM.

    ``arguments`` go into every call. Fields of the body that OpenAI's chat API does not know are dropped.
    """

    def __init__(self, api_key: str, base_url: str, arguments: dict[str, Any]) -> None:
        self._arguments: dict[str, Any] = {"drop_params": True, "num_retries": 0} | arguments
        if api_key:
            self._arguments["api_key"] = api_key
        if base_url:
            self._arguments["api_base"] = base_url

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI entry. Any other route than the chat route is 404."""
        if scope["method"] != "POST" or not scope["path"].rstrip("/").endswith(_CHAT):
            reply = openai_error(404, "not_found", "through LiteLLM there are chat completions only")
            await _respond(send, reply.status, reply.headers, reply.body)
            return
        body = await _json_body(receive)
        call = {k: v for k, v in body.items() if k in _PASSED} | self._arguments
        if "model" not in self._arguments and "://" in str(call.get("model")):
            # Some providers of LiteLLM take their address from the model's name (oobabooga, huggingface).
            reply = openai_error(UNREADABLE, "invalid_request_error", "model holds an address", "model")
            await _respond(send, reply.status, reply.headers, reply.body)
            return
        try:
            answer = await litellm.acompletion(**call)
        except Exception as error:
            status = getattr(error, "status_code", 502)
            if not isinstance(error, litellm.exceptions.OpenAIError) and status == 502:
                raise UpstreamLost(f"LiteLLM failed ({type(error).__name__})") from None
            kind = type(error).__name__
            reply = openai_error(int(status), "upstream_error", f"the provider answered {kind}")
            await _respond(send, reply.status, reply.headers, reply.body)
            return
        if not body.get("stream"):
            await _respond(send, 200, (JSON,), orjson.dumps(answer.model_dump(exclude_none=True)))
            return
        await send({"type": "http.response.start", "status": 200, "headers": [EVENT_STREAM]})
        try:
            async for chunk in _chunks(answer):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Exception as error:
            raise UpstreamLost(f"LiteLLM's stream broke off ({type(error).__name__})") from None
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def _chunks(answer: Any) -> AsyncIterator[bytes]:
    async for chunk in answer:
        yield sse.encode(orjson.dumps(chunk.model_dump(exclude_none=True)))


async def _json_body(receive: Any) -> dict[str, Any]:
    message = await receive()
    body: dict[str, Any] = orjson.loads(message["body"])
    return body


async def _respond(send: Any, status: int, headers: Any, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


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
        verdict = read_answer(policy, content, finish_reason=finish, judged=subject.read_text)
        return replace(
            verdict,
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
