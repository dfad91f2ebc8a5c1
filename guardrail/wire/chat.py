"""The ``chat.completions`` dialect of OpenAI's API, for bodies and for streams.

Shapes: platform.openai.com/docs/api-reference/chat and the variants that servers add to it
(``reasoning`` and ``reasoning_content``). Whatever is not understood is passed through and named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from guardrail.core.conversation import Address, Conversation, Kind, Segment, Turn, json_path
from guardrail.core.decision import Decision
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire import json_edit, spelled
from guardrail.wire.chat_messages import (
    CHOICE_SHAPE,
    as_list,
    beside,
    get,
    read_content,
    read_message,
    read_messages,
    strangers,
)
from guardrail.wire.chat_refusals import refused_choice, refused_choices, refused_request
from guardrail.wire.chat_stream import ChatStream
from guardrail.wire.dialect import Choice, GuardedRequest
from guardrail.wire.inline_moderation import ChatModeration, take_moderation
from guardrail.wire.openai_body import (
    GENERATING_FIELDS,
    is_structured,
    read_model,
    read_n,
    read_object,
    read_stream,
    read_usage,
    take_policies,
    unknown_texts,
)
from guardrail.wire.replies import Refusal, Reply, openai_error, refusal_error

__all__ = ["ChatDialect"]

_NO_COMPLETION: Final = "the upstream's answer is no chat completion"

# Beside those of every request, fields that hold no text for the model. All others are judged, or named.
_SILENT_FIELDS: Final = GENERATING_FIELDS | {
    "messages",
    "moderation",
    "prediction",
    "max_completion_tokens",
    "modalities",
    "parallel_tool_calls",
    "reasoning_effort",
    "tool_choice",
    "top_logprobs",
    "verbosity",
    "function_call",
    "audio",
    "thinking",
    # OpenRouter's
    "provider",
    "models",
    "reasoning",
    "route",
    "transforms",
    "usage",
}


class ChatDialect:
    """``POST …/chat/completions``."""

    name = "chat.completions"

    def read_request(self, raw: bytes) -> GuardedRequest:
        """Raises ``UnreadableRequest`` with the parameter that is wrong."""
        body = read_object(raw)
        messages = body.get("messages")
        if not isinstance(messages, list):
            raise UnreadableRequest("messages is missing or not a list", param="messages")
        raw, added = take_policies(raw, body)
        raw, annotations = take_moderation(raw, body, ChatModeration())
        structured = is_structured(body)
        return GuardedRequest(
            raw=raw,
            conversation=_whole(body, read_messages(messages)),
            model=read_model(body),
            stream=read_stream(body),
            choices=read_n(body),
            include_usage=read_usage(body),
            added_policies=added,
            annotations=annotations,
            structured=structured,
            refused_as=Kind.REFUSAL if structured else Kind.TEXT,
        )

    def edit(self, raw: bytes, texts: Mapping[Address, str]) -> bytes:
        """New texts in place; what spells the old text of a choice goes."""
        return spelled.put(raw, texts)

    def drop(self, raw: bytes, turns: Sequence[int]) -> bytes:
        """Take out messages."""
        return json_edit.edit(raw, {("messages", turn): json_edit.REMOVE for turn in turns})

    def read_response(self, raw: bytes) -> list[Choice]:
        """The message of every choice. Raises ``UnreadableResponse``."""
        try:
            body = json_edit.loads_strict(raw)
            outside = beside(body)
            found = []
            for position, choice in enumerate(as_list(body["choices"])):
                unreadable = [*outside]
                at = ("choices", position, "message")
                segments = read_message(choice["message"], at, unreadable)
                segments += _beside(choice.get("delta"), (*at[:2], "delta"), unreadable)
                unreadable += strangers(choice, CHOICE_SHAPE, at[:2])
                found.append(Choice(position, Turn("assistant", segments), tuple(unreadable)))
        except (KeyError, TypeError, AttributeError, UnreadableRequest):
            raise UnreadableResponse(_NO_COMPLETION) from None
        if outside and not found:  # text of another protocol, which would belong to no choice
            raise UnreadableResponse(_NO_COMPLETION)
        return found

    def refuse_choices(self, raw: bytes, refused: Mapping[int, Refusal], *, structured: bool) -> bytes:
        """Put a refusal in place of each choice at these positions."""
        return refused_choices(raw, refused, partial(refused_choice, structured=structured))

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


def _beside(delta: Any, at: Address, unreadable: list[str]) -> tuple[Segment, ...]:
    """The texts of a delta beside the message of a whole answer: no part of what the message says."""
    if isinstance(delta, dict):
        segments = read_message(delta, at, unreadable)
        return tuple(replace(s, kind=Kind.FIELD) if s.kind is Kind.TEXT else s for s in segments if s.text)
    if isinstance(delta, str | list) and delta:
        unreadable.append(json_path(at))
    return ()


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
    unread += unknown_texts(body, _SILENT_FIELDS)
    return Conversation(conversation.turns, tuple(unread), asides)
