"""The cells of the matrix: dialect by streaming by stage by action by feature, and what a cell can be.

A cell is *served* (it passes, or is acted on inside a normal answer), *refused by design* (the client gets
an error on purpose, for a reason that is told), or *not applicable* (the API has no such thing). Which of
them is said by the dialect's own file; no combination is left out.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.fakes import Say

LEAD = "Some words that nobody minds, one after the other. " * 5  # several windows
PAUSE_S = 0.004  # between the pieces of a long answer, so that some leave before the last is there
REFUSAL = "I can't help with that."
MARK = "[REDACTED:RED]"


class Stage(StrEnum):
    INPUT = "input"
    OUTPUT = "output"


class Action(StrEnum):
    """What becomes of the text; the word that stands in it makes the scripted judge say so."""

    PASS = "pass"
    FLAG = "flag"
    REDACT = "redact"
    BLOCK = "block"
    OPEN = "unavailable, open"
    CLOSED = "unavailable, closed"


class Feature(StrEnum):
    """What the conversation has in it."""

    PLAIN = "plain"
    SEVERAL = "n > 1"
    TOOL_CALL = "tool call"
    TOOL_RESULT = "tool result"
    REASONING = "reasoning"
    LIST = "list content"
    IMAGE = "image part"
    TURNS = "multi-turn"
    LONG = "long text"


WORDS = {
    Action.PASS: "passme",
    Action.FLAG: "flagme",
    Action.REDACT: "hideme",
    Action.BLOCK: "blockme",
    Action.OPEN: "judgedown",
    Action.CLOSED: "judgedown",
}


@dataclass(frozen=True)
class Cell:
    """One combination. ``stage`` is where the word stands: in the conversation, or in its answer."""

    dialect: str
    streaming: bool
    stage: Stage
    action: Action
    feature: Feature

    def __str__(self) -> str:
        how = "stream" if self.streaming else "body"
        return "-".join([self.dialect, how, self.stage, self.action, self.feature]).replace(" ", "_")

    @property
    def word(self) -> str:
        return WORDS[self.action]

    @property
    def asked(self) -> str:
        """The text of the conversation in which the word stands, or would."""
        return self._lead + (
            f"Note {self.word}, please." if self.stage is Stage.INPUT else "Note it, please."
        )

    @property
    def told(self) -> str:
        """The text of the answer in which the word stands, or would."""
        return self._lead + (f"So {self.word} it is." if self.stage is Stage.OUTPUT else "So be it.")

    @property
    def _lead(self) -> str:
        return LEAD if self.feature is Feature.LONG else ""


@dataclass(frozen=True)
class Play:
    """A cell with one client. ``key`` stands in the conversation, so that the judge's calls tell it too."""

    cell: Cell
    client: str
    key: str

    def __str__(self) -> str:
        return f"{self.client}-{self.cell}"


Choice = dict[str, Any]
"""An answer as a client shows it: its texts by kind, and ``end``, why it ended."""


class Dialect(ABC):
    """One API in the matrix: its file in this folder says all that is its own."""

    name: str
    path: str
    clients: Sequence[str]
    reads: bool
    """Whether its answers hold texts, which are judged."""

    @abstractmethod
    def absent(self, cell: Cell) -> str | None:
        """Why the API has no such combination."""

    def refused(self, cell: Cell) -> str | None:
        """Why the client gets an error by design, where others would serve."""
        return "what cannot be checked is not let through" if cell.action is Action.CLOSED else None

    def lacks(self, play: Play) -> str | None:
        """Why this client alone cannot play the cell."""
        return None

    @abstractmethod
    def request(self, play: Play) -> dict[str, Any]:
        """What the client's own method is called with."""

    @abstractmethod
    def answer(self, cell: Cell) -> Say:
        """What the upstream says."""

    @abstractmethod
    def choices(self, cell: Cell) -> list[Choice]:
        """What a client shows of it when nothing is changed."""

    @abstractmethod
    def refusal(self, cell: Cell) -> Choice:
        """What a client shows in place of a choice that is blocked."""

    def unjudged(self, play: Play) -> Sequence[str]:
        """The JSON paths of what cannot be judged in the request."""
        return ()

    def expected(self, cell: Cell) -> list[Choice]:
        """What a client shows after what was decided."""
        choices = self.choices(cell)
        if not self.reads:
            return choices
        if cell.action is Action.BLOCK and cell.stage is Stage.INPUT:
            return [self.refusal(cell)] * len(choices)
        if cell.action is Action.BLOCK:
            return [self.refusal(cell) if cell.word in str(own) else own for own in choices]
        if cell.action is Action.REDACT:
            return [
                {
                    kind: value.replace(cell.word, MARK) if isinstance(value, str) else value
                    for kind, value in own.items()
                }
                for own in choices
            ]
        return choices

    def redacted(self, sent: bytes, cell: Cell) -> bytes:
        """The request as it goes on after a redaction."""
        return marked(sent, cell)

    def delivered(self, body: bytes, cell: Cell) -> bytes:
        """An answer in one body as it is delivered after a redaction."""
        return marked(body, cell)

    @abstractmethod
    def read(self, objects: list[Any], cell: Cell) -> list[Choice]:
        """The choices out of what the client's library gave: one object, or the events of a stream."""


def every(dialect: str) -> list[Cell]:
    """Every combination of one dialect."""
    ways = itertools.product((False, True), Stage, Action, Feature)
    return [Cell(dialect, *way) for way in ways]


def nothing_streams(cell: Cell) -> str | None:
    """For the APIs that take texts and give none."""
    if cell.streaming:
        return "the API does not stream"
    return "its answer holds no text" if cell.stage is Stage.OUTPUT else None


def marked(sent: bytes, cell: Cell) -> bytes:
    """The word replaced, and no other byte touched."""
    return sent.replace(cell.word.encode(), MARK.encode())
