"""How text of a stream is released: the rules that a StreamGuard goes by, and what it asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from guardrail.core.decision import Decision
from guardrail.core.redaction import Span

__all__ = ["Check", "Command", "Halt", "Release", "ReleaseMode", "Restorer", "StreamRules"]

# White space, and the scripts that are written without it (Thai to Myanmar, Khmer, Chinese, Japanese).
_BREAK: Final = re.compile("[\\s\u0e00-\u109f\u1780-\u17ff\u2e80-\uabff\uf900-\ufaff\U00020000-\U0003ffff]")


class ReleaseMode(StrEnum):
    """When text leaves: judged as a whole, judged in windows, or at once."""

    WHOLE = "whole"
    WINDOW = "window"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class StreamRules:
    """How text is held; sizes in code points.

    ``unbroken`` is how long a run of characters at the end is held; ``openings`` are words with how much
    is held behind each. ``first`` is how much text beyond the overlap asks for the first check; None: a
    window like any other. ``max_held``, of one choice: past it, who drives its guards stops reading.
    """

    release: ReleaseMode = ReleaseMode.WINDOW
    window: int = 400
    overlap: int = 120
    first: int | None = 40
    unbroken: int = 0
    openings: tuple[tuple[str, int], ...] = ()
    final_check: bool = False
    max_held: int = 16_384

    @property
    def reach(self) -> int:
        """How much of a text's end ``tail`` has to see."""
        return max([self.unbroken, *(size for _, size in self.openings)])

    def tail(self, text: str) -> int:
        """How much of the text's end is read again with what follows: the overlap, or what may grow."""
        tail = self.overlap
        if self.unbroken:
            read = text[-self.unbroken :]
            run = _BREAK.search(read[::-1])
            tail = max(tail, run.start() if run is not None else len(read))
        for opening, size in self.openings:
            read = text[-size:]
            if opening in read:
                tail = max(tail, len(read) - read.find(opening))
        return tail


class Restorer(Protocol):
    """Knows placeholders; ``guardrail.core.vault.Vault`` is one."""

    def open_at(self, text: str) -> int:
        """Where one that is not complete yet may begin at the text's end; its length if nowhere."""
        ...


class Check(NamedTuple):
    """Judge ``text`` and call ``settle``. ``preceding`` is context only.

    ``start`` is where the text begins, in code points from the channel's start.
    """

    text: str
    preceding: str
    start: int = 0


class Release(NamedTuple):
    """``original`` may leave; ``spans`` (relative to it) are to be replaced first."""

    original: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Halt:
    """Nothing more leaves. ``dropped`` counts the characters that were held."""

    decision: Decision
    dropped: int


Command = Check | Release | Halt
