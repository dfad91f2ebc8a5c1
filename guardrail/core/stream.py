"""StreamGuard: hold the text of one channel of a stream until it was judged.

States and rules, before the machine:

* *held* text is what was pushed and has not left. Its front part may be judged already.
* At most one ``Check`` is outstanding. While it runs, text goes on arriving and is held; the next check
  covers that too. So the number of checks follows the judge's speed, not the answer's length.
* The close alone does not wait for it: what it does not cover is judged beside it, together with as much
  before that as any check reads again, and nothing leaves until both are settled. So the end of an answer
  waits for one check, not for two.
* A check is asked for when ``window`` characters wait unjudged (``first`` beyond the overlap, for the first
  check of all), or at the close. It ends with a sentence, if one ends in the second half of what waits.
* Text leaves when it was judged *and* lies more than ``overlap`` characters before the end of what
  was judged; the rest is read again by the next check. So whatever a check finds that is no longer
  than the overlap has not left, not even in part. At the close everything judged leaves.
* An unbroken run of characters at the end of what was judged stays whole, up to ``unbroken`` of them, and
  so does what stands behind an ``opening``: a key or an address that is still growing is found when it
  has grown.
* Nothing is cut that belongs together: a redaction, a placeholder that is to be restored, or one that may
  be coming, a grapheme cluster. The limit lies in front of it.
* ``final_check``: the last check reads the whole channel again, from its start.
* After a halt nothing leaves any more.
* Release mode ``whole`` holds everything to the close. ``live`` holds nothing: checks run beside text that
  has left, so a finding can only halt, and that is what a redaction does there too.

    push ──▶ held ──Check──▶ settle(pass | redact) ──Release──▶ out
                                settle(block) ──Halt──▶ dropped

Always: released + held + dropped = pushed, in code points of the original text.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from guardrail.core.decision import Decision
from guardrail.core.graphemes import boundary, window_end
from guardrail.core.policy import Action
from guardrail.core.redaction import Span, merge, touching
from guardrail.core.release import Check, Command, Halt, Release, ReleaseMode, Restorer, StreamRules

__all__ = ["StreamGuard"]

_NEVER: Final = 1 << 62
_NOTHING: Final[list[Command]] = []


class StreamGuard:
    """Holds one channel's text. Pure: text in, commands out; the caller makes the checks.

    ``whole``: hold everything to the close whatever the rules say. ``preceding`` is text of the same
    channel that left before this guard. Places are counted from the channel's start.
    """

    __slots__ = (
        "_again", "_arrived", "_base", "_closed", "_due", "_halted", "_judged", "_live", "_mode",
        "_outstanding", "_parts", "_read_whole", "_released", "_restorer", "_rules", "_spans", "_stops",
        "_text", "_wake", "unjudged_released",
    )  # fmt: skip

    def __init__(
        self,
        rules: StreamRules,
        *,
        whole: bool = False,
        restorer: Restorer | None = None,
        preceding: str = "",
    ) -> None:
        self._rules = rules
        self._mode = ReleaseMode.WHOLE if whole else rules.release
        self._live = self._mode is ReleaseMode.LIVE
        self._stops = Action.REDACT if self._live else Action.BLOCK
        self._restorer = restorer
        self._text = preceding[-rules.overlap :] if rules.overlap else ""
        self._base = -len(self._text)  # the place at which _text begins
        self._parts: list[str] = []  # what was pushed behind it
        self._arrived = 0
        self._judged = 0  # up to here a settled check has read
        self._again = rules.overlap  # how much of that the next check reads again
        self._released = 0
        self._outstanding: list[Check] = []
        self._spans: tuple[Span, ...] = ()
        self._read_whole = 0  # up to here one check has read everything, from the start
        self._closed = False
        self._halted = False
        self._due = self._next_due()  # how much must have arrived for the next check
        self._wake = self._next_wake()
        self.unjudged_released = 0
        """Characters that left before a check of them was settled."""

    @property
    def held(self) -> int:
        """Characters that have arrived and not left."""
        return 0 if self._halted else self._arrived - self._released

    @property
    def checking(self) -> bool:
        """True while a check is outstanding."""
        return bool(self._outstanding)

    @property
    def growing(self) -> bool:
        """True while all that is held is one redaction that may still go on."""
        return any(
            first <= self._released and last >= self._judged for first, last in touching(self._spans)
        )

    @property
    def closed(self) -> bool:
        """True once no more text can come."""
        return self._closed or self._halted

    @property
    def finished(self) -> bool:
        """True once no more command can come."""
        return self._halted or (self._closed and self._released == self._arrived and self._all_judged)

    @property
    def preceding(self) -> str:
        """The last characters that left, at most ``overlap`` of them."""
        return self._slice(self._released - self._rules.overlap, self._released)

    def push(self, text: str) -> list[Command]:
        """Take text that arrived. Raises ``ValueError`` after ``close``."""
        arrived = self._arrived + len(text)
        if arrived < self._wake:
            self._parts.append(text)
            self._arrived = arrived
            return _NOTHING
        if self._halted:
            return _NOTHING
        if self._closed:
            raise ValueError("push after close")
        self._parts.append(text)
        self._arrived = arrived
        if not self._live:
            return [self._next_check()]
        if text and self._restorer is None and self.held == len(text) == boundary(text, len(text)):
            return self._pass_on(text)
        return self._advance()

    def _pass_on(self, text: str) -> list[Command]:
        """Release what has just been pushed; there is nothing else to release, and nothing to cut."""
        self._released = self._arrived
        self.unjudged_released += len(text)
        commands: list[Command] = [Release(text, ())]
        if self._arrived >= self._due and not self._outstanding:
            commands.append(self._next_check())
        return commands

    def close(self) -> list[Command]:
        """No more text will come."""
        if self.closed:
            return _NOTHING
        self._closed = True
        self._wake = self._next_wake()
        if not self._outstanding:
            return self._advance()
        running = self._outstanding[0]
        commands = self._let_go() if self._live else []
        end = running.start + len(running.text)
        if self._rules.final_check:
            if end < self._arrived or running.start > 0:
                commands.append(self._check(0, self._arrived))
        elif end < self._arrived:
            commands.append(self._check(max(0, end - self._tail(end)), self._arrived))
        return commands

    def settle(self, check: Check, decision: Decision) -> list[Command]:
        """An outstanding check was decided. Raises ``ValueError`` for one that is not outstanding."""
        if check not in self._outstanding:
            raise ValueError("the check is not outstanding")
        self._outstanding.remove(check)
        if self._halted:
            return _NOTHING
        if decision.action >= self._stops:
            dropped, self._halted = self.held, True
            self._wake = self._next_wake()
            self._parts.clear()
            self._text = ""
            return [Halt(decision, dropped)]
        if decision.redactions:
            self._spans = merge([*self._spans, *self._found(check, decision)])
        end = check.start + len(check.text)
        if end > self._judged:
            self._judged, self._again = end, self._tail(end)
        if not check.start:
            self._read_whole = max(self._read_whole, end)
        self._due = self._next_due()
        self._wake = self._next_wake()
        if self._outstanding:
            return _NOTHING
        commands = self._advance()
        self._forget()
        return commands

    def _found(self, check: Check, decision: Decision) -> list[Span]:
        """What is to be redacted, by place in the channel; of what has left in part, the rest."""
        found = [span for redaction in decision.redactions for span in redaction.spans]
        at = check.start
        return [
            replace(span, start=max(at + span.start, self._released), end=at + span.end)
            for span in found
            if at + span.end > self._released
        ]

    def _next_due(self) -> int:
        """How much must have arrived for the next check."""
        rules = self._rules
        if self._mode is ReleaseMode.WHOLE:
            return _NEVER
        if self._judged or rules.first is None:
            return self._judged + rules.window
        return rules.first + (0 if self._live else rules.overlap)

    def _next_wake(self) -> int:
        """How much must have arrived for a push to have more to do than to keep its text."""
        if self._live or self.closed:
            return 0
        return _NEVER if self._outstanding else self._due

    def _advance(self) -> list[Command]:
        """Release what may leave, then ask for the next check if one is due."""
        commands = self._let_go()
        if self._outstanding:
            return commands
        if self._closed:
            if not self._all_judged:
                start = 0 if self._rules.final_check else self._restart()
                commands.append(self._check(start, self._arrived))
        elif self._arrived >= self._due:
            commands.append(self._next_check())
        return commands

    def _let_go(self) -> list[Command]:
        limit = self._limit()
        return [self._release(limit)] if limit > self._released else []

    def _limit(self) -> int:
        """Up to which place text may leave."""
        if self._live or (self._closed and self._all_judged):
            limit = self._arrived
        else:
            limit = self._judged - self._again
        if self._closed and limit == self._arrived:
            return limit
        while limit > self._released and (before := self._uncut(limit)) < limit:
            limit = before
        return limit

    def _tail(self, end: int) -> int:
        """How much of what ends there is read again with what follows."""
        rules = self._rules
        return rules.tail(self._slice(end - rules.reach, end)) if rules.reach else rules.overlap

    @property
    def _all_judged(self) -> bool:
        read = self._read_whole if self._rules.final_check else self._judged
        return read == self._arrived and not self._outstanding

    def _uncut(self, limit: int) -> int:
        """``limit``, or the start of what it cuts in two."""
        for first, last in touching(self._spans):
            if first < limit < last:
                limit = first
                break
        self._join()
        if self._restorer is not None:
            piece = self._slice(self._released, limit)
            limit = self._released + self._restorer.open_at(piece)
        return self._base + boundary(self._text, limit - self._base)

    def _release(self, limit: int) -> Release:
        start = self._released
        original = self._slice(start, limit)
        spans: tuple[Span, ...] = ()
        if self._spans:
            spans = tuple(
                replace(s, start=s.start - start, end=s.end - start) for s in self._spans if s.start < limit
            )
            self._spans = tuple(s for s in self._spans if s.start >= limit)
        self.unjudged_released += limit - max(start, min(self._judged, limit))
        self._released = limit
        return Release(original, spans)

    def _forget(self) -> None:
        """Drop what will neither be read again nor stand before that as context."""
        kept = self._restart() - self._rules.overlap
        if kept > self._base and not self._rules.final_check:
            self._text, self._base = self._text[kept - self._base :], kept

    def _restart(self) -> int:
        """Where the next check begins: with all that is held, and the overlap."""
        return max(0, min(self._released, self._judged - self._again))

    def _next_check(self) -> Check:
        self._join()
        waiting = self._arrived - self._judged
        least = max(self._judged + waiting // 2, self._released + self._rules.overlap + 1)
        end = self._base + window_end(self._text, least - self._base)
        return self._check(self._restart(), end if end > self._judged else self._arrived)

    def _check(self, start: int, end: int) -> Check:
        """Ask for the text from ``start`` to ``end``."""
        self._join()
        check = Check(self._slice(start, end), self._slice(start - self._rules.overlap, start), start)
        self._outstanding.append(check)
        self._wake = self._next_wake()
        return check

    def _slice(self, start: int, end: int) -> str:
        self._join()
        return self._text[max(0, start - self._base) : max(0, end - self._base)]

    def _join(self) -> None:
        if self._parts:
            self._text += "".join(self._parts)
            self._parts.clear()
