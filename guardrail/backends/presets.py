"""What differs between the servers that run gpt-oss-safeguard.

Every field was read in the server's source or documentation, or seen with the server itself; the
sources stand in the entry and, with the rest, in ``docs/judge-servers.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from guardrail.backends.prices import Prices

__all__ = ["PRESETS", "Preset"]

_MODEL_WINDOW: Final = 131_072  # tokens; what gpt-oss-safeguard was trained for
_SMALLEST_HOSTED: Final = 32_768  # tokens; Featherless, the smallest window among known hosts
_20B: Final = "openai/gpt-oss-safeguard-20b"


@dataclass(frozen=True, slots=True)
class Preset:
    """How one kind of server is asked, and what it is known to do.

    ``effort``: where the reasoning effort goes; ``line`` is a first line of the system message, for a
    server whose chat API has no field for it. ``tokens``: the field that limits reasoning and answer
    together. ``json``: how JSON can be enforced, ``none`` where that is known to break gpt-oss or is not
    there. ``cache_key``: the field that keeps calls with one policy together. ``extra``: sent with every
    call. ``context_tokens``: the window when nobody configured it. ``overflow``: what becomes of a prompt
    that does not fit it. ``cached_tokens``: whether the server says how much it had cached (``flag``: when
    started so). ``inline_reasoning``: the reasoning comes inside the content, its channel markers
    stripped. ``native``: Ollama's own API; ``v1`` is then the same server behind a base_url that ends in
    ``/v1``. ``prices``: by model, where they are public.
    """

    name: str
    base_url: str
    effort: Literal["reasoning_effort", "reasoning.effort", "chat_template_kwargs", "think", "line"] = (
        "reasoning_effort"
    )
    tokens: Literal["max_tokens", "max_completion_tokens", "num_predict"] = "max_tokens"
    json: Literal["none", "json_object", "json_schema", "format"] = "none"
    cache_key: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    context_tokens: int = _MODEL_WINDOW
    overflow: Literal["error", "cuts", "unknown"] = "unknown"
    cached_tokens: Literal["always", "flag", "never", "unknown"] = "unknown"
    inline_reasoning: bool = False
    native: bool = False
    v1: Preset | None = None
    prices: Mapping[str, Prices] = field(default_factory=dict)
    notes: str = ""
    source: str = ""

    def at(self, base_url: str) -> Preset:
        """The preset for this address of the server."""
        return self.v1 if self.v1 and base_url.rstrip("/").endswith("/v1") else self


_OLLAMA_V1: Final = Preset(
    "ollama",
    base_url="http://127.0.0.1:11434/v1",
    json="json_schema",
    context_tokens=4_096,
    overflow="cuts",
    cached_tokens="never",
    notes="Cannot be told not to cut a prompt that is too long, policy first: prefer the native "
    "API. What is sure not to fit is refused here; an answer to far fewer tokens than were "
    "sent is `truncated`.",
    source="ollama openai/openai.go, llm/llama_server.go (2026-08)",
)

_ALL: Final = (
    Preset(
        "generic",
        base_url="http://127.0.0.1:8000/v1",
        json="json_schema",
        context_tokens=_SMALLEST_HOSTED,
        notes="Only what most OpenAI-compatible servers take; a field that is refused is left out from "
        "then on.",
        source="developers.openai.com/api/reference",
    ),
    Preset(
        "vllm",
        base_url="http://127.0.0.1:8000/v1",
        tokens="max_completion_tokens",
        json="json_schema",
        overflow="error",
        cached_tokens="flag",
        notes="Start with `--enable-prompt-tokens-details`; set `VLLM_SYSTEM_START_DATE`, or the date "
        "in the prompt empties the prefix cache at midnight.",
        source="vllm/entrypoints/openai/chat_completion/protocol.py; 0.32 on CPU",
    ),
    Preset(
        "ollama",
        base_url="http://127.0.0.1:11434",
        effort="think",
        tokens="num_predict",
        json="format",
        # keep_alive -1: a judge that must be loaded first answers after the deadline.
        extra={"truncate": False, "shift": False, "keep_alive": -1},
        context_tokens=8_192,
        overflow="error",
        cached_tokens="never",
        native=True,
        v1=_OLLAMA_V1,
        notes="`/api/chat` with `truncate` and `shift` off; the window is asked for as `num_ctx`. "
        "Servers before 0.12.6 cut all the same, which the token counts give away.",
        source="ollama api/types.go, server/routes.go; replies recorded from 0.12.5 to 0.40",
    ),
    Preset(
        "lmstudio",
        base_url="http://127.0.0.1:1234/v1",
        effort="line",
        context_tokens=4_096,
        overflow="cuts",
        notes="Ignores `reasoning_effort` on chat completions (bug-tracker#988, #1250); JSON mode "
        "garbles gpt-oss (#1555). Load the model with a larger context and the overflow policy "
        "`stopAtLimit`.",
        source="lmstudio.ai/docs/developer; lmstudio-js#47 (cuts in the middle by default)",
    ),
    Preset(
        "llamacpp",
        base_url="http://127.0.0.1:8080/v1",
        # Also understood by builds from before the field reasoning_effort.
        effort="chat_template_kwargs",
        json="json_schema",
        overflow="error",
        cached_tokens="always",
        notes="Start with `--swa-full`, or sliding-window attention may recompute the policy; never "
        "with `--reasoning-format none`. `--ctx-size` is shared by the slots.",
        source="llama.cpp tools/server/README.md; its server in the tests",
    ),
    Preset(
        "sglang",
        base_url="http://127.0.0.1:30000/v1",
        tokens="max_completion_tokens",
        overflow="error",
        cached_tokens="flag",
        notes="Start with `--reasoning-parser gpt-oss --enable-cache-report`, never with `--allow-auto-"
        "truncate`. JSON mode and gpt-oss: sglang#9259, #31019.",
        source="sglang srt/entrypoints/openai/protocol.py",
    ),
    Preset(
        "groq",
        base_url="https://api.groq.com/openai/v1",
        tokens="max_completion_tokens",
        json="json_object",
        overflow="error",
        cached_tokens="always",
        prices={_20B: Prices(prompt=0.075, cached=0.037, completion=0.30)},
        notes="Preview model, 20b only. Caches in steps of 256 tokens, for two hours; no key for it. "
        "Cached tokens do not count towards the limits. A schema is only best effort.",
        source="console.groq.com/docs/model, /docs/prompt-caching; prices of 2026-10, as in LiteLLM 1.106",
    ),
    Preset(
        "openrouter",
        base_url="https://openrouter.ai/api/v1",
        effort="reasoning.effort",
        json="json_object",
        cache_key="session_id",
        # An account may have it on: it takes text out of the middle of what is too long.
        extra={"plugins": [{"id": "context-compression", "enabled": False}]},
        context_tokens=_SMALLEST_HOSTED,
        overflow="error",
        cached_tokens="always",
        notes="Reports what each call cost. An error may come inside a 200. Without `session_id` every "
        "text would be a new conversation, on any provider. Its context compression is switched off.",
        source="openrouter.ai/docs; 6,215 recorded calls",
    ),
    Preset(
        "modelslab",
        base_url="https://modelslab.com/api/v7/llm",
        context_tokens=_SMALLEST_HOSTED,
        notes="Bills by the call ($0.1875 seen), not by tokens: set `prices` if that is what you need "
        "to see. Its page names neither an effort nor a JSON field; one that it refuses is left "
        "out from then on.",
        source="docs.modelslab.com/llm-api/chat-completions",
    ),
    Preset(
        "transformers",
        base_url="http://127.0.0.1:8000/v1",
        effort="line",
        overflow="unknown",
        cached_tokens="never",
        inline_reasoning=True,
        notes="Hugging Face `transformers serve`. Refuses fields it does not know (422), parses no "
        "channels, and keeps no prefix cache between calls: for trials, not for traffic.",
        source="transformers src/transformers/cli/serving/utils.py; 5.23 on CPU",
    ),
)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType({preset.name: preset for preset in _ALL})
"""By name, as in ``classifier.preset``."""
