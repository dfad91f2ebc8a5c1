"""JudgeClassifier: gpt-oss-safeguard behind an HTTP endpoint, OpenAI-compatible or Ollama's own.

One policy per call: the policy is the whole system message, the subject one user message. What is
transient is tried again inside the deadline of the caller's cancel scope; what is permanent is not.
"""

from __future__ import annotations

import logging
import re
import secrets
from dataclasses import dataclass
from typing import Final

import anyio
import orjson

from guardrail.backends.judge_replies import (
    Answer,
    after_analysis,
    least_tokens,
    read_reply,
    refused_field,
    was_cut,
)
from guardrail.backends.judge_requests import CHAT, EFFORT_FIELDS, Question, can_enforce, system_text
from guardrail.backends.network_errors import ConnectFailed, NetworkError
from guardrail.backends.ollama import NATIVE, was_filled
from guardrail.backends.outbound import Outbound, bearer, origin_of
from guardrail.backends.presets import PRESETS, Preset
from guardrail.backends.prices import Prices, with_cost
from guardrail.backends.retry import AGAIN, MAX_TRIES, Transient, until_sound
from guardrail.core.answer import read_answer
from guardrail.core.conversation import Subject
from guardrail.core.policy import Policy
from guardrail.core.prompt import user_message
from guardrail.core.verdict import Usage, Verdict, spent, total
from guardrail.errors import ClassifierError, ClassifierRejected, ClassifierUnavailable, FailureCode

__all__ = ["JudgeClassifier", "JudgeSettings"]

MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
_log: Final = logging.getLogger(__name__)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """Where and how the judge is asked.

    ``max_tokens`` limits reasoning and answer together; ``max_tries`` the calls for one verdict.
    ``json_mode`` lets the server enforce JSON, where its preset has a way. ``context_tokens`` and
    ``prices`` go before the preset's.
    """

    base_url: str
    model: str
    api_key: str = ""
    preset: Preset = PRESETS["generic"]
    max_tokens: int = 2048
    max_concurrent: int = 64
    json_mode: bool = False
    context_tokens: int | None = None
    prices: Prices | None = None
    max_tries: int = MAX_TRIES

    def __repr__(self) -> str:
        return f"JudgeSettings(base_url={self.base_url!r}, model={self.model!r}, api_key=…)"


