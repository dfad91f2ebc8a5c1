"""The ``completions`` dialect: OpenAI's older way, a prompt in and its continuation out.

Shapes: platform.openai.com/docs/api-reference/completions and the variants that servers add to it. Whatever
is not understood is passed through and named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from guardrail.core.conversation import Address, Conversation, Segment, Turn
from guardrail.core.decision import Decision
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire import json_edit, spelled
from guardrail.wire.chat_messages import as_list, beside
from guardrail.wire.chat_refusals import refused_choices
from guardrail.wire.completions_choices import read_choice
from guardrail.wire.completions_refusals import refused_choice, refused_request
from guardrail.wire.completions_stream import CompletionsStream
from guardrail.wire.dialect import Choice, EventStream, GuardedRequest
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

__all__ = ["CompletionsDialect"]

MAX_CHOICES: Final = 2_048  # a refusal of our own is as long as there are choices

_NO_COMPLETION: Final = "the upstream's answer is no completion"
_SILENT_FIELDS: Final = GENERATING_FIELDS | {"prompt", "suffix", "best_of", "echo", "messages"}


class CompletionsDialect:
    """``POST …/completions``."""

    name = "completions"

    def read_request(self, raw: bytes) -> GuardedRequest:
        """Raises ``UnreadableRequest`` with the parameter that is wrong."""
        body = read_object(raw)
        if body.get("messages") is not None:  # an upstream that is lenient with paths may read a chat
            raise UnreadableRequest("messages are asked of chat/completions", param="messages")
        raw, added = take_policies(raw, body)
        choices = read_n(body) * _prompts(body)
        if choices > MAX_CHOICES:
            raise UnreadableRequest(
                f"the prompts, times n, make more than {MAX_CHOICES} choices", param="prompt"
            )
        return GuardedRequest(
            raw=raw,
            conversation=_conversation(body),
            model=read_model(body),
            stream=read_stream(body),
            choices=choices,
            include_usage=read_usage(body),
            added_policies=added,
            structured=is_structured(body),
        )

    def edit(self, raw: bytes, texts: Mapping[Address, str]) -> bytes:
        """New texts in place; what spells the old text of a choice goes."""
        return spelled.put(raw, texts)

    def drop(self, raw: bytes, turns: Sequence[int]) -> bytes:
        """Take out all that is asked: it is one turn."""
        asked = [key for key in ("prompt", "suffix") if key in orjson.loads(raw)] if turns else []
        return json_edit.edit(raw, {(key,): json_edit.REMOVE for key in asked})

    def read_response(self, raw: bytes) -> list[Choice]:
        """The text of every choice. Raises ``UnreadableResponse``."""
        try:
            body = json_edit.loads_strict(raw)
            outside = beside(body)
            choices = enumerate(as_list(body["choices"]))
            found = [_read_choice(choice, place, outside) for place, choice in choices]
        except (KeyError, TypeError, AttributeError, UnreadableRequest):
            raise UnreadableResponse(_NO_COMPLETION) from None
        if outside and not found:  # text of another protocol, which would belong to no choice
            raise UnreadableResponse(_NO_COMPLETION)
        return found

    def refuse_choices(self, raw: bytes, refused: Mapping[int, Refusal], *, structured: bool) -> bytes:
        """Put their refusals in place of the choices at these positions."""
        return refused_choices(raw, refused, refused_choice)

    def refuse(self, request: GuardedRequest, decision: Decision, refusal: Refusal) -> Reply:
        """As many refused choices as were asked for, or the error form."""
        if refusal.style == "error":
            return refusal_error(decision, refusal)
        return refused_request(request, decision, refusal)

    def stream(self, request: GuardedRequest) -> EventStream:
        """A new one for each stream."""
        return CompletionsStream(request)

    def error(self, status: int, code: str, message: str, param: str | None = None) -> Reply:
        """OpenAI's error envelope."""
        return openai_error(status, code, message, param)


def _read_choice(choice: dict[str, Any], place: int, outside: list[str]) -> Choice:
    if "text" not in choice:
        raise KeyError("a choice has no text")
    unreadable = [*outside]
    texts = read_choice(choice, ("choices", place), unreadable)
    segments = tuple([Segment(text.text, text.address, text.kind) for text in texts])
    return Choice(place, Turn("assistant", segments), tuple(unreadable))


def _prompts(body: dict[str, Any]) -> int:
    """How many prompts are asked for: a list of numbers is one prompt in token ids.

    vLLM takes prompts as embeddings beside the others. Without any the model begins from nothing.
    """
    count = 0
    for prompts in (body.get("prompt"), body.get("prompt_embeds")):
        if isinstance(prompts, list) and not any(isinstance(prompt, int) for prompt in prompts):
            count += len(prompts)
        else:
            count += bool(prompts)
    return count or 1


def _conversation(body: dict[str, Any]) -> Conversation:
    """All prompts as one turn.

    They are answered side by side and by number, so that none can be left out where it was blocked before.
    """
    unreadable: list[str] = []
    segments: list[Segment] = []
    prompt = body.get("prompt")
    asked: list[tuple[Address, Any]] = [(("prompt",), prompt)]
    if isinstance(prompt, list):
        asked = [(("prompt", index), one) for index, one in enumerate(prompt)]
    for address, one in asked:
        if isinstance(one, str):
            segments.append(Segment(one, address))
        elif one is not None:
            unreadable = ["$.prompt"]
    suffix = body.get("suffix")
    if isinstance(suffix, str):
        segments.append(Segment(suffix, ("suffix",)))
    elif suffix:
        unreadable.append("$.suffix")
    unreadable += unknown_texts(body, _SILENT_FIELDS)
    return Conversation((Turn("user", tuple(segments)),), tuple(unreadable))
