"""Redaction: excerpts are found whatever a model changed in copying, and nothing of a value stays."""

# ruff: noqa: RUF001 - look-alike signs are the subject here
from __future__ import annotations

import json
import re
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from guardrail.core.conversation import Kind, Segment
from guardrail.core.redaction import (
    Redaction,
    Span,
    folded,
    json_view,
    locate,
    merge,
    redact,
    redact_segment,
)

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
SPANS = st.lists(
    st.builds(lambda a, b: Span(min(a, b), max(a, b), "P1"), st.integers(0, 40), st.integers(0, 40))
)


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


def covered(spans) -> set[int]:
    return {offset for span in spans for offset in range(span.start, span.end)}


class TestLocate:
    def test_an_excerpt_copied_verbatim(self):
        assert locate("call 0170 now", ["0170"], "P1") == ([Span(5, 9, "P1")], [])

    @pytest.mark.parametrize(
        ("text", "excerpt", "found"),
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
    def test_what_models_change_in_copying(self, text, excerpt, found):
        (span,), missing = locate(text, [excerpt], "P1")
        assert text[span.start : span.end] == found
        assert missing == []

    def test_every_occurrence_counts(self):
        spans, _ = locate("ab AB a\u200bb", ["ab"], "P1")
        assert [(s.start, s.end) for s in spans] == [(0, 2), (3, 5), (6, 9)]

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
        spans, _ = locate(text, [excerpt], "P1")
        assert "".join(c for i, c in enumerate(text) if i not in covered(spans)) == left

    @given(st.text("ab", max_size=30), st.text("ab", min_size=1, max_size=6))
    def test_covers_exactly_the_occurrences(self, text, excerpt):
        spans, _ = locate(text, [excerpt], "P1")
        starts = [i for i in range(len(text)) if text.startswith(excerpt, i)]
        assert covered(spans) == {i + k for i in starts for k in range(len(excerpt))}

    def test_a_long_repetitive_excerpt_is_found_as_a_whole(self):
        spans, _ = locate("a" * 200_000, ["a" * 100_000], "P1")
        assert covered(spans) == set(range(200_000))

    @pytest.mark.parametrize("excerpt", ["elsewhere", "", " \n", "\u200b", "\u0301"])
    def test_an_excerpt_that_is_not_there_is_reported(self, excerpt):
        assert locate("some text", [excerpt, "text"], "P1") == ([Span(5, 9, "P1")], [excerpt])

    @given(PHRASE, PHRASE, PHRASE, st.data())
    def test_finds_a_changed_copy_and_maps_it_back(self, before, secret, after, data):
        assume(folded(secret).text.strip())
        text = f"{before} {secret} {after}"
        start = len(before) + 1
        spans, missing = locate(text, [data.draw(copied(secret))], "P1")
        assert missing == []
        own = [s for s in spans if s.start < start + len(secret) and start < s.end]
        visible = {start + i for i, char in enumerate(secret) if folded(char).text.strip()}
        assert visible <= covered(own)

    @given(PHRASE, PHRASE, PHRASE, st.data())
    def test_finds_a_plain_excerpt_in_hostile_text(self, before, secret, after, data):
        assume(folded(secret).text.strip())
        hidden = data.draw(copied(secret))
        text = f"{before}\n{hidden}\n{after}"
        spans, missing = locate(text, [secret], "P1")
        assert missing == []
        assert (
            folded(secret).text.strip()
            not in folded(redact(text, spans).replace("[REDACTED:P1]", "\ue000")).text
        )

    @given(st.text(max_size=40), st.text(max_size=10))
    def test_spans_lie_inside_the_text_and_hold_the_excerpt(self, text, excerpt):
        spans, missing = locate(text, [excerpt], "P1")
        assert bool(spans) != bool(missing)
        for span in spans:
            assert 0 <= span.start < span.end <= len(text)
            assert folded(excerpt).text.strip() in folded(text[span.start : span.end]).text

    @given(st.text(max_size=30).filter(lambda t: folded(t).text.strip()))
    def test_a_text_is_found_in_itself(self, text):
        spans, missing = locate(text, [text], "P1")
        assert missing == []
        assert len(merge(spans)) == 1

    def test_without_excerpts_nothing_is_found_or_missing(self):
        assert locate("text", [], "P1") == ([], [])


class TestFolded:
    @given(st.text())
    def test_every_character_has_its_raw_range(self, text):
        view = folded(text)
        assert len(view.text) == len(view.starts) == len(view.ends)
        assert list(view.starts) == sorted(view.starts)
        assert all(0 <= a < b <= len(text) for a, b in zip(view.starts, view.ends, strict=True))

    def test_a_run_of_white_space_and_a_mark_belong_to_one_character(self):
        view = folded("a \u200b\n e\u0301b")
        assert view.text == "a eb"
        assert [view.to_raw(i, i + 1) for i in range(4)] == [(0, 1), (1, 5), (5, 7), (7, 8)]

    @given(st.text())
    def test_folding_twice_is_folding_once(self, text):
        once = folded(text).text
        assert folded(once).text == once

    @given(st.text())
    def test_white_space_never_stands_twice(self, text):
        assert not re.search(r"\s\s", folded(text).text)


class TestMergeAndRedact:
    @given(SPANS)
    def test_merging_keeps_what_is_covered_and_leaves_no_overlap(self, spans):
        merged = merge(spans)
        assert covered(merged) == covered(spans)
        assert all(a.end <= b.start for a, b in pairwise(merged))
        assert all(span.start < span.end for span in merged)

    @given(SPANS, st.randoms(use_true_random=False))
    def test_merging_does_not_depend_on_the_order(self, spans, random):
        shuffled = list(spans)
        random.shuffle(shuffled)
        assert merge(shuffled) == merge(spans)

    def test_where_two_overlap_the_first_gives_the_label(self):
        assert merge([Span(2, 6, "B"), Span(0, 4, "A")]) == (Span(0, 6, "A"),)
        assert merge([Span(0, 6, "A"), Span(2, 4, "B")]) == (Span(0, 6, "A"),)

    def test_spans_that_only_touch_stay_two(self):
        assert merge([Span(2, 4, "B"), Span(0, 2, "A")]) == (Span(0, 2, "A"), Span(2, 4, "B"))

    def test_replaces_each_span(self):
        spans = [Span(8, 12, "P2"), Span(0, 2, "P1")]
        assert redact("ab cd → 0170!", spans) == "[REDACTED:P1] cd → [REDACTED:P2]!"

    @given(st.text(max_size=40))
    def test_without_spans_nothing_changes(self, text):
        assert redact(text, []) == text

    @given(st.text("abc", max_size=40), SPANS)
    def test_keeps_all_that_no_span_covers(self, text, spans):
        spans = [span for span in spans if span.end <= len(text)]
        kept = "".join(c for i, c in enumerate(text) if i not in covered(spans))
        assert redact(text, spans).replace("[REDACTED:P1]", "") == kept


JSON_TEXT = st.text(max_size=8)
JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9_999, 9_999), st.floats(allow_nan=False), JSON_TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(JSON_TEXT, inner, max_size=3)),
    max_leaves=8,
)
# Characters that JSON escapes, and none of those in the replacement.
SECRET = st.text('zqxj\n\t"\\/é\u2028😀', min_size=3, max_size=10).filter(
    lambda t: len(folded(t).text.strip()) > 2
)


