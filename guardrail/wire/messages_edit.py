"""Bodies and events of messages edited in place: tool inputs, signed thinking, and what stays here.

The input of a tool is a JSON object in the body, not a string. It is read as the very text in which it is
written, so that a redaction changes the leaves that it must and no other byte.

Anthropic signs a block of thinking, refuses one whose text does not fit its signature, and takes a history
without it (platform.claude.com/docs, "Extended thinking"). So where thinking is changed on its way to the
client, ``EDITED`` stands in the place of the signature, and a block that bears it is left out when the
client sends it back. Signed thinking that is redacted on its way to the model is left out too. Thinking
without a signature, as other servers write it, is edited like any text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from guardrail.core.conversation import Address
from guardrail.wire import json_edit
from guardrail.wire.chat_messages import get
from guardrail.wire.messages_blocks import TOOL_USES, kind_of

__all__ = ["EDITED", "forwarded", "put", "written"]

EDITED: Final = "edited-by-guardrail"

_DECODER: Final = json.JSONDecoder()
_GAP: Final = "\0"  # stands nowhere in valid JSON


def written(raw: bytes, body: Any, addresses: Sequence[Address]) -> dict[Address, str]:
    """The text of the values at these addresses of ``raw``, read as ``body``; they are in its order."""
    if not addresses:
        return {}
    if orjson.dumps(body) == raw:  # compact JSON, as most clients write it
        return {address: orjson.dumps(json_edit.value_at(body, address)).decode() for address in addresses}
    gap = orjson.Fragment(_GAP)
    pieces = json_edit.edit(raw, dict.fromkeys(addresses, gap)).decode().split(_GAP)
    text = raw.decode()
    found: dict[Address, str] = {}
    at = 0
    for address, before in zip(addresses, pieces[:-1], strict=True):
        start = at + len(before)
        at = _DECODER.raw_decode(text, start)[1]
        found[address] = text[start:at]
    return found


def put(raw: bytes, texts: Mapping[Address, str]) -> bytes:
    """``raw`` with these texts in place: strings as strings, the text of a tool's input as it is."""
    changes: dict[Address, object] = {**texts}
    body = orjson.loads(raw) if any(address[-1] in ("input", "thinking") for address in texts) else None
    for address, text in texts.items():
        in_block = address[-1] in ("input", "thinking")
        block: Any = json_edit.value_at(body, address[:-1]) if in_block else None
        kind = kind_of(block)
        if kind in TOOL_USES and not isinstance(block["input"], str):
            changes[address] = orjson.Fragment(text)
        elif kind == "thinking" and block.get("signature"):
            if address[0] != "messages":
                changes[*address[:-1], "signature"] = EDITED
            elif json_edit.value_at(body, address[:2]).get("role") == "assistant":
                del changes[address]
                changes[address[:-1]] = json_edit.REMOVE
    return json_edit.edit(raw, changes)


def forwarded(raw: bytes, body: dict[str, Any]) -> bytes:
    """``raw``, which was read as ``body``, without what is for the guard alone."""
    changes: dict[Address, object] = {}
    if "guardrails" in body:
        changes["guardrails",] = json_edit.REMOVE
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        content = get(message, "content")
        blocks = content if isinstance(content, list) else []
        ours = [place for place, block in enumerate(blocks) if get(block, "signature") == EDITED]
        if ours and len(ours) == len(blocks):
            changes["messages", index] = json_edit.REMOVE
        else:
            changes |= {("messages", index, "content", place): json_edit.REMOVE for place in ours}
    return json_edit.edit(raw, changes) if changes else raw
