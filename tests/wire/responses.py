"""Requests, answers and streams of the responses dialect for its tests, plain and drawn at random."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson
import pydantic
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent

from guardrail.core.conversation import Address
from guardrail.wire.dialect import Delta, GuardedRequest, StreamEvent
from guardrail.wire.responses import ResponsesDialect
from guardrail.wire.responses_events import ADDING
from guardrail.wire.responses_stream import ResponsesStream
from guardrail.wire.sse import Event, SseDecoder, encode
from tests.wire.chats import extras, mostly, shaped, strings, values

RESPONSES = ResponsesDialect()
Json = dict[str, Any]
_EVENTS: dict[str, type[pydantic.BaseModel]] = {
    typing.get_args(model.model_fields["type"].annotation)[0]: model
    for model in typing.get_args(typing.get_args(ResponseStreamEvent)[0])
}


def body(given: Any = "hi", **fields: Any) -> bytes:
    return orjson.dumps({"model": "m", "input": given, **fields})


def asked(**fields: Any) -> GuardedRequest:
    return RESPONSES.read_request(body(**fields))


def said(text: str, kind: str = "input_text", **fields: Any) -> Json:
    key = "refusal" if kind == "refusal" else "text"
    more = {"annotations": [], "logprobs": []} if kind == "output_text" else {}
    return {"type": kind, key: text, **more, **fields}


def message(*parts: Any, role: str = "assistant", at: int = 0) -> Json:
    content = [said(part, "output_text") if isinstance(part, str) else part for part in parts]
    return {"id": f"msg_{at}", "type": "message", "role": role, "status": "completed", "content": content}


def reasoning(*summary: str, at: int = 0, **fields: Any) -> Json:
    parts = [said(text, "summary_text") for text in summary]
    return {"id": f"rs_{at}", "type": "reasoning", "summary": parts, **fields}


def call(arguments: str = "{}", name: str = "look_up", at: int = 0, **fields: Any) -> Json:
    return {
        "id": f"fc_{at}",
        "type": "function_call",
        "status": "completed",
        "arguments": arguments,
        "call_id": f"call_{at}",
        "name": name,
        **fields,
    }


def citation(start: int, end: int, title: str = "A title", url: str = "https://x.example/a") -> Json:
    return {"type": "url_citation", "start_index": start, "end_index": end, "title": title, "url": url}


def response(*items: Any, **fields: Any) -> Json:
    """A response as OpenAI sends it."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_760_000_000,
        "status": "completed",
        "background": False,
        "billing": {"payer": "developer"},
        "error": None,
        "incomplete_details": None,
        "instructions": "Be brief.",
        "metadata": {},
        "model": "m-1",
        "output": list(items),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
        **fields,
    }


def answer(*items: Any, **fields: Any) -> bytes:
    return orjson.dumps(response(*items, **fields))


def told(*items: Json, size: int = 4, **fields: Any) -> list[Json]:
    """The events in which OpenAI streams such a response, texts in pieces of ``size``."""
    whole = response(*items, **fields)
    begun = {**whole, "status": "in_progress", "output": []}
    events: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for at, item in enumerate(items):
        empty = {**item, "status": "in_progress"}
        inside: list[Json] = []
        for parts, index in (("summary", "summary_index"), ("content", "content_index")):
            if parts in item:
                empty[parts] = []
                for number, part in enumerate(item[parts]):
                    where = {"item_id": item["id"], "output_index": at, index: number}
                    inside += _part(part, parts, where, size)
        for middle, adding in ADDING.items():
            if adding.item == item["type"] and not adding.numbered:
                empty[adding.key] = ""
                where = {"item_id": item["id"], "output_index": at}
                inside += _pieces(item[adding.key], middle, adding.key, where, size)
                if adding.item == "function_call":
                    inside[-1]["name"] = item["name"]
        events.append({"type": "response.output_item.added", "output_index": at, "item": empty})
        events += inside
        events.append({"type": "response.output_item.done", "output_index": at, "item": item})
    events.append({"type": "response.completed", "response": whole})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _part(part: Json, parts: str, where: Json, size: int) -> Iterator[Json]:
    middle, key = next((m, a.key) for m, a in ADDING.items() if a.part == part["type"])
    name = "reasoning_summary_part" if parts == "summary" else "content_part"
    empty = {**part, key: "", **({"annotations": []} if "annotations" in part else {})}
    yield {"type": f"response.{name}.added", **where, "part": empty}
    yield from _pieces(part[key], middle, key, where, size, part.get("annotations") or ())
    yield {"type": f"response.{name}.done", **where, "part": part}


def _pieces(
    text: str, middle: str, key: str, where: Json, size: int, annotations: Sequence[Json] = ()
) -> Iterator[Json]:
    spelled: Json = {"logprobs": []} if middle == "output_text" else {}
    for start in range(0, len(text), size):
        piece = text[start : start + size]
        yield {"type": f"response.{middle}.delta", **where, "delta": piece, **spelled}
    for number, annotation in enumerate(annotations):
        kind = "response.output_text.annotation.added"
        yield {"type": kind, **where, "annotation_index": number, "annotation": annotation}
    yield {"type": f"response.{middle}.done", **where, key: text, **spelled}


def encoded(events: Sequence[Json]) -> bytes:
    return b"".join(encode(orjson.dumps(event), event["type"]) for event in events)


def decoded(stream: bytes) -> list[Json]:
    """The events of a stream; each named in the line ``event`` as in its data."""
    decoder = SseDecoder()
    events = decoder.feed(stream)
    assert decoder.flush() is None
    found = [orjson.loads(event.data or b"") for event in events]
    assert all(
        e.raw.startswith(f"event: {f['type']}\n".encode()) for e, f in zip(events, found, strict=True)
    )
    return found


