"""What spells the text of a choice a second time, token by token: it goes where the text is changed.

OpenAI's log probabilities; vLLM's token ids and log probabilities of the prompt; Together's ``token``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from guardrail.core.conversation import Address
from guardrail.wire import json_edit
from guardrail.wire.chat_messages import get

__all__ = ["SPELLED", "put", "spelled"]

SPELLED: Final = (
    ("logprobs",),
    ("token_ids",),
    ("prompt_logprobs",),
    ("prompt_token_ids",),
    ("delta", "token_id"),
)


def spelled(body: dict[str, Any], places: Iterable[int]) -> dict[Address, object]:
    """The edits that take out what spells the text of the choices at these places once more."""
    choices = body["choices"]
    found: dict[Address, object] = {
        ("choices", place, *way): None
        for place in places
        for way in SPELLED
        if get(choices[place], *way) is not None
    }
    if body.get("token") is not None:
        found["token",] = None
    return found


def put(raw: bytes, texts: Mapping[Address, str]) -> bytes:
    """``raw`` with these texts in place; what spells the old text of a choice goes."""
    places = {int(address[1]) for address in texts if address[0] == "choices"}
    again = spelled(orjson.loads(raw), places) if places else {}
    return json_edit.edit(raw, {**again, **texts})
