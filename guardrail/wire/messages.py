"""The ``messages`` dialect of Anthropic's API, for bodies and for streams, and its counting of tokens.

Shapes: platform.claude.com/docs/en/api/messages and the types of Anthropic's SDK. Whatever is not
understood is passed through and named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import orjson

from guardrail.core.conversation import Address, Conversation, Kind, Turn
from guardrail.core.decision import Decision
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire import json_edit
from guardrail.wire.chat_messages import as_list, get, strangers
from guardrail.wire.controls import read_guardrails
from guardrail.wire.dialect import Choice, GuardedRequest
from guardrail.wire.messages_blocks import Reading, input_addresses, read_content, read_leaves
from guardrail.wire.messages_chunks import MESSAGE
from guardrail.wire.messages_edit import forwarded, put, written
from guardrail.wire.messages_refusals import NO_USAGE, error_reply, refusal_reply, refused_message
from guardrail.wire.messages_stream import MessagesStream
from guardrail.wire.messages_turns import read_turns, without
from guardrail.wire.openai_body import read_model, read_object, read_stream, unknown_texts
from guardrail.wire.replies import EVENT_STREAM, Refusal, Reply

__all__ = ["CountTokensDialect", "MessagesDialect"]

# Fields of a request that hold no text for the model. All others are judged, or named as unjudged.
_SILENT_FIELDS: Final = frozenset(
    [
        "messages",
        "system",
        "model",
        "stream",
        "guardrails",
        "cache_control",
        "container",
        "diagnostics",
        "inference_geo",
        "max_tokens",
        "metadata",
        "service_tier",
        "speed",
        "stop_sequences",
        "temperature",
        "thinking",
        "tool_choice",
        "top_k",
        "top_p",
        "user_profile_id",
        "workspace_id",
    ]
)


class MessagesDialect:
    """``POST …/messages``."""

    name = "messages"

    def read_request(self, raw: bytes) -> GuardedRequest:
        """Raises ``UnreadableRequest`` with the parameter that is wrong."""
        body = read_object(raw)
        if not isinstance(body.get("messages"), list):
            raise UnreadableRequest("messages is missing or not a list", param="messages")
        stream = read_stream(body)
        added = read_guardrails(body.get("guardrails"))
        sent = forwarded(raw, body)
        if sent is not raw:
            body = orjson.loads(sent)
        conversation = read_turns(sent, body)
        unread = (
            *conversation.unreadable,
            *unknown_texts(body, _SILENT_FIELDS, ("output_config", "effort")),
        )
        if get(body.get("container"), "skills"):  # texts that are stored elsewhere, for the model to read
            unread = (*unread, "$.container.skills")
        formats = (get(body, "output_config", "format"), body.get("output_format"))
        return GuardedRequest(
            raw=sent,
            conversation=Conversation(conversation.turns, unread),
            model=read_model(body),
            stream=stream,
            choices=1,
            include_usage=True,
            added_policies=added,
            structured=any(get(format_, "type") == "json_schema" for format_ in formats),
        )

    def edit(self, raw: bytes, texts: Mapping[Address, str]) -> bytes:
        """New texts in place; see ``messages_edit`` for what becomes of thinking."""
        return put(raw, texts)

    def drop(self, raw: bytes, turns: Sequence[int]) -> bytes:
        """Take out messages, or what is a turn of its own in one."""
        return without(raw, turns)

    def read_response(self, raw: bytes) -> list[Choice]:
        """The one message. Raises ``UnreadableResponse``."""
        unreadable: list[str] = []
        at: Address = ("content",)
        try:
            body = json_edit.loads_strict(raw)
            content = body["content"]
            reading = Reading(unreadable, written(raw, body, input_addresses(content, at)), answer=True)
            segments = [*read_content(as_list(content), at, reading)]
            segments += read_leaves(body.get("stop_details"), ("stop_details",), reading, Kind.FIELD)
            unreadable += strangers(body, MESSAGE, ())
        except (KeyError, TypeError, UnreadableRequest):
            raise UnreadableResponse("the upstream's answer is no message") from None
        return [Choice(0, Turn("assistant", tuple(segments)), tuple(unreadable))]

    def refuse_choices(self, raw: bytes, refused: Mapping[int, Refusal], *, structured: bool) -> bytes:
        """A message that refuses, with the identity and the usage of the one in ``raw``."""
        if not refused:
            return raw
        body = orjson.loads(raw)
        message = refused_message(
            refused[0],
            id_=body.get("id", ""),
            model=body.get("model", ""),
            usage=body.get("usage") or NO_USAGE,
            structured=structured,
        )
        return orjson.dumps(message)

    def refuse(self, request: GuardedRequest, decision: Decision, refusal: Refusal) -> Reply:
        """A refused message, as a body or as a stream, or the error form."""
        if refusal.style == "error":
            return refusal_reply(decision, refusal)
        if request.stream:
            stream = MessagesStream(request)
            body = stream.halt(0, decision, refusal, spoke=False) + stream.end()
            return Reply(200, body, (EVENT_STREAM,))
        message = refused_message(
            refusal,
            id_=f"msg_{decision.id}",
            model=request.model,
            usage=NO_USAGE,
            structured=request.structured,
        )
        return Reply(200, orjson.dumps(message))

    def stream(self, request: GuardedRequest) -> MessagesStream:
        """For one stream."""
        return MessagesStream(request)

    def error(self, status: int, code: str, message: str, param: str | None = None) -> Reply:
        """Anthropic's error envelope."""
        return error_reply(status, code, message, param)


class CountTokensDialect(MessagesDialect):
    """``POST …/messages/count_tokens``: a message that is judged, and counted instead of answered."""

    name = "messages.count_tokens"

    def read_request(self, raw: bytes) -> GuardedRequest:
        """As a message. Raises ``UnreadableRequest``."""
        return replace(super().read_request(raw), stream=False)

    def read_response(self, raw: bytes) -> list[Choice]:
        """No choice: there is nothing to judge in numbers. Raises ``UnreadableResponse`` for more."""
        try:
            body = json_edit.loads_strict(raw)
        except UnreadableRequest:
            body = None
        reading = Reading([])
        texts = [*read_leaves(body, (), reading, Kind.FIELD)] if isinstance(body, dict) else []
        if type(get(body, "input_tokens")) is not int or texts or reading.unreadable:
            raise UnreadableResponse("the upstream's answer is no count of tokens")
        return []

    def refuse(self, request: GuardedRequest, decision: Decision, refusal: Refusal) -> Reply:
        """The error form: there is no answer that could hold a refusal."""
        return refusal_reply(decision, refusal)