Change = Callable[[Delta], str]


def passed(
    stream: ResponsesStream, raw: bytes | Sequence[Event], change: Change = lambda delta: delta.text
) -> tuple[bytes, list[StreamEvent]]:
    """What leaves when each text that is new leaves changed so, and what was read."""
    events = SseDecoder().feed(raw) if isinstance(raw, bytes) else raw
    out, reads = [], []
    for read in stream.read(events):
        texts = {delta.address: change(delta) for delta in read.deltas}
        out.append(stream.write(read, {a: t for a, t in texts.items() if t is not None}, ()))
        reads.append(read)
    return b"".join(out), reads


def channels(reads: Sequence[StreamEvent]) -> dict[str, str]:
    """All that was read as new, by channel."""
    found: dict[str, str] = {}
    for read in reads:
        for delta in read.deltas:
            found[delta.channel] = found.get(delta.channel, "") + delta.text
    return found


def gathered(events: Sequence[Json]) -> dict[Address, str]:
    """What the pieces add up to, by the place of their text: what a client shows while it comes."""
    found: dict[Address, str] = {}
    for one in events:
        middle, _, end = one["type"].removeprefix("response.").rpartition(".")
        if end == "delta" and middle in ADDING:
            adding = ADDING[middle]
            way: Address = (one["output_index"],)
            if adding.numbered:
                way = (*way, adding.parts, one[adding.numbered])
            found[(*way, adding.key)] = found.get((*way, adding.key), "") + one["delta"]
    return found


def spoken(output: Sequence[Json]) -> dict[Address, str]:
    """The same texts out of the output of a whole response."""
    found: dict[Address, str] = {}
    for at, item in enumerate(output):
        for adding in ADDING.values():
            if adding.item != item["type"]:
                continue
            if not adding.numbered:
                found[at, adding.key] = item[adding.key]
                continue
            for number, part in enumerate(item.get(adding.parts) or ()):
                if part["type"] == adding.part:
                    found[at, adding.parts, number, adding.key] = part[adding.key]
    return {place: text for place, text in found.items() if text}


def in_order(events: Sequence[Json]) -> bool:
    """Whether the events are numbered without a gap."""
    return [one["sequence_number"] for one in events] == list(range(len(events)))


def strictly(events: Sequence[Json]) -> None:
    """Each event is what the SDK's types say, and nothing else."""
    for one in events:
        found = _EVENTS[one["type"]].model_validate_json(orjson.dumps(one), strict=True)
        assert extras(found) == []


def whole(raw: bytes) -> Response:
    """A body in the SDK's type, checked strictly."""
    found = Response.model_validate_json(raw, strict=True)
    assert extras(found) == []
    return found


KINDS = [
    "message",
    "reasoning",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "mcp_call",
    "web_search_call",
    "computer_call",
    "item_reference",
]
part_types = st.sampled_from(["input_text", "output_text", "refusal", "summary_text", "input_image"])
parts = shaped(
    type=part_types,
    text=strings,
    refusal=strings,
    annotations=st.lists(shaped(title=strings, url=strings, end_index=st.integers(0, 9)), max_size=2),
    logprobs=values,
    x=values,
)
contents = st.one_of(strings, st.lists(parts, max_size=3))
items = shaped(
    type=st.sampled_from(KINDS),
    id=strings,
    role=st.sampled_from(["user", "assistant", "system", "critic"]),
    content=contents,
    summary=st.lists(parts, max_size=2),
    encrypted_content=strings,
    call_id=strings,
    name=strings,
    arguments=strings,
    input=strings,
    output=contents,
    action=shaped(query=strings, text=strings, keys=st.lists(strings, max_size=2)),
    x=values,
)
responses = shaped(
    id=strings, output=st.lists(items, max_size=3), status=strings, instructions=strings, x=values
)
requests = shaped(
    model=strings,
    input=st.one_of(strings, st.lists(items, max_size=4)),
    instructions=strings,
    prompt=shaped(id=strings, variables=st.dictionaries(strings, strings | parts, max_size=2)),
    text=shaped(format=shaped(type=strings, schema=values)),
    tools=values,
    previous_response_id=strings,
    stream=st.booleans(),
    background=st.booleans(),
    guardrails=st.lists(strings, max_size=2),
    x=values,
)
_indexes = dict.fromkeys(
    ["output_index", "content_index", "summary_index", "annotation_index"], st.integers(0, 1)
)
event_types = st.sampled_from(
    [
        *(f"response.{middle}.{end}" for middle in ADDING for end in ("delta", "done")),
        *(f"response.{name}" for name in ("created", "in_progress", "completed", "failed")),
        *(f"response.output_item.{end}" for end in ("added", "done")),
        *(f"response.content_part.{end}" for end in ("added", "done")),
        *(f"response.reasoning_summary_part.{end}" for end in ("added", "done")),
        "response.output_text.annotation.added",
        "response.web_search_call.searching",
        "response.of_tomorrow.delta",
        "error",
    ]
)
events: st.SearchStrategy[Any] = mostly(
    st.fixed_dictionaries(
        {"type": event_types},
        optional={
            **{key: mostly(value) for key, value in _indexes.items()},
            "sequence_number": mostly(st.integers(0, 9)),
            "delta": mostly(strings),
            "text": mostly(strings),
            "refusal": mostly(strings),
            "arguments": mostly(strings),
            "input": mostly(strings),
            "code": mostly(strings),
            "name": mostly(strings),
            "part": mostly(parts),
            "item": mostly(items),
            "annotation": mostly(shaped(title=strings, end_index=st.integers(0, 9))),
            "response": mostly(responses),
            "error": values,
            "x": values,
        },
    )
)


def replaced(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        text = text.replace(old, new)
    return text
