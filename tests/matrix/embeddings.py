"""``embeddings`` in the matrix: texts in, vectors out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.fakes import Say
from tests.matrix.cells import Action, Cell, Choice, Dialect, Feature, Play, nothing_streams

_ABSENT = {
    Feature.SEVERAL: "a text has one vector",
    Feature.TOOL_CALL: "an input is no conversation",
    Feature.TOOL_RESULT: "an input is no conversation",
    Feature.REASONING: "an input is no conversation",
    Feature.TURNS: "an input is no conversation",
}


class Embeddings(Dialect):
    name = "embeddings"
    path = "/embeddings"
    clients: Sequence[str] = ("openai-python", "openai-node", "ai-sdk")
    reads = False

    def absent(self, cell: Cell) -> str | None:
        return nothing_streams(cell) or _ABSENT.get(cell.feature)

    def refused(self, cell: Cell) -> str | None:
        if cell.action is Action.BLOCK:
            return "a vector cannot say no: 400 `content_filter`"
        return super().refused(cell)

    def lacks(self, play: Play) -> str | None:
        if play.client == "ai-sdk" and play.cell.feature is Feature.IMAGE:
            return "the AI SDK embeds texts"
        return None

    def request(self, play: Play) -> dict[str, Any]:
        text = f"{play.key}: {play.cell.asked}"
        inputs: dict[Feature, Any] = {
            Feature.LIST: [f"{play.key}: What is new?", play.cell.asked],
            Feature.IMAGE: [{"text": text}, {"image": "data:image/png;base64,iVBORw0KGgo="}],
        }
        given = inputs.get(play.cell.feature, text)
        return {"model": "fake-model", "input": given, "encoding_format": "float"}

    def unjudged(self, play: Play) -> Sequence[str]:
        return ("$.input[1].image",) if play.cell.feature is Feature.IMAGE else ()

    def choices(self, cell: Cell) -> list[Choice]:
        count = 1 if cell.feature in (Feature.PLAIN, Feature.LONG) else 2
        return [{"vector": [1.0 + index, -0.5]} for index in range(count)]

    def refusal(self, cell: Cell) -> Choice:
        raise AssertionError("a vector cannot say no")

    def answer(self, cell: Cell) -> Say:
        found = [
            {"object": "embedding", "index": index, "embedding": own["vector"]}
            for index, own in enumerate(self.choices(cell))
        ]
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        body = {"object": "list", "data": found, "model": "fake-model", "usage": usage}
        return Say(json.dumps(body).encode())

    def read(self, objects: list[Any], cell: Cell) -> list[Choice]:
        return [{"vector": one["embedding"]} for one in objects[0]["data"]]
