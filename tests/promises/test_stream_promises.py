"""The promises of a StreamGuard: any text, any chunking, any rules, and checks that settle at any time.

Each promise takes the guard it is about, so that ``test_stream_mutations`` can show that it fails for a
guard that breaks it. What holds at every step of every one of them stands in ``Run``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Segment
from guardrail.core.decision import Decision
from guardrail.core.policy import Action, FailMode, Strategy
from guardrail.core.redaction import Span, apply
from guardrail.core.release import Check, ReleaseMode, StreamRules
from guardrail.core.stream import StreamGuard
from guardrail.core.vault import Vault
from tests.promises.play import EXAMPLES, PUT, Judge, Play, Run, decision, failure, without

Guard = type[StreamGuard]
P = TypeVar("P", bound=Play)
Promise = Callable[[Guard, st.DataObject], None]
HELD = (ReleaseMode.WHOLE, *[ReleaseMode.WINDOW] * 5)
ALL = (*HELD, ReleaseMode.LIVE, ReleaseMode.LIVE)


@st.composite
def texts(draw: st.DrawFn, alphabet: Sequence[str], most: int) -> str:
    """Up to ``most`` pieces of the alphabet, and not mostly few, which is what Hypothesis would draw."""
    size = draw(st.sampled_from([0, most // 3, most // 2])) + draw(st.integers(0, most // 2))
    return "".join(alphabet[byte % len(alphabet)] for byte in draw(st.binary(min_size=size, max_size=size)))


LETTERS = st.one_of(texts("ab .", 60), texts("aab", 60), texts(("ab", "a", "aabba", " ", ". ", "\n"), 20))
NEEDLE = st.text("ab .", min_size=1, max_size=5)
PLANTED = st.text("ab.", min_size=2, max_size=7) | st.text("ab .", min_size=2, max_size=7)
CLUSTERS = texts(
    "ab. \r\n\u0301\u200d\u094d\u0915\u0600\u1100\u1161\u11a8\u0e33\ufe0f\U0001f1e9\U0001f468\U0001f3fd", 40
)
ANY = st.one_of(LETTERS, CLUSTERS, st.text(st.characters(), max_size=40))  # lone surrogates too
SIZE = st.sampled_from([1, 2, 3, 5, 40, 40])


@st.composite
def ruled(draw: st.DrawFn, modes: Sequence[ReleaseMode] = ALL, *needles: str) -> StreamRules:
    """Rules under which needles are found: no longer than the overlap, unbroken, or with an opening."""
    way = draw(st.sampled_from(["overlap", "unbroken", "opening"]))
    unbroken = draw(st.sampled_from([0, 4, 7, 12]))
    openings: tuple[tuple[str, int], ...] = ()
    overlap = longest = max(map(len, needles), default=0)
    if way == "unbroken" and not any(char.isspace() for needle in needles for char in needle):
        overlap, unbroken = 0, max(unbroken, longest)
    elif way == "opening" and longest:
        overlap = draw(st.integers(1, longest))
        size = draw(st.integers(longest, longest + 5))
        openings = tuple((needle[:overlap], size) for needle in needles if needle)
    return StreamRules(
        draw(st.sampled_from(modes)),
        window=draw(st.integers(1, 8)),
        overlap=overlap + draw(st.integers(0, 5)),
        first=draw(st.none() | st.integers(1, 6)),
        unbroken=unbroken,
        openings=openings,
        final_check=draw(st.booleans()),
    )


def played(
    data: st.DataObject,
    guard: Guard,
    text: str,
    rules: StreamRules,
    judge: Any,
    play: type[P] = Run,  # type: ignore[assignment]
    **more: Any,
) -> P:
    """The text through a guard in chunks of any size, its checks settling early or late, as drawn."""
    preceding = data.draw(st.sampled_from(["", "", "b", "what was said before"]))
    run = play(rules, judge, guard=guard, preceding=preceding, **more)
    size = data.draw(st.sampled_from(["any", "one", "any", "one", "any", "all"]))
    settles = data.draw(
        st.sampled_from(["at any time", "at once", "at any time", "at once", "at any time", "at the end"])
    )
    steps = itertools.cycle(data.draw(st.binary(min_size=12, max_size=12)))
    at = 0
    while at < len(text):
        step = next(steps)
        end = len(text) if size == "all" else at + (1 if size == "one" else step % 8)
        run.push(text[at:end])
        if end == at:  # an empty chunk, and then one that is not, lest it go on for ever
            run.push(text[at : at + 1])
            end = at + 1
        at = end
        if run.waiting and (settles == "at once" or (settles == "at any time" and step & 8)):
            run.settle()
    return run.finish(last_first=data.draw(st.booleans()))


def all_of_a_text_that_passes_leaves(guard: Guard, data: st.DataObject) -> None:
    text = data.draw(ANY)
    run = played(data, guard, text, data.draw(ruled()), Judge())
    assert run.out == run.original == text


def whatever_the_judge_says_the_steps_are_right(guard: Guard, data: st.DataObject) -> None:
    """It contradicts itself, is down, marks anything: only what holds at every step is left to hold."""
    rare = data.draw(st.sampled_from([Action.REDACT, Action.REDACT, Action.BLOCK, FailMode.CLOSED]))

    def judge(check: Check) -> Decision:
        whim = data.draw(st.sampled_from([Action.PASS, Action.FLAG, FailMode.OPEN, "marks", "marks", rare]))
        if isinstance(whim, FailMode):
            return failure(whim, check.text)
        if isinstance(whim, Action):
            return decision(whim, text=check.text)
        marks = data.draw(st.lists(st.tuples(st.integers(0, len(check.text) - 1), SIZE), max_size=3))
        spans = [Span(start, min(start + size, len(check.text)), "P2") for start, size in marks]
        return decision(Action.REDACT if spans else Action.PASS, *spans, text=check.text)

    played(data, guard, data.draw(ANY), data.draw(ruled()), judge)


def a_needle_to_be_redacted_never_leaves(guard: Guard, data: st.DataObject) -> None:
    text, needle = data.draw(LETTERS), data.draw(NEEDLE)
    run = played(data, guard, text, data.draw(ruled(HELD, needle)), Judge(redact=needle))
    assert run.out == without(text, needle)
    assert needle not in run.out.replace(PUT, "\x00")


BEYOND_ASCII = {
    "needle": ["needle", "need", "x ", "😀", "e\u0301", "\u200b", "。"],
    "xe": ["xe", "x", "\u0301", "\u0301", "\u0301\u0301"],  # its last letter goes with what follows
    "e\u0301": ["e\u0301", "e", "\u0301", "x", "\u200d"],
    "\u0915\u094d\u0915": ["\u0915\u094d\u0915", "\u0915", "\u094d", "\u094d\u0915 "],
    "\U0001f1e9\U0001f1ea": ["\U0001f1e9", "\U0001f1ea", "x", "\n"],
    "\ud83d": ["\ud83d", "\ude00", "😀", "x"],
}


def the_same_with_text_beyond_ascii(guard: Guard, data: st.DataObject) -> None:
    needle = data.draw(st.sampled_from(sorted(BEYOND_ASCII)))
    text = data.draw(texts(BEYOND_ASCII[needle], 24))
    run = played(data, guard, text, data.draw(ruled(HELD, needle)), Judge(redact=needle))
    assert run.out == without(text, needle)


def of_a_needle_that_blocks_not_even_a_part_leaves(guard: Guard, data: st.DataObject) -> None:
    text, hide, stop = data.draw(LETTERS), data.draw(st.just("") | NEEDLE), data.draw(NEEDLE)
    run = played(data, guard, text, data.draw(ruled(HELD, hide, stop)), Judge(redact=hide, block=stop))
    assert (run.halt is not None) == (stop in text)
    if stop in text:
        assert len(run.original) <= text.index(stop)
        assert hide == "" or hide not in run.out.replace(PUT, "\x00")
    else:
        assert run.out == without(text, hide)


def seen_from_outside_alone_no_needle_leaves(guard: Guard, data: st.DataObject) -> None:
    """The same two promises once more, without a look at the guard's steps."""
    needle, blocks = data.draw(PLANTED), data.draw(st.booleans())
    text = data.draw(texts([needle, "a", " ", "ab"], 24))
    judge = Judge(block=needle) if blocks else Judge(redact=needle)
    run = played(data, guard, text, data.draw(ruled(HELD, needle)), judge, Play)
    assert needle not in run.out.replace(PUT, "\x00")
    if blocks and needle in text:
        assert text[: text.index(needle)].startswith(run.out)
    else:
        assert run.out == without(text, needle)


