"""StreamGuard: its commands one by one. What holds for any text is in ``tests/promises``."""

from __future__ import annotations

import re

import pytest

from guardrail.core.decision import Decision
from guardrail.core.policy import Action
from guardrail.core.redaction import Span
from guardrail.core.release import Check, Halt, Release, ReleaseMode, StreamRules
from guardrail.core.stream import StreamGuard
from tests.marked import marked
from tests.promises.play import PUT, Judge, Run, decision, rules


class TestSplitAtEveryPoint:
    text = "Dear all, the code is 4711-0815 and the door is red. Bye."

    @pytest.mark.parametrize("early", [True, False])
    @pytest.mark.parametrize("window", [None, 1, 7, 30])
    @pytest.mark.parametrize(
        ("redact", "block"), [("", ""), ("4711-0815", ""), ("", "door is red"), ("4711", "Bye.")]
    )
    def test_whole_and_in_two(self, early, window, redact, block):
        for cut in range(len(self.text) + 1):
            run = Run(rules(window, 12), Judge(redact, block))
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
        slow, fast = Run(rules(5, 2), Judge()), Run(rules(5, 2), Judge())
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
        assert marked(*release) == "[REDACTED:P2] x [REDACTED:P2]"

    def test_an_empty_stream_needs_no_check(self):
        guard = Guard(rules(3, 2))
        assert guard.push("") == []
        assert guard.close() == []
        assert guard.finished

    def test_a_flag_lets_text_leave(self):
        guard = Guard(rules(3, 0))
        guard.push("abc")
        assert guard.decided(decision(Action.FLAG)) == [Release("abc", ())]


class TestWhereWindowsBeginAndEnd:
    def test_the_first_check_comes_when_a_little_more_than_the_overlap_is_there(self):
        guard = Guard(rules(40, 6, first=4))
        assert checks(guard.push("Once upon")) == []
        assert checks(guard.push(" ")) == ["Once upon "]
        assert guard.decided(decision()) == [Release("Once", ())]
        assert guard.push("x" * 39) == [], "the second waits for a window"
        assert checks(guard.push("x")) == [" upon " + "x" * 40]

    def test_in_live_mode_it_does_not_wait_for_the_overlap(self):
        guard = Guard(StreamRules(ReleaseMode.LIVE, window=40, overlap=6, first=4))
        assert guard.push("Once") == [Release("Once", ()), Check("Once", "")]

    @pytest.mark.parametrize(
        ("text", "read"),
        [
            ("One two. Three four", "One two. Three four"),  # not in the second half
            ("One two three. Four", "One two three. "),
            ("One two? three! Four", "One two? three! "),
            ("One two\nthree\nfour", "One two\nthree\n"),
            ("One two three e.g.x f", "One two three e.g.x f"),
            ("一二三四五。六七八九。一二", "一二三四五。六七八九。"),
            ("One two three 👩\u200d", "One two three "),
        ],
    )
    def test_a_window_ends_with_a_sentence_or_a_letter(self, text: str, read: str):
        guard = Guard(rules(len(text), 0))
        assert checks(guard.push(text)) == [read]


class TestWhatIsStillGrowing:
    def test_an_unbroken_run_is_held_and_read_again(self):
        guard = Guard(rules(8, 2, unbroken=9))
        guard.push("a bcdefg")
        assert guard.decided(decision()) == [Release("a ", ())]
        assert guard.push("hijklm n") == [Check("bcdefghijklm n", "a ", 2)]

    def test_one_that_grows_too_long_leaves_from_its_start(self):
        guard = Guard(rules(8, 2, unbroken=6))
        guard.push("abcdefgh")
        assert guard.decided(decision()) == [Release("ab", ())]

    def test_a_script_without_spaces_is_not_one_run(self):
        guard = Guard(rules(8, 2, unbroken=8))
        guard.push("一二三四五六七八")
        assert guard.decided(decision()) == [Release("一二三四五六", ())]

    def test_the_check_beside_the_last_one_reads_the_run_again(self):
        guard = Guard(rules(6, 2, unbroken=10))
        guard.push("ab cde")
        guard.push("fgh")
        assert guard.close() == [Check("cdefgh", "b ", 3)]

    def test_in_live_mode_too_a_run_is_read_again(self):
        guard = Guard(StreamRules(ReleaseMode.LIVE, window=6, overlap=2, first=None, unbroken=10))
        guard.push("ab cde")
        guard.decided(decision())
        assert guard.push("fghijk") == [Release("fghijk", ()), Check("cdefghijk", "b ", 3)]

    def test_what_stands_behind_an_opening_is_held_and_read_again(self):
        guard = Guard(rules(12, 3, openings=(("KEY", 20),)))
        guard.push("My KEY is a b c")
        assert guard.decided(decision()) == [Release("My ", ())]
        assert checks(guard.push(" d e f g h i")) == ["KEY is a b c d e f g h i"]
        assert guard.decided(decision()) == [Release("KEY is a b c d e f g ", ())], "longer than it may be"


class TestWhatIsNotCut:
    def test_a_letter_with_its_accent(self):
        guard = Guard(rules(8, 2))
        guard.push("cafe\u0301 a")
        guard.push("u")
        assert guard.decided(decision())[0] == Release("cafe\u0301 ", ())
        guard = Guard(rules(6, 2))
        guard.push("cafe\u0301s")
        assert guard.decided(decision()) == [Release("caf", ())]

    @pytest.mark.parametrize(
        ("text", "overlap"), [("see <A1>xy", 3), ("see <A1", 0), ("see <A", 0), ("see <", 0)]
    )
    def test_a_placeholder_or_what_may_become_one(self, text: str, overlap: int):
        guard = Guard(rules(5, overlap), restorer=Placeholders())
        guard.push(text)
        assert guard.decided(decision()) == [Release("see ", ())]

    def test_what_only_looked_like_one_leaves(self):
        guard = Guard(rules(6, 0), restorer=Placeholders())
        guard.push("see <A")
        assert guard.decided(decision()) == [Release("see ", ())]
        guard.push("nd so on")
        assert guard.decided(decision()) == [Release("<And so on", ())]


