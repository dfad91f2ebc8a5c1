"""Anthropic's ``messages`` in the matrix, and its counting of tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from guardrail.wire.messages_edit import EDITED
from guardrail.wire.sse import Event
from tests.fakes import Say
from tests.matrix.cells import (
    REFUSAL,
    Action,
    Cell,
    Choice,
    Dialect,
    Feature,
    Play,
    Stage,
    nothing_streams,
)
from tests.matrix.chat import given, paced, pieces
from tests.wire.claudes import (
    answer,
    delta,
    piece_of_input,
    said,
    text,
    thinking,
    thought,
    tool_result,
    tool_use,
    whole,
)

EVENTS = {"content-type": "text/event-stream; charset=utf-8"}
TOOLS: Any = [
    {"name": "book", "input_schema": {"type": "object", "properties": {"who": {"type": "string"}}}}
]
IMAGE: Any = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
}


def _of(*turns: Any) -> list[dict[str, Any]]:
    """Turns of the user and the assistant, one after the other."""
    return [
        {"role": "assistant" if at % 2 else "user", "content": content} for at, content in enumerate(turns)
    ]


def _turns(play: Play) -> list[dict[str, Any]]:
    cell, first = play.cell, f"{play.key}: What is new in Oslo?"
    match cell.feature:
        case Feature.PLAIN | Feature.LONG:
            return _of(f"{play.key}: {cell.asked}")
        case Feature.TOOL_CALL if cell.stage is Stage.INPUT:
            return _of(first, [tool_use({"who": cell.asked})], [tool_result("Booked."), text("And now?")])
        case Feature.TOOL_RESULT:
            return _of(first, [tool_use({"who": "Ann"})], [tool_result(cell.asked)])
        case Feature.REASONING if cell.stage is Stage.INPUT:
            return _of(first, [thinking(cell.asked), text("Much.")], "And now?")
        case Feature.LIST:
            return _of([text(first), text(cell.asked, cache_control={"type": "ephemeral"})])
        case Feature.IMAGE:
            return _of([IMAGE, text(f"{play.key}: {cell.asked}")])
        case Feature.TURNS:
            return _of(f"{play.key}: {cell.asked}", "Much.", "And now?")
        case _:
            return _of(first)


class Messages(Dialect):
    name = "messages"
    path = "/messages"
    clients: Sequence[str] = ("anthropic-python", "anthropic-node")
    reads = True

    def absent(self, cell: Cell) -> str | None:
        return "the API gives one answer" if cell.feature is Feature.SEVERAL else None

    def request(self, play: Play) -> dict[str, Any]:
        asked: dict[str, Any] = {"model": "claude-x", "system": "Be brief.", "messages": _turns(play)}
        if play.cell.feature in (Feature.TOOL_CALL, Feature.TOOL_RESULT):
            asked["tools"] = TOOLS
        return {"max_tokens": 99, **asked}

    def unjudged(self, play: Play) -> Sequence[str]:
        match play.cell.feature:
            case Feature.TOOL_CALL | Feature.TOOL_RESULT:
                return ("$.tools",)
            case Feature.IMAGE:
                return ("$.messages[0].content[0]",)
        return ()

    def choices(self, cell: Cell) -> list[Choice]:
        if cell.stage is Stage.OUTPUT and cell.feature is Feature.TOOL_CALL:
            return [{"tool": given(cell.told), "end": "tool_use"}]
        if cell.stage is Stage.OUTPUT and cell.feature is Feature.REASONING:
            return [{"reasoning": cell.told, "text": "Much.", "end": "end_turn"}]
        lead = "Well. " if cell.feature is Feature.LIST else ""
        return [{"text": lead + cell.told, "end": "end_turn"}]

    def redacted(self, sent: bytes, cell: Cell) -> bytes:
        """Thinking that was changed has lost its signature, so it does not go on at all."""
        if cell.feature is Feature.REASONING:
            return re.sub(rb'\{[^{}]*"type": ?"thinking"[^{}]*\}, ?', b"", sent)
        return super().redacted(sent, cell)

    def delivered(self, body: bytes, cell: Cell) -> bytes:
        """Thinking that was changed has another mark in place of its signature."""
        if cell.feature is Feature.REASONING:
            body = body.replace(b'"c2ln"', json.dumps(EDITED).encode())
        return super().delivered(body, cell)

    def refusal(self, cell: Cell) -> Choice:
        return {"text": REFUSAL, "end": "refusal"}

    def answer(self, cell: Cell) -> Say:
        [own] = self.choices(cell)
        blocks: list[Any] = []
        if "reasoning" in own:
            blocks.append(thinking(own["reasoning"]))
        if "tool" in own:
            blocks.append(tool_use(json.loads(own["tool"])))
        elif cell.feature is Feature.LIST:
            blocks += [text("Well. "), text(cell.told)]
        else:
            blocks.append(text(own["text"]))
        if not cell.streaming:
            return Say(answer(*blocks, stop_reason=own["end"]))
        return paced(cell, _streamed(blocks, own["end"]), EVENTS)

    def read(self, objects: list[Any], cell: Cell) -> list[Choice]:
        found: Choice = {"end": objects[0]["stop_reason"]}
        for block in objects[0]["content"]:
            match block["type"]:
                case "text":
                    found["text"] = found.get("text", "") + block["text"]
                case "thinking":
                    found["reasoning"] = block["thinking"]
                case "tool_use":
                    found["tool"] = json.dumps(block["input"])
        return [found]


def _streamed(blocks: list[Any], end: str) -> list[bytes]:
    """The events of these blocks, numbered."""
    told = []
    for block in blocks:
        match block["type"]:
            case "text":
                told.append((text(""), [said(piece) for piece in pieces(block["text"])]))
            case "thinking":
                signed = delta("signature_delta", signature=block["signature"])
                thoughts = [thought(piece) for piece in pieces(block["thinking"])]
                told.append((thinking("", ""), [*thoughts, signed]))
            case "tool_use":
                parts = [piece_of_input(piece) for piece in pieces(json.dumps(block["input"]))]
                told.append((tool_use({}), [piece_of_input(""), *parts]))
    events, at = [], -1
    for one in whole(*told):
        value = json.loads(one.data or b"{}")
        at += value["type"] == "content_block_start"
        if value["type"] == "content_block_delta":
            value["index"] = at
        if value["type"] == "message_delta":
            value["delta"]["stop_reason"] = end
        events.append(_event(value))
    return events


def _event(value: dict[str, Any]) -> bytes:
    raw = json.dumps(value).encode()
    return Event(b"event: %s\ndata: %s\n\n" % (value["type"].encode(), raw), raw).raw


class CountTokens(Messages):
    name = "messages.count_tokens"
    path = "/messages/count_tokens"
    reads = False

    def absent(self, cell: Cell) -> str | None:
        if cell.feature is Feature.SEVERAL:
            return "a conversation has one number"
        return nothing_streams(cell)

    def refused(self, cell: Cell) -> str | None:
        if cell.action is Action.BLOCK:
            return "a number cannot say no: 400 `content_filter`"
        return super().refused(cell)

    def request(self, play: Play) -> dict[str, Any]:
        asked = super().request(play)
        del asked["max_tokens"]
        return asked

    def choices(self, cell: Cell) -> list[Choice]:
        return [{"tokens": 12}]

    def answer(self, cell: Cell) -> Say:
        return Say(b'{"input_tokens": 12}')

    def read(self, objects: list[Any], cell: Cell) -> list[Choice]:
        return [{"tokens": objects[0]["input_tokens"]}]
