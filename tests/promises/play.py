"""Plays a StreamGuard, and holds what it promises at every step."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Self

import regex
from hypothesis import settings

from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.decision import Decision, Failure, decide
from guardrail.core.graphemes import boundary
from guardrail.core.policy import Action, FailMode, LabelRule, Policy, Stage
from guardrail.core.redaction import Span, apply
from guardrail.core.release import Check, Command, Halt, Release, ReleaseMode, StreamRules
from guardrail.core.stream import StreamGuard
from guardrail.core.vault import Vault
from guardrail.core.verdict import Verdict
from guardrail.errors import FailureCode
from tests.marked import marked

POLICY = Policy(
    "p",
    "Judge it.",
    {
        "P0": LabelRule("P0", False),
        "P1": LabelRule("P1", True, Action.FLAG),
        "P2": LabelRule("P2", True, Action.REDACT),
        "P3": LabelRule("P3", True, Action.BLOCK),
    },
)
PUT = "[REDACTED:P2]"
EXAMPLES = settings(max_examples=max(500, settings.default.max_examples))  # more than other properties need
LABELS = {Action.PASS: "P0", Action.FLAG: "P1", Action.REDACT: "P2", Action.BLOCK: "P3"}
SENTENCE = re.compile(r"[.!?] |[\n。！？]")  # noqa: RUF001
GOES_ON = "\u200d\u094d\u0600"  # of the tests' signs those that take what follows into their cluster
WITHOUT_SPACES = ((0xE00, 0x109F), (0x1780, 0x17FF), (0x2E80, 0xABFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


def subject(text: str) -> Subject:
    return Subject(Stage.OUTPUT, (), (Turn("assistant", (Segment(text, ()),)),))


def decision(action: Action = Action.PASS, *spans: Span, text: str = "x" * 99) -> Decision:
    """What a judge of ``text`` decides; one that redacts without a span redacts everything."""
    found = tuple((0, span) for span in spans)
    return decide(subject(text), [Verdict(POLICY, LABELS[action], action is not Action.PASS, spans=found)])


def failure(mode: FailMode, text: str) -> Decision:
    """What comes of a judge that is down."""
    return decide(subject(text), [Failure(POLICY, FailureCode.TIMEOUT, mode)])


def places(needle: str, text: str) -> list[tuple[int, int]]:
    """Every occurrence, those that overlap each other too."""
    found = re.finditer(f"(?={re.escape(needle)})", text) if needle else ()
    return [(match.start(), match.start() + len(needle)) for match in found]


def without(text: str, *needles: str) -> str:
    """The text with the mark in place of every needle; those that overlap share one."""
    out, position = "", 0
    for start, end in sorted(place for needle in needles for place in places(needle, text)):
        if start >= position:
            out += text[position:start] + PUT
        position = max(position, end)
    return out + text[position:]


class Judge:
    """Finds needles in the text of one check and knows nothing of the others."""

    def __init__(self, redact: str = "", block: str = "") -> None:
        self.redact = redact
        self.block = block

    def __repr__(self) -> str:
        return f"Judge({self.redact!r}, {self.block!r})"

    def __call__(self, check: Check) -> Decision:
        if places(self.block, check.text):
            return decision(Action.BLOCK, text=check.text)
        spans = [Span(start, end, "P2") for start, end in places(self.redact, check.text)]
        return decision(Action.REDACT if spans else Action.PASS, *spans, text=check.text)


class Play:
    """One channel's text through a guard, and what comes of it."""

    def __init__(
        self,
        rules: StreamRules,
        judge: Callable[[Check], Decision],
        *,
        vault: Vault | None = None,
        preceding: str = "",
        guard: type[StreamGuard] = StreamGuard,
    ) -> None:
        self.guard = guard(rules, restorer=vault, preceding=preceding)
        self.rules = rules
        self.judge = judge
        self.vault = vault
        self.preceding = preceding
        self.waiting: list[Check] = []
        self.checks: list[Check] = []
        self.original = ""  # what has left, as it arrived
        self.out = ""  # what has left, as it leaves
        self.answer = ""  # what has left, as it reaches the client
        self.halt: Halt | None = None

    def push(self, text: str) -> None:
        self._obey(self.guard.push(text))

    def close(self) -> None:
        self._obey(self.guard.close())

    def settle(self, which: int = 0) -> None:
        check = self.waiting.pop(which)
        decision = self.judge(check)
        self._settled(check, decision, self.guard.settle(check, decision))

    def finish(self, last_first: bool = False) -> Self:
        self.close()
        for _ in range(2):
            if self.waiting:
                self.settle(-1 if last_first else 0)
        assert not self.waiting, "with the close at most two checks are left"
        return self

    def _settled(self, check: Check, decision: Decision, commands: Sequence[Command]) -> None:
        self._obey(commands)

    def _obey(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Check):
                self._asked(command)
            elif isinstance(command, Release):
                self._left(command)
            else:
                self.halt = command

    def _asked(self, check: Check) -> None:
        self.waiting.append(check)
        self.checks.append(check)

    def _left(self, release: Release) -> None:
        if self.vault:
            segment = Segment(release.original, (), preceding=self.preceding + self.original)
            self.answer += apply(release.original, self.vault.answer(segment, release.spans))
        self.original += release.original
        self.out += marked(*release)


