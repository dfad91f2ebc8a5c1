"""LiteLLM's generic guardrail API, the server's side of it.

Shapes: ``litellm/types/proxy/guardrails/guardrail_hooks/generic_guardrail_api.py`` (LiteLLM 1.106.2).
LiteLLM sends the texts of a request (``request``) or of an answer (``response``) and puts what comes back
in their place. Of a stream it sends all text so far, again and again, and withholds as many characters
at its end as ``stream_holdback_chars`` says.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field

from guardrail.core.conversation import Address, Conversation, Segment, Turn, json_path
from guardrail.core.decision import Decision
from guardrail.core.graphemes import boundary
from guardrail.core.policy import Stage
from guardrail.core.redaction import Span, apply, touching
from guardrail.core.release import ReleaseMode, StreamRules
from guardrail.core.vault import Vault
from guardrail.wire import json_edit
from guardrail.wire.chat_messages import read_messages, read_structured
from guardrail.wire.openai_body import read_object
from guardrail.wire.requests import Message, validated

__all__ = ["Asked", "Intervention", "LiteLLMRequest", "blocked", "holdback", "let_through", "read"]

_Row = dict[str, Any]


class Params(BaseModel):
    """What LiteLLM's configuration, or a request to it, says to this guardrail."""

    guardrails: list[str] | None = Field(None, description="Ids of policies that are to judge this too.")


class LiteLLMRequest(BaseModel):
    """What is read of a request; LiteLLM sends more, such as the caller's team."""

    input_type: Literal["request", "response"]
    texts: list[str] | None = None
    images: list[Any] | None = None
    tools: list[Any] | None = None
    tool_calls: list[Any] | None = None
    structured_messages: list[Message] | None = None
    additional_provider_specific_params: Params | None = None
    request_headers: dict[str, str] | None = Field(
        None, description="Of the request to LiteLLM; accept-language is read, if LiteLLM passes it on."
    )


