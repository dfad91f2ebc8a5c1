"""The ``embeddings`` dialect: texts in, vectors out. The texts are judged; the answer has to be vectors.

Shapes: platform.openai.com/docs/api-reference/embeddings, and what servers add to it: a chat instead of an
input and vectors as a file (vLLM), objects with texts and images as inputs (Jina, OpenRouter), the name of
a task (Jina, NVIDIA), a bare list of vectors (llama.cpp at ``/embeddings``), several vectors for one input
(Jina). Whatever else may hold text in an answer is passed through and named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from guardrail.core.conversation import Address, Conversation, Segment, Turn, json_path
from guardrail.core.decision import Decision
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire import json_edit
from guardrail.wire.chat_messages import as_list, read_content, read_messages, read_name, strangers
from guardrail.wire.dialect import Choice, EventStream, GuardedRequest
from guardrail.wire.openai_body import read_model, read_object, take_policies, unknown_texts
from guardrail.wire.replies import Refusal, Reply, openai_error, refusal_error

__all__ = ["EmbeddingsDialect"]

# What chooses among the model's own ways to embed; a plain name is no text.
_NAMES: Final = ("input_type", "task", "prompt_name", "truncate")
_KNOWN_FIELDS: Final = frozenset(
    [
        "input",
        "messages",
        "model",
        "guardrails",
        "dimensions",
        "encoding_format",
        "user",
        *_NAMES,
    ]
)
_ITEM_SHAPE: Final[Mapping[str, Any]] = dict.fromkeys(["text", "content"])
# What vLLM answers with a file of numbers.
_FILES: Final = ("bytes", "bytes_only")
_ANSWER_SHAPE: Final[Mapping[str, Any]] = {
    **dict.fromkeys(["id", "object", "created", "model", "data", "usage", "provider", "service_tier"]),
    "meta": dict.fromkeys(["api_version", "billed_units", "tokens"]),
}
_VECTORS: Final = ("embedding", "embeddings")
_ENTRY_SHAPE: Final[Mapping[str, Any]] = dict.fromkeys([*_VECTORS, "index", "object", "encoding_format"])
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_NUMBERS: Final = frozenset({int, float, type(None)})


class EmbeddingsDialect:
    """``POST …/embeddings``."""

    name = "embeddings"

    def read_request(self, raw: bytes) -> GuardedRequest:
        """Raises ``UnreadableRequest`` with the parameter that is wrong."""
        body = read_object(raw)
        raw, added = take_policies(raw, body)
        return GuardedRequest(
            raw=raw,
            conversation=_conversation(body),
            model=read_model(body),
            stream=False,
            choices=0,
            include_usage=False,
            added_policies=added,
            files=body.get("encoding_format") in _FILES,
        )

    def edit(self, raw: bytes, texts: Mapping[Address, str]) -> bytes:
        """New texts in place."""
        return json_edit.edit(raw, texts)

    def drop(self, raw: bytes, turns: Sequence[int]) -> bytes:
        """Take out messages. An ``input`` is one turn, so of a body with one nothing is ever dropped."""
        return json_edit.edit(raw, {("messages", turn): json_edit.REMOVE for turn in turns})

    def read_response(self, raw: bytes) -> list[Choice]:
        """No choices: vectors are no text. One without a text names what else may hold any.

        Raises ``UnreadableResponse`` for what holds no vectors.
        """
        try:
            unreadable = _beside_vectors(json_edit.loads_strict(raw))
        except (AttributeError, KeyError, TypeError, UnreadableRequest):
            raise UnreadableResponse("the upstream's answer holds no vectors") from None
        return [Choice(0, Turn("assistant", ()), tuple(unreadable))] if unreadable else []

    def refuse_choices(self, raw: bytes, refused: Mapping[int, Refusal], *, structured: bool) -> bytes:
        """The body as it is, where none is refused.

        Raises ``UnreadableResponse`` otherwise: no words can stand in the place of a vector.
        """
        if refused:
            raise UnreadableResponse("the upstream's answer holds more than vectors")
        return raw

    def refuse(self, request: GuardedRequest, decision: Decision, refusal: Refusal) -> Reply:
        """Always the error form: no words can stand in the place of a vector."""
        return refusal_error(decision, refusal)

    def stream(self, request: GuardedRequest) -> EventStream:
        """Raises ``UnreadableResponse``: vectors are not streamed."""
        raise UnreadableResponse("the upstream streams what is no text")

    def error(self, status: int, code: str, message: str, param: str | None = None) -> Reply:
        """OpenAI's error envelope."""
        return openai_error(status, code, message, param)


