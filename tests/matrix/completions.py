"""``completions``, prompts and their continuations, in the matrix."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.fakes import DONE, Say
from tests.matrix.cells import REFUSAL, Cell, Choice, Dialect, Feature, Play
from tests.matrix.chat import paced, pieces

_HEAD = {"id": "cmpl-fake", "object": "text_completion", "created": 1760000000, "model": "fake-model"}
_USAGE = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
_ABSENT = {
    Feature.TOOL_CALL: "a prompt has no tools",
    Feature.TOOL_RESULT: "a prompt has no tools",
    Feature.REASONING: "the API does not tell reasoning apart",
    Feature.IMAGE: "a prompt is text or tokens",
    Feature.TURNS: "a prompt has no turns",
}


class Completions(Dialect):
    name = "completions"
    path = "/completions"
    clients: Sequence[str] = ("openai-python", "openai-node", "ai-sdk")
    reads = True

    def absent(self, cell: Cell) -> str | None:
        return _ABSENT.get(cell.feature)

    def lacks(self, play: Play) -> str | None:
        if play.client == "ai-sdk" and play.cell.feature in (Feature.SEVERAL, Feature.LIST):
            return "the AI SDK asks for one answer to one prompt"
        return None

    def request(self, play: Play) -> dict[str, Any]:
        prompt: Any = f"{play.key}: {play.cell.asked}"
        match play.cell.feature:
            case Feature.SEVERAL:
                return {"model": "fake-model", "prompt": prompt, "n": 2}
            case Feature.LIST:
                return {"model": "fake-model", "prompt": [f"{play.key}: What is new?", play.cell.asked]}
        return {"model": "fake-model", "prompt": prompt}

    def choices(self, cell: Cell) -> list[Choice]:
        own = {"text": cell.told, "end": "stop"}
        return (
            [own]
            if cell.feature in (Feature.PLAIN, Feature.LONG)
            else [{"text": "Nothing.", "end": "stop"}, own]
        )

    def refusal(self, cell: Cell) -> Choice:
        return {"text": REFUSAL, "end": "content_filter"}

    def answer(self, cell: Cell) -> Say:
        choices = [(index, own["text"], own["end"]) for index, own in enumerate(self.choices(cell))]
        if not cell.streaming:
            body = {**_HEAD, "choices": [_choice(*one) for one in choices], "usage": _USAGE}
            return Say(json.dumps(body).encode())
        events = [_choice(index, piece, None) for index, text, _ in choices for piece in pieces(text)]
        events += [_choice(index, "", end) for index, _, end in choices]
        lines = [b"data: " + json.dumps({**_HEAD, "choices": [one]}).encode() + b"\n\n" for one in events]
        return paced(cell, [*lines, DONE])

    def read(self, objects: list[Any], cell: Cell) -> list[Choice]:
        found: dict[int, Choice] = {}
        for one in objects:
            for choice in one["choices"]:
                own = found.setdefault(choice["index"], {"text": ""})
                own["text"] += choice["text"]
                if choice.get("finish_reason"):
                    own["end"] = choice["finish_reason"]
        return [choice for _, choice in sorted(found.items())]


def _choice(index: int, text: str, end: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": end}
