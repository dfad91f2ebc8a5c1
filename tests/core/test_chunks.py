"""Chunks: all of the text, each stretch within its limit, and the way back to where it stood."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.chunks import Chunk, fits, halves, merged, size, split, tokens
from guardrail.core.conversation import Kind, Segment, Subject, Turn
from guardrail.core.policy import Action, Effort, LabelRule, Policy, Stage
from guardrail.core.prompt import MAX_CONTEXT_CHARS, MAX_JUDGED_CHARS, user_message
from guardrail.core.redaction import Span
from guardrail.core.verdict import Step, Usage, Verdict
from guardrail.errors import (
    ClassifierError,
    ClassifierRejected,
    ClassifierTimeout,
    FailureCode,
    MalformedVerdict,
)

POLICY = Policy(
    "pii",
    "# Policy",
    {
        "P0": LabelRule("P0", False),
        "P1": LabelRule("P1", True, Action.FLAG),
        "P2": LabelRule("P2", True, Action.REDACT),
        "P3": LabelRule("P3", True, Action.BLOCK),
    },
)
BOUNDARY = "0123456789abcdef01234567"


def turn(role: str, *texts: str, kind: Kind = Kind.TEXT, preceding: str = "") -> Turn:
    return Turn(role, tuple(Segment(text, ("at", i), kind, preceding) for i, text in enumerate(texts)))


def subject(*turns: Turn, context: tuple[Turn, ...] = ()) -> Subject:
    return Subject(Stage.INPUT, context, turns)


LONG = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "one two three. ",
                "word",
                "\n\n",
                "\n",
                " ",
                "你好。",
                "e\u0301",
                "👩\u200d💻",
                "\ud83d",
                "\udc69",
            ]
        ),
        st.text(max_size=25),
    ).flatmap(lambda piece: st.integers(1, 50).map(lambda times: piece * times)),
    max_size=9,
).map("".join)
SUBJECT = st.builds(
    Subject,
    st.sampled_from(Stage),
    st.lists(st.builds(turn, st.sampled_from(["system", "user"]), LONG), max_size=2).map(tuple),
    st.lists(
        st.builds(turn, st.sampled_from(["user", "assistant"]), LONG, LONG, kind=st.sampled_from(Kind)),
        min_size=1,
        max_size=3,
    ).map(tuple),
)
LIMIT, OVERLAP = 4_000, 60


def stretch(whole: Subject, chunk: Chunk) -> tuple[int, int]:
    """Where the chunk stands in the judged segments laid end to end; its segments must be neighbours."""
    segments = list(whole.segments)
    starts = [sum(len(s.text) for s in segments[:index]) for index in range(len(segments))]
    pieces = [
        (starts[index] + offset, starts[index] + offset + len(piece.text))
        for (index, offset), piece in zip(chunk.places, chunk.subject.segments, strict=True)
    ]
    assert all(one[1] == other[0] for one, other in pairwise(pieces))
    return pieces[0][0], pieces[-1][1]


class TestSplit:
    @given(SUBJECT)
    def test_every_character_and_every_short_stretch_is_whole_in_some_chunk(self, whole):
        total = sum(len(segment.text) for segment in whole.segments)
        chunks = split(whole, LIMIT, OVERLAP, 64)
        if not total:
            return
        places = [stretch(whole, chunk) for chunk in chunks]
        assert places[0][0] == 0
        assert places[-1][1] == total
        for (start, end), (following, last) in pairwise(places):
            assert start < following <= end - OVERLAP
            assert end < last

    @given(SUBJECT)
    def test_pieces_are_what_stands_at_their_place_with_role_and_kind(self, whole):
        segments = [(t.role, s) for t in whole.turns for s in t.segments]
        for chunk in split(whole, LIMIT, OVERLAP, 64):
            pieces = [(t.role, s) for t in chunk.subject.turns for s in t.segments]
            for (index, offset), (role, piece) in zip(chunk.places, pieces, strict=True):
                own_role, own = segments[index]
                assert own.text[offset : offset + len(piece.text)] == piece.text
                assert (role, piece.kind, piece.address) == (own_role, own.kind, own.address)

    @given(SUBJECT)
    def test_spans_map_back_to_the_same_text(self, whole):
        segments = list(whole.segments)
        for chunk in split(whole, LIMIT, OVERLAP, 64):
            own = list(chunk.subject.segments)
            spans = tuple((at, Span(len(s.text) // 3, len(s.text), "P2", "ip")) for at, s in enumerate(own))
            back = chunk.back(Verdict(POLICY, "P2", True, spans=spans)).spans
            assert [segments[at].text[span.start : span.end] for at, span in back] == [
                own[at].text[span.start : span.end] for at, span in spans
            ]
            assert {span.kind for _, span in back} <= {"ip"}

    @given(SUBJECT)
    def test_every_chunk_is_within_the_limit(self, whole):
        for chunk in split(whole, LIMIT, OVERLAP, 64):
            blocks = sum(len(segment.text) for segment in chunk.subject.segments) // 128 + 1
            assert size(chunk.subject) <= LIMIT + blocks  # words that a border of blocks cuts in two

    def test_cuts_where_a_reader_would(self):
        paragraph = "A sentence with some words in it. " * 20 + "The last one.\n\n"
        for text, end in [
            (paragraph * 60, "\n\n"),
            ("One two three. " * 2_000, ". "),
            ("word " * 9_000, " "),
        ]:
            chunks = split(subject(turn("user", text)), LIMIT, OVERLAP, 64)
            assert len(chunks) > 2
            assert all(next(chunk.subject.segments).text.endswith(end) for chunk in chunks[:-1])

    def test_cuts_between_turns_where_it_can(self):
        turns = [turn("user", f"{i} " + "word " * 200) for i in range(30)]
        chunks = split(subject(*turns), LIMIT, OVERLAP, 64)
        ends = [list(chunk.subject.segments)[-1].text for chunk in chunks]
        assert len(chunks) > 2
        assert all(end in {one.segments[0].text for one in turns} for end in ends)

    def test_parts_no_letter_from_its_marks(self):
        for letter in ("e\u0301\u0323", "👩\u200d💻", "👍🏽", "\ud83d\udc69"):
            for chunk in split(subject(turn("user", letter * 3_000)), LIMIT, OVERLAP, 64):
                text = next(chunk.subject.segments).text
                assert text == letter * (len(text) // len(letter))

    def test_a_heap_of_marks_is_cut_all_the_same(self):
        chunks = split(subject(turn("user", "e" + "\u0301" * 9_000)), LIMIT, OVERLAP, 64)
        assert len(chunks) > 2

    def test_text_that_left_before_stays_with_its_beginning(self):
        whole = subject(turn("assistant", "word " * 9_000, preceding="before"))
        first, *others = split(whole, LIMIT, OVERLAP, 64)
        assert next(first.subject.segments).preceding == "before"
        assert all(next(chunk.subject.segments).preceding == "" for chunk in others)

    def test_the_latest_context_goes_along_in_a_quarter(self):
        context = (turn("system", "oldest"), turn("user", "c " * 2_000 + "its end"), turn("user", "latest"))
        for chunk in split(subject(turn("user", "word " * 9_000), context=context), LIMIT, OVERLAP, 64):
            kept = [s.text for t in chunk.subject.context for s in t.segments]
            assert kept[-1] == "latest"
            assert kept[0].endswith("its end")
            assert sum(map(len, kept)) <= LIMIT // 4

    def test_a_context_of_signs_with_many_tokens_leaves_room_too(self):
        whole = subject(turn("user", "word " * 9_000), context=(turn("user", "\U00012000" * 9_000),))
        chunks = split(whole, LIMIT, OVERLAP, 64)
        assert all(len(chunk.subject.context[0].segments[0].text) == LIMIT // 16 for chunk in chunks)

    def test_a_context_that_is_too_long_is_no_reason_to_cut_what_is_judged(self):
        whole = subject(turn("user", "Hello", ""), context=(turn("user", "你" * 9_000),))
        assert not fits(whole, LIMIT)
        (chunk,) = split(whole, LIMIT, OVERLAP, 64)
        assert [segment.text for segment in chunk.subject.segments] == ["Hello"]

    @pytest.mark.parametrize(
        ("text", "limit", "overlap", "most"),
        [
            ("word " * 9_000, LIMIT, OVERLAP, 2),
            ("word " * 9_000, 150, OVERLAP, 64),
            ("word " * 9_000, LIMIT, 5_000, 64),
            ("word " * (MAX_JUDGED_CHARS // 5) + "word", 10**9, OVERLAP, 64),
        ],
        ids=["chunks", "window", "overlap", "characters"],
    )
    def test_what_cannot_be_judged_whole_is_refused(self, text, limit, overlap, most):
        with pytest.raises(ClassifierRejected) as caught:
            split(subject(turn("user", text)), limit, overlap, most)
        assert caught.value.code is FailureCode.TOO_LONG

    def test_exactly_as_many_chunks_as_allowed(self):
        whole = subject(turn("user", "word " * 9_000))
        count = len(split(whole, LIMIT, OVERLAP, 64))
        assert len(split(whole, LIMIT, OVERLAP, count)) == count
        with pytest.raises(ClassifierRejected):
            split(whole, LIMIT, OVERLAP, count - 1)


class TestHalves:
    def test_two_or_three_that_are_smaller(self):
        whole = subject(turn("user", "word " * 1_000))
        chunks = halves(whole, OVERLAP)
        assert len(chunks) in (2, 3)
        assert all(size(chunk.subject) <= 0.65 * size(whole) for chunk in chunks)

    def test_a_short_text_has_none(self):
        with pytest.raises(ClassifierRejected):
            halves(subject(turn("user", "Hello there")), OVERLAP)


class TestSize:
    @pytest.mark.parametrize(
        ("text", "true"),
        [  # counted with o200k_base
            ("The quick brown fox jumps over the lazy dog.", 10),
            ("Der schnelle braune Fuchs springt über den faulen Hund.", 14),
            ("敏捷的棕色狐狸跳过懒狗", 10),
            ("for (int i = 0; i < n; ++i) { sum += a[i]; }", 22),
            ('{"violation": 0, "label": "XX0"}', 12),
        ],
    )
    def test_is_near_the_truth_and_above_it(self, text, true):
        assert true <= tokens(text) <= 2 * true + 2

    @given(st.text())
    def test_no_token_is_less_than_a_byte(self, text):
        assert tokens(text) <= (len(text) if text.isascii() else 4 * len(text))

    @given(SUBJECT, st.integers(0, 20_000))
    def test_fits_is_size_without_counting(self, whole, limit):
        assert fits(whole, limit) == (size(whole) <= limit)

    @given(SUBJECT)
    def test_covers_the_whole_message(self, whole):
        message = user_message(POLICY, whole, BOUNDARY)
        shown = sum(len(s.text) for t in (*whole.turns, *whole.context) for s in t.segments)
        if shown < MAX_CONTEXT_CHARS and "·" not in message:
            assert size(whole) >= tokens(message) - shown // 128 - 2

    def test_what_left_before_counts_too(self):
        before = "word " * 500
        short, long = subject(turn("assistant", "x")), subject(turn("assistant", "x", preceding=before))
        assert size(long) - size(short) >= tokens(before)
        assert [fits(long, most) for most in (size(long) - 1, size(long))] == [False, True]

    def test_context_counts_as_far_as_it_is_shown(self):
        short = subject(turn("user", "Hello"))
        long = subject(turn("user", "Hello"), context=(turn("user", "x"), turn("user", "你" * 10**6)))
        assert size(long) - size(short) < MAX_CONTEXT_CHARS + 100
        empty = subject(turn("user", "Hello"), context=(turn("user"),) * 10**5)
        assert size(empty) - size(short) < MAX_CONTEXT_CHARS


def verdict(label: str, **more: object) -> Verdict:
    return Verdict(POLICY, label, POLICY.labels[label].violation, **more)  # type: ignore[arg-type]


class TestBack:
    def test_a_violation_without_a_place_is_the_whole_chunk_and_no_more(self):
        chunk = Chunk(subject(turn("user", "abc", "de")), ((4, 10), (5, 0)))
        assert chunk.back(verdict("P2")).spans == ((4, Span(10, 13, "P2")), (5, Span(0, 2, "P2")))
        refusal = chunk.back(Verdict(POLICY, None, True)).spans
        assert {span.label for _, span in refusal} == {"P3"}

    def test_excerpts_name_the_place_themselves(self):
        chunk = Chunk(subject(turn("user", "abc")), ((4, 10),))
        assert chunk.back(verdict("P2", excerpts=("b",))).spans == ()
        assert chunk.back(verdict("P0")).spans == ()


class TestMerged:
    @pytest.mark.parametrize(
        ("labels", "label"),
        [
            (["P0", "P0"], "P0"),
            (["P0", "P1"], "P1"),
            (["P2", "P1"], "P2"),
            (["P1", "P3", "P2"], "P3"),
        ],
    )
    def test_the_strictest_violation_decides(self, labels, label):
        assert merged([verdict(one) for one in labels]).label == label
        assert merged([verdict(one) for one in reversed(labels)]).label == label

    def test_places_of_the_same_action_are_joined(self):
        one, other = (0, Span(0, 2, "P2")), (1, Span(3, 4, "P2"))
        both = merged(
            [
                verdict("P2", excerpts=("a", "b"), spans=(one,)),
                verdict("P1", excerpts=("only flagged",), spans=((2, Span(0, 1, "P1")),)),
                verdict("P2", excerpts=("b", "c"), spans=(one, other)),
            ]
        )
        assert both.excerpts == ("a", "b", "c")
        assert both.spans == (one, other)

    def test_steps_of_all_are_kept(self):
        steps = [Step("small", Effort.LOW, label) for label in ("P0", "P3")]
        assert merged([verdict("P0", steps=(steps[0],)), verdict("P3", steps=(steps[1],))]).steps == (
            *steps,
        )

    @pytest.mark.parametrize(
        ("usages", "total"),
        [
            ([Usage(10, 2, 5, 0.25), Usage(20, 3, 0, 0.5)], Usage(30, 5, 5, 0.75)),
            ([Usage(10, 2, None, 0.25), Usage(20, 3, 8, 0.5)], Usage(30, 5, None, 0.75)),
            ([Usage(10, 2, 1, None), Usage(20, 3, 8, 0.5)], Usage(30, 5, 9, None)),
            ([Usage(10, 2), None], None),
        ],
    )
    def test_a_sum_with_an_unknown_part_is_unknown(self, usages, total):
        assert merged([verdict("P0", usage=usage) for usage in usages]).usage == total

    def test_reduced_or_cached(self):
        both = merged([verdict("P0", reduced=True, cached=True), verdict("P0")])
        assert (both.reduced, both.cached) == (True, False)

    @pytest.mark.parametrize("label", ["P0", "P1", "P2"])
    def test_a_failed_part_is_a_failed_check(self, label):
        error = ClassifierTimeout("late")
        error.usage = Usage(5, 1)
        with pytest.raises(ClassifierTimeout) as caught:
            merged([verdict(label, usage=Usage(10, 2)), verdict(label), error])
        assert caught.value.usage == Usage(15, 3)

    def test_a_block_stands_against_a_failed_part(self):
        assert merged([ClassifierTimeout("late"), verdict("P3")]).label == "P3"

    def test_of_several_errors_the_one_that_opens_least(self):
        said = MalformedVerdict("no label", violation=True)
        auth, late = ClassifierRejected("key"), ClassifierTimeout("late")
        for found, raised in [([said, late, auth], auth), ([said, late], late), ([said, said], said)]:
            with pytest.raises(ClassifierError) as caught:
                merged(found)
            assert caught.value is raised

    def test_of_no_chunks_there_is_no_verdict(self):
        with pytest.raises(ValueError, match="no chunk"):
            merged([])
