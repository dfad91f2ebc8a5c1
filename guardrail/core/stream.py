"""StreamGuard: hold the text of one channel of a stream until it was judged.

States and rules, before the machine:

* *held* text is what was pushed and has not left. Its front part may be judged already.
* At most one ``Check`` is outstanding. It covers all that is held at that moment. While it runs,
  text goes on arriving and is held; the next check covers that too. So the number of checks follows
  the judge's speed, not the answer's length.
* The close alone does not wait for it: what it does not cover is judged beside it, from ``overlap``
  characters before its end, and nothing leaves until both are settled. So the end of an answer waits
  for one check, not for two.
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
    """Judge ``text`` and call ``settle``. ``preceding`` is context only.

    ``start`` is where the text begins, in code points from the channel's start.
    """

    text: str
    preceding: str
    start: int = 0


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
        "_closed", "_halted", "_held", "_judged", "_left", "_length", "_outstanding", "_overlap",
        "_parts", "_preceding", "_spans", "_window",
    )  # fmt: skip

    def __init__(self, window: int | None, overlap: int, preceding: str = "") -> None:
        self._window = window
        self._overlap = overlap
        self._preceding = preceding[-overlap:] if overlap else ""
        self._held = ""
        self._parts: list[str] = []
        self._length = 0  # of _held and _parts together
        self._left = 0  # characters that have left
        self._judged = 0  # held characters that a settled check covered
        self._outstanding: list[Check] = []
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
        return bool(self._outstanding)

    @property
    def closed(self) -> bool:
        """True once no more text can come."""
        return self._closed or self._halted

    @property
    def finished(self) -> bool:
        """True once no more command can come."""
        return self._halted or (self._closed and not self._outstanding and not self._length)

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
        if self._outstanding or self._window is None or self._length - self._judged < self._window:
            return _NOTHING
        return [self._check(0)]

    def close(self) -> list[Command]:
        """No more text will come."""
        if self.closed:
            return _NOTHING
        self._closed = True
        if not self._outstanding:
            return self._advance()
        covered = self._end(self._outstanding[0])
        return [self._check(max(0, covered - self._overlap))] if covered < self._length else _NOTHING

    def settle(self, check: Check, decision: Decision) -> list[Command]:
        """An outstanding check was decided. Raises ``ValueError`` for one that is not outstanding."""
        if check not in self._outstanding:
            raise ValueError("the check is not outstanding")
        self._outstanding.remove(check)
        if self._halted:
            return _NOTHING
        if decision.action is Action.BLOCK:
            dropped, self._length, self._halted = self._length, 0, True
            self._parts.clear()
            self._held = ""
            return [Halt(decision, dropped)]
        if decision.redactions:
            at = check.start - self._left
            found = [
                Span(at + span.start, at + span.end, span.label)
                for redaction in decision.redactions
                for span in redaction.spans
            ]
            self._spans = merge([*self._spans, *found])
        self._judged = max(self._judged, self._end(check))
        return _NOTHING if self._outstanding else self._advance()

    def _end(self, check: Check) -> int:
        """How many of the held characters lie before the end of the check's text."""
        return check.start - self._left + len(check.text)

    def _advance(self) -> list[Command]:
        """Release what may leave, then ask for the next check if one is due."""
        commands: list[Command] = []
        limit = self._limit()
        if limit > 0:
            commands.append(self._release(limit))
        waiting = self._length - self._judged
        due = waiting > 0 if self._closed else self._window and waiting >= self._window
        if due:
            commands.append(self._check(0))
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
        self._left += limit
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

    def _check(self, start: int) -> Check:
        """Ask for all that is held from ``start`` on."""
        self._join()
        preceding = self._preceding
        if start and self._overlap:
            preceding = (preceding + self._held[:start])[-self._overlap :]
        check = Check(self._held[start:], preceding, self._left + start)
        self._outstanding.append(check)
        return check

    def _join(self) -> None:
        if self._parts:
            self._held += "".join(self._parts)
            self._parts.clear()
