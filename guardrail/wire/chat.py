"""The ``chat.completions`` dialect of OpenAI's API, for bodies and for streams.

Shapes: platform.openai.com/docs/api-reference/chat and the variants that servers add to it
(``reasoning`` and ``reasoning_content``). Whatever is not understood is passed through and named.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from guardrail.core.conversation import Address, Conversation, Kind, Turn, json_path
from guardrail.core.decision import Decision
from guardrail.core.redaction import Redaction
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire import json_edit, sse
from guardrail.wire.chat_messages import (
    ITEM_NAMES,
    ITEM_TEXTS,
    get,
    read_content,
    read_message,
    read_messages,
    read_name,
    read_structured,
    strangers,
)
from guardrail.wire.dialect import Choice, Delta, GuardedRequest, StreamEvent
from guardrail.wire.replies import (
    EVENT_STREAM,
    Refusal,
    Reply,
    error_body,
    openai_error,
    refusal_error,
)

__all__ = ["ChatDialect"]

MAX_RUN: Final = 16  # more in one would hold text longer than it must
_DONE: Final = b"data: [DONE]\n\n"
_NO_CHUNK: Final = "the upstream sent an event that is no chunk"
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
_CHANNELS: Final = {
    "content": Kind.TEXT,
    "reasoning_content": Kind.REASONING,
    "reasoning": Kind.REASONING,
    "refusal": Kind.REFUSAL,
}
# What servers put beside the message of a choice that is no text of the answer's.
_CHOICE_SHAPE: Final[Mapping[str, Any]] = dict.fromkeys(
    [
        "index",
        "message",
        "delta",
        "finish_reason",
        "native_finish_reason",
        "stop_reason",
        "matched_stop",
        "logprobs",
        "content_filter_results",
        "content_filter_result",
        "content_filter_offsets",
        "token_ids",
        "seed",
        "error",
    ]
)
_PLAIN_CHOICE: Final = frozenset({"index", "delta", "logprobs", "finish_reason"})
_FIRST_CONTENT: Final[Address] = ("choices", 0, "delta", "content")
_SILENT_DELTA: Final = frozenset({"role", "obfuscation"})


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
        )

    def edit(self, raw: bytes, redactions: Sequence[Redaction]) -> bytes:
        """Replace the redacted strings; log probabilities of a redacted choice spell it, so they go."""
        changes: dict[Address, object] = {r.address: r.text for r in redactions}
        choices = {r.address[1] for r in redactions if r.address[0] == "choices"}
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
                unreadable += strangers(choice, _CHOICE_SHAPE, at[:2])
                found.append(Choice(position, Turn("assistant", segments), tuple(unreadable)))
        except (KeyError, TypeError, AttributeError, UnreadableRequest):
            raise UnreadableResponse("the upstream's answer is no chat completion") from None
        return found

    def refuse_choices(self, raw: bytes, refused: Mapping[int, Decision], refusal: Refusal) -> bytes:
        """Put the refusal in place of the choices at these positions."""
        choices = orjson.loads(raw)["choices"]
        changes: dict[Address, object] = {
            ("choices", position): _refused_choice(choices[position].get("index", position), refusal)
            for position in refused
        }
        return json_edit.edit(raw, changes)

    def refuse(self, request: GuardedRequest, decision: Decision, refusal: Refusal) -> Reply:
        """As many refused choices as were asked for, or the error form."""
        if refusal.style == "error":
            return refusal_error(decision, refusal)
        head = {
            "id": f"chatcmpl-{decision.id}",
            "created": int(time.time()),
            "model": request.model,
        }
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        if not request.stream:
            body = head | {
                "object": "chat.completion",
                "choices": [_refused_choice(i, refusal) for i in range(request.choices)],
                "usage": usage,
            }
            return Reply(200, orjson.dumps(body))
        head |= {"object": "chat.completion.chunk"}
        chunks = []
        for index in range(request.choices):
            for delta, reason in (
                ({"role": "assistant", "content": ""}, None),
                ({"content": refusal.message}, None),
                ({}, refusal.finish_reason),
            ):
                chunks.append(_chunk(head, index, delta, reason))
        if request.include_usage:
            chunks.append(sse.encode(orjson.dumps(head | {"choices": [], "usage": usage})))
        return Reply(200, b"".join(chunks) + _DONE, (EVENT_STREAM,))

    def read_event(self, event: sse.Event) -> StreamEvent:
        """The text that one chunk adds. Raises ``UnreadableResponse``."""
        chunk = _chunk_in(event)
        plain = _plain(chunk)
        return self._read_chunk(event, chunk) if plain is None else _run([event], [plain[1]], plain[0])

    def read_events(self, events: Sequence[sse.Event]) -> Iterator[StreamEvent]:
        """As ``read_event``, with runs of chunks that hold nothing but text of one choice read as one."""
        run: list[sse.Event] = []
        texts: list[str] = []
        choice = 0
        for event in events:
            try:
                chunk = _chunk_in(event)
            except UnreadableResponse:
                if run:
                    yield _run(run, texts, choice)
                raise
            plain = _plain(chunk)
            if run and (plain is None or plain[0] != choice or len(run) == MAX_RUN):
                yield _run(run, texts, choice)
                run, texts = [], []
            if plain is None:
                yield self._read_chunk(event, chunk)
            else:
                choice = plain[0]
                run.append(event)
                texts.append(plain[1])
        if run:
            yield _run(run, texts, choice)

    def _read_chunk(self, event: sse.Event, chunk: Any) -> StreamEvent:
        try:
            choices: Sequence[Any] = chunk.get("choices") or ()
            deltas: list[Delta] = []
            finished: list[int] = []
            unreadable: list[str] = []
            indexes: list[int] = []
            for position, choice in enumerate(choices):
                index = _index(choice)
                indexes.append(index)
                for key in ("delta", "message"):
                    if added := choice.get(key):
                        _read_delta(added, index, ("choices", position, key), deltas, unreadable)
                unreadable += strangers(choice, _CHOICE_SHAPE, ("choices", position))
                if choice.get("finish_reason"):
                    finished.append(index)
        except (AttributeError, TypeError, KeyError, UnreadableRequest):
            raise UnreadableResponse(_NO_CHUNK) from None
        return StreamEvent(event, deltas, finished, unreadable, indexes)

    def edit_event(self, event: sse.Event, texts: Mapping[Address, str], dropped: Sequence[int]) -> bytes:
        """New texts in place, halted choices taken out, log probabilities of both gone.

        No text may stand in a choice that is taken out.
        """
        data = event.data or b"{}"
        choices = orjson.loads(data).get("choices") or []
        gone = [place for place, choice in enumerate(choices) if _index(choice) in dropped]
        if gone and len(gone) == len(choices):
            return b""
        changes: dict[Address, object] = {("choices", place): json_edit.REMOVE for place in gone}
        for address, text in texts.items():
            changes[address] = text
            place = int(address[1])
            if choices[place].get("logprobs"):
                changes["choices", place, "logprobs"] = None
        return sse.encode(json_edit.edit(data, changes)) if changes else event.raw

    def halt(
        self,
        last: sse.Event | None,
        choice: int,
        decision: Decision,
        refusal: Refusal,
        *,
        spoke: bool,
    ) -> bytes:
        """The end of one choice, in the identity (id, model) of the stream's own chunks.

        A choice that never ``spoke`` gets the refusal's text first.
        """
        if refusal.style == "error":
            return sse.encode(refusal_error(decision, refusal).body)
        head: dict[str, Any] = {
            "id": f"chatcmpl-{decision.id}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": "",
        }
        if last is not None and last.data:
            body = orjson.loads(last.data)
            head |= {key: body[key] for key in head if key in body}
        text = {"role": "assistant", "content": refusal.message}
        said = b"" if spoke else _chunk(head, choice, text, None)
        return said + _chunk(head, choice, {}, refusal.finish_reason)

    def end(self) -> bytes:
        """``[DONE]``."""
        return _DONE

    def error_event(self, code: str, message: str) -> bytes:
        """An ``error`` object as an event, which SDKs raise; no ``[DONE]`` follows."""
        return sse.encode(error_body(code, message, type_="guardrail_error"))

    def error(self, status: int, code: str, message: str, param: str | None = None) -> Reply:
        """OpenAI's error envelope."""
        return openai_error(status, code, message, param)