def leaves(value):
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, str):
        yield value


def arguments(text: str) -> Segment:
    return Segment(text, ("arguments",), Kind.TOOL_ARGUMENTS)


def redact_value(raw: str, secret: str) -> str:
    view = json_view(raw)
    spans, _ = locate(view.text, [secret], "P1")
    return redact_segment(arguments(raw), [Span(*view.to_raw(s.start, s.end), s.label) for s in spans])


class TestJson:
    @given(JSON_VALUES, st.booleans(), st.sampled_from([None, 1]))
    def test_the_view_resolves_escapes_and_keeps_offsets(self, value, ascii_only, indent):
        raw = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
        view = json_view(raw)
        assert list(view.starts) == sorted(view.starts)
        if view.text:
            assert view.to_raw(0, len(view.text)) == (0, len(raw))
        for leaf in leaves(value):
            assert leaf in view.text

    @pytest.mark.parametrize("raw", ["", "{", "not json", '{"a": "\n"}', "[" * 100_000, '{"a":1}}'])
    def test_what_is_no_json_has_no_view(self, raw):
        assert json_view(raw) is None

    @given(
        JSON_VALUES,
        SECRET,
        st.booleans(),
        st.sampled_from([None, 2]),
        st.sampled_from([(",", ":"), (", ", ": ")]),
    )
    def test_redacted_arguments_stay_json_and_hold_nothing_of_the_value(
        self, value, secret, ascii_only, indent, separators
    ):
        value = {"first": secret, "list": [f"a {secret} b", 7, {secret: value}], "rest": value}
        raw = json.dumps(value, ensure_ascii=ascii_only, indent=indent, separators=separators)
        after = json.loads(redact_value(raw, secret))
        for leaf in leaves(after):
            assert secret not in leaf
        assert after["first"].startswith("[REDACTED:P1]") or after["first"].strip() == "[REDACTED:P1]"
        assert after["list"][1] == 7

    @given(JSON_VALUES, st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80))), st.booleans())
    @example({"a": "\n😀"}, [(7, 9)], True)
    def test_any_span_of_the_raw_text_leaves_json(self, value, ranges, ascii_only):
        raw = json.dumps(value, ensure_ascii=ascii_only)
        spans = [Span(min(r), min(max(r), len(raw)), "P1") for r in ranges if min(r) < len(raw)]
        json.loads(redact_segment(arguments(raw), spans))

    @given(JSON_VALUES)
    def test_everything_goes_but_the_shape_stays(self, value):
        raw = json.dumps(value)
        after = json.loads(redact_segment(arguments(raw), [Span(0, len(raw), "P1")]))
        assert set(leaves(after)) <= {"[REDACTED:P1]", ""}
        assert isinstance(after, dict) == isinstance(value, dict)
        assert isinstance(after, list) == isinstance(value, list)

    @pytest.mark.parametrize(
        ("raw", "secret", "after"),
        [
            ('{"to": "a@b.example", "n": 1}', "a@b.example", '{"to": "[REDACTED:P1]", "n": 1}'),
            ('{"n": 41111, "m": [41]}', "41111", '{"n": "[REDACTED:P1]", "m": [41]}'),
            ('{"n": -4.5e+10}', "4.5", '{"n": "[REDACTED:P1]"}'),
            ('{"card": 4111222, "x": 1}', "112", '{"card": "[REDACTED:P1]", "x": 1}'),
            ('{"a":"\\u0073ecret"}', "secret", '{"a":"[REDACTED:P1]"}'),
            ('{"a":"x\\ud83d\\ude00y"}', "😀", '{"a":"x[REDACTED:P1]y"}'),
            ('{"secret": true}', "secret", '{"[REDACTED:P1]": true}'),
            ('"secret"', "secret", '"[REDACTED:P1]"'),
            ("4711", "4711", '"[REDACTED:P1]"'),
            ('{"a":"b"}', "zzz", '{"a":"b"}'),
        ],
    )
    def test_only_strings_and_numbers_are_replaced(self, raw, secret, after):
        assert redact_value(raw, secret) == after

    def test_a_number_that_python_refuses_is_still_json(self):
        raw = '{"n": ' + "7" * 5_000 + ', "a": "secret"}'
        assert json.loads(redact_segment(arguments(raw), [Span(0, len(raw), "P1")])) == {
            "[REDACTED:P1]": "[REDACTED:P1]"
        }

    def test_a_span_that_cuts_an_escape_takes_all_of_it(self):
        raw = '{"a": "x\\n5550"}'
        span = Span(raw.index("n5550"), raw.index('"}'), "P1")
        assert redact_segment(arguments(raw), [span]) == '{"a": "x[REDACTED:P1]"}'

    def test_a_span_that_runs_past_the_end_is_cut(self):
        assert redact_segment(arguments('"abc"'), [Span(3, 99, "P1")]) == '"ab[REDACTED:P1]"'

    def test_arguments_that_are_no_json_are_redacted_as_text(self):
        assert redact_segment(arguments('{"a": "sec'), [Span(7, 10, "P1")]) == '{"a": "[REDACTED:P1]'

    def test_json_in_a_plain_text_is_text(self):
        assert redact_segment(Segment('{"n": 1}', ()), [Span(6, 7, "P1")]) == '{"n": [REDACTED:P1]}'


class TestRedaction:
    redaction = Redaction(Segment("call 0170", ("messages", 0, "content")), (Span(5, 9, "P1"),))

    def test_knows_its_address_and_its_text(self):
        assert self.redaction.address == ("messages", 0, "content")
        assert self.redaction.text == "call [REDACTED:P1]"

    def test_a_printed_redaction_holds_no_judged_text(self):
        assert "0170" not in repr(self.redaction)
