"""Excerpts are found however a judge copies them or a text hides them, and only where they stand."""

# ruff: noqa: RUF001 - look-alike signs are the subject here
from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from guardrail.core import excerpts
from guardrail.core.conversation import Kind, Segment
from guardrail.core.views import folded

INVISIBLE = [
    "\u200b",
    "\u200d",
    "\u2060",
    "\ufeff",
    "\u00ad",
    "\u202e",
    "\ufe0f",
    "\u034f",
    "\x00",
    "\U000e0041",
]
QUOTES = {"'": "‘’‚‛`", '"': "“”„‟«»＂", "<": "‹＜", "|": "¦｜"}
WORD = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=8)
PHRASE = st.lists(WORD, min_size=1, max_size=4).map(" ".join)


@st.composite
def copied(draw, text: str) -> str:
    """The text as a judge could copy it, or as hostile text could hide it."""
    out = []
    for char in text:
        ways = [char]
        ways += [c for c in (char.upper(), char.lower()) if c.casefold() == char.casefold()]
        ways += QUOTES.get(char, "")
        if char == " ":
            ways += ["\n", "\t", "\u00a0", "\u3000", "  ", " \u200b ", "\r\n"]
        out.append(draw(st.sampled_from(ways)))
        if draw(st.integers(0, 5)) == 0:
            out.append(draw(st.sampled_from(INVISIBLE)))
    made = "".join(out)
    return unicodedata.normalize("NFKC", made) if draw(st.booleans()) else made


def locate(text: str, *wanted: str, kind: Kind = Kind.TEXT) -> tuple[list[tuple[int, int]], list[str]]:
    return excerpts.locate(Segment(text, (), kind), wanted)


def found(text: str, *wanted: str, kind: Kind = Kind.TEXT) -> list[str]:
    return [text[start:end] for start, end in locate(text, *wanted, kind=kind)[0]]


def covered(ranges) -> set[int]:
    return {offset for start, end in ranges for offset in range(start, end)}


class TestLocate:
    def test_an_excerpt_copied_verbatim(self):
        assert locate("call 0170 now", "0170") == ([(5, 9)], [])

    @pytest.mark.parametrize(
        ("text", "excerpt", "there"),
        [
            ("My E-Mail is X@Y.example", "my e-mail", "My E-Mail"),
            ("he said “stop it” loudly", '"stop it"', "“stop it”"),
            ("it’s mine", "it's mine", "it’s mine"),
            ("a  b\n\tc", "a b c", "a  b\n\tc"),
            ("a b", "a \n b", "a b"),
            ("pass\u200bword\u00ad: x", "password:", "pass\u200bword\u00ad:"),
            ("ｐａｓｓ　ｗｏｒｄ", "pass word", "ｐａｓｓ　ｗｏｒｄ"),
            ("oﬃce 1½", "office 1½", "oﬃce 1½"),
            ("cafe\u0301", "café", "cafe\u0301"),
            ("café", "CAFE", "café"),
            ("Straße 5", "STRASSE 5", "Straße 5"),
            ("<|start|>", "‹¦start¦>", "<|start|>"),
            ("\U000e0041dmin", "dmin", "dmin"),
            ("ﬁre", "i", "ﬁ"),
            ("x ¨y", "x ¨y", "x ¨y"),
        ],
    )
    def test_what_models_change_in_copying(self, text, excerpt, there):
        assert found(text, excerpt) == [there]
        assert locate(text, excerpt)[1] == []

    def test_every_occurrence_counts(self):
        spans, _ = locate("ab AB a\u200bb", "ab")
        assert spans == [(0, 2), (3, 5), (6, 9)]

    @pytest.mark.parametrize(
        ("text", "excerpt", "left"),
        [
            ("1 1 1 0", "1 1", " 0"),
            ("ababa!", "aba", "!"),
            ("aaaaa", "aa", ""),
            ("aabaaabaa!", "aabaa", "!"),
            ("xabaabaab", "abaab", "x"),
            ("abacabacabad", "abacaba", "d"),
            ("abcabcab-abcabc", "abcabc", "ab-"),
        ],
    )
    def test_occurrences_that_overlap_go_as_a_whole(self, text, excerpt, left):
        spans, _ = locate(text, excerpt)
        assert "".join(c for i, c in enumerate(text) if i not in covered(spans)) == left

    @given(st.text("ab", max_size=30), st.text("ab", min_size=1, max_size=6))
    def test_covers_exactly_the_occurrences(self, text, excerpt):
        spans, _ = locate(text, excerpt)
        starts = [i for i in range(len(text)) if text.startswith(excerpt, i)]
        assert covered(spans) == {i + k for i in starts for k in range(len(excerpt))}

    def test_a_long_repetitive_excerpt_is_found_as_a_whole(self):
        spans, _ = locate("a" * 200_000, "a" * 100_000)
        assert covered(spans) == set(range(200_000))

    @pytest.mark.parametrize("excerpt", ["elsewhere", "", " \n", "\u200b", "\u0301"])
    def test_an_excerpt_that_is_not_there_is_reported(self, excerpt):
        assert locate("some text", excerpt, "text") == ([(5, 9)], [excerpt])

    @given(PHRASE, PHRASE, PHRASE, st.data())
    def test_finds_a_changed_copy_and_maps_it_back(self, before, secret, after, data):
        assume(folded(secret).text.strip())
        text = f"{before} {secret} {after}"
        start = len(before) + 1
        spans, missing = locate(text, data.draw(copied(secret)))
        assert missing == []
        own = [(at, end) for at, end in spans if at < start + len(secret) and start < end]
        visible = {start + i for i, char in enumerate(secret) if folded(char).text.strip()}
        assert visible <= covered(own)

    @given(PHRASE, PHRASE, PHRASE, st.data())
    def test_finds_a_plain_excerpt_in_hostile_text(self, before, secret, after, data):
        assume(folded(secret).text.strip())
        hidden = data.draw(copied(secret))
        text = f"{before}\n{hidden}\n{after}"
        spans, missing = locate(text, secret)
        assert missing == []
        assert (
            folded(secret).text.strip()
            not in folded("".join("\ue000" if i in covered(spans) else c for i, c in enumerate(text))).text
        )

    @given(st.text(max_size=40), st.text(max_size=10))
    def test_ranges_lie_inside_the_text_and_something_is_found_or_missing(self, text, excerpt):
        spans, missing = locate(text, excerpt)
        assert bool(spans) != bool(missing)
        assert all(0 <= start < end <= len(text) for start, end in spans)

    @given(st.text(max_size=30).filter(lambda t: folded(t).text.strip()))
    def test_a_text_is_found_in_itself(self, text):
        spans, missing = locate(text, text)
        assert missing == []
        assert len(spans) == 1

    def test_without_excerpts_nothing_is_found_or_missing(self):
        assert locate("text") == ([], [])


