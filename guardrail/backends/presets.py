"""What differs between the servers that run gpt-oss-safeguard behind the OpenAI chat API.

Every field was read in the server's source or documentation; the sources stand beside the entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True, slots=True)
class Preset:
    """How one kind of server is asked.

    ``effort``: where the reasoning effort goes. ``tokens``: the field that limits the answer.
    ``cache_key``: the field that keeps calls with one policy together, if the server has one.
    """

    name: str
    base_url: str
    effort: Literal["reasoning_effort", "reasoning.effort"] = "reasoning_effort"
    tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    cache_key: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


_ALL: Final = (
    # Only what every OpenAI-compatible server takes.
    Preset("generic", base_url="http://127.0.0.1:8000/v1"),
    # vllm/entrypoints/openai/chat_completion/protocol.py; reasoning comes as `reasoning`, before
    # January 2026 as `reasoning_content`; cached_tokens only with --enable-prompt-tokens-details.
    Preset("vllm", base_url="http://127.0.0.1:8000/v1", tokens="max_completion_tokens"),
    # ollama openai/openai.go: knows max_tokens only; cuts over-long prompts without a word.
    Preset("ollama", base_url="http://127.0.0.1:11434/v1"),
    # openrouter.ai/docs: `reasoning` object; an error may come inside a 200; `session_id` keeps calls
    # that differ in the user message on one provider.
    Preset(
        "openrouter",
        base_url="https://openrouter.ai/api/v1",
        effort="reasoning.effort",
        cache_key="session_id",
    ),
)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType({preset.name: preset for preset in _ALL})
