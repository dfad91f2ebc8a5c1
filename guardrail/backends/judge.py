"""JudgeClassifier: gpt-oss-safeguard behind an OpenAI-compatible HTTP endpoint.

One policy per call: the policy is the whole system message, the subject one user message. What is
transient is tried again inside the deadline of the caller's cancel scope; what is permanent is not.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from typing import Any, Final

import anyio
import orjson

from guardrail.backends.judge_replies import Answer, read_reply, was_cut
from guardrail.backends.outbound import NETWORK_ERRORS, Outbound, bearer, upload
from guardrail.backends.presets import PRESETS, Preset
from guardrail.backends.retry import Transient, until_sound
from guardrail.core.answer import read_answer
from guardrail.core.conversation import Subject
from guardrail.core.policy import Policy
from guardrail.core.prompt import prefix, user_message
from guardrail.core.verdict import Verdict
from guardrail.errors import (
    ClassifierRejected,
    ClassifierUnavailable,
    ConfigError,
    FailureCode,
)

__all__ = ["JudgeClassifier", "JudgeSettings"]

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


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
            return self._read(policy, subject, user, await self.ask(policy, user, budget))

        return await until_sound(ask, self._settings.max_tokens)

    def _read(self, policy: Policy, subject: Subject, user: str, answer: Answer) -> Verdict:
        usage = answer.usage
        if usage is not None and was_cut(prefix(policy) + user, usage.prompt):
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

    async def ask(self, policy: Policy, user: str, budget: int) -> Answer:
        """One call; at most ``budget`` tokens answer it. Raises ``Transient`` or ``ClassifierError``."""
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
        return read_reply(status, body, retry)


def sendable(text: str) -> str:
    """``text`` with each lone surrogate, which UTF-8 cannot carry, as U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
