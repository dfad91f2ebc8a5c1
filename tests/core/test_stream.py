"""StreamGuard: however a text is cut and however late its checks settle, the same text leaves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.decision import Decision, decide
from guardrail.core.policy import Action, LabelRule, Policy, Stage
from guardrail.core.redaction import Span
from guardrail.core.stream import Check, Halt, Release, ReleaseMode, StreamGuard, StreamRules
from guardrail.core.verdict import Verdict

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


def rules(window: int | None, overlap: int, **more: Any) -> StreamRules:
    if window is None:
        return StreamRules(ReleaseMode.WHOLE, overlap=overlap, **more)
    return StreamRules(window=window, overlap=overlap, **more)


class Judge:
    """Finds needles in the text of one check and knows nothing of the others."""

    def __init__(self, redact: str = "", block: str = "") -> None:
        self.redact = redact
        self.block = block

    def __call__(self, check: Check) -> Decision:
        subject = Subject(
            Stage.OUTPUT, (), (Turn("assistant", (Segment(check.text, (), preceding=check.preceding),)),)
        )
        if self.block and self.block in check.text:
            return decide(subject, [Verdict(POLICY, "P3", True)])
        spans = []
        at = check.text.find(self.redact) if self.redact else -1
        while at >= 0:
            spans.append((0, Span(at, at + len(self.redact), "P2")))
            at = check.text.find(self.redact, at + len(self.redact))
        return decide(subject, [Verdict(POLICY, "P2" if spans else "P0", bool(spans), spans=tuple(spans))])


class Run:
    """Plays a guard, settles its checks when told to, and holds every promise at every step."""

    def __init__(self, window: int | None, overlap: int, judge: Judge) -> None:
        self.guard = StreamGuard(rules(window, overlap))
        self.overlap = overlap
        self.judge = judge
        self.waiting: list[Check] = []
        self.pushed = ""
        self.original = ""  # what has left, as it arrived
        self.out = ""  # what has left, as it leaves
        self.covered = 0  # characters that settled checks have covered, from the start
        self.closing = False
        self.dropped = 0
        self.halt: Halt | None = None
        self.checks: list[Check] = []
        self.both: list[Check] = []

    def push(self, text: str) -> None:
        if not self.guard.closed:
            self.pushed += text
        self._obey(self.guard.push(text))

    def close(self) -> None:
        self.closing = True
        self._obey(self.guard.close())

    def settle(self, which: int = 0) -> None:
        check = self.waiting.pop(which)
        if not self.waiting:  # what two checks cover leaves when both are settled
            self.covered = max(self.covered, *(c.start + len(c.text) for c in (check, *self.both)))
            self.both = []
        else:
            self.both = [check]
        self._obey(self.guard.settle(check, self.judge(check)))

    def finish(self, last_first: bool = False) -> Run:
        self.close()
        while self.waiting:
            self.settle(-1 if last_first else 0)
        assert self.guard.finished
        return self

    def _obey(self, commands) -> None:
        for command in commands:
            assert self.halt is None, "nothing comes after a halt"
            if isinstance(command, Check):
                assert len(self.waiting) <= self.closing, (
                    "at most one check is outstanding, two at the close"
                )
                start = len(self.original)
                if self.waiting:
                    first = self.waiting[0]
                    start = max(start, first.start + len(first.text) - self.overlap)
                assert command.start == start
                assert self.pushed[start:].startswith(command.text)
                end = start + len(command.text)
                if self.closing:
                    assert end == len(self.pushed), "the last check covers all that is held and unread"
                else:
                    waiting = len(self.pushed) - self.covered
                    assert end - self.covered > waiting // 2, "and any other most of it"
                before = self.pushed[:start]
                assert command.preceding == (before[-self.overlap :] if self.overlap else "")
                assert command.text
                self.waiting.append(command)
                self.checks.append(command)
            elif isinstance(command, Release):
                self.original += command.original
                self.out += command.text
                assert command.original, "an empty release says nothing"
            else:
                self.halt = command
                self.dropped = command.dropped
        assert self.pushed.startswith(self.original), "text leaves in order"
        assert len(self.original) <= self.covered, "nothing leaves before a settled check covered it"
        assert len(self.original) + self.guard.held + self.dropped == len(self.pushed)
        assert self.guard.checking == bool(self.waiting)


@st.composite
def chunked(draw, text: str) -> list[str]:
    """The text whole, one character a chunk, or cut anywhere, with empty chunks among them."""
    way = draw(st.sampled_from(["whole", "single", "cut"]))
    if way == "whole":
        return [text]
    if way == "single":
        return list(text)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@st.composite
def played(draw, text: str, judge: Judge, window: int | None, overlap: int) -> Run:
    """The text through a guard, its checks settling early or late, as drawn."""
    run = Run(window, overlap, judge)
    early = draw(st.sampled_from(["at once", "at the end", "any time"]))
    for chunk in draw(chunked(text)):
        run.push(chunk)
        if run.waiting and (early == "at once" or (early == "any time" and draw(st.booleans()))):
            run.settle()
    return run.finish(last_first=draw(st.booleans()))


LETTERS = st.text("ab ", max_size=60)
NEEDLE = st.text("ab ", min_size=1, max_size=5)
ANY = st.text(max_size=40)
WINDOW = st.one_of(st.none(), st.integers(1, 25))


class TestAnyChunkingAndAnySchedule:
    @given(st.one_of(LETTERS, ANY), WINDOW, st.integers(0, 20), st.data())
    def test_a_text_that_passes_leaves_whole(self, text, window, overlap, data):
        run = data.draw(played(text, Judge(), window, overlap))
        assert run.out == run.original == text
        assert run.halt is None

    @given(LETTERS, NEEDLE, WINDOW, st.integers(0, 20), st.data())
    def test_a_needle_to_be_redacted_never_leaves(self, text, needle, window, more, data):
        run = data.draw(played(text, Judge(redact=needle), window, len(needle) + more))
        assert run.original == text
        assert run.out == text.replace(needle, PUT)
        assert needle not in run.out.replace(PUT, "\x00")

    @given(
        st.lists(st.sampled_from(["x", "😀", "\u200b", "e\u0301", "needle", "need", "\n"])).map("".join),
        WINDOW,
        st.data(),
    )
    def test_the_same_with_text_beyond_ascii(self, text, window, data):
        run = data.draw(played(text, Judge(redact="needle"), window, 6))
        assert run.out == text.replace("needle", PUT)

    @given(LETTERS, NEEDLE, WINDOW, st.integers(0, 20), st.data())
    def test_of_a_needle_that_blocks_not_even_a_part_leaves(self, text, needle, window, more, data):
        run = data.draw(played(text, Judge(block=needle), window, len(needle) + more))
        if needle in text:
            assert run.halt is not None
            assert len(run.out) <= text.index(needle)
            assert run.out == text[: len(run.out)]
        else:
            assert run.out == text
            assert run.halt is None

    @given(LETTERS, NEEDLE, NEEDLE, WINDOW, st.integers(0, 20), st.data())
    def test_redaction_and_block_together(self, text, hide, stop, window, more, data):
        overlap = max(len(hide), len(stop)) + more
        run = data.draw(played(text, Judge(redact=hide, block=stop), window, overlap))
        assert (run.halt is not None) == (stop in text)
        assert hide not in run.out.replace(PUT, "\x00")
        if stop in text:
            assert len(run.original) <= text.index(stop)
        else:
            assert run.out == text.replace(hide, PUT)

    @given(LETTERS, NEEDLE, st.integers(1, 25), st.integers(0, 20), st.data())
    def test_two_ways_to_play_one_text_let_the_same_text_leave(self, text, needle, window, more, data):
        judge = Judge(redact=needle)
        one = data.draw(played(text, judge, window, len(needle) + more))
        other = data.draw(played(text, judge, window, len(needle) + more))
        assert one.out == other.out


class TestSplitAtEveryPoint:
    text = "Dear all, the code is 4711-0815 and the door is red. Bye."

    @pytest.mark.parametrize("early", [True, False])
    @pytest.mark.parametrize("window", [None, 1, 7, 30])
    @pytest.mark.parametrize(
        ("redact", "block"), [("", ""), ("4711-0815", ""), ("", "door is red"), ("4711", "Bye.")]
    )
    def test_whole_and_in_two(self, early, window, redact, block):
        for cut in range(len(self.text) + 1):
            run = Run(window, 12, Judge(redact, block))
            for chunk in (self.text[:cut], self.text[cut:]):
                run.push(chunk)
                if early and run.waiting:
                    run.settle()
            run.finish()
            if block:
                assert run.halt is not None
                assert len(run.original) <= self.text.index(block)
            else:
                assert run.out == (self.text.replace(redact, PUT) if redact else self.text)


class Guard(StreamGuard):
    """A guard whose last check is settled by a decision alone."""

    def decided(self, decision: Decision):
        return self.settle(self._outstanding[-1] if self._outstanding else Check("", ""), decision)


def checks(commands) -> list[str]:
    return [command.text for command in commands if isinstance(command, Check)]


def decision(action: Action = Action.PASS, *spans: Span) -> Decision:
    label = {Action.PASS: "P0", Action.FLAG: "P1", Action.REDACT: "P2", Action.BLOCK: "P3"}[action]
    subject = Subject(Stage.OUTPUT, (), (Turn("assistant", (Segment("x" * 99, ()),)),))
    found = tuple((0, span) for span in spans)
    return decide(subject, [Verdict(POLICY, label, action is not Action.PASS, spans=found)])


class TestWhenChecksAreAsked:
    def test_a_check_waits_for_a_window_of_new_text(self):
        guard = Guard(rules(5, 2))
        assert guard.push("abcd") == []
        assert guard.push("ef") == [Check("abcdef", "")]
        assert guard.checking

    def test_while_one_check_runs_text_goes_on_arriving(self):
        guard = Guard(rules(2, 0))
        assert checks(guard.push("ab")) == ["ab"]
        assert guard.push("cdefgh") == []
        assert guard.held == 8
        assert guard.decided(decision()) == [Release("ab", ()), Check("cdefgh", "", 2)]

    def test_a_slow_judge_is_asked_less_often(self):
        slow, fast = Run(5, 2, Judge()), Run(5, 2, Judge())
        for char in "x" * 100:
            slow.push(char)
            fast.push(char)
            if fast.waiting:
                fast.settle()
        assert len(slow.finish().checks) == 2
        assert len(fast.finish().checks) == 20

    def test_judged_text_younger_than_the_overlap_is_read_again(self):
        guard = Guard(rules(4, 3))
        guard.push("abcdef")
        assert guard.decided(decision()) == [Release("abc", ())]
        assert guard.push("ghij") == [Check("defghij", "abc", 3)]

    def test_what_left_is_context_up_to_the_overlap(self):
        guard = Guard(rules(4, 2))
        guard.push("abcdef")
        guard.decided(decision())
        assert guard.preceding == "cd"
        guard.push("ghij")
        guard.decided(decision())
        assert guard.preceding == "gh"

    def test_without_overlap_nothing_is_context(self):
        guard = Guard(rules(2, 0), preceding="before")
        assert guard.push("ab") == [Check("ab", "")]
        guard.decided(decision())
        assert guard.preceding == ""

    def test_a_lane_that_goes_on_knows_what_left_before(self):
        guard = Guard(rules(2, 4), preceding="said before")
        assert guard.push("ab") == [Check("ab", "fore")]

    def test_without_a_window_all_is_held_to_the_close(self):
        guard = Guard(rules(None, 0))
        assert [guard.push("x" * 500) for _ in range(3)] == [[], [], []]
        assert guard.close() == [Check("x" * 1500, "")]
        assert guard.decided(decision()) == [Release("x" * 1500, ())]

    def test_the_close_asks_for_what_is_unjudged(self):
        guard = Guard(rules(10, 2))
        guard.push("abc")
        assert guard.close() == [Check("abc", "")]
        assert not guard.finished
        assert guard.decided(decision()) == [Release("abc", ())]
        assert guard.finished

    def test_the_close_releases_what_was_judged_already(self):
        guard = Guard(rules(3, 2))
        guard.push("abc")
        assert guard.decided(decision()) == [Release("a", ())]
        assert guard.close() == [Release("bc", ())]
        assert guard.finished

    @pytest.mark.parametrize("last_first", [False, True])
    def test_a_close_during_a_check_asks_for_the_rest_beside_it(self, last_first):
        guard = StreamGuard(rules(3, 2))
        (first,) = guard.push("abc")
        guard.push("d")
        (rest,) = guard.close()
        assert rest == Check("bcd", "a", 1)
        pair = (rest, first) if last_first else (first, rest)
        assert guard.settle(pair[0], decision()) == []
        assert guard.settle(pair[1], decision()) == [Release("abcd", ())]
        assert guard.finished

    def test_a_close_during_a_check_of_all_that_there_is_asks_for_nothing(self):
        guard = Guard(rules(3, 2))
        guard.push("abc")
        assert guard.close() == []
        assert guard.decided(decision()) == [Release("abc", ())]

    @pytest.mark.parametrize("blocked", [0, 1])
    def test_of_two_checks_either_can_halt(self, blocked):
        guard = StreamGuard(rules(3, 2))
        (first,) = guard.push("abc")
        guard.push("d")
        (rest,) = guard.close()
        pair = [first, rest]
        (halt,) = guard.settle(pair.pop(blocked), decision(Action.BLOCK))
        assert halt.dropped == 4
        assert guard.settle(pair[0], decision()) == []

    def test_the_spans_of_two_checks_are_merged_where_they_lie(self):
        guard = StreamGuard(rules(3, 2))
        (first,) = guard.push("4711")
        guard.push(" x 0815")
        (rest,) = guard.close()
        assert rest.text == "11 x 0815"
        guard.settle(rest, decision(Action.REDACT, Span(5, 9, "P2")))
        (release,) = guard.settle(first, decision(Action.REDACT, Span(0, 4, "P2")))
        assert release.text == "[REDACTED:P2] x [REDACTED:P2]"

    def test_an_empty_stream_needs_no_check(self):
        guard = Guard(rules(3, 2))
        assert guard.push("") == []
        assert guard.close() == []
        assert guard.finished

    def test_a_flag_lets_text_leave(self):
        guard = Guard(rules(3, 0))
        guard.push("abc")
        assert guard.decided(decision(Action.FLAG)) == [Release("abc", ())]


class TestRedaction:
    def test_a_span_is_relative_to_what_is_released(self):
        guard = Guard(rules(6, 0))
        guard.push("ab4711")
        (release,) = guard.decided(decision(Action.REDACT, Span(2, 6, "P2")))
        assert release == Release("ab4711", (Span(2, 6, "P2"),))
        assert release.text == "ab[REDACTED:P2]"

    def test_a_span_that_the_limit_would_cut_is_held_whole(self):
        guard = Guard(rules(8, 3))
        guard.push("ab471112")
        assert guard.decided(decision(Action.REDACT, Span(2, 6, "P2"))) == [Release("ab", ())]
        assert guard.close() == [Release("471112", (Span(0, 4, "P2"),))]

    def test_a_span_stays_though_the_next_check_does_not_see_it(self):
        guard = Guard(rules(6, 4))
        guard.push("ab4711")
        assert guard.decided(decision(Action.REDACT, Span(2, 6, "P2"))) == [Release("ab", ())]
        guard.push("cdefgh")
        assert guard.decided(decision()) == [Release("4711cd", (Span(0, 4, "P2"),))]

    def test_a_span_stays_though_the_next_check_finds_only_another(self):
        guard = Guard(rules(4, 9))
        guard.push("4711")
        guard.decided(decision(Action.REDACT, Span(0, 4, "P2")))
        guard.push(" and 0815")
        (release,) = guard.decided(decision(Action.REDACT, Span(9, 13, "P2")))
        assert release.text == "[REDACTED:P2]"
        (release,) = guard.close()
        assert release.text == " and [REDACTED:P2]"

    def test_a_span_that_two_checks_find_is_replaced_once(self):
        guard = Guard(rules(4, 4))
        guard.push("4711")
        assert guard.decided(decision(Action.REDACT, Span(0, 4, "P2"))) == []
        guard.push("abcd")
        (release,) = guard.decided(decision(Action.REDACT, Span(0, 4, "P2")))
        assert release.text == "[REDACTED:P2]"

    def test_a_redaction_that_grows_with_every_check_leaves_nothing_before_the_close(self):
        guard = Guard(rules(2, 1))
        out = []
        for size in (2, 4, 6):
            out += guard.push("xx")
            out += guard.decided(decision(Action.REDACT, Span(0, size, "P2")))
        out += guard.close()
        assert [c.text for c in out if isinstance(c, Release)] == ["[REDACTED:P2]"]


class TestHalt:
    def test_nothing_leaves_any_more(self):
        guard = Guard(rules(3, 1))
        guard.push("abc")
        guard.push("de")
        blocked = decision(Action.BLOCK)
        assert guard.decided(blocked) == [Halt(blocked, 5)]
        assert (guard.held, guard.finished, guard.closed) == (0, True, True)
        assert guard.push("more text than a window") == []
        assert guard.close() == []
        assert guard.held == 0
        with pytest.raises(ValueError, match="the check is not outstanding"):
            guard.decided(decision())

    def test_a_halt_after_the_close(self):
        guard = Guard(rules(9, 1))
        guard.push("abc")
        guard.close()
        (halt,) = guard.decided(decision(Action.BLOCK))
        assert halt.dropped == 3
        assert guard.finished


class TestMisuse:
    def test_settling_what_nobody_asked(self):
        with pytest.raises(ValueError, match="the check is not outstanding"):
            StreamGuard(rules(3, 1)).settle(Check("abc", ""), decision())

    def test_pushing_after_the_close(self):
        guard = Guard(rules(3, 1))
        guard.close()
        with pytest.raises(ValueError, match="push after close"):
            guard.push("a")

    def test_closing_twice_changes_nothing(self):
        guard = Guard(rules(3, 1))
        guard.push("a")
        assert checks(guard.close()) == ["a"]
        assert guard.close() == []
        assert guard.checking