def _chunk_in(event: sse.Event) -> Any:
    """The chunk in an event; an empty one for a comment and ``[DONE]``. Raises ``UnreadableResponse``."""
    data = event.data
    if data is None:
        return {}
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        if data.strip() == b"[DONE]":
            return {}
        raise UnreadableResponse(_NO_CHUNK) from None


def _plain(chunk: Any) -> tuple[int, str] | None:
    """Choice and text of a chunk that carries nothing else, as nearly every one does."""
    try:
        (choice,) = chunk["choices"]
        delta, index = choice["delta"], choice.get("index", 0)
        text = delta["content"]
        if (
            type(text) is str
            and text
            and type(index) is int
            and len(delta) == 1
            and choice.keys() <= _PLAIN_CHOICE
            and not choice.get("finish_reason")
        ):
            return index, text
    except (KeyError, TypeError, ValueError, AttributeError):
        pass  # _read_chunk says what it is
    return None


def _run(events: list[sse.Event], texts: list[str], choice: int) -> StreamEvent:
    """Plain chunks of one choice as one event."""
    whole, parts = events[0], events
    if len(events) == 1:
        parts = []
    else:
        whole = sse.Event(b"".join([event.raw for event in events]), events[-1].data)
    delta = Delta(choice, "content", Kind.TEXT, "".join(texts), _FIRST_CONTENT)
    return StreamEvent(whole, (delta,), (), (), (choice,), parts)


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


