"""Requests, answers and events of the messages dialect for its tests, plain and drawn at random."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import orjson
import pydantic
from anthropic.types import RawMessageStreamEvent
from hypothesis import strategies as st

from guardrail.core.conversation import Address, Conversation
from guardrail.wire.messages import CountTokensDialect, MessagesDialect
from guardrail.wire.messages_stream import MessagesStream
from guardrail.wire.sse import Event, SseDecoder, encode
from tests.wire.chats import PLAIN, mostly, segments, shaped, strings, values

MESSAGES = MessagesDialect()
COUNT = CountTokensDialect()


def body(*messages: Any, **fields: Any) -> bytes:
    return orjson.dumps({"model": "m", "max_tokens": 9, "messages": list(messages), **fields})


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **fields}


def thinking(words: str, signature: str = "c2ln") -> dict[str, Any]:
    return {"type": "thinking", "thinking": words, "signature": signature}


def tool_use(given: Any, name: str = "book", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": name, "input": given, **fields}


def tool_result(content: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "toolu_1", "content": content, **fields}


USAGE = {"input_tokens": 3, "output_tokens": 5}


def message(*blocks: Any, **fields: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m-1",
        "content": list(blocks),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": USAGE,
        **fields,
    }


def answer(*blocks: Any, **fields: Any) -> bytes:
    return orjson.dumps(message(*blocks, **fields))


def event(type_: str, **fields: Any) -> Event:
    return named(type_, {"type": type_, **fields})


def named(name: str, data: Any) -> Event:
    raw = data if isinstance(data, bytes) else orjson.dumps(data)
    return Event(encode(raw, name), raw)


def started(**fields: Any) -> Event:
    return event("message_start", message=message(stop_reason=None, **fields))


def opened(block: Any, index: int = 0) -> Event:
    return event("content_block_start", index=index, content_block=block)


def delta(type_: str, index: int = 0, **fields: Any) -> Event:
    return event("content_block_delta", index=index, delta={"type": type_, **fields})


def said(words: str, index: int = 0) -> Event:
    return delta("text_delta", index, text=words)


def thought(words: str, index: int = 0) -> Event:
    return delta("thinking_delta", index, thinking=words)


def piece_of_input(piece: str, index: int = 0) -> Event:
    return delta("input_json_delta", index, partial_json=piece)


def closed(index: int = 0) -> Event:
    return event("content_block_stop", index=index)


def ended(reason: str | None = "end_turn", **fields: Any) -> Event:
    stop = {"stop_reason": reason, "stop_sequence": None, **fields}
    return event("message_delta", delta=stop, usage={"output_tokens": 7})


STOPPED = event("message_stop")
PING = event("ping")


def whole(*blocks: tuple[dict[str, Any], list[Event]]) -> list[Event]:
    """A stream of blocks: each as its start and its deltas."""
    events = [started(), PING]
    for index, (block, deltas) in enumerate(blocks):
        events += [opened(block, index), *deltas, closed(index)]
    return [*events, ended(), STOPPED]


def texts(conversation: Conversation) -> list[str]:
    return [segment.text for segment in segments(conversation)]


def stream(**fields: Any) -> MessagesStream:
    return MessagesStream(MESSAGES.read_request(body(user("hi"), stream=True, **fields)))


def played(events: list[Event], **fields: Any) -> MessagesStream:
    """A stream of which these events have left as they are."""
    own = stream(**fields)
    for read in own.read(events):
        own.write(read, {}, ())
    return own


def sdk(content: bytes, status: int = 200, kind: str = "text/event-stream") -> anthropic.Anthropic:
    """The real client, to which any request is answered so."""

    def reply(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, content=content, headers={"content-type": kind})

    return anthropic.Anthropic(
        api_key="unused",
        base_url="http://upstream.invalid",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(reply)),
    )


_EVENTS: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(RawMessageStreamEvent)


def strictly(raw: bytes) -> list[Any]:
    """The events of a stream in the SDK's own types, checked; each has its type for a name."""
    decoder = SseDecoder()
    events = decoder.feed(raw)
    assert decoder.flush() is None
    events = [e for e in events if e != PING]  # which the SDK skips
    found = [_EVENTS.validate_json(e.data or b"") for e in events]
    assert [e.raw.split(b"\n")[0] for e in events] == [f"event: {e.type}".encode() for e in found]
    return found


def final(raw: bytes) -> Any:
    """The message that the SDK's helper puts together from a stream."""
    with sdk(raw) as client, client.messages.stream(model="m", max_tokens=9, messages=[]) as own:
        return own.get_final_message()


TYPES = [
    *[
        "text",
        "thinking",
        "redacted_thinking",
        "image",
        "document",
        "search_result",
        "tool_use",
        "tool_result",
    ],
    *["server_tool_use", "mcp_tool_use", "mcp_tool_result", "web_search_tool_result", "container_upload"],
    *["web_search_result", "code_execution_result", "new_type", "char_location", "content", "base64"],
]
types = st.sampled_from(TYPES)

_strings_or_values = strings | values
_common: dict[str, st.SearchStrategy[Any]] = {
    "type": types,
    "text": strings,
    "thinking": strings,
    "signature": strings,
    "input": _strings_or_values,
    "name": strings,
    "id": strings,
    "title": strings,
    "x": values,
}
_simple = shaped(
    **_common,
    url=strings,
    data=strings,
    content=_strings_or_values,
    source=shaped(type=types, data=strings, media_type=strings, content=_strings_or_values, x=values),
    citations=st.lists(shaped(type=types, cited_text=strings, title=strings, url=strings), max_size=2),
    encrypted_content=strings,
    tool_use_id=strings,
    cache_control=values,
)
blocks = shaped(
    **_common,
    content=st.one_of(strings, _simple, st.lists(_simple, max_size=2)),
    source=shaped(type=types, data=strings, content=st.lists(_simple, max_size=2)),
)
contents = st.one_of(strings, st.lists(mostly(blocks), max_size=3))

_QUIET = frozenset({"cache_control", "signature", "encrypted_index", "caller"})


def is_silent(address: Address, words: str) -> bool:
    """Whether a text of a block may stay neither judged nor named: marks, signatures, plain names."""
    return bool(_QUIET & {*address}) or PLAIN.fullmatch(words) is not None
