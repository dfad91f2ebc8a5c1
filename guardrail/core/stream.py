"""StreamGuard: hold the text of one channel of a stream until it was judged.

States and rules, before the machine:

* *held* text is what was pushed and has not left. Its front part may be judged already.
* At most one ``Check`` is outstanding. It covers all that is held at that moment. While it runs,
  text goes on arriving and is held; the next check covers that too. So the number of checks follows
  the judge's speed, not the answer's length.
* A check is asked for when ``window`` characters wait unjudged, or at the close.
* Text leaves when it was judged *and* lies more than ``overlap`` characters before the end of what
  was judged; the rest is read again by the next check. So whatever a check finds that is no longer
  than the overlap has not left, not even in part. At the close everything judged leaves.
* A redaction that would be cut by that limit keeps the limit in front of it.
* After a halt nothing leaves any more.

    push ──▶ held ──Check──▶ settle(pass | redact) ──Release──▶ out
                                settle(block) ──Halt──▶ dropped

Always: released + held + dropped = pushed, in code points of the original text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from guardrail.core.decision import Decision
from guardrail.core.policy import Action
from guardrail.core.redaction import Span, merge, redact

__all__ = ["Check", "Command", "Halt", "Release", "StreamGuard"]


@dataclass(frozen=True, slots=True)
class Check:
    """Judge ``text`` and call ``settle``. ``preceding`` has left already and is context only."""

    text: str
    preceding: str


@dataclass(frozen=True, slots=True)
class Release:
    """``original`` may leave; ``spans`` (relative to it) are to be replaced first."""

    original: str
    spans: tuple[Span, ...]

    @property
    def text(self) -> str:
        """What leaves: the original with its spans replaced."""
        return redact(self.original, self.spans) if self.spans else self.original


@dataclass(frozen=True, slots=True)
class Halt:
    """Nothing more leaves. ``dropped`` counts the characters that were held."""

    decision: Decision
    dropped: int


Command = Check | Release | Halt
_NOTHING: Final[list[Command]] = []


class StreamGuard:
    """Holds one channel's text. Pure: text in, commands out; the caller makes the checks.

    ``window`` and ``overlap`` are in code points. ``window=None`` holds everything to the close
    (release mode ``whole``). ``preceding`` is text of the same channel that left before this guard.
    """

    __slots__ = (
        "_checked", "_closed", "_halted", "_held", "_judged", "_length", "_overlap", "_parts",
        "_preceding", "_spans", "_window",
    )  # fmt: skip

    def __init__(self, window: int | None, overlap: int, preceding: str = "") -> None:
        self._window = window
        self._overlap = overlap
        self._preceding = preceding[-overlap:] if overlap else ""
        self._held = ""
        self._parts: list[str] = []
        self._length = 0  # of _held and _parts together
        self._judged = 0  # held characters that a settled check covered
        self._checked: int | None = None  # held characters that the outstanding check covers
        self._spans: tuple[Span, ...] = ()
        self._closed = False
        self._halted = False

    @property
    def held(self) -> int:
        """Characters that have arrived and not left."""
        return self._length

    @property
    def checking(self) -> bool:
        """True while a check is outstanding."""
        return self._checked is not None

    @property
    def closed(self) -> bool:
        """True once no more text can come."""
        return self._closed or self._halted

    @property
    def finished(self) -> bool:
        """True once no more command can come."""
        return self._halted or (self._closed and self._checked is None and not self._length)

    @property
    def preceding(self) -> str:
        """The last characters that left, at most ``overlap`` of them."""
        return self._preceding

    def push(self, text: str) -> list[Command]:
        """Take text that arrived. Raises ``ValueError`` after ``close``."""
        if self._halted:
            return _NOTHING
        if self._closed:
            raise ValueError("push after close")
        self._parts.append(text)
        self._length += len(text)
        if self._checked is not None or self._window is None or self._length - self._judged < self._window:
            return _NOTHING
        return [self._check()]

    def close(self) -> list[Command]:
        """No more text will come."""
        if self.closed:
            return _NOTHING
        self._closed = True
        return _NOTHING if self._checked is not None else self._advance()

    def settle(self, decision: Decision) -> list[Command]:
        """The outstanding check was decided. Raises ``ValueError`` when none is outstanding."""
        if self._checked is None:
            raise ValueError("no check is outstanding")
        self._judged, self._checked = self._checked, None
        if decision.action is Action.BLOCK:
            dropped, self._length, self._halted = self._length, 0, True
            self._parts.clear()
            self._held = ""
            return [Halt(decision, dropped)]
        if decision.redactions:
            found = [span for redaction in decision.redactions for span in redaction.spans]
            self._spans = merge([*self._spans, *found])
        return self._advance()

    def _advance(self) -> list[Command]:
        """Release what may leave, then ask for the next check if one is due."""
        commands: list[Command] = []
        limit = self._limit()
        if limit > 0:
            commands.append(self._release(limit))
        waiting = self._length - self._judged
        due = waiting > 0 if self._closed else self._window and waiting >= self._window
        if due:
            commands.append(self._check())
        return commands

    def _limit(self) -> int:
        if self._closed and self._judged == self._length:
            return self._length
        limit = self._judged - self._overlap
        for span in self._spans:
            if span.start < limit < span.end:
                return span.start
        return limit

    def _release(self, limit: int) -> Release:
        self._join()
        original, self._held = self._held[:limit], self._held[limit:]
        self._length -= limit
        self._judged -= limit
        spans: Sequence[Span] = ()
        if self._spans:
            spans = [span for span in self._spans if span.start < limit]
            self._spans = tuple(
                Span(s.start - limit, s.end - limit, s.label) for s in self._spans if s.start >= limit
            )
        if self._overlap:
            self._preceding = (self._preceding + original)[-self._overlap :]
        return Release(original, tuple(spans))

    def _check(self) -> Check:
        self._join()
        self._checked = self._length
        return Check(self._held, self._preceding)

    def _join(self) -> None:
        if self._parts:
            self._held += "".join(self._parts)
            self._parts.clear()