def _conversation(body: dict[str, Any]) -> Conversation:
    """The chat, or all inputs as one turn: they are answered by number, so that none can be left out.

    Raises ``UnreadableRequest``.
    """
    given, messages = body.get("input"), body.get("messages")
    if (given is None) == (messages is None):
        raise UnreadableRequest("a request has either input or messages", param="input")
    unreadable: list[str] = []
    if messages is not None:
        if not isinstance(messages, list):
            raise UnreadableRequest("messages is not a list", param="messages")
        chat = read_messages(messages)
        turns = chat.turns
        unreadable += chat.unreadable
    else:
        turns = (Turn("user", tuple(_read_input(given, unreadable))),)
    names = tuple([name for key in _NAMES for name in read_name(body, (key,), (), unreadable)])
    unreadable += unknown_texts(body, _KNOWN_FIELDS)
    return Conversation(turns, tuple(unreadable), (Turn("task", names),) if names else ())


def _read_input(given: Any, unreadable: list[str]) -> Iterator[Segment]:
    """The texts of the inputs; token ids are named all together."""
    inputs: list[tuple[Address, Any]] = [(("input",), given)]
    if isinstance(given, list):
        inputs = [(("input", index), one) for index, one in enumerate(given)]
    tokens = False
    for address, one in inputs:
        if isinstance(one, str):
            yield Segment(one, address)
        elif isinstance(one, dict):
            yield from _read_item(one, address, unreadable)
        else:
            tokens = True
    if tokens:
        unreadable.append("$.input")


def _read_item(item: dict[str, Any], at: Address, unreadable: list[str]) -> Iterator[Segment]:
    """An input that is an object, such as ``{"text": …}``, ``{"image": …}`` or parts of a chat message."""
    text = item.get("text")
    if isinstance(text, str):
        yield Segment(text, (*at, "text"))
    elif text is not None:
        unreadable.append(json_path((*at, "text")))
    yield from read_content(item.get("content"), (*at, "content"), unreadable)
    unreadable.extend(strangers(item, _ITEM_SHAPE, at))


def _beside_vectors(body: Any) -> list[str]:
    """The paths of what may be text in an answer.

    Raises ``AttributeError``, ``KeyError`` and ``TypeError`` for what is no list of vectors,
    ``UnreadableRequest`` as ``strangers``.
    """
    at: Address = ()
    unreadable: list[str] = []
    entries = body
    if isinstance(body, dict):
        entries, at = body["data"], ("data",)
        unreadable += strangers(body, _ANSWER_SHAPE, ())
    for index, entry in enumerate(as_list(entries)):
        here = (*at, index)
        vectors = {key: entry[key] for key in _VECTORS if entry.get(key) is not None}
        if not vectors:
            raise KeyError("embedding")
        for key, vector in vectors.items():
            if isinstance(vector, dict):  # such as a sparse one
                unreadable.append(json_path((*here, key)))
            elif not (_is_base64(vector) or _is_numbers(vector)):
                raise TypeError("not a vector")
        unreadable += strangers(entry, _ENTRY_SHAPE, here)
    return unreadable


def _is_base64(value: Any) -> bool:
    return isinstance(value, str) and len(value) % 4 == 0 and _BASE64.fullmatch(value) is not None


def _is_numbers(value: Any) -> bool:
    """Whether this is a list of numbers, or of such lists."""
    if not isinstance(value, list):
        return False
    types = set(map(type, value))
    return types <= _NUMBERS or (types == {list} and all(map(_is_numbers, value)))
