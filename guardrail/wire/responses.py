"""The ``responses`` dialect of OpenAI's API, for bodies and for streams.

Shapes: platform.openai.com/docs/api-reference/responses and ``openai.types.responses`` of the Python SDK
(2.54). Whatever is not understood is passed through and named. What stands on the server and not in the
body cannot be judged: the turns behind ``previous_response_id`` and ``conversation``, a prompt template
and a referenced item are named as unreadable, so the rule for unreadable parts decides about them. An
answer in the background would be fetched later by a GET that nothing guards, so it is refused.

Annotations of a text that was changed are kept as far as the text in front of them stayed the same; see
``guardrail.wire.responses_edits``. Log probabilities of a changed text go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from guardrail.core.conversation import Address, Conversation, Kind, Segment, Turn
from guardrail.core.decision import Decision
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire import json_edit
from guardrail.wire.chat_messages import get
from guardrail.wire.dialect import Choice, GuardedRequest
from guardrail.wire.inline_moderation import ResponsesModeration, take_moderation
from guardrail.wire.openai_body import (
    GENERATING_FIELDS,
    STRUCTURED,
    read_flag,
    read_model,
    read_object,
    read_stream,
    take_policies,
)
from guardrail.wire.replies import Refusal, Reply, openai_error, refusal_error
from guardrail.wire.responses_edits import agreed, respelled, without_removed
from guardrail.wire.responses_items import Reading, Said, as_one, read_items
from guardrail.wire.responses_refusals import refused_body, refused_request
from guardrail.wire.responses_shapes import RESPONSE, Mark, Shape
from guardrail.wire.responses_stream import ResponsesStream

__all__ = ["ResponsesDialect"]

# Fields of a request that hold no text for the model. All others are judged, or named as unjudged.
_FIELDS: Final[Mapping[str, Shape]] = {
    **dict.fromkeys(GENERATING_FIELDS),
    **dict.fromkeys(["input", "instructions", "prompt"]),  # read on their own
    **dict.fromkeys(
        [
            "background",
            "context_management",
            "include",
            "max_output_tokens",
            "max_tool_calls",
            "moderation",
            "parallel_tool_calls",
            "top_logprobs",
            "truncation",
        ]
    ),
    "reasoning": dict.fromkeys(["context", "effort", "generate_summary", "mode", "summary"]),
    "text": {
        "format": {
            **dict.fromkeys(["type", "strict"]),
            "name": Mark.NAME,
            "schema": Mark.OPAQUE,
            "description": Mark.OPAQUE,
        },
        "verbosity": None,
    },
    "tools": Mark.OPAQUE,
    "tool_choice": Mark.DEFINITIONS,
    "previous_response_id": Mark.OPAQUE,
    "conversation": Mark.OPAQUE,
}


class ResponsesDialect:
    """``POST …/responses``."""

    name = "responses"

    def read_request(self, raw: bytes) -> GuardedRequest:
        """Raises ``UnreadableRequest`` with the parameter that is wrong."""
        body = read_object(raw)
        if read_flag(body, "background"):
            raise UnreadableRequest(
                "an answer in the background would be fetched unguarded; leave background out",
                param="background",
            )
        raw, added = take_policies(raw, body)
        raw, annotations = take_moderation(raw, body, ResponsesModeration())
        return GuardedRequest(
            raw=raw,
            conversation=_conversation(body),
            model=read_model(body),
            stream=read_stream(body),
            choices=1,
            include_usage=False,
            added_policies=added,
            annotations=annotations,
            structured=get(body.get("text"), "format", "type") in STRUCTURED,
            refused_as=Kind.REFUSAL,
        )

    def edit(self, raw: bytes, texts: Mapping[Address, str]) -> bytes:
        """New texts in place; what spells the old ones or points into them goes."""
        changes: dict[Address, object] = {**texts}
        parts = [address for address in texts if address[-1] == "text"]
        if parts:
            body = orjson.loads(raw)
            for address in parts:
                part = json_edit.value_at(body, address[:-1])
                if isinstance(part["text"], str):  # and not a number in any JSON
                    changes |= respelled(part, address[:-1], agreed(part["text"], texts[address]))
        return json_edit.edit(raw, without_removed(changes))

    def drop(self, raw: bytes, turns: Sequence[int]) -> bytes:
        """Take out the items of these turns, or the instructions."""
        said = _said(orjson.loads(raw), [])
        gone: dict[Address, object] = {}
        for turn in turns:
            for item in said[turn].items:
                gone["input", item] = json_edit.REMOVE
            if not said[turn].items:
                gone[said[turn].turn.segments[0].address] = json_edit.REMOVE
        return json_edit.edit(raw, gone)

    def read_response(self, raw: bytes) -> list[Choice]:
        """The whole output as one choice. Raises ``UnreadableResponse``."""
        reading = Reading(answer=True)
        try:
            body = json_edit.loads_strict(raw)
            reading.items(body["output"], ("output",))
            reading.read(body, RESPONSE, ())
        except (KeyError, TypeError, UnreadableRequest):
            raise UnreadableResponse("the upstream's answer is no response") from None
        return [Choice(0, Turn("assistant", as_one(reading.segments)), tuple(reading.unreadable))]

    def refuse_choices(self, raw: bytes, refused: Mapping[int, Refusal], *, structured: bool) -> bytes:
        """Put the refusal in place of the output, in the same way where that is structured."""
        return refused_body(orjson.loads(raw), refused[0])

    def refuse(self, request: GuardedRequest, decision: Decision, refusal: Refusal) -> Reply:
        """A response that holds the refusal, or the error form."""
        if refusal.style == "error":
            return refusal_error(decision, refusal)
        return refused_request(request, decision, refusal)

    def stream(self, request: GuardedRequest) -> ResponsesStream:
        """For one stream."""
        return ResponsesStream(request)

    def error(self, status: int, code: str, message: str, param: str | None = None) -> Reply:
        """OpenAI's error envelope."""
        return openai_error(status, code, message, param)


def _conversation(body: dict[str, Any]) -> Conversation:
    """All texts of a request that reach the model. Raises ``UnreadableRequest``."""
    reading = Reading()
    turns = tuple(said.turn for said in _said(body, reading.unreadable))
    asides: tuple[Turn, ...] = ()
    if prompt := body.get("prompt"):
        reading.unreadable.append("$.prompt")  # the template
        variables = get(prompt, "variables")
        for name, value in variables.items() if isinstance(variables, dict) else ():
            reading.read(value, Mark.PART, ("prompt", "variables", name))
        asides = (Turn("prompt", tuple(reading.segments)),)
    fields = Reading()
    fields.read(body, _FIELDS, ())
    if fields.segments:
        asides += (Turn("names", tuple(fields.segments)),)
    return Conversation(turns, (*reading.unreadable, *fields.unreadable), asides)


def _said(body: dict[str, Any], unreadable: list[str]) -> list[Said]:
    """The turns of a request: its instructions, then its input. Raises ``UnreadableRequest``."""
    said: list[Said] = []
    for key, role in (("instructions", "system"), ("input", "user")):
        value = body.get(key)
        if isinstance(value, str):
            said.append(Said(Turn(role, (Segment(value, (key,)),)), ()))
        elif isinstance(value, list) and key == "input":
            said += read_items(value, ("input",), unreadable)
        elif value is not None:
            raise UnreadableRequest(f"{key} is of a wrong type", param=key)
    return said