class Placeholders:
    """Knows ``<A1>`` and the like."""

    def open_at(self, text: str) -> int:
        begun = re.search(r"<(A([0-9]+)?)?\Z", text)
        return begun.start() if begun else len(text)


class TestFinalCheck:
    @pytest.fixture
    def guard(self) -> Guard:
        """One of whose text the start has left, and the end is held."""
        guard = Guard(rules(6, 2, final_check=True))
        guard.push("abcdef")
        assert guard.decided(decision()) == [Release("abcd", ())]
        return guard

    def test_the_last_check_reads_the_whole_channel(self, guard):
        guard.push("gh")
        assert guard.close() == [Check("abcdefgh", "")]
        assert guard.decided(decision()) == [Release("efgh", ())]

    def test_nothing_new_is_no_reason_to_leave_it_out(self, guard):
        guard.push("ghijkl")
        assert guard.decided(decision()) == [Release("efghij", ())]
        assert guard.close() == [Check("abcdefghijkl", "")]
        assert not guard.finished

    def test_beside_one_that_runs(self, guard):
        guard.push("ghijkl")
        assert guard.close() == [Check("abcdefghijkl", "")]
        assert guard.decided(decision()) == []
        assert guard.decided(decision()) == [Release("efghijkl", ())]

    def test_a_check_that_has_read_everything_is_the_last(self):
        guard = Guard(rules(6, 2, final_check=True))
        guard.push("abcdef")
        assert guard.close() == []
        assert guard.decided(decision()) == [Release("abcdef", ())]

    def test_when_it_blocks_the_end_has_not_left(self, guard):
        guard.push("gh")
        guard.close()
        blocked = decision(Action.BLOCK)
        assert guard.decided(blocked) == [Halt(blocked, 4)]

    def test_when_it_redacts_what_has_left_the_rest_goes(self, guard):
        guard.push("gh")
        guard.close()
        (release,) = guard.decided(decision(Action.REDACT, Span(2, 6, "P2")))
        assert marked(*release) == "[REDACTED:P2]gh"


class TestLive:
    @pytest.fixture
    def guard(self) -> Guard:
        return Guard(StreamRules(ReleaseMode.LIVE, window=4, overlap=2, first=None))

    def test_text_leaves_at_once_and_is_counted_as_unjudged(self, guard):
        assert guard.push("abc") == [Release("abc", ())]
        assert guard.push("de") == [Release("de", ()), Check("abcde", "")]
        assert guard.push("f") == [Release("f", ())]
        assert (guard.held, guard.unjudged_released) == (0, 6)

    def test_a_check_reads_the_end_of_the_one_before_again(self, guard):
        guard.push("abcde")
        guard.decided(decision())
        assert guard.push("fghi") == [Release("fghi", ()), Check("defghi", "bc", 3)]

    @pytest.mark.parametrize("action", [Action.REDACT, Action.BLOCK])
    def test_a_finding_halts_and_nothing_more_leaves(self, guard, action: Action):
        guard.push("abcde")
        found = decision(action)
        assert guard.decided(found) == [Halt(found, 0)]
        assert guard.push("f") == []

    def test_the_close_asks_for_what_is_unread_though_it_has_left(self, guard):
        guard.push("abc")
        assert guard.close() == [Check("abc", "")]
        assert not guard.finished
        assert guard.decided(decision()) == []
        assert guard.finished

    def test_half_a_letter_waits_for_the_other_half(self, guard):
        assert guard.push("a👩\u200d") == [Release("a", ())]
        assert guard.push("🚀") == [Release("👩\u200d🚀", ()), Check("a👩\u200d🚀", "")]

    def test_a_channel_that_is_held_as_a_whole_is_held_in_live_mode_too(self):
        guard = Guard(StreamRules(ReleaseMode.LIVE, window=4), whole=True)
        assert guard.push("abcdefgh") == []
        assert checks(guard.close()) == ["abcdefgh"]
        assert guard.unjudged_released == 0


class TestRedaction:
    def test_a_span_is_relative_to_what_is_released(self):
        guard = Guard(rules(6, 0))
        guard.push("ab4711")
        (release,) = guard.decided(decision(Action.REDACT, Span(2, 6, "P2")))
        assert release == Release("ab4711", (Span(2, 6, "P2"),))
        assert marked(*release) == "ab[REDACTED:P2]"

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
        assert marked(*release) == "[REDACTED:P2]"
        (release,) = guard.close()
        assert marked(*release) == " and [REDACTED:P2]"

    def test_a_span_that_two_checks_find_is_replaced_once(self):
        guard = Guard(rules(4, 4))
        guard.push("4711")
        assert guard.decided(decision(Action.REDACT, Span(0, 4, "P2"))) == []
        guard.push("abcd")
        (release,) = guard.decided(decision(Action.REDACT, Span(0, 4, "P2")))
        assert marked(*release) == "[REDACTED:P2]"

    def test_a_redaction_that_grows_with_every_check_leaves_nothing_before_the_close(self):
        guard = Guard(rules(2, 1))
        out = []
        for size in (2, 4, 6):
            out += guard.push("xx")
            out += guard.decided(decision(Action.REDACT, Span(0, size, "P2")))
        out += guard.close()
        assert [marked(*c) for c in out if isinstance(c, Release)] == ["[REDACTED:P2]"]


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
