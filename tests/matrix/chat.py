"""``chat.completions`` in the matrix."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.fakes import DONE, Say, chunk, completion
from tests.matrix.cells import PAUSE_S, REFUSAL, Cell, Choice, Dialect, Feature, Play, Stage

EVENTS = {"content-type": "text/event-stream"}
IMAGE_URL = "data:image/png;base64,iVBORw0KGgo="
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "book",
            "parameters": {"type": "object", "properties": {"who": {"type": "string"}}},
        },
    }
]


def pieces(text: str, size: int = 3) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def paced(cell: Cell, chunks: list[bytes], headers: dict[str, str] = EVENTS) -> Say:
    """A streamed answer; a long one takes its time."""
    return Say(headers=headers, chunks=chunks, pause_s=PAUSE_S if cell.feature is Feature.LONG else 0.0)


def call(arguments: str) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "book", "arguments": arguments}}


def given(text: str) -> str:
    """The arguments of a call in which this text stands."""
    return json.dumps({"who": text})


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def messages(play: Play) -> list[dict[str, Any]]:
    """The conversation; the word stands in the part that the feature is about."""
    cell, first = play.cell, user(f"{play.key}: What is new in Oslo?")
    result = {"role": "tool", "tool_call_id": "call_1", "content": "Booked."}
    match cell.feature:
        case Feature.PLAIN | Feature.SEVERAL | Feature.LONG:
            return [{"role": "system", "content": "Be brief."}, user(f"{play.key}: {cell.asked}")]
        case Feature.TOOL_CALL if cell.stage is Stage.INPUT:
            called = assistant(None, tool_calls=[call(given(cell.asked))])
            return [first, called, result, user("And now?")]
        case Feature.TOOL_RESULT:
            called = assistant(None, tool_calls=[call(given("Ann"))])
            return [first, called, {**result, "content": cell.asked}]
        case Feature.REASONING if cell.stage is Stage.INPUT:
            return [first, assistant("Much.", reasoning_content=cell.asked), user("And now?")]
        case Feature.LIST:
            parts = [{"type": "text", "text": text} for text in (first["content"], cell.asked)]
            return [user(parts)]
        case Feature.IMAGE:
            image = {"type": "image_url", "image_url": {"url": IMAGE_URL}}
            return [user([{"type": "text", "text": f"{play.key}: {cell.asked}"}, image])]
        case Feature.TURNS:
            return [user(f"{play.key}: {cell.asked}"), assistant("Much."), user("And now?")]
        case _:
            return [first]


def texts(cell: Cell) -> Choice:
    """What is told in the answer, by kind."""
    if cell.stage is Stage.OUTPUT and cell.feature is Feature.TOOL_CALL:
        return {"tool": given(cell.told), "end": "tool_calls"}
    if cell.stage is Stage.OUTPUT and cell.feature is Feature.REASONING:
        return {"reasoning": cell.told, "text": "Much.", "end": "stop"}
    return {"text": cell.told, "end": "stop"}


class Chat(Dialect):
    name = "chat.completions"
    path = "/chat/completions"
    clients: Sequence[str] = ("openai-python", "openai-node", "ai-sdk")
    reads = True

    def absent(self, cell: Cell) -> str | None:
        return None

    def lacks(self, play: Play) -> str | None:
        if play.client == "ai-sdk" and play.cell.feature is Feature.SEVERAL:
            return "the AI SDK asks for one answer"
        return None

    def request(self, play: Play) -> dict[str, Any]:
        asked: dict[str, Any] = {"model": "fake-model", "messages": messages(play)}
        if play.cell.feature is Feature.SEVERAL:
            asked["n"] = 2
        if play.cell.feature in (Feature.TOOL_CALL, Feature.TOOL_RESULT):
            asked["tools"] = TOOLS
        return asked

    def unjudged(self, play: Play) -> Sequence[str]:
        match play.cell.feature:
            case Feature.TOOL_CALL | Feature.TOOL_RESULT:
                return ("$.tools",)
            case Feature.IMAGE:
                return ("$.messages[0].content[1]",)
        return ()

    def choices(self, cell: Cell) -> list[Choice]:
        own = texts(cell)
        return [{"text": "Nothing.", "end": "stop"}, own] if cell.feature is Feature.SEVERAL else [own]

    def refusal(self, cell: Cell) -> Choice:
        return {"text": REFUSAL, "end": "content_filter"}

    def answer(self, cell: Cell) -> Say:
        return paced(cell, self._chunks(cell)) if cell.streaming else Say(self._body(cell))

    def _body(self, cell: Cell) -> bytes:
        body = json.loads(completion(""))
        body["choices"] = [
            {"index": index, "message": _message(choice), "finish_reason": choice["end"], "logprobs": None}
            for index, choice in enumerate(self.choices(cell))
        ]
        return json.dumps(body).encode()

    def _chunks(self, cell: Cell) -> list[bytes]:
        chunks = []
        for index, choice in enumerate(self.choices(cell)):
            deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
            deltas += [{"reasoning_content": piece} for piece in pieces(choice.get("reasoning", ""))]
            deltas += [{"content": piece} for piece in pieces(choice.get("text", ""))]
            if "tool" in choice:
                deltas.append({"tool_calls": [{"index": 0, **call("")}]})
                deltas += [
                    {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
                    for piece in pieces(choice["tool"])
                ]
            chunks += [chunk(delta, index=index) for delta in deltas]
            chunks.append(chunk({}, index=index, finish_reason=choice["end"]))
        return [*chunks, DONE]

    def read(self, objects: list[Any], cell: Cell) -> list[Choice]:
        found: dict[int, Choice] = {}
        for one in objects:
            for choice in one["choices"]:
                said = choice.get("delta") if cell.streaming else choice["message"]
                _add(found.setdefault(choice["index"], {}), said or {}, choice.get("finish_reason"))
        return [choice for _, choice in sorted(found.items())]


def _message(choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.get("text")}
    if "reasoning" in choice:
        message["reasoning_content"] = choice["reasoning"]
    if "tool" in choice:
        message["tool_calls"] = [call(choice["tool"])]
    return message


def _add(choice: Choice, said: dict[str, Any], end: str | None) -> None:
    for key, kind in (("content", "text"), ("reasoning_content", "reasoning"), ("refusal", "refusal")):
        if said.get(key):
            choice[kind] = choice.get(kind, "") + said[key]
    for one in said.get("tool_calls") or ():
        choice["tool"] = choice.get("tool", "") + one["function"].get("arguments", "")
    if end:
        choice["end"] = end