class TestWhatModelsAddAndLeaveOut:
    @pytest.mark.parametrize(
        ("text", "excerpt", "there"),
        [
            ("say no more", '"say no"', "say no"),
            ("say no more", "“Say no.”", "say no"),
            ("say no more", "**say no**,", "say no"),
            ("say no more", "- `say no`", "say no"),
            ('say "no" more', '"no"', '"no"'),
            ("wait... what", "wait... what", "wait... what"),
            ("wait… what", "wait... what", "wait… what"),
            ("co\u2011operate — now", "co-operate - now", "co\u2011operate — now"),
            (
                "first you mix a, then b, and then run",
                "you mix ... then run",
                "you mix a, then b, and then run",
            ),
            ("first you mix a, then b, and then run", '"first … mix, […] then run."', None),
            ("first you mix a, then b", "you mix a...", "you mix a, then b"),
            ("first you mix a, then b", "... you mix a", "first you mix a"),
            ("head 1 tail 2 head 3 tail 4", "head...tail", "head 1 tail 2 head 3 tail"),
            ("a b c d e f", "a ... c ... e", "a b c d e"),
            ("a b c", "a ... , ... c", "a b c"),
            ('print("a\\nb") # x', 'print("a\nb")', 'print("a\\nb")'),
            ('he said "x" twice', 'he said \\"x\\"', 'he said "x"'),
            ("one\ntwo", "one\\ntwo", "one\ntwo"),
            ("caf\u00e9", "caf\\u00e9", "caf\u00e9"),
        ],
    )
    def test_is_seen_through(self, text, excerpt, there):
        assert found(text, excerpt) == [text if there is None else there]

    @pytest.mark.parametrize(
        ("text", "excerpt"),
        [
            ("tail and head", "head ... tail"),
            ("head only", "head ... tail"),
            ("a c b", "a ... b ... c"),
            ("some text", "..."),
            ("some text", '"…" ... -'),
            ("some text", '"!"'),
        ],
    )
    def test_pieces_out_of_order_or_without_text_are_missing(self, text, excerpt):
        assert locate(text, excerpt) == ([], [excerpt])

    @given(PHRASE, PHRASE, PHRASE, PHRASE, PHRASE)
    def test_a_shortened_copy_covers_the_whole(self, before, head, middle, tail, after):
        assume(all(any(c.isalnum() for c in folded(piece).text) for piece in (head, tail)))
        text = f"{before} {head} {middle} {tail} {after}"
        spans, missing = locate(text, f"{head} … {tail}")
        assert missing == []
        start = len(before) + 1
        whole = range(start, start + len(f"{head} {middle} {tail}"))
        assert {i for i in whole if text[i].isalnum() and folded(text[i]).text.strip()} <= covered(spans)

    @pytest.mark.parametrize("sign", ["a", ".", "…", "\\", "\u200b", " ", '"', "[", "\\n", "a ... "])
    def test_a_megabyte_of_one_sign_comes_to_an_end(self, sign):
        text = sign * (1_000_000 // len(sign))
        assert not locate(text, "b", "b ... c", "... b", '"b"')[0]
        assert locate(text, sign * 1000 + "b ... " + sign)[1]


class TestJson:
    RAW = '{"to": "Zo\\u00eb \\"X\\"", "tel": "0170", "n": [41]}'

    @pytest.mark.parametrize(
        ("excerpt", "there"),
        [
            ("zoë", "Zo\\u00eb"),
            ('Zoë "X"', 'Zo\\u00eb \\"X\\"'),
            ('Zo\\u00eb \\"X\\"', 'Zo\\u00eb \\"X\\"'),
            ('"tel": "0170"', '"tel": "0170"'),
            ('X"", "tel": "0170', 'X\\"", "tel": "0170'),
            ("Zoë ... 0170", 'Zo\\u00eb \\"X\\"", "tel": "0170'),
            ("41", "41"),
        ],
    )
    def test_escapes_are_looked_through_and_leaves_may_be_quoted_together(self, excerpt, there):
        assert found(self.RAW, excerpt, kind=Kind.TOOL_ARGUMENTS) == [there]

    @given(st.text(min_size=1, max_size=12), st.booleans())
    def test_a_leaf_is_found_in_any_json(self, leaf, ascii_only):
        assume(folded(leaf).text.strip())
        raw = json.dumps({"a": [leaf, 1]}, ensure_ascii=ascii_only)
        spans, missing = locate(raw, leaf, kind=Kind.TOOL_ARGUMENTS)
        assert missing == []
        assert any(raw[start:end] in raw[7:-5] for start, end in spans)
