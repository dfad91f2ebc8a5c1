"""The ``chat.completions`` dialect of OpenAI's API, for bodies and for streams.

Shapes: platform.openai.com/docs/api-reference/chat and the variants that servers add to it
(``reasoning`` and ``reasoning_content``). Whatever is not understood is passed through and named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from guardrail.core.conversation import Address, Conversation, Turn
from guardrail.core.decision import Decision
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire import json_edit
from guardrail.wire.chat_messages import (
    CHOICE_SHAPE,
    get,
    read_content,
    read_message,
    read_messages,
    strangers,
)
from guardrail.wire.chat_refusals import refused_choice, refused_request
from guardrail.wire.chat_stream import ChatStream
from guardrail.wire.dialect import Choice, GuardedRequest
from guardrail.wire.replies import Refusal, Reply, openai_error, refusal_error

__all__ = ["ChatDialect"]

# Fields of a request that hold no text for the model. All others are judged, or named as unjudged.
_SILENT_FIELDS: Final = frozenset(
    [
        "messages",
        "model",
        "stream",
        "n",
        "stream_options",
        "guardrails",
        "prediction",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "metadata",
        "modalities",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "temperature",
        "tool_choice",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "function_call",
        "audio",
    ]
)
_STRUCTURED: Final = ("json_schema", "json_object")


class ChatDialect:
    """``POST …/chat/completions``."""

    name = "chat.completions"

    def read_request(self, raw: bytes) -> GuardedRequest:
        """Raises ``UnreadableRequest`` with the parameter that is wrong."""
        body = json_edit.loads_strict(raw)
        if not isinstance(body, dict):
            raise UnreadableRequest("the body is not a JSON object")
        messages = body.get("messages")
        if not isinstance(messages, list):
            raise UnreadableRequest("messages is missing or not a list", param="messages")
        stream = body.get("stream") or False
        choices = body.get("n") or 1
        if not isinstance(stream, bool):
            raise UnreadableRequest("stream is not true or false", param="stream")
        if type(choices) is not int or not 1 <= choices <= 128:
            raise UnreadableRequest("n is not a number from 1 to 128", param="n")
        added = body.get("guardrails")
        if added is None:
            added = []
        if not isinstance(added, list) or not all(isinstance(a, str) for a in added):
            raise UnreadableRequest("guardrails is not a list of policy ids", param="guardrails")
        if "guardrails" in body:
            raw = json_edit.edit(raw, {("guardrails",): json_edit.REMOVE})
        model = body.get("model")
        return GuardedRequest(
            raw=raw,
            conversation=_whole(body, read_messages(messages)),
            model=model if isinstance(model, str) else "",
            stream=stream,
            choices=choices,
            include_usage=get(body.get("stream_options"), "include_usage") is True,
            added_policies=tuple(added),
            structured=get(body.get("response_format"), "type") in _STRUCTURED,
        )

    def edit(self, raw: bytes, texts: Mapping[Address, str]) -> bytes:
        """New texts in place; log probabilities of a choice that gets one spell the old, so they go."""
        changes: dict[Address, object] = {**texts}
        choices = {address[1] for address in texts if address[0] == "choices"}
        if choices:
            body = orjson.loads(raw)
            for index in choices:
                if body["choices"][index].get("logprobs"):
                    changes["choices", index, "logprobs"] = None
        return json_edit.edit(raw, changes)

    def drop(self, raw: bytes, turns: Sequence[int]) -> bytes:
        """Take out messages."""
        return json_edit.edit(raw, {("messages", turn): json_edit.REMOVE for turn in turns})

    def read_response(self, raw: bytes) -> list[Choice]:
        """The message of every choice. Raises ``UnreadableResponse``."""
        try:
            choices = _list(json_edit.loads_strict(raw)["choices"])
            found = []
            for position, choice in enumerate(choices):
                unreadable: list[str] = []
                at = ("choices", position, "message")
                segments = read_message(choice["message"], at, unreadable)
                unreadable += strangers(choice, CHOICE_SHAPE, at[:2])
                found.append(Choice(position, Turn("assistant", segments), tuple(unreadable)))
        except (KeyError, TypeError, AttributeError, UnreadableRequest):
            raise UnreadableResponse("the upstream's answer is no chat completion") from None
        return found

    def refuse_choices(self, raw: bytes, refused: Mapping[int, Refusal], *, structured: bool) -> bytes:
        """Put a refusal in place of each choice at these positions."""
        choices = orjson.loads(raw)["choices"]
        changes: dict[Address, object] = {}
        for position, refusal in refused.items():
            index = choices[position].get("index", position)
            changes["choices", position] = refused_choice(index, refusal, structured=structured)
        return json_edit.edit(raw, changes)

    def refuse(self, request: GuardedRequest, decision: Decision, refusal: Refusal) -> Reply:
        """As many refused choices as were asked for, or the error form."""
        if refusal.style == "error":
            return refusal_error(decision, refusal)
        return refused_request(request, decision, refusal)

    def stream(self, request: GuardedRequest) -> ChatStream:
        """For the chunks of the answer to this request."""
        return ChatStream(structured=request.structured)

    def error(self, status: int, code: str, message: str, param: str | None = None) -> Reply:
        """OpenAI's error envelope."""
        return openai_error(status, code, message, param)


def _whole(body: dict[str, Any], conversation: Conversation) -> Conversation:
    """Add what stands outside the messages: a prediction is judged, other text is named."""
    unread = list(conversation.unreadable)
    asides: tuple[Turn, ...] = ()
    prediction = body.get("prediction")
    if prediction:
        at = ("prediction", "content")
        texts = tuple(read_content(get(prediction, "content"), at, unread))
        if not texts:
            unread.append("$.prediction")
        asides = (Turn("prediction", texts),)
    for key, value in body.items():
        if key not in _SILENT_FIELDS and key.casefold() in _SILENT_FIELDS:
            raise UnreadableRequest("a key of the body differs from a known one only in case")
        if key not in _SILENT_FIELDS and value and isinstance(value, str | list | dict):
            if key == "response_format" and isinstance(value, dict) and value.keys() <= {"type"}:
                continue  # a bare {"type": "json_object"}
            unread.append(f"$.{key}")
    return Conversation(conversation.turns, tuple(unread), asides)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value
