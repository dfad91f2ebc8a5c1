"""The choices of a text completion, in bodies and in chunks, which have one shape: what is text in them.

Shapes: platform.openai.com/docs/api-reference/completions, and what servers add to it: thinking beside the
text (OpenRouter), token ids (vLLM), the text of a chunk once more as ``delta`` and ``token`` (Together).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from guardrail.core.conversation import Address, Kind, json_path
from guardrail.wire.chat_messages import CHOICE_SHAPE, get, strangers
from guardrail.wire.spelled import SPELLED

__all__ = ["Text", "read_choice"]

_TEXTS: Final = (
    ("reasoning", Kind.REASONING, ("reasoning",)),
    ("reasoning_content", Kind.REASONING, ("reasoning_content",)),
    ("text", Kind.TEXT, ("text",)),
    ("delta", Kind.TEXT, ("delta", "content")),
)
_SHAPE: Final[Mapping[str, Any]] = {
    **{key: None for key in CHOICE_SHAPE if key != "message"},
    **{way[0]: None for _, _, way in _TEXTS},
    **{way[0]: None for way in SPELLED},
    "delta": dict.fromkeys(["role", "content", "token_id"]),
}


class Text(NamedTuple):
    """One text of a choice, and the channel of a stream that it belongs to."""

    channel: str
    kind: Kind
    text: str
    address: Address


def read_choice(choice: dict[str, Any], at: Address, unreadable: list[str]) -> Iterator[Text]:
    """The texts of a choice that are not empty. Raises ``UnreadableRequest``, see ``strangers``."""
    for channel, kind, way in _TEXTS:
        text = get(choice, *way)
        if isinstance(text, str):
            if text:
                yield Text(channel, kind, text, (*at, *way))
        elif text:
            unreadable.append(json_path((*at, *way)))
    unreadable.extend(strangers(choice, _SHAPE, at))