def _refused_choice(index: int, refusal: Refusal) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": refusal.message, "refusal": None},
        "logprobs": None,
        "finish_reason": refusal.finish_reason,
    }


def _chunk(head: dict[str, Any], index: int, delta: dict[str, Any], reason: str | None) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
    return sse.encode(orjson.dumps(head | {"choices": [choice]}))


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index", 0)
    if type(index) is not int:
        raise TypeError("an index is not a number")
    return index


def _read_delta(
    delta: dict[str, Any], index: int, at: Address, deltas: list[Delta], unreadable: list[str]
) -> None:
    for key, value in delta.items():
        if not value:
            continue
        if key == "content" and isinstance(value, str):  # nearly every chunk ends here
            deltas.append(Delta(index, "content", Kind.TEXT, value, (*at, "content")))
            continue
        kind = _CHANNELS.get(key)
        if kind and isinstance(value, str):
            deltas.append(Delta(index, key, kind, value, (*at, key)))
        elif key == "tool_calls":
            for place, call in enumerate(value):
                channel = f"{key}[{call.get('index', place)}]"
                _read_call(key, call, index, channel, (*at, key, place), deltas, unreadable)
        elif key == "function_call":
            _read_call(key, value, index, key, (*at, key), deltas, unreadable)
        elif key == "reasoning_details":
            parts = read_structured(key, value, (*at, key), unreadable)
            deltas.extend(Delta(index, key, part.kind, part.text, part.address) for part in parts)
        elif key not in _SILENT_DELTA and isinstance(value, str | list | dict):
            unreadable.append(json_path((*at, key)))


def _read_call(
    key: str,
    call: dict[str, Any],
    index: int,
    channel: str,
    at: Address,
    deltas: list[Delta],
    unreadable: list[str],
) -> None:
    """A piece of a call. One without text counts too: a call's head waits for its arguments."""
    for way in ITEM_NAMES[key]:
        for name in read_name(call, way, at, unreadable):
            where = f"{channel}.{way[-1]}"
            deltas.append(Delta(index, where, name.kind, name.text, name.address, whole=True))
    groups = [
        (way, kind, (call.get(way[0]) or {}) if len(way) > 1 else call) for way, kind in ITEM_TEXTS[key]
    ]
    for way, kind, group in [g for g in groups if g[2]] or groups[:1]:
        text = group.get(way[-1]) or ""
        if isinstance(text, str):
            deltas.append(Delta(index, channel, kind, text, (*at, *way), whole=True))
        else:
            unreadable.append(json_path(at))
