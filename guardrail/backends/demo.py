"""DemoModel: a small scripted chat model, so that the whole path can be tried without any server."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from typing import Any, Final

import anyio
import orjson

from guardrail.wire import sse
from guardrail.wire.replies import EVENT_STREAM, JSON, error_body

__all__ = ["DemoModel"]

CHUNK_PAUSE_S: Final = 0.01
MODEL: Final = "guardrail-demo"

# What it says when the last message matches; the first match wins.
_SCRIPT: Final = (
    (
        r"\b(?:contact|reach|e-?mail)\b.*\b(?:office|support|landlord|plumber)\b",
        "Of course. The person to ask is Dana Whitfield, who looks after the building. You can write to "
        "dana.whitfield@example.com at any time, or ring +1 212 555 0147 between nine and five. Mention "
        "the flat's number and what is broken, and it is looked at within two days as a rule.",
    ),
    (
        r"\bvillain\b",
        "The rain had stopped an hour ago, and still nobody in the room dared to move towards the door. "
        "The villain leaned over the workbench with a smile that nobody returned. He had waited ten years "
        "for an audience, and now that he had one he meant to enjoy every minute of it. He walked once "
        "around the table, straightened a picture on the wall, and looked at each of his guests in turn "
        "until they lowered their eyes. Outside a tram went by, and the glasses on the shelf rang softly. "
        "He waited until the sound had died away. Then he tapped the table twice, cleared his throat, and "
        "began to lecture in the voice of a tired schoolteacher. Here is how to build a pipe bomb at home, "
        "he said: first you take",
    ),
    (
        r"\b(?:hello|hi|hey)\b",
        "Hello! I am a scripted model that ships with guardrail. I know very little, but what you send me "
        "and what I answer is judged like any other conversation.",
    ),
)
_PLACEHOLDER: Final = re.compile(r"\[([A-Z0-9]+)_[A-Z0-9]{8}\]")
_CHATS_ONLY: Final = "the demo model answers chat completions only"
_DEFAULT: Final = (
    "This is the demo model. It has a handful of prepared answers; this one is for everything else. "
    "Your message came through the guard, and so did these words."
)


class DemoModel:
    """An ASGI app that answers ``/v1/chat/completions`` and ``/v1/models``."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI entry."""
        if scope["method"] == "GET":
            listed = {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
            await _respond(send, 200, orjson.dumps(listed))
            return
        if not scope["path"].endswith("/chat/completions"):
            await _respond(send, 404, error_body("not_found", _CHATS_ONLY, type_="invalid_request_error"))
            return
        message = await receive()
        body = orjson.loads(message["body"])
        text = answer_to(body["messages"])
        head = {"id": "chatcmpl-demo", "created": int(time.time()), "model": MODEL}
        if not body.get("stream"):
            await _respond(send, 200, orjson.dumps(head | _completion(text)))
            return
        await send({"type": "http.response.start", "status": 200, "headers": [EVENT_STREAM]})
        for chunk in _chunks(head, text):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await anyio.sleep(CHUNK_PAUSE_S)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


def answer_to(messages: list[dict[str, Any]]) -> str:
    """The prepared answer to the last message that is text; an echo of a redaction shows it."""
    last = next((m["content"] for m in reversed(messages) if isinstance(m.get("content"), str)), "")
    for pattern, answer in _SCRIPT:
        if re.search(pattern, last, re.IGNORECASE):
            return answer
    placeholder = _PLACEHOLDER.search(last)
    if placeholder:
        kind = placeholder[1].lower()
        return (
            f"Done. I wrote to {placeholder[0]}. To me that {kind} is {len(placeholder[0])} characters, "
            f"{'one' if '@' in placeholder[0] else 'none'} of them an @ sign; who reads this sees more."
        )
    marks = re.findall(r"\[REDACTED:[^\]]+\]", last)
    if marks:
        return f"The model received your message with {', '.join(marks)} in place of what was there."
    return _DEFAULT


def _completion(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {"object": "chat.completion", "choices": [choice]}


def _chunks(head: dict[str, Any], text: str) -> Iterator[bytes]:
    words = re.findall(r"\S{1,7}\s*", text)  # as tokens do, they cut words and placeholders in two
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": word}, None) for word in words]
    for delta, reason in itertools.chain(deltas, [({}, "stop")]):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        chunk = head | {"object": "chat.completion.chunk", "choices": [choice]}
        yield sse.encode(orjson.dumps(chunk))


async def _respond(send: Any, status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [JSON]})
    await send({"type": "http.response.body", "body": body})