class JudgeClassifier:
    """A ``Classifier`` over HTTP. The deadline is that of the cancel scope it is called in.

    ``name`` is ``host:port``, for metrics and records; ``context_tokens`` the window that a prompt and its
    answer share. A field that the server refuses is left out from then on. Raises ``ConfigError`` for an
    address or a key that cannot be one.
    """

    def __init__(self, settings: JudgeSettings, outbound: Outbound | None = None) -> None:
        self._settings = settings
        self._preset = settings.preset.at(settings.base_url)
        self.context_tokens = settings.context_tokens or self._preset.context_tokens
        self._prices = settings.prices or self._preset.prices.get(settings.model)
        self._form = NATIVE if self._preset.native else CHAT
        self._without: frozenset[str] = frozenset()
        self._outbound = outbound or Outbound(
            read_timeout_s=120,
            most=settings.max_concurrent,
            resend=False,  # until_sound counts how often a text is sent
        )
        self._origin, self._path = origin_of(settings.base_url, "classifier.base_url")
        host = f"[{self._origin.host}]" if ":" in self._origin.host else self._origin.host
        self.name = f"{host}:{self._origin.port}"
        # identity: nothing here decompresses.
        self._headers = [(b"Content-Type", b"application/json"), (b"Accept-Encoding", b"identity")]
        if authorization := bearer(settings.api_key, "classifier.api_key"):
            self._headers.append((b"Authorization", authorization.encode()))

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        await self._outbound.aclose()

    async def reachable(self) -> bool:
        """Whether the judge's server answers at all, within two seconds."""
        with anyio.move_on_after(2):
            try:
                return (await self._call(self._form.probe, None))[0] < 500
            except Transient:
                pass
        return False

    def identity(self, policy: Policy) -> str:
        """Model and effort, and whether JSON is enforced."""
        enforced = self._settings.json_mode and can_enforce(self._preset, policy)
        return f"judge:{self._settings.model}:{policy.reasoning_effort}{':json' if enforced else ''}"

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        """Ask until there is one sound verdict. Raises ``ClassifierError``."""
        user = sendable(user_message(policy, subject, secrets.token_hex(12)))
        before: list[Usage | None] = []  # what answers cost that were no verdict

        async def ask(budget: int, wrong: FailureCode | None) -> Verdict:
            again = wrong is FailureCode.MALFORMED
            asked = user + AGAIN[policy.answer] if again else user
            answer = await self.ask(policy, asked, budget, json_mode=False if again else None)
            usage = with_cost(answer.usage, self._prices)
            try:
                return self._read(policy, subject, asked, answer, total([*before, usage]))
            except ClassifierError:
                before.append(usage)
                raise

        try:
            return await until_sound(ask, self._settings.max_tokens, self._settings.max_tries)
        except ClassifierError as error:
            error.usage = spent(before)
            raise

    async def ask(self, policy: Policy, user: str, budget: int, *, json_mode: bool | None = None) -> Answer:
        """One call, answered by at most ``budget`` tokens; ``json_mode`` None is the setting's.

        One more for each field that turns out to be refused. Raises ``Transient`` or ``ClassifierError``.
        """
        enforce = self._settings.json_mode if json_mode is None else json_mode
        if self._preset.overflow == "cuts":
            least = least_tokens(user, system_text(self._preset, policy))
            if least > self.context_tokens:
                raise ClassifierRejected(
                    f"longer than the judge's {self.context_tokens} tokens", code=FailureCode.TOO_LONG
                )
        while True:
            question = Question(
                self._preset,
                self._settings.model,
                policy,
                user,
                budget,
                self.context_tokens,
                enforce,
                self._without,
            )
            body = self._form.write(question)
            status, reply, retry_after = await self._call(self._form.path, orjson.dumps(body))
            refused = refused_field(status, reply, body)
            if refused is None:
                return read_reply(status, reply, retry_after, self._form.read)
            if refused not in self._without:
                self._without |= {refused}
                _log.warning("%s refuses %s; asking without it from now on", self.name, refused)

    async def _call(self, path: str, body: bytes | None) -> tuple[int, bytes, str | None]:
        """Status, body and retry-after of one call; without a body it is a GET. Raises ``Transient``."""
        try:
            async with self._outbound.ask(
                self._origin,
                b"GET" if body is None else b"POST",
                (self._path + path).encode(),
                self._headers,
                body or b"",
            ) as answer:
                waits = [value for key, value in answer.headers if key.lower() == b"retry-after"]
                retry_after = waits[0].decode("latin-1") if waits else None
                return answer.status, await answer.read_all(MAX_ANSWER_BYTES), retry_after
        except NetworkError as error:
            failure = ClassifierUnavailable(f"no answer from the judge ({type(error).__name__})")
            raise Transient(failure, lost=not isinstance(error, ConnectFailed)) from None

    def _read(
        self, policy: Policy, subject: Subject, user: str, answer: Answer, usage: Usage | None
    ) -> Verdict:
        read = answer.usage
        if read is not None and self._overran(read, user, system_text(self._preset, policy)):
            raise ClassifierRejected(
                f"the judge read {read.prompt} tokens of a much longer prompt; "
                "give its server a larger context",
                code=FailureCode.TRUNCATED,
            )
        inline = self._preset.inline_reasoning
        return read_answer(
            policy,
            after_analysis(answer.content) if inline else answer.content,
            finish_reason=answer.finish_reason,
            judged=subject.read_text,
            judge=self._settings.model,
            effort=None if self._without & EFFORT_FIELDS else policy.reasoning_effort,
            usage=usage,
        )

    def _overran(self, usage: Usage, user: str, system: str) -> bool:
        filled = self._preset.native and was_filled(usage, self.context_tokens)
        return filled or was_cut(user, usage.prompt, system)


def sendable(text: str) -> str:
    """``text`` with each lone surrogate, which UTF-8 cannot carry, as U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