def in_live_mode_every_needle_is_found(guard: Guard, data: st.DataObject) -> None:
    text, needle = data.draw(LETTERS), data.draw(NEEDLE)
    judge = data.draw(st.sampled_from([Judge(redact=needle), Judge(block=needle)]))
    run = played(data, guard, text, data.draw(ruled((ReleaseMode.LIVE,), needle)), judge)
    assert (run.halt is not None) == (needle in text)
    assert text.startswith(run.out)


SECRET = "bob@x.example"
VAULT = Vault(b"key")
MADE = VAULT.redactions(Segment(SECRET, ()), [Span(0, len(SECRET), "P2", "email", Strategy.PLACEHOLDER)])
BARE = apply(SECRET, MADE)[1:-1]
SPELLED = [BARE, BARE.lower(), BARE.replace("_", " "), BARE.replace("_", "\\_"), f"**[{BARE}]**"]
PLACEHOLDERS = [
    *SPELLED,
    *(f"[{each}]" for each in SPELLED),
    f"[{BARE}](",
    BARE[:-3],
    "[EMA",
    *"[]()_\\x @。",
]


def placeholders_are_turned_back_as_in_the_whole_text(guard: Guard, data: st.DataObject) -> None:
    text = data.draw(texts(PLACEHOLDERS, 10))
    rules = data.draw(ruled(ALL, "]x"))
    held = rules.release is not ReleaseMode.LIVE
    judge = Judge(redact=data.draw(st.sampled_from(["", "", "(", "x", "]x"])) if held else "")
    played(data, guard, text, rules, judge, vault=VAULT)


PROMISES: tuple[Promise, ...] = (
    all_of_a_text_that_passes_leaves,
    whatever_the_judge_says_the_steps_are_right,
    a_needle_to_be_redacted_never_leaves,
    the_same_with_text_beyond_ascii,
    of_a_needle_that_blocks_not_even_a_part_leaves,
    seen_from_outside_alone_no_needle_leaves,
    in_live_mode_every_needle_is_found,
    placeholders_are_turned_back_as_in_the_whole_text,
)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
@EXAMPLES
@given(data=st.data())
def test_it_holds(promise: Promise, data: st.DataObject) -> None:
    promise(StreamGuard, data)
