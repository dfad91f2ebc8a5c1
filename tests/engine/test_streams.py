"""The twin of guardrail/engine/streams.py: events in, what may leave out, with simple stand-ins."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Conversation, Kind, Segment, Subject, Turn, chain
from guardrail.core.decision import Decision, Failure
from guardrail.core.policy import Action, FailMode, LabelRule, Mode, Policy, Stage
from guardrail.core.redaction import Span
from guardrail.core.release import ReleaseMode, StreamRules
from guardrail.core.vault import Vault
from guardrail.core.verdict import Verdict
from guardrail.engine.check import GuardrailEngine
from guardrail.engine.fail_rules import FailRules
from guardrail.engine.outbox import Ready
from guardrail.engine.streams import StreamedAnswer
from guardrail.errors import ClassifierUnavailable, FailureCode
from guardrail.testing import ScriptedClassifier
from tests.engine.pieces import Bit

BOUND_S = 5.0
LABELS = {
    "SAFE": LabelRule("SAFE", violation=False),
    "FLG": LabelRule("FLG", True, Action.FLAG),
    "RED": LabelRule("RED", True, Action.REDACT),
    "BLK": LabelRule("BLK", True, Action.BLOCK),
}
POLICY = Policy("p", "Body.", LABELS)
TALK = Conversation((Turn("user", (Segment("question", ()),)),))
SMALL = StreamRules(first=None, window=10, overlap=6, max_held=100)
WHOLE = StreamRules(ReleaseMode.WHOLE, overlap=6, max_held=100)


class Event(NamedTuple):
    number: int
    bits: tuple[Bit, ...]
    choices: tuple[int, ...]


def call(text: str, choice: int = 0, index: int = 0) -> Bit:
    return Bit(text, choice, f"tool_calls[{index}]", Kind.TOOL_ARGUMENTS, whole=True)


def thought(text: str, choice: int = 0) -> Bit:
    return Bit(text, choice, "reasoning", Kind.REASONING)


@dataclass
class Judge:
    """Blocks on ``BOOM``, redacts each ``SECRET`` and ``KEY:...``, flags ``HMM``; fails on ``DOWN``.

    With ``gated`` each call waits until its gate is opened.
    """

    gated: bool = False
    policies: dict[str, str] = field(default_factory=dict)
    asked: list[Subject] = field(default_factory=list)
    gates: list[anyio.Event] = field(default_factory=list)

    def identity(self, policy: Policy) -> str:
        return "judge"

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        self.asked.append(subject)
        if self.gated:
            gate = anyio.Event()
            self.gates.append(gate)
            await gate.wait()
        (segment,) = subject.segments
        before = len(segment.preceding)
        text = segment.preceding + segment.text
        if "DOWN" in segment.text:
            raise ClassifierUnavailable("503")
        if "BOOM" in text:
            return Verdict(policy, "BLK", violation=True)
        spans = tuple(
            (0, Span(max(hit.start() - before, 0), hit.end() - before, "RED"))
            for hit in re.finditer("SECRET|KEY:[a-z]*", text)
            if hit.end() > before
        )
        if spans:
            return Verdict(policy, "RED", violation=True, spans=spans)
        label = "FLG" if "HMM" in segment.text else "SAFE"
        return Verdict(policy, label, LABELS[label].violation)

    @property
    def texts(self) -> list[str]:
        return [subject.text for subject in self.asked]


class Client:
    """Plays the frontend: pushes events, takes what is ready, keeps what left."""

    def __init__(
        self, rules: StreamRules, judge: Judge, group: Any, vault: Vault | None = None, **engine: Any
    ) -> None:
        self.judge = judge
        engine.setdefault("policies", [POLICY])
        policies = engine.pop("policies")
        self.engine = GuardrailEngine({Stage.OUTPUT: policies}, judge, **engine)
        self.vault = vault or Vault(b"key")
        self.out: list[Ready[Event, Bit]] = []
        self.answer: StreamedAnswer[Event, Bit] = StreamedAnswer(
            self.engine, TALK, rules, self.vault, group, "gr-1", self.flush
        )
        self.pushed: list[Event] = []

    async def flush(self) -> None:
        self.out += self.answer.outbox.ready()

    def push(self, *bits: Bit, choices: Sequence[int] | None = None) -> None:
        shown = tuple(dict.fromkeys(bit.choice for bit in bits)) if choices is None else tuple(choices)
        event = Event(len(self.pushed), bits, shown)
        self.pushed.append(event)
        self.answer.push(event, bits, shown)

    async def say(self, *bits: Bit, choices: Sequence[int] | None = None) -> None:
        """Push one event and let everything run that can."""
        self.push(*bits, choices=choices)
        await self.turns()

    async def turns(self) -> None:
        for _ in range(12):
            await anyio.lowlevel.checkpoint()
        await self.flush()

    async def open(self, number: int) -> None:
        """Let one gated check answer."""
        self.judge.gates[number].set()
        await self.turns()

    async def end(self) -> None:
        self.answer.finish_all()
        with anyio.fail_after(BOUND_S):
            await self.answer.settled()
        await self.flush()

    @property
    def numbers(self) -> list[int]:
        return [ready.event.number for ready in self.out if ready.event is not None]

    def text(self, choice: int = 0, channel: str = "content") -> str:
        """What left of one channel: new texts in place, dropped choices gone."""
        out = []
        for ready in self.out:
            if ready.event is None or choice in ready.dropped:
                continue
            changed = {id(bit): text for bit, text in ready.texts}
            out += [
                changed.get(id(bit), bit.text)
                for bit in ready.event.bits
                if (bit.choice, bit.channel) == (choice, channel)
            ]
        return "".join(out)

    @property
    def halts(self) -> list[int]:
        return [ready.halted for ready in self.out if ready.event is None]

    def untouched(self) -> bool:
        """Whether every event left, in order, as it came."""
        return self.out == [Ready(event, [], ()) for event in self.pushed]


@asynccontextmanager
async def client(
    rules: StreamRules = SMALL, judge: Judge | None = None, **engine: Any
) -> AsyncIterator[Client]:
    with anyio.fail_after(BOUND_S):
        async with anyio.create_task_group() as group:
            yield Client(rules, judge or Judge(), group, **engine)


class TestOrder:
    pytestmark = pytest.mark.anyio

    @pytest.mark.parametrize("rules", [SMALL, WHOLE, StreamRules()])
    async def test_an_answer_that_passes_leaves_event_by_event_as_it_came(self, rules: StreamRules):
        async with client(rules) as c:
            await c.say(choices=[0])  # the role
            for word in ("Hello ", "there, ", "", "how are ", "you today?"):
                await c.say(Bit(word))
            await c.say(choices=[0])  # the finish reason
            await c.say()  # usage, [DONE], a comment
            await c.end()
            assert c.untouched()
            assert (c.answer.waiting, c.answer.halted) == (0, {})

    async def test_events_wait_for_the_text_in_front_of_them(self):
        async with client(judge=Judge(gated=True)) as c:
            await c.say(choices=[0])
            assert c.numbers == [0]
            await c.say(Bit("0123456789"))
            await c.say()
            await c.say(Bit("", 0))
            assert c.numbers == [0]
            await c.open(0)
            assert c.numbers == [0]  # all of its text is older than the overlap only after the next check
            c.answer.finish(0)
            await c.turns()
            assert c.numbers == [0, 1, 2, 3]

    async def test_text_leaves_once_it_is_judged_and_older_than_the_overlap(self):
        async with client() as c:
            for letter in "abcdefghij":
                await c.say(Bit(letter))
            assert c.text() == "abcd"
            await c.end()
            assert c.text() == "abcdefghij"

    async def test_one_check_at_a_time_covers_all_that_has_come(self):
        async with client(judge=Judge(gated=True)) as c:
            await c.say(Bit("0123456789"))
            await c.say(Bit("abcdefghij"))
            await c.say(Bit("klmnopqrst"))
            assert c.judge.texts == ["0123456789"]
            await c.open(0)
            assert c.judge.texts[1:] == ["456789abcdefghijklmnopqrst"]
            await c.open(1)
            await c.end()
            assert c.answer.checks == len(c.judge.asked) == 2

    async def test_a_check_sees_the_conversation_and_what_left_before(self):
        async with client() as c:
            await c.say(Bit("0123456789"))
            await c.say(Bit("abcdefghij"))
            await c.end()
        first, second = c.judge.asked[:2]
        assert first.context == second.context == TALK.turns
        assert first.stage is Stage.OUTPUT
        assert [s.preceding for s in second.segments] == ["0123"]
        assert [turn.role for turn in second.turns] == ["assistant"]

    async def test_one_event_may_carry_pieces_of_several_choices_and_channels(self):
        async with client() as c:
            await c.say(Bit("one ", 0), thought("two ", 1), call("{}", 2))
            await c.say(Bit("three", 0), Bit("four", 1))
            await c.end()
            assert c.untouched()
        kinds = {next(s.segments).kind for s in c.judge.asked}
        assert kinds == {Kind.TEXT, Kind.REASONING, Kind.TOOL_ARGUMENTS}

    async def test_it_says_whether_the_next_event_may_leave(self):
        async with client() as c:
            assert not c.answer.outbox.leaves
            c.push(choices=[0])
            assert c.answer.outbox.leaves
            await c.flush()
            assert not c.answer.outbox.leaves
            c.push(Bit("a"))
            c.push(choices=[0])
            assert not c.answer.outbox.leaves
            await c.end()

    async def test_nothing_is_ready_twice(self):
        async with client() as c:
            await c.say(Bit("hello"))
            await c.end()
            assert c.answer.outbox.ready() == []
            assert len(c.out) == 1


class TestRedaction:
    pytestmark = pytest.mark.anyio

    @pytest.mark.parametrize(
        "rules", [SMALL, WHOLE, StreamRules(first=None, window=3, overlap=6, max_held=100)]
    )
    @pytest.mark.parametrize("cut", range(1, 20))
    async def test_a_span_over_several_pieces_is_replaced_once(self, rules: StreamRules, cut: int):
        text = "so the SECRET is out"
        async with client(rules) as c:
            for start in range(0, len(text), cut):
                await c.say(Bit(text[start : start + cut]))
            await c.end()
            assert c.text() == "so the [REDACTED:RED] is out"
            assert c.numbers == [event.number for event in c.pushed]

    async def test_pieces_without_a_span_keep_their_bytes(self):
        async with client() as c:
            for text in ("plain ", "SEC", "RET", " plain"):
                await c.say(Bit(text))
            await c.end()
            assert [(ready.texts, ready.dropped) for ready in c.out] == [
                ([], ()),
                ([(Bit("SEC"), "[REDACTED:RED]")], ()),
                ([(Bit("RET"), "")], ()),
                ([], ()),
            ]

    async def test_two_spans_in_one_piece(self):
        async with client() as c:
            await c.say(Bit("SECRET and SECRET."))
            await c.end()
            assert c.text() == "[REDACTED:RED] and [REDACTED:RED]."

    async def test_each_choice_has_spans_of_its_own(self):
        async with client() as c:
            await c.say(Bit("SECRET", 0), Bit("public", 1))
            await c.end()
            assert (c.text(0), c.text(1)) == ("[REDACTED:RED]", "public")

    async def test_json_arguments_are_redacted_leaf_by_leaf_where_they_stand(self):
        async with client() as c:
            for text in ("", '{"to": "SEC', 'RET", "n"', ": 1}"):
                await c.say(call(text))
            await c.end()
            assert [ready.texts for ready in c.out] == [
                [],
                [(call('{"to": "SEC'), '{"to": "[REDACTED:RED]')],
                [(call('RET", "n"'), '", "n"')],
                [],
            ]


class TestWholeChannels:
    pytestmark = pytest.mark.anyio

    async def test_a_tool_call_leaves_only_when_its_choice_ends_and_it_was_judged(self):
        async with client(judge=Judge(gated=True)) as c:
            for text in ('{"city": ', '"Rome, the ', 'eternal one"}'):
                await c.say(call(text))
            assert (c.judge.asked, c.out) == ([], [])
            c.answer.finish(0)
            await c.turns()
            assert c.judge.texts == ['{"city": "Rome, the eternal one"}']
            assert c.out == []
            await c.open(0)
            assert c.untouched()

    async def test_it_does_not_count_as_held(self):
        async with client() as c:
            await c.say(call("x" * 1000))
            assert c.answer.waiting == 0
            with anyio.fail_after(1):
                await c.answer.room()
            await c.end()
            assert c.answer.waiting == 0

    async def test_one_without_arguments_leaves_without_a_check(self):
        async with client() as c:
            await c.say(call(""))
            assert c.out == []
            await c.end()
            assert c.untouched()
            assert c.judge.asked == []

    async def test_one_that_is_blocked_never_leaves(self):
        async with client() as c:
            await c.say(Bit("fine words here"))
            await c.say(call('{"do": "BO'))
            await c.say(call('OM"}'))
            await c.say(choices=[0])
            await c.end()
            assert c.text(0, "tool_calls[0]") == ""
            assert c.halts == [0]

    async def test_release_mode_whole_holds_text_to_the_end(self):
        async with client(WHOLE) as c:
            for _ in range(30):
                await c.say(Bit("0123456789"))
            assert (c.out, c.judge.asked, c.answer.waiting) == ([], [], 0)
            with anyio.fail_after(1):
                await c.answer.room()
            await c.end()
            assert c.untouched()
            assert len(c.judge.asked) == 1

    async def test_text_after_a_tool_call_waits_behind_it(self):
        async with client() as c:
            await c.say(call("{}", 0))
            await c.say(Bit("of another choice, quite long", 1))
            c.answer.finish(1)
            await c.turns()
            assert c.out == []
            c.answer.finish(0)
            await c.turns()
            assert c.untouched()


class TestChannels:
    pytestmark = pytest.mark.anyio

    async def test_a_channel_ends_where_the_next_one_of_its_choice_begins(self):
        async with client() as c:
            await c.say(thought("hm"))
            assert c.out == []
            await c.say(Bit("so"))
            assert (c.judge.texts, c.numbers) == (["hm"], [0])
            await c.end()
            assert c.untouched()

    async def test_thinking_in_two_channels_at_once_is_no_change_of_channel(self):
        """OpenRouter writes each piece of reasoning into two fields."""
        async with client() as c:
            for word in ("one ", "two ", "three "):
                await c.say(thought(word), Bit(word, 0, "reasoning_details", Kind.REASONING))
            assert len(c.judge.texts) == 2  # one window of each, not a check a piece
            await c.say(Bit("so"))
            await c.end()
            assert c.untouched()
            assert sorted(c.judge.texts)[:2] == ["one two three ", "one two three "]

    async def test_a_channel_taken_up_again_has_its_earlier_end_read_along(self):
        async with client() as c:
            await c.say(Bit("it says SEC"))
            await c.say(thought("a thought"))
            await c.say(Bit("RET and more"))
            await c.end()
            again = next(s for subject in c.judge.asked for s in subject.segments if "RET" in s.text)
            assert again.preceding == "ys SEC"
            assert c.text() == "it says SEC[REDACTED:RED] and more"
            assert c.text(0, "reasoning") == "a thought"

    async def test_a_tool_call_that_another_one_interrupts_is_judged_and_leaves_as_a_whole(self):
        async with client() as c:
            for text, index in (('{"to": "SE', 0), ("{}", 1), ('CRET"}', 0)):
                await c.say(call(text, index=index))
            assert (c.out, c.judge.asked) == ([], [])
            await c.end()
            assert sorted(c.judge.texts) == ['{"to": "SECRET"}', "{}"]
            assert c.text(0, "tool_calls[0]") == '{"to": "[REDACTED:RED]"}'
            assert c.text(0, "tool_calls[1]") == "{}"

    async def test_in_release_mode_whole_no_channel_leaves_before_the_end_of_the_answer(self):
        async with client(WHOLE) as c:
            await c.say(thought("let me think"))
            await c.say(Bit("it says SEC"))
            await c.say(thought(" again"))
            await c.say(Bit("RET"))
            assert (c.out, c.judge.asked) == ([], [])
            await c.end()
            assert sorted(c.judge.texts) == ["it says SECRET", "let me think again"]
            assert (c.text(), c.text(0, "reasoning")) == ("it says [REDACTED:RED]", "let me think again")

    async def test_a_whole_channel_of_a_halted_choice_is_not_judged_any_more(self):
        async with client() as c:
            await c.say(call("{}"))
            await c.say(Bit("BOOM 56789"))
            await c.end()
            assert (c.halts, c.judge.texts) == ([0], ["BOOM 56789"])
            assert c.numbers == [0, 1]  # nothing is stuck behind it

    async def test_a_tool_call_is_judged_even_if_room_ended_the_channel_after_it(self):
        async with client(StreamRules(first=None, window=50, overlap=6, max_held=10)) as c:
            await c.say(call("BOOM"))
            await c.say(Bit("fewer than one window"))
            await c.answer.room()
            await c.end()
            assert c.halts == [0]

    async def test_however_often_channels_change_few_are_open(self):
        """Each change looks at the open ones: with all of them, many changes would stall the loop."""
        async with client() as c:
            for number in range(300):
                await c.say(Bit("a"), thought("b"), call("{}", index=number % 3))
                assert sum(len(lanes) for lanes in c.answer._open.values()) <= 1
                assert sum(len(lanes) for lanes in c.answer._open_whole.values()) <= 3
            await c.end()
            assert c.untouched()

    async def test_other_channels_and_choices_do_not_lend_their_text(self):
        async with client() as c:
            await c.say(Bit("it says SEC", 0))
            await c.say(thought("RET", 0))
            await c.say(Bit("RET", 1))
            await c.end()
            assert c.untouched()

    async def test_text_after_the_finish_of_its_choice_is_judged_too(self):
        async with client() as c:
            await c.say(Bit("before"))
            c.answer.finish(0)
            await c.say(Bit("BOOM"))
            await c.end()
            assert c.text() == "before"
            assert c.halts == [0]

    async def test_finishing_a_choice_that_said_nothing_or_has_ended_is_nothing(self):
        async with client() as c:
            c.answer.finish(3)
            await c.say(Bit("x"))
            c.answer.finish(0)
            c.answer.finish(0)
            await c.end()
            assert c.answer.checks == 1


class TestHalt:
    pytestmark = pytest.mark.anyio

    async def test_the_rest_of_the_choice_is_dropped_and_the_others_go_on(self):
        async with client(judge=Judge(gated=True)) as c:
            await c.say(Bit("BOOM 56789", 0), Bit("fine", 1))
            await c.say(Bit("later", 0), Bit(" words", 1))
            await c.open(0)
            await c.say(Bit("still later", 0), Bit(" and more", 1))
            await c.say(choices=[0, 1])
            c.judge.gated = False
            for gate in c.judge.gates:
                gate.set()
            await c.end()
            assert (c.text(0), c.text(1)) == ("", "fine words and more")
            assert c.halts == [0]
            assert all(0 in ready.dropped for ready in c.out if ready.event)
            assert c.answer.waiting == 0

    async def test_the_end_of_the_choice_comes_before_what_the_upstream_says_about_it(self):
        async with client() as c:
            await c.say(Bit("BOOM", 0))
            await c.say(choices=[0])  # the upstream's own finish chunk
            await c.say()  # its [DONE]
            await c.end()
            order = [("halt" if ready.event is None else ready.event.number) for ready in c.out]
            assert order.index("halt") < order.index(2)
            assert all(ready.dropped == (0,) for ready in c.out if ready.event and ready.event.choices)

    async def test_what_left_before_stays_and_nothing_of_the_violation_leaves(self):
        async with client() as c:
            for word in ("all is well ", "and good, ", "then BO", "OM."):
                await c.say(Bit(word))
            await c.end()
            assert c.text() == "all is well "  # the next word was within the overlap of the check

    async def test_a_halt_ends_every_channel_of_the_choice(self):
        async with client(judge=Judge(gated=True)) as c:
            await c.say(thought("thinking of it"))
            await c.say(Bit("BOOM at once"))
            await c.open(1)
            await c.open(0)  # the check of the other channel comes back too late
            await c.say(thought("again"))
            await c.end()
            assert (c.text(), c.text(0, "reasoning")) == ("", "")
            assert c.halts == [0]
            assert (c.answer.waiting, c.judge.texts) == (0, ["thinking of it", "BOOM at once"])

    async def test_a_closed_failure_halts_and_says_so(self):
        async with client() as c:
            await c.say(Bit("DOWN"))
            await c.end()
            assert c.text() == ""
            assert c.answer.halted[0].unavailable

    async def test_the_frontend_hears_of_every_halt(self):
        async with client() as c:
            heard = []
            c.answer._on_ready = lambda: _note(heard, dict(c.answer.halted))
            c.push(Bit("BOOM 56789"))
            for _ in range(12):
                await anyio.lowlevel.checkpoint()
            assert [list(halted) for halted in heard] == [[0]]

    async def test_a_shadow_policy_halts_nothing(self):
        shadow = Policy("p", "Body.", LABELS, mode=Mode.SHADOW)
        async with client(policies=[shadow]) as c:
            await c.say(Bit("BOOM and SECRET"))
            await c.end()
            assert c.untouched()
            assert c.answer.decision().findings[0].action is Action.BLOCK


async def _note(into: list[Any], what: Any) -> None:
    into.append(what)


class TestUnreadable:
    pytestmark = pytest.mark.anyio

    @pytest.mark.parametrize("action", [Action.PASS, Action.FLAG, Action.BLOCK])
    async def test_parts_that_nobody_can_read_are_named_and_act_as_configured(self, action: Action):
        async with client(on_unreadable=action) as c:
            await c.say(Bit("words", 0), Bit("words", 1))
            c.answer.unreadable(1, ["$.choices[1].delta.audio"])
            c.answer.unreadable(1, ["$.choices[1].delta.audio", "$.x"])
            await c.end()
            decision = c.answer.decision()
            assert (decision.action, decision.unjudged) == (action, ("$.choices[1].delta.audio", "$.x"))
            blocked = action is Action.BLOCK
            assert c.halts == ([1] if blocked else [])
            assert (c.text(0), c.text(1)) == ("words", "" if blocked else "words")
            assert not decision.unavailable


class TestRoom:
    pytestmark = pytest.mark.anyio

    async def test_there_is_room_until_more_is_held_than_may_be(self):
        async with client(judge=Judge(gated=True)) as c:
            await c.say(Bit("x" * 100))
            with anyio.fail_after(1):
                await c.answer.room()
            await c.open(0)
            await c.end()

    async def test_reading_waits_for_the_check_and_then_goes_on(self):
        async with client(judge=Judge(gated=True)) as c:
            await c.say(Bit("x" * 101))
            reading = anyio.Event()

            async def read() -> None:
                await c.answer.room()
                reading.set()

            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await c.turns()
                assert not reading.is_set()
                await c.open(0)
                await reading.wait()
            assert c.answer.waiting == SMALL.overlap
            await c.end()

    async def test_every_choice_has_room_of_its_own(self):
        """Else an early end would be made in choices that are about to say what must not leave."""
        async with client(StreamRules(first=None, window=50, overlap=10, max_held=60)) as c:
            c.push(call("arguments, and many of them, " * 9, 8))
            for choice in range(8):
                c.push(Bit(f"choice {choice} says little", choice))
                assert not c.answer.full
            assert c.judge.asked == []
            await c.end()
            await c.turns()
            assert c.untouched()

    async def test_text_that_comes_after_such_an_early_end_knows_what_stood_before(self):
        async with client(StreamRules(first=None, window=50, overlap=10, max_held=20)) as c:
            c.push(Bit("a long word of BO", 0), Bit("and another which is long", 1))
            await c.answer.room()
            await c.say(Bit("OM", 0))
            await c.end()
            assert c.halts == [0]
            assert "OM" not in c.text(0)

    async def test_a_full_stream_below_its_window_is_judged_to_its_end(self):
        async with client(StreamRules(first=None, window=50, overlap=10, max_held=20)) as c:
            c.push(Bit("thirty characters, or so it is"))
            assert c.answer.full
            with anyio.fail_after(BOUND_S):
                await c.answer.room()
            assert not c.answer.full
            assert c.judge.texts == ["thirty characters, or so it is"]
            await c.end()
            assert c.untouched()

    async def test_a_redaction_that_outgrows_the_room_ends_its_choice(self):
        """Else what comes behind it would not be told for a part of it."""
        async with client(StreamRules(first=None, window=20, overlap=10, max_held=60)) as c:
            await c.say(Bit("It is "))
            await c.say(Bit("KEY:"))
            for _ in range(12):
                await c.say(Bit("abcdefgh"))
                with anyio.fail_after(BOUND_S):
                    await c.answer.room()
            await c.end()
            assert c.halts == [0]
            assert c.text() == "It is "
            assert not c.answer.full

    async def test_a_choice_that_is_halted_makes_room(self):
        async with client(judge=Judge(gated=True)) as c:
            await c.say(Bit("BOOM" + "x" * 200, 0))
            await c.say(Bit("more", 0))

            async def open_soon() -> None:
                await c.open(0)

            async with anyio.create_task_group() as group:
                group.start_soon(open_soon)
                await c.answer.room()
            assert c.answer.waiting == 0

    async def test_a_text_that_must_be_held_as_a_whole_does_not_hang(self):
        """Redaction of everything keeps the limit in front of it, so nothing leaves before the end."""

        class Everything(Judge):
            async def classify(self, policy: Policy, subject: Subject) -> Verdict:
                return Verdict(policy, "RED", violation=True, excerpts=("nowhere to be found",))

        async with client(judge=Everything()) as c:
            for _ in range(40):
                await c.say(Bit("0123456789"))
                await c.answer.room()
                assert c.answer.waiting <= SMALL.max_held
            await c.end()
            assert set(c.text().split("[REDACTED:RED]")) == {""}

    async def test_settled_waits_for_every_outstanding_check(self):
        async with client(judge=Judge(gated=True)) as c:
            await c.say(Bit("0123456789", 0), Bit("abcdefghij", 1))
            settled = anyio.Event()

            async def wait() -> None:
                await c.answer.settled()
                settled.set()

            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await c.open(1)
                assert not settled.is_set()
                await c.open(0)
                await settled.wait()
            c.judge.gated = False
            await c.end()


class TestDecision:
    pytestmark = pytest.mark.anyio

    async def test_the_strictest_finding_of_each_policy_is_kept(self):
        async with client(policies=[POLICY, Policy("q", "Other.", LABELS)]) as c:
            for text in ("all fine ..", "HMM, well ..", "fine again .."):
                await c.say(Bit(text))
            await c.end()
            decision = c.answer.decision()
            assert (decision.action, decision.stage, decision.id) == (Action.FLAG, Stage.OUTPUT, "gr-1")
            assert [(f.policy.id, f.action) for f in decision.findings] == [
                ("p", Action.FLAG),
                ("q", Action.FLAG),
            ]

    async def test_a_block_of_one_choice_is_the_decision_of_the_stream(self):
        async with client() as c:
            await c.say(Bit("BOOM", 0), Bit("fine", 1))
            await c.end()
            decision = c.answer.decision()
            assert (decision.action, decision.blocking) == (Action.BLOCK, ("p",))

    @pytest.mark.parametrize("words", [["DOWN .......", "fine ......."], ["fine .......", "DOWN ......."]])
    async def test_a_failure_that_let_text_through_is_never_forgotten(self, words: list[str]):
        rules = {Stage.OUTPUT: FailRules(FailMode.OPEN)}
        async with client(StreamRules(first=None, window=10, overlap=0, max_held=100), on_error=rules) as c:
            for word in words:
                await c.say(Bit(word))
            await c.end()
            assert c.text() == "".join(words)
            (finding,) = c.answer.decision().findings
            assert isinstance(finding, Failure)
            assert finding.code is FailureCode.UNAVAILABLE
            assert c.answer.decision().degraded == ("p=unavailable",)

    @pytest.mark.parametrize("words", [["DOWN .......", "HMM ......."], ["HMM .......", "DOWN ......."]])
    async def test_nor_is_a_stricter_verdict_beside_it(self, words: list[str]):
        rules = {Stage.OUTPUT: FailRules(FailMode.OPEN)}
        async with client(StreamRules(first=None, window=10, overlap=0, max_held=100), on_error=rules) as c:
            for word in words:
                await c.say(Bit(word))
            await c.end()
            decision = c.answer.decision()
            assert decision.action is Action.FLAG
            assert {type(f): f.action for f in decision.findings} == {
                Verdict: Action.FLAG,
                Failure: Action.PASS,
            }
            assert decision.degraded == ("p=unavailable",)

    async def test_what_a_last_resort_finds_hides_no_failure(self):
        rules = {Stage.OUTPUT: FailRules(FailMode.OPEN)}
        resort = ScriptedClassifier([("DOWN", "BLK")])
        async with client(on_error=rules, last_resort=resort) as c:
            await c.say(Bit("DOWN"))
            await c.end()
            decision = c.answer.decision()
            assert (decision.action, decision.unavailable) == (Action.BLOCK, False)
            assert set(decision.degraded) == {"p=unavailable", "p=reduced-coverage"}

    async def test_nothing_said_is_nothing_decided(self):
        async with client() as c:
            await c.say(choices=[0])
            await c.end()
            assert c.answer.decision() == Decision(Stage.OUTPUT, Action.PASS, id="gr-1")
            assert (c.answer.text, c.answer.checks) == ("", 0)

    async def test_the_conversation_is_digested_once(self):
        async with client() as c:
            for text in ("all fine ..", "fine again .."):
                await c.say(Bit(text))
            await c.end()
            digests = [subject.context_digest for subject in c.judge.asked]
            assert len(digests) > 1
            assert {id(digest) for digest in digests} == {id(digests[0])}
            assert digests[0] == chain(TALK.turns)[-1]

    async def test_the_judged_text_is_kept_for_the_record(self):
        async with client() as c:
            await c.say(thought("let me think"))
            await c.say(Bit("words with SECRET in them"))
            await c.say(Bit(" BOOM"))
            await c.end()
            assert c.answer.text == "let me think\nwords with SECRET in them BOOM"


# ---------------------------------------------------------------------------------------- properties

WORDS = st.text(alphabet="ab \u00e9\U0001f600", max_size=14)
BITS = st.one_of(
    st.builds(Bit, WORDS, st.integers(0, 2)),
    st.builds(thought, WORDS, st.integers(0, 2)),
    st.builds(call, WORDS, st.integers(0, 2), st.integers(0, 1)),
)
EVENTS = st.lists(st.lists(BITS, max_size=3), max_size=12)
RULES = st.builds(
    StreamRules,
    st.one_of(st.none(), st.integers(1, 20)),
    st.integers(0, 8),
    st.integers(30, 60),
)
STEPS = st.sampled_from(["run", "wait", "finish", "room"])


async def _play(
    rules: StreamRules,
    events: Iterable[Sequence[Bit]],
    steps: Callable[[], str],
    judge: Judge | None = None,
) -> Client:
    async with client(rules, judge) as c:
        for bits in events:
            c.push(*bits)
            step = steps()
            if step == "run":
                await c.turns()
            elif step == "finish" and bits:
                c.answer.finish(bits[0].choice)
            elif step == "room":
                await c.answer.room()
                assert c.answer.waiting <= rules.max_held
        await c.end()
    assert c.answer.waiting == 0
    return c


@given(RULES, EVENTS, st.data())
def test_an_answer_that_passes_is_identical_however_it_was_cut(
    rules: StreamRules, events: list[list[Bit]], data: st.DataObject
):
    c = anyio.run(_play, rules, events, lambda: data.draw(STEPS))
    assert c.untouched()
    assert c.answer.decision().action is Action.PASS


def _cut(text: str, sizes: list[int]) -> list[list[Bit]]:
    out, at = [], 0
    while at < len(text):
        size = sizes[len(out) % len(sizes)]
        out.append([Bit(text[at : at + size])])
        at += size
    return out


SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=6)
PARTS = st.lists(st.sampled_from(["SECRET", "SEC", "ab", " ", "x" * 9, "RET"]), max_size=10)
OVERLAPS = st.builds(
    StreamRules,
    st.one_of(st.none(), st.integers(1, 20)),
    st.integers(6, 9),  # no shorter than the words that are looked for
    st.just(1000),
)


@given(OVERLAPS, PARTS, SIZES, st.data())
def test_redaction_does_not_depend_on_how_the_text_was_cut(
    rules: StreamRules, parts: list[str], sizes: list[int], data: st.DataObject
):
    text = "".join(parts)
    c = anyio.run(_play, rules, _cut(text, sizes), lambda: data.draw(st.sampled_from(["run", "wait"])))
    assert c.text() == text.replace("SECRET", "[REDACTED:RED]")
    assert c.numbers == [event.number for event in c.pushed]


@given(OVERLAPS, PARTS, PARTS, SIZES, st.data())
def test_nothing_of_a_violation_leaves_however_the_text_was_cut(
    rules: StreamRules, before: list[str], after: list[str], sizes: list[int], data: st.DataObject
):
    lead, rest = "".join(before).replace("SECRET", "secret"), "".join(after)
    c = anyio.run(
        _play, rules, _cut(lead + "BOOM" + rest, sizes), lambda: data.draw(st.sampled_from(["run", "wait"]))
    )
    assert lead.startswith(c.text())
    assert c.halts == [0]
    assert c.answer.decision().action is Action.BLOCK


class TestEachChoice:
    @pytest.mark.anyio
    async def test_a_choice_is_decided_by_its_own_checks(self):
        async with client(WHOLE) as c:
            c.push(Bit("calm words"), Bit("HMM, so it is", 1), Bit("then BOOM", 2))
            await c.end()
            told = [c.answer.decision_of(choice).action for choice in range(4)]
            assert told == [Action.PASS, Action.FLAG, Action.BLOCK, Action.PASS]
            assert [len(c.answer.decision_of(choice).findings) for choice in range(4)] == [1, 1, 1, 0]
            assert c.answer.decision().action is Action.BLOCK
