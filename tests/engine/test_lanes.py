"""The twin of guardrail/engine/lanes.py: pieces leave with what was redacted and restored in them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Kind, Segment
from guardrail.core.policy import Strategy
from guardrail.core.redaction import Span, apply, merge
from guardrail.core.release import Release, StreamRules
from guardrail.core.stream import StreamGuard
from guardrail.core.vault import Vault
from guardrail.detectors import DETECTORS, LONGEST_ELSEWHERE, REACH
from guardrail.engine.lanes import Lane, sized
from tests.engine.pieces import Bit
from tests.marked import marked

RULES = StreamRules()


def lane(kind: Kind = Kind.TEXT, *, whole: bool = False) -> Lane:
    return Lane(0, "content", kind, whole, StreamGuard(RULES, whole=whole))


def left(own: Lane, pieces: list[str]) -> list[str]:
    start, out = 0, []
    for piece in pieces:
        out.append(own.leave(piece, start))
        start += len(piece)
    return out


TEXT = st.text("ab🙂 ", max_size=30)


@given(TEXT, st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))), st.data())
def test_however_released_and_cut_the_same_text_leaves(text, hits, data):
    spans = merge(
        Span(min(a, b), min(max(a, b), len(text)), "P2") for a, b in hits if min(a, b) < len(text)
    )
    ends = sorted({0, len(text), *data.draw(st.lists(st.integers(0, len(text))))})
    ends = [end for end in ends if not any(s.start < end < s.end for s in spans)]
    own = lane()
    for start, end in pairwise(ends):
        inside = [Span(s.start - start, s.end - start, s.label) for s in spans if start <= s.start < end]
        own.release(Release(text[start:end], tuple(inside)), Vault(b"key"))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert "".join(left(own, pieces)) == marked(text, spans)
    assert own.released == len(text)
    assert "".join(own.judged) == text
    assert not own.edits


def test_a_replacement_stands_where_its_text_begins():
    own = lane()
    own.release(Release("a SECRET b", (Span(2, 8, "P2"),)), Vault(b"key"))
    assert left(own, ["a SE", "", "CR", "ET b"]) == ["a [REDACTED:P2]", "", "", " b"]


def test_a_placeholder_is_restored_over_pieces_and_in_json():
    vault = Vault(b"key")
    prompt = Segment('Mail "Kim"', ())
    (edit,) = vault.redactions(prompt, [Span(5, 10, "P2", "name", Strategy.PLACEHOLDER)])
    assert apply(prompt.text, [edit]) == f"Mail {edit.text}"
    own = lane()
    own.release(Release(f"Hi {edit.text}!", ()), vault)
    assert "".join(left(own, ["Hi ", edit.text[:4], edit.text[4:], "!"])) == 'Hi "Kim"!'
    call = lane(Kind.TOOL_ARGUMENTS, whole=True)
    call.release(Release(f'{{"to": "{edit.text}"}}', ()), vault)
    assert "".join(left(call, ['{"to": "', edit.text, '"}'])) == '{"to": "\\"Kim\\""}'


def test_a_piece_is_free_when_all_of_it_was_released():
    own = lane()
    own.release(Release("abc", ()), Vault(b"key"))
    assert own.is_free(Bit("abc"), 0)
    assert own.is_free(Bit(""), 3)
    assert not own.is_free(Bit("cd"), 2)


def test_a_piece_of_a_whole_lane_is_free_when_its_guard_is_done():
    own = lane(whole=True)
    assert not own.is_free(Bit(""), 0)
    own.guard.close()
    assert own.is_free(Bit(""), 0)


class TestSized:
    def test_without_detectors_nothing_changes(self):
        assert sized(RULES, frozenset()) == RULES

    @pytest.mark.parametrize("name", sorted(DETECTORS))
    def test_what_a_detector_needs_is_held(self, name: str):
        detector = DETECTORS[name]
        found = sized(StreamRules(overlap=5), frozenset({name}))
        assert found.unbroken == detector.run
        if detector.unbroken:
            assert (found.overlap, found.openings) == (REACH, ())
        elif detector.opening:
            assert found.overlap == REACH
            assert found.openings == ((detector.opening, detector.held),)
        else:
            assert (found.overlap, found.openings) == (max(REACH, detector.held), ())

    @pytest.mark.parametrize(("configured", "held"), [(5, LONGEST_ELSEWHERE), (500, 500)])
    def test_those_that_are_not_in_the_catalogue_need_their_longest_span(self, configured: int, held: int):
        found = sized(StreamRules(overlap=configured), frozenset({"presidio.person"}))
        assert found == StreamRules(overlap=held)
        both = sized(StreamRules(overlap=configured), frozenset({"presidio.person", "pii.email"}))
        assert (both.overlap, both.unbroken) == (held, DETECTORS["pii.email"].run)

    def test_the_largest_of_each_kind_counts_and_what_was_configured_is_the_least(self):
        names = frozenset({"pii.email", "pii.phone", "secrets.jwt", "secrets.private_key"})
        found = sized(StreamRules(overlap=4000, unbroken=9000), names)
        assert (found.overlap, found.unbroken) == (4000, 9000)
        known = [DETECTORS[name] for name in names]
        found = sized(StreamRules(overlap=0), names)
        assert found.overlap == REACH
        assert found.unbroken == max(d.run for d in known)
        assert found.openings == (("-----BEGIN ", DETECTORS["secrets.private_key"].held),)
