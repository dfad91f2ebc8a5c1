"""``responses`` in the matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.fakes import Say
from tests.matrix.cells import REFUSAL, Cell, Choice, Dialect, Feature, Play, Stage
from tests.matrix.chat import IMAGE_URL, given, messages, paced, user
from tests.wire.responses import answer, call, encoded, message, reasoning, said, told

TOOLS: Any = [
    {
        "type": "function",
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"who": {"type": "string"}}},
        "strict": False,
    }
]


class Responses(Dialect):
    name = "responses"
    path = "/responses"
    clients: Sequence[str] = ("openai-python", "openai-node", "ai-sdk")
    reads = True

    def absent(self, cell: Cell) -> str | None:
        return "the API gives one answer" if cell.feature is Feature.SEVERAL else None

    def request(self, play: Play) -> dict[str, Any]:
        if play.client == "ai-sdk":
            asked: dict[str, Any] = {"model": "fake-model", "messages": messages(play)}
        else:
            asked = {"model": "fake-model", "instructions": "Be brief.", "input": _items(play)}
        if play.cell.feature in (Feature.TOOL_CALL, Feature.TOOL_RESULT):
            asked["tools"] = TOOLS
        return asked

    def unjudged(self, play: Play) -> Sequence[str]:
        match play.cell.feature:
            case Feature.TOOL_CALL | Feature.TOOL_RESULT:
                return ("$.tools",)
            case Feature.IMAGE:
                return ("$.input[0].content[1]",)
            case Feature.REASONING if play.client == "ai-sdk" and play.cell.stage is Stage.INPUT:
                return ("$.input[1].encrypted_content",)  # which it does not send reasoning without
        return ()

    def choices(self, cell: Cell) -> list[Choice]:
        if cell.stage is Stage.OUTPUT and cell.feature is Feature.TOOL_CALL:
            return [{"tool": given(cell.told), "end": "completed"}]
        if cell.stage is Stage.OUTPUT and cell.feature is Feature.REASONING:
            return [{"reasoning": cell.told, "text": "Much.", "end": "completed"}]
        lead = "Well. " if cell.feature is Feature.LIST else ""
        return [{"text": lead + cell.told, "end": "completed"}]

    def refusal(self, cell: Cell) -> Choice:
        return {"refusal": REFUSAL, "end": "incomplete"}

    def answer(self, cell: Cell) -> Say:
        items = self._output(cell)
        if not cell.streaming:
            return Say(answer(*items))
        return paced(cell, [encoded([one]) for one in told(*items, size=3)])

    def _output(self, cell: Cell) -> list[dict[str, Any]]:
        [own] = self.choices(cell)
        if "tool" in own:
            return [call(own["tool"])]
        if "reasoning" in own:
            return [reasoning(own["reasoning"]), message(own["text"], at=1)]
        return [message("Well. ", cell.told)] if cell.feature is Feature.LIST else [message(own["text"])]

    def read(self, objects: list[Any], cell: Cell) -> list[Choice]:
        whole = objects[-1]["response"] if cell.streaming else objects[0]
        found: Choice = {"end": whole["status"]}
        for item in whole["output"]:
            for part in [*(item.get("summary") or ()), *(item.get("content") or ())]:
                kind = {"summary_text": "reasoning", "refusal": "refusal"}.get(part["type"], "text")
                found[kind] = found.get(kind, "") + (part.get("text") or part.get("refusal") or "")
            if item["type"] == "function_call":
                found["tool"] = item["arguments"]
        if cell.streaming:
            assert _shown(objects) == {kind: text for kind, text in found.items() if kind != "end"}
        return [found]


def _shown(events: list[Any]) -> Choice:
    """What the pieces of a stream add up to."""
    kinds = {
        "response.output_text.delta": "text",
        "response.refusal.delta": "refusal",
        "response.reasoning_summary_text.delta": "reasoning",
        "response.function_call_arguments.delta": "tool",
    }
    found: Choice = {}
    for event in events:
        if kind := kinds.get(event["type"]):
            found[kind] = found.get(kind, "") + event["delta"]
    return found


def _items(play: Play) -> Any:
    cell, first = play.cell, user(f"{play.key}: What is new in Oslo?")
    result = {"type": "function_call_output", "call_id": "call_0", "output": "Booked."}
    match cell.feature:
        case Feature.PLAIN | Feature.LONG:
            return f"{play.key}: {cell.asked}"
        case Feature.TOOL_CALL if cell.stage is Stage.INPUT:
            return [first, call(given(cell.asked)), result, user("And now?")]
        case Feature.TOOL_RESULT:
            return [first, call(given("Ann")), {**result, "output": cell.asked}]
        case Feature.REASONING if cell.stage is Stage.INPUT:
            return [first, reasoning(cell.asked), message("Much.", at=1), user("And now?")]
        case Feature.LIST:
            return [user([said(first["content"]), said(cell.asked)])]
        case Feature.IMAGE:
            image = {"type": "input_image", "image_url": IMAGE_URL, "detail": "auto"}
            return [user([said(f"{play.key}: {cell.asked}"), image])]
        case Feature.TURNS:
            return [user(f"{play.key}: {cell.asked}"), message("Much."), user("And now?")]
        case _:
            return [first]
