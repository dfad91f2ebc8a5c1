"""JudgeSimulator: answers like a server of gpt-oss-safeguard, by rules instead of by reading.

What differs between servers is taken from ``guardrail.backends.presets`` and docs/judge-servers.md: the
shape of an answer, what is told about the cache, what becomes of a prompt that is too long, how many calls
run at once. Tokens are counted as a quarter of the bytes of UTF-8.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, NamedTuple

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from guardrail.backends.presets import PRESETS
from guardrail.simulator.profile import completion_tokens, latency_s, odd_answer

__all__ = ["Call", "JudgeSimulator", "Rule", "classified"]

_SAFE: Final = '{"violation": 0, "label": null}'
_JUDGED: Final = re.compile(
    r"^=== (\w+) [^\n]*: classify this ===\n(.*?)\n(?=^=== \1 )", re.DOTALL | re.MULTILINE
)
_GRAIN: Final = {"groq": 256, "openrouter": 256, "vllm": 16}  # tokens; others cache to the token
_REASONING: Final = {"llamacpp": "reasoning_content", "sglang": "reasoning_content"}
_PREFIXES: Final = 256  # remembered by a server, least recently used out first


class Rule(NamedTuple):
    """``answer`` is what the judge says about a text in which ``contains`` stands."""

    contains: str
    answer: str


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it was counted. ``status`` is the answer's; tokens are 0 where it is an error."""

    effort: str
    status: int
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class JudgeSimulator:
    """An ASGI app. ``rules`` are tried in order on the text to be classified; without a hit it passes.

    ``speed`` 0 answers at once, 1 as slowly as was measured. ``odd_share`` of the answers come in an odd
    form. ``slots`` calls run at once, more wait; ``most_at_once`` tells how many did. ``seed`` makes the
    draws the same in each run.
    """

    def __init__(
        self,
        preset: str = "vllm",
        *,
        rules: Sequence[Rule] = (),
        default: str = _SAFE,
        context_tokens: int | None = None,
        odd_share: float = 0.0,
        speed: float = 0.0,
        slots: int = 64,
        seed: int = 0,
        tells_cached: bool = True,
        honours_effort: bool = True,
    ) -> None:
        self._preset = PRESETS[preset]
        self._rules = tuple(rules)
        self._default = default
        self._window = context_tokens
        self._odd_share = odd_share
        self._speed = speed
        self._limit = anyio.Semaphore(slots)
        self._random = Random(seed)  # noqa: S311 - a simulation
        self._tells_cached = tells_cached and self._preset.cached_tokens in ("always", "flag")
        self._honours_effort = honours_effort and self._preset.effort != "line"
        self._cache: OrderedDict[str, None] = OrderedDict()
        self._running = 0
        self.most_at_once = 0
        self.calls: list[Call] = []
        self._app = Starlette(
            routes=[
                Route("/v1/models", _models),
                Route("/api/version", _models),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/api/chat", self._native, methods=["POST"]),
            ]
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI entry."""
        await self._app(scope, receive, send)

    async def _chat(self, request: Request) -> JSONResponse:
        body = await request.json()
        preset = self._preset.v1 or self._preset
        window = self._window or preset.context_tokens
        effort = str(
            body.get("reasoning_effort")
            or (body.get("reasoning") or {}).get("effort")
            or (body.get("chat_template_kwargs") or {}).get("reasoning_effort")
            or "medium"
        )
        most = int(body.get("max_completion_tokens") or body.get("max_tokens") or 4096)
        answer = await self._answer(body["messages"], effort, most, window, cuts=preset.overflow == "cuts")
        if answer is None:
            return self._too_long(window)
        text, call, finish = answer
        message: dict[str, Any] = {"role": "assistant", "content": text or None}
        message[_REASONING.get(self._preset.name, "reasoning")] = "thinking " * 8
        usage: dict[str, Any] = {
            "prompt_tokens": call.prompt_tokens,
            "completion_tokens": call.completion_tokens,
            "total_tokens": call.prompt_tokens + call.completion_tokens,
        }
        if self._tells_cached:
            usage["prompt_tokens_details"] = {"cached_tokens": call.cached_tokens}
        if self._preset.name == "openrouter":
            usage["cost"] = (call.prompt_tokens * 0.075 + call.completion_tokens * 0.3) / 1e6
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return JSONResponse(
            {
                "id": "sim-1",
                "object": "chat.completion",
                "model": "simulated",
                "choices": [choice],
                "usage": usage,
            }
        )

    async def _native(self, request: Request) -> JSONResponse:
        """Ollama's own API, which can be told not to cut."""
        body = await request.json()
        options = body.get("options") or {}
        window = self._window or int(options.get("num_ctx") or self._preset.context_tokens)
        answer = await self._answer(
            body["messages"],
            str(body.get("think") or "medium"),
            int(options.get("num_predict") or 4096),
            window,
            cuts=body.get("truncate", True),
        )
        if answer is None:
            return self._too_long(window)
        text, call, finish = answer
        return JSONResponse(
            {
                "model": "simulated",
                "message": {"role": "assistant", "content": text, "thinking": "thinking " * 8},
                "done": True,
                "done_reason": finish,
                "prompt_eval_count": call.prompt_tokens,
                "eval_count": call.completion_tokens,
            }
        )

    async def _answer(
        self, messages: list[dict[str, str]], effort: str, most: int, window: int, *, cuts: bool
    ) -> tuple[str, Call, str] | None:
        """Text, count and finish reason; None where the prompt is too long and nothing is cut."""
        async with self._limit:
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
            try:
                return await self._read(messages, effort, most, window, cuts=cuts)
            finally:
                self._running -= 1

    async def _read(
        self, messages: list[dict[str, str]], effort: str, most: int, window: int, *, cuts: bool
    ) -> tuple[str, Call, str] | None:
        system, user = messages[0]["content"], messages[-1]["content"]
        asked = _tokens(system) + _tokens(user)
        effort = effort if self._honours_effort else "low"
        if asked > window and not cuts:
            self.calls.append(Call(effort, 400))
            return None
        if asked > window:  # half a window of the end is kept: the policy is gone
            system, user, asked = "", user[-window * 2 :], window // 2
        cached = self._cached(f"{effort}\n{system}", asked)
        tokens = completion_tokens(self._random, effort)
        if self._speed:
            await anyio.sleep(latency_s(self._random, tokens, cached=cached > 0) * self._speed)
        text, finish = self._said(user if system else ""), "stop"
        if tokens > most:
            text, tokens, finish = "", most, "length"
        elif self._random.random() < self._odd_share:
            text = odd_answer(self._random, text)
        call = Call(effort, 200, asked, cached, tokens)
        self.calls.append(call)
        return text, call, finish

    def _said(self, user: str) -> str:
        judged = classified(user)
        return next((rule.answer for rule in self._rules if rule.contains in judged), self._default)

    def _cached(self, prefix: str, asked: int) -> int:
        """How many tokens of this prefix are in the cache; it is afterwards."""
        known = prefix in self._cache
        self._cache[prefix] = None
        self._cache.move_to_end(prefix)
        while len(self._cache) > _PREFIXES:
            self._cache.popitem(last=False)
        grain = _GRAIN.get(self._preset.name, 1)
        return min(asked, _tokens(prefix)) // grain * grain if known else 0

    def _too_long(self, window: int) -> JSONResponse:
        error: dict[str, Any] = {
            "message": f"This model's maximum context length is {window} tokens.",
            "type": "invalid_request_error",
        }
        if self._preset.name == "llamacpp":
            error = {
                "code": 400,
                "type": "exceed_context_size_error",
                "message": f"the request exceeds the available context size ({window} tokens)",
                "n_ctx": window,
            }
        return JSONResponse({"error": error}, status_code=413 if self._preset.name == "groq" else 400)


def classified(message: str) -> str:
    """What a judge's user message asks to classify, without the context and what has left already."""
    return "\n".join(text for _, text in _JUDGED.findall(message))


def _tokens(text: str) -> int:
    return len(text.encode("utf-8", "replace")) // 4 + 1


async def _models(request: Request) -> JSONResponse:
    return JSONResponse({"object": "list", "data": [{"id": "simulated"}], "version": "simulated"})
