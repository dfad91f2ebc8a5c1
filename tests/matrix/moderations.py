"""``moderations`` in the matrix: answered by the proxy itself, from its input policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.fakes import Say
from tests.matrix.cells import Action, Cell, Choice, Dialect, Feature, Play, nothing_streams

_ABSENT = {
    Feature.SEVERAL: "a text has one result",
    Feature.TOOL_CALL: "an input is no conversation",
    Feature.TOOL_RESULT: "an input is no conversation",
    Feature.REASONING: "an input is no conversation",
    Feature.TURNS: "an input is no conversation",
}


class Moderations(Dialect):
    name = "moderations"
    path = "/moderations"
    clients: Sequence[str] = ("openai-python", "openai-node")
    reads = False

    def absent(self, cell: Cell) -> str | None:
        return nothing_streams(cell) or _ABSENT.get(cell.feature)

    def refused(self, cell: Cell) -> str | None:
        if cell.action in (Action.OPEN, Action.CLOSED):
            return "what was not judged is never called harmless"
        return None

    def request(self, play: Play) -> dict[str, Any]:
        text = f"{play.key}: {play.cell.asked}"
        image = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
        inputs: dict[Feature, Any] = {
            Feature.LIST: [f"{play.key}: What is new?", text],
            Feature.IMAGE: [{"type": "text", "text": text}, image],
        }
        return {"model": "omni-moderation-latest", "input": inputs.get(play.cell.feature, text)}

    def unjudged(self, play: Play) -> Sequence[str]:
        return ("$.input[1]",) if play.cell.feature is Feature.IMAGE else ()

    def choices(self, cell: Cell) -> list[Choice]:
        own = {"house": cell.action is not Action.PASS, "flagged": cell.action is not Action.PASS}
        if cell.feature is Feature.IMAGE:
            own["flagged"] = True  # the image could not be read
        return [{"house": False, "flagged": False}, own] if cell.feature is Feature.LIST else [own]

    def refusal(self, cell: Cell) -> Choice:
        raise AssertionError("a result is no refusal")

    def answer(self, cell: Cell) -> Say:
        raise AssertionError("the upstream is not asked")

    def read(self, objects: list[Any], cell: Cell) -> list[Choice]:
        return [
            {"house": one["categories"]["house"], "flagged": one["flagged"]}
            for one in objects[0]["results"]
        ]