class Run(Play):
    """A play that fails at the first step at which the guard breaks a promise."""

    def __init__(self, rules: StreamRules, judge: Callable[[Check], Decision], **more: Any) -> None:
        super().__init__(rules, judge, **more)
        self.live = rules.release is ReleaseMode.LIVE
        self.pushed = ""
        self.closing = False
        self.read: list[tuple[int, int]] = []  # what settled checks have read
        self.covered = 0  # up to here they have read everything
        self.spans: list[Span] = []  # what they found to be redacted
        self.cuts: list[int] = []
        self.unjudged = 0

    def push(self, text: str) -> None:
        if not self.halt:
            self.pushed += text
        super().push(text)

    def close(self) -> None:
        self.closing = True
        super().close()

    def finish(self, last_first: bool = False) -> Self:
        super().finish(last_first)
        assert self.guard.finished
        if self.halt:
            return self
        assert self.original == self.pushed, "all of it leaves"
        if self.vault:
            whole = Segment(self.pushed, (), preceding=self.preceding)
            assert self.answer == apply(self.pushed, self.vault.answer(whole, self.spans))
            for edit in self.vault.restorations(self.pushed, self.preceding):
                assert not any(edit.start < cut < edit.end for cut in self.cuts), "a placeholder was cut"
        return self

    def tail(self, end: int) -> int:
        """How much of what ends there must be read again with what follows."""
        rules = self.rules
        before = self.preceding[-rules.overlap :] if rules.overlap else ""
        text = before + self.pushed[:end]
        run = 0
        while run < min(rules.unbroken, len(text)) and not _breaks(text[-run - 1]):
            run += 1
        tails = [rules.overlap, run]
        for opening, size in rules.openings:
            tails += [len(text) - at for at, _ in places(opening, text) if len(text) - at <= size]
        return max(tails)

    def due(self) -> int:
        """How much must have arrived for a check before the close."""
        if self.covered or self.rules.first is None:
            return self.covered + self.rules.window
        return self.rules.first + (0 if self.live else self.rules.overlap)

    def _settled(self, check: Check, decision: Decision, commands: Sequence[Command]) -> None:
        stops = decision.action >= (Action.REDACT if self.live else Action.BLOCK)
        if stops and not self.halt:
            assert commands == [Halt(decision, len(self.pushed) - len(self.original))]
            super()._obey(commands)
            return
        self.read.append((check.start, check.start + len(check.text)))
        for start, end in sorted(self.read):
            self.covered = max(self.covered, end) if start <= self.covered else self.covered
        for redaction in decision.redactions:
            for span in redaction.spans:
                start = max(check.start + span.start, len(self.original))
                if start < check.start + span.end:
                    self.spans.append(Span(start, check.start + span.end, span.label))
        self._obey(commands)

    def _obey(self, commands: Sequence[Command]) -> None:
        assert not (self.halt and commands), "nothing comes after a halt"
        super()._obey(commands)
        self._hold()

    def _asked(self, check: Check) -> None:
        assert len(self.waiting) <= self.closing, "at most one check is outstanding, two at the close"
        start, end = check.start, check.start + len(check.text)
        seen = max([0, *(c.start + len(c.text) for c in self.checks)])
        assert check.text == self.pushed[start:end]
        overlap = self.rules.overlap
        before = (self.preceding + self.pushed)[: len(self.preceding) + start]
        assert check.preceding == (before[-overlap:] if overlap else "")
        if self.closing and self.rules.final_check:
            assert start == 0, "the last check reads the whole channel"
        else:
            assert end > seen, "a check reads something new"
            again = max(0, seen - self.tail(seen))
            assert start == (again if self.waiting else min(again, len(self.original)))
        if self.closing:
            assert end == len(self.pushed), "the last check reads to the end"
        else:
            assert self.rules.release is not ReleaseMode.WHOLE
            assert len(self.pushed) >= self.due(), "a check waits for a window of text"
            self._ends_well(end)
        super()._asked(check)

    def _ends_well(self, end: int) -> None:
        """A window ends with a sentence, if one ends in the second half of what waits, else anywhere."""
        arrived = len(self.pushed)
        least = max((self.covered + arrived) // 2, len(self.original) + self.rules.overlap + 1)
        sentences = [match.end() for match in SENTENCE.finditer(self.pushed, least)]
        if sentences:
            assert end == sentences[-1]
        else:
            assert end in (arrived, boundary(self.pushed, arrived))

    def _left(self, release: Release) -> None:
        start = len(self.original)
        end = start + len(release.original)
        assert start < end, "an empty release says nothing"
        assert release.original == self.pushed[start:end], "text leaves in order"
        all_read = self.closing and self.covered == len(self.pushed) and not self.waiting
        if self.rules.final_check:
            all_read = all_read and (0, len(self.pushed)) in self.read
        if self.live:
            self.unjudged += max(0, end - max(start, self.covered))
            assert not release.spans, "what may have left in part is not redacted but halted"
        else:
            assert not self.waiting, "nothing leaves while a check is out"
            assert all_read or self.rules.release is not ReleaseMode.WHOLE
            assert end <= self.covered - (0 if all_read else self.tail(self.covered)), "it is held back"
        if not (self.closing and end == len(self.pushed)):
            assert end in {match.end() for match in regex.finditer(r"\X", self.pushed)}, "a cluster is cut"
            assert end < len(self.pushed) or self.pushed[-1] not in GOES_ON, "more of it is to come"
        self._redacted(release, start, end)
        self.cuts.append(end)
        super()._left(release)

    def _redacted(self, release: Release, start: int, end: int) -> None:
        """What was found, all of it, nothing else, and none of it in two."""
        found = self._found()
        put = {at for span in release.spans for at in range(start + span.start, start + span.end)}
        assert put == {at for at in found if start <= at < end}
        assert not {end - 1, end} <= found, "a redaction was cut"
        assert all(one.end <= other.start for one, other in pairwise(release.spans))

    def _found(self) -> set[int]:
        return {at for span in self.spans for at in range(span.start, span.end)}

    def _hold(self) -> None:
        guard, arrived, left = self.guard, len(self.pushed), len(self.original)
        dropped = self.halt.dropped if self.halt else 0
        assert left + guard.held + dropped == arrived, "released + held + dropped = pushed"
        assert guard.unjudged_released == self.unjudged
        assert guard.checking == bool(self.waiting)
        assert guard.finished == bool(self.halt or (self.closing and not self.waiting and not guard.held))
        if self.waiting or self.closing or self.halt or self.rules.release is ReleaseMode.WHOLE:
            return
        assert arrived < self.due(), "a check that is due is out"
        found, unread = self._found(), range(left, self.covered)
        assert guard.growing == (bool(unread) and found.issuperset(unread))
        if not self.spans and not self.vault and self.pushed.isascii() and "\r" not in self.pushed:
            least = arrived if self.live else self.covered - self.tail(self.covered)
            assert left >= least, "what may leave has left"


def rules(window: int | None, overlap: int, **more: Any) -> StreamRules:
    """Rules of release mode ``window``, or of ``whole`` without one."""
    more.setdefault("first", None)
    if window is None:
        return StreamRules(ReleaseMode.WHOLE, overlap=overlap, **more)
    return StreamRules(window=window, overlap=overlap, **more)


def _breaks(char: str) -> bool:
    return char.isspace() or any(first <= ord(char) <= last for first, last in WITHOUT_SPACES)