class Intervention(BaseModel):
    """What LiteLLM is to do."""

    action: Literal["NONE", "BLOCKED", "GUARDRAIL_INTERVENED"]
    blocked_reason: str | None
    texts: list[str] | None = Field(description="As many as were sent, unless it is blocked.")
    images: None
    structured_messages: list[_Row] | None = Field(
        description="Only where a redaction lies outside the texts: in a tool call, a name, reasoning."
    )
    stream_holdback_chars: list[int] | None = Field(
        description="For an answer: how much of each text may change."
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was read.

    ``places``: where in ``rows``, the messages, each text stands; empty where they are not known.
    ``languages``: the ``Accept-Language`` of the request to LiteLLM.
    """

    stage: Stage
    conversation: Conversation
    texts: list[str]
    added: tuple[str, ...]
    rows: list[_Row]
    places: tuple[Address, ...]
    languages: str


def read(raw: bytes) -> Asked:
    """Raises ``UnreadableRequest``."""
    body = read_object(raw)
    request = validated(LiteLLMRequest, body)
    stage = Stage.INPUT if request.input_type == "request" else Stage.OUTPUT
    texts, rows = request.texts or [], body.get("structured_messages") or []
    params = request.additional_provider_specific_params
    unread = [json_path(("images", index)) for index in range(len(request.images or ()))]
    if request.tools:
        unread.append("$.tools")
    places = tuple(_places(rows))
    if stage is Stage.INPUT and rows and [json_edit.value_at(rows, place[1:]) for place in places] == texts:
        conversation = _with_roles(rows, places)
        conversation = _with_calls(conversation, request.tool_calls or [], unread)
    else:
        places = ()
        conversation = _without_roles(stage, texts, request.tool_calls or [], rows, unread)
    conversation = Conversation(
        conversation.turns, (*conversation.unreadable, *unread), conversation.asides
    )
    added = tuple(params.guardrails or ()) if params else ()
    named = {name.lower(): value for name, value in (request.request_headers or {}).items()}
    languages = named.get("accept-language", "")
    return Asked(stage, conversation, texts, added, rows, places, languages)


def _places(rows: Sequence[_Row]) -> list[Address]:
    """Where LiteLLM takes its texts from, in order (``OpenAIChatCompletionsHandler._extract_inputs``)."""
    found: list[Address] = []
    for index, row in enumerate(rows):
        content = row.get("content")
        at = ("structured_messages", index, "content")
        if isinstance(content, str):
            found.append(at)
        elif isinstance(content, list):
            found += [
                (*at, part, "text")
                for part, item in enumerate(content)
                if isinstance(item, dict) and item.get("text") is not None
            ]
    return found


def _with_roles(rows: list[_Row], places: Sequence[Address]) -> Conversation:
    """The messages; a text in a part of unknown type is judged beside them."""
    read = read_messages(rows, ("structured_messages",))
    known = {segment.address for turn in read.turns for segment in turn.segments}
    rest = tuple(
        Segment(json_edit.value_at(rows, place[1:]), place) for place in places if place not in known
    )
    beside = {json_path(place[:-1]) for place in places if place not in known}
    unreadable = tuple(path for path in read.unreadable if path not in beside)
    return Conversation(read.turns, unreadable, (Turn("user", rest),) if rest else ())


def _with_calls(conversation: Conversation, calls: Sequence[Any], unread: list[str]) -> Conversation:
    """With the tool calls beside the messages, of which LiteLLM takes them: what these do not hold."""
    known = {
        (segment.kind, segment.text)
        for turn in (*conversation.turns, *conversation.asides)
        for segment in turn.segments
    }
    found = read_structured("tool_calls", list(calls), ("tool_calls",), unread)
    others = tuple(segment for segment in found if (segment.kind, segment.text) not in known)
    if not others:
        return conversation
    return replace(conversation, asides=(*conversation.asides, Turn("assistant", others)))


def _without_roles(
    stage: Stage, texts: Sequence[str], calls: Sequence[Any], rows: Sequence[_Row], unread: list[str]
) -> Conversation:
    segments = [Segment(text, ("texts", index)) for index, text in enumerate(texts)]
    arguments = tuple(read_structured("tool_calls", list(calls), ("tool_calls",), unread)) if calls else ()
    if stage is Stage.OUTPUT:
        return Conversation((Turn("assistant", (*segments, *arguments)),))
    if rows:  # a conversation whose texts are others: which of both goes to the model is unknown
        unread.append("$.structured_messages")
    turns = [Turn("user", (segment,)) for segment in segments]
    if arguments:
        turns.append(Turn("assistant", arguments))
    return Conversation(tuple(turns))


def blocked(message: str) -> bytes:
    """The answer that stops the request, or the stream."""
    return _body("BLOCKED", reason=message)


def let_through(asked: Asked, changed: Mapping[Address, str], held: Sequence[int] | None) -> bytes | None:
    """The texts with what changed in them; None where a change has no place in the answer."""
    if not changed:
        return _body("NONE", texts=asked.texts, held=held)
    texts = list(asked.texts)
    places = asked.places or tuple(("texts", index) for index in range(len(texts)))
    for index, place in enumerate(places):
        texts[index] = changed.get(place, texts[index])
    if set(changed) <= set(places):
        return _body("GUARDRAIL_INTERVENED", texts=texts, held=held)
    if not asked.places or any(address[0] == "tool_calls" for address in changed):
        return None
    rows = copy.deepcopy(asked.rows)
    for address, text in changed.items():
        json_edit.value_at(rows, address[1:-1])[address[-1]] = text
    return _body("GUARDRAIL_INTERVENED", texts=texts, rows=rows, held=held)


def _body(
    action: str,
    *,
    reason: str | None = None,
    texts: Sequence[str] | None = None,
    rows: Sequence[_Row] | None = None,
    held: Sequence[int] | None = None,
) -> bytes:
    return orjson.dumps(
        {
            "action": action,
            "blocked_reason": reason,
            "texts": texts,
            "images": None,
            "structured_messages": rows,
            "stream_holdback_chars": held,
        }
    )


def holdback(asked: Asked, decision: Decision, rules: StreamRules, vault: Vault) -> list[int]:
    """How many characters at the end of each text, redactions made, what follows may still change.

    As in a stream of our own: nothing at the end that the next check reads again, and nothing cut in two.
    """
    spans = {redaction.address: redaction.spans for redaction in decision.redactions}
    return [
        _held(Segment(text, ()), spans.get(("texts", index), ()), rules, vault)
        for index, text in enumerate(asked.texts)
    ]


def _held(segment: Segment, spans: Sequence[Span], rules: StreamRules, vault: Vault) -> int:
    text = segment.text
    if rules.release is ReleaseMode.LIVE:
        return 0
    whole = len(apply(text, vault.answer(segment, spans)))
    if rules.release is ReleaseMode.WHOLE:
        return whole
    limit = max(0, len(text) - rules.tail(text))
    while (before := _uncut(text, spans, limit)) < limit:
        limit = before
    free = Segment(text[:limit], ())
    return whole - len(apply(free.text, vault.answer(free, [s for s in spans if s.start < limit])))


def _uncut(text: str, spans: Sequence[Span], limit: int) -> int:
    for first, last in touching(spans):
        if first < limit < last:
            limit = first
            break
    return boundary(text, limit)
