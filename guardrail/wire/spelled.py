"""What spells the text of a choice a second time, token by token: it goes where the text is changed.

OpenAI's log probabilities; vLLM's token ids and log probabilities of the prompt; Together's ``token``.
In a stream it may run ahead of the text, or behind it: servers hold back text that may be the beginning of
a stop sequence, not its tokens. So an event keeps what spells the very text that it adds, and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from guardrail.core.conversation import Address
from guardrail.wire import json_edit
from guardrail.wire.chat_messages import get

__all__ = ["IDS", "SPELLED", "put", "said_by", "spelled", "unlike"]

SPELLED: Final = (
    ("logprobs",),
    ("token_ids",),
    ("prompt_logprobs",),
    ("prompt_token_ids",),
    ("delta", "token_id"),
)
IDS: Final = (("token_ids",), ("delta", "token_id"))
"""What cannot be compared with a text."""
_OF_THE_ANSWER: Final = (("logprobs",), *IDS)
_BESIDE_TOKENS: Final = frozenset({"token_logprobs", "top_logprobs", "text_offset", "token_ids"})


def spelled(
    body: dict[str, Any], places: Iterable[int], ways: Sequence[tuple[str, ...]] = SPELLED
) -> dict[Address, object]:
    """The edits that take out what spells the text of the choices at these places once more."""
    choices = body["choices"]
    found: dict[Address, object] = {
        ("choices", place, *way): None
        for place in places
        for way in ways
        if get(choices[place], *way) is not None
    }
    if body.get("token") is not None:
        found["token",] = None
    return found


def said_by(logprobs: Any) -> list[str] | None:
    """The texts that log probabilities spell, one for each list of tokens; None where nobody can tell."""
    if not isinstance(logprobs, dict):
        return None if isinstance(logprobs, str | list) and logprobs else []
    found = []
    for key, value in logprobs.items():
        if not isinstance(value, str | list | dict) or not value:
            continue
        if key in ("content", "refusal", "tokens") and isinstance(value, list):
            tokens = [get(one, "token") if isinstance(one, dict) else one for one in value]
            words = [token for token in tokens if isinstance(token, str)]
            if words or any(isinstance(one, dict | list) for one in value):
                found.append("".join(words))
        elif key not in _BESIDE_TOKENS or "tokens" not in logprobs:
            return None
    return found


def unlike(body: dict[str, Any], texts: Sequence[Collection[str]]) -> dict[Address, object]:
    """The edits that take out of a chunk what spells other text than it adds: ``texts``, of each choice.

    Token ids cannot be read without the model's tokenizer: they go with log probabilities that do.
    """
    found: dict[Address, object] = {}
    for place, (choice, own) in enumerate(zip(body.get("choices") or (), texts, strict=True)):
        said = said_by(choice.get("logprobs"))
        if said is None or any(text not in (own or ("",)) for text in said):
            found |= {
                ("choices", place, *way): None for way in _OF_THE_ANSWER if get(choice, *way) is not None
            }
    token = body.get("token")
    once = token.get("text") if isinstance(token, dict) else token
    if (
        isinstance(once, str | list | dict)
        and once
        and not any(once == own for each in texts for own in each)
    ):
        found["token",] = None
    return found


def put(raw: bytes, texts: Mapping[Address, str]) -> bytes:
    """``raw`` with these texts in place; what spells the old text of a choice goes."""
    places = {int(address[1]) for address in texts if address[0] == "choices"}
    again = spelled(orjson.loads(raw), places) if places else {}
    return json_edit.edit(raw, {**again, **texts})
