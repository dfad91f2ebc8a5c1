"""The twin of guardrail/core/joined.py: texts judged as one, and redacted each in its place."""

from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Kind, Segment, Subject, Turn
from guardrail.core.joined import joined, parted
from guardrail.core.policy import Stage, Strategy
from guardrail.core.redaction import Redaction, Span, merge
from tests.marked import marked

PROSE = [Kind.TEXT, Kind.REASONING, Kind.REFUSAL]


def answer(*segments: Segment, stage: Stage = Stage.OUTPUT) -> Subject:
    return Subject(stage, (), (Turn("assistant", segments),))


def parts(*texts: str, kind: Kind = Kind.TEXT) -> list[Segment]:
    return [Segment(text, ("content", at, "text"), kind) for at, text in enumerate(texts)]


class TestJoined:
    def test_neighbours_of_one_kind_of_prose_are_one_text(self):
        for kind in PROSE:
            subject = answer(*parts("blo", "ck", "me", kind=kind))
            assert [(s.text, s.kind) for s in joined(subject).segments] == [("blockme", kind)]

    def test_what_stands_between_keeps_them_apart(self):
        name = Segment("f", ("name",), Kind.FIELD)
        subject = answer(*parts("a", "b"), name, *parts("c"), *parts("d", kind=Kind.REASONING))
        assert [s.text for s in joined(subject).segments] == ["ab", "f", "c", "d"]

    def test_calls_and_fields_stay_as_they_are(self):
        for kind in (Kind.TOOL_ARGUMENTS, Kind.FIELD):
            subject = answer(*parts("{}", "{}", kind=kind))
            assert list(joined(subject).segments) == list(subject.segments)

    def test_a_prompt_and_a_single_text_are_left_alone(self):
        for subject in (answer(*parts("a", "b"), stage=Stage.INPUT), answer(*parts("a")), answer()):
            assert joined(subject) is subject

    def test_turns_are_not_joined(self):
        turns = tuple(Turn("assistant", tuple(parts("a", "b"))) for _ in range(2))
        assert [s.text for s in joined(Subject(Stage.OUTPUT, (), turns)).segments] == ["ab", "ab"]


class TestParted:
    @given(st.lists(st.text("abc", max_size=6), max_size=6), st.data())
    def test_each_part_loses_what_the_whole_loses_there(self, texts, data):
        subject = answer(*parts(*texts))
        judged = joined(subject)
        whole = "".join(texts)
        place = st.integers(0, len(whole))
        drawn = data.draw(st.lists(st.tuples(place, place), max_size=3))
        spans = merge(Span(min(a, b), max(a, b), "P") for a, b in drawn)
        found = [Redaction(segment, spans) for segment in judged.segments if spans]
        made = {r.segment.address: r.spans for r in parted(found, judged, subject)}
        hidden = {at for span in spans for at in range(span.start, span.end)}
        for segment, (start, _) in zip(
            subject.segments, pairwise(accumulate(map(len, texts), initial=0)), strict=True
        ):
            own = made.get(segment.address, ())
            gone = {start + at for span in own for at in range(span.start, span.end)}
            assert gone == {at for at in hidden if start <= at < start + len(segment.text)}
            assert all(0 <= span.start < span.end <= len(segment.text) for span in own)

    @given(st.lists(st.text("ab", max_size=6), max_size=6), st.data())
    def test_a_part_has_every_span_that_reaches_into_it_cut_to_it(self, texts, data):
        subject = answer(*parts(*texts))
        judged = joined(subject)
        place = st.integers(0, len("".join(texts)))
        drawn = data.draw(st.lists(st.tuples(place, place, st.sampled_from(Strategy)), max_size=5))
        spans = merge(Span(min(a, b), max(a, b), "P", "k", how) for a, b, how in drawn)
        found = [Redaction(segment, spans) for segment in judged.segments if spans]
        wanted, start = [], 0
        for segment in subject.segments:
            end = start + len(segment.text)
            own = []
            for span in spans:
                if max(span.start, start) < min(span.end, end):
                    cut = span.strategy is Strategy.MASK and span.end > end
                    how = Strategy.REPLACE if cut else span.strategy
                    own.append(
                        Span(max(span.start, start) - start, min(span.end, end) - start, "P", "k", how)
                    )
            if own:
                wanted.append(Redaction(segment, tuple(own)))
            start = end
        assert list(parted(found, judged, subject)) == wanted

    def test_spans_are_not_looked_at_again_for_each_part(self):
        subject = answer(*parts(*["a b "] * 20_000))
        judged = joined(subject)
        spans = tuple(Span(at, at + 1, "P") for at in range(0, 80_000, 2))
        made = parted([Redaction(segment, spans) for segment in judged.segments], judged, subject)
        own = (Span(0, 1, "P"), Span(2, 3, "P"))
        assert made == tuple(Redaction(segment, own) for segment in subject.segments)

    def test_a_redaction_over_a_border_stands_in_both(self):
        subject = answer(*parts("Card 4111 1111 ", "1111 1111 now"), *parts("{}", kind=Kind.TOOL_ARGUMENTS))
        judged = joined(subject)
        first, call = judged.segments
        made = parted(
            [Redaction(first, (Span(5, 24, "P"),)), Redaction(call, (Span(0, 2, "Q"),))], judged, subject
        )
        assert [marked(r.segment.text, r.spans) for r in made] == [
            "Card [REDACTED:P]",
            "[REDACTED:P] now",
            "[REDACTED:Q]",
        ]
        assert [r.address for r in made] == [s.address for s in subject.segments]

    def test_a_mask_shows_the_end_of_the_whole_alone(self):
        subject = answer(*parts("ab", "cd", "ef"))
        judged = joined(subject)
        (segment,) = judged.segments
        hidden = Redaction(segment, (Span(1, 5, "P", "card", Strategy.MASK),))
        made = [span for r in parted([hidden], judged, subject) for span in r.spans]
        assert [span.strategy for span in made] == [Strategy.REPLACE, Strategy.REPLACE, Strategy.MASK]
        assert [(span.start, span.end, span.kind) for span in made] == [
            (1, 2, "card"),
            (0, 2, "card"),
            (0, 1, "card"),
        ]
