"""Redaction: spans are joined safely, and what they cover is replaced, in JSON too."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guardrail.core.conversation import Kind, Segment
from guardrail.core.excerpts import locate
from guardrail.core.policy import Strategy
from guardrail.core.redaction import Edit, Redaction, Span, apply, edits, merge
from guardrail.core.views import folded
from tests.core.json_values import JSON_VALUES, strings

SPANS = st.lists(
    st.builds(
        lambda a, b, label, kind, strategy: Span(min(a, b), max(a, b), label, kind, strategy),
        st.integers(0, 40), st.integers(0, 40),
        st.sampled_from(["P1", "P2"]), st.sampled_from(["", "email"]), st.sampled_from(Strategy),
    )
)  # fmt: skip


def covered(spans) -> set[int]:
    return {offset for span in spans for offset in range(span.start, span.end)}


def named(span: Span, text: str) -> str:
    return f"[REDACTED:{span.label}]"


def redacted(segment: Segment, *spans: Span, put=named) -> str:
    return apply(segment.text, edits(segment, spans, put))


def redact(text: str, spans) -> str:
    return redacted(Segment(text, ()), *spans)


class TestMerge:
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

    def test_the_first_known_kind_and_the_strictest_strategy_count(self):
        spans = [
            Span(0, 9, "A", "", Strategy.MASK),
            Span(2, 9, "B", "email", Strategy.PLACEHOLDER),
            Span(3, 5, "C", "phone", Strategy.HASH),
        ]
        assert merge(spans[:1]) == (spans[0],)
        assert merge(spans[:2]) == (Span(0, 9, "A", "email", Strategy.PLACEHOLDER),)
        assert merge(spans) == (Span(0, 9, "A", "email", Strategy.HASH),)
        assert merge([*spans, Span(8, 12, "D")]) == (Span(0, 12, "A", "email", Strategy.REPLACE),)


class TestEdits:
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
        assert redact(text, spans).replace("[REDACTED:P1]", "").replace("[REDACTED:P2]", "") == kept

    def test_what_is_put_knows_the_span_and_its_text(self):
        seen = []
        redacted(
            Segment("ab cd", ()),
            Span(3, 99, "P2", "k"),
            Span(50, 60, "P1"),
            put=lambda *own: seen.append(own) or "",
        )
        assert seen == [(Span(3, 5, "P2", "k"), "cd")]

    def test_a_printed_edit_or_redaction_holds_no_judged_text(self):
        assert "0170" not in repr(Edit(0, 4, "0170"))
        assert "0170" not in repr(Redaction(Segment("call 0170", ()), (Span(5, 9, "P1"),)))

    def test_a_redaction_knows_its_address(self):
        assert Redaction(Segment("call 0170", ("messages", 0)), ()).address == ("messages", 0)


# Characters that JSON escapes, and none of those in the replacement.
SECRET = st.text('zqxj\n\t"\\/é\u2028😀', min_size=3, max_size=10).filter(
    lambda t: len(folded(t).text.strip()) > 2
)


def numbers(value) -> int:
    """How many numbers a JSON value holds."""
    if isinstance(value, dict | list):
        return sum(map(numbers, value.values() if isinstance(value, dict) else value))
    return int(isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))


def arguments(text: str) -> Segment:
    return Segment(text, ("arguments",), Kind.TOOL_ARGUMENTS)


def redact_value(raw: str, secret: str) -> str:
    segment = arguments(raw)
    return redacted(segment, *(Span(*place, "P1") for place in locate(segment, [secret])[0]))


class TestJson:
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
        for leaf in strings(after):
            assert secret not in leaf
        assert after["first"].startswith("[REDACTED:P1]") or after["first"].strip() == "[REDACTED:P1]"
        assert after["list"][1] == 7

    @given(JSON_VALUES, st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80))), st.booleans())
    @example({"a": "\n😀"}, [(7, 9)], True)
    def test_any_span_of_the_raw_text_leaves_json(self, value, ranges, ascii_only):
        raw = json.dumps(value, ensure_ascii=ascii_only)
        spans = [Span(min(r), min(max(r), len(raw)), "P1") for r in ranges if min(r) < len(raw)]
        json.loads(redacted(arguments(raw), *spans))

    @given(JSON_VALUES)
    def test_everything_goes_but_the_shape_stays(self, value):
        raw = json.dumps(value)
        after = json.loads(redacted(arguments(raw), Span(0, len(raw), "P1")))
        assert {leaf.partition("#")[0] for leaf in strings(after)} <= {"[REDACTED:P1]", ""}
        assert len(list(strings(after))) == len(list(strings(value))) + numbers(value)
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
        assert json.loads(redacted(arguments(raw), Span(0, len(raw), "P1"))) == {
            "[REDACTED:P1]": "[REDACTED:P1]",
            "[REDACTED:P1]#2": "[REDACTED:P1]",
        }

    def test_a_span_that_cuts_an_escape_takes_all_of_it(self):
        raw = '{"a": "x\\n5550"}'
        span = Span(raw.index("n5550"), raw.index('"}'), "P1")
        assert redacted(arguments(raw), span) == '{"a": "x[REDACTED:P1]"}'

    def test_a_span_that_runs_past_the_end_is_cut(self):
        assert redacted(arguments('"abc"'), Span(3, 99, "P1")) == '"ab[REDACTED:P1]"'

    def test_arguments_that_are_no_json_are_redacted_as_text(self):
        assert redacted(arguments('{"a": "sec'), Span(7, 10, "P1")) == '{"a": "[REDACTED:P1]'

    def test_json_in_a_plain_text_is_text(self):
        assert redacted(Segment('{"n": 1}', ()), Span(6, 7, "P1")) == '{"n": [REDACTED:P1]}'

    @pytest.mark.parametrize(
        ("raw", "after"),
        [
            ('{"sam": 1, "bob": 2, "al": 3}', '{"[X]": 1, "[X]#2": 2, "[X]#3": 3}'),
            ('[{"sam": 1}, {"sam": 2, "in": {"bob": 3}}]', '[{"[X]": 1}, {"[X]": 2, "[X]#2": {"[X]": 3}}]'),
            ('{"[X]": 1, "[X]#2": 0, "bob": 2}', '{"[X]": 1, "[X]#2": 0, "[X]#3": 2}'),
            ('{"\\u005bX]": 1, "bob": "bob"}', '{"\\u005bX]": 1, "[X]#2": "[X]"}'),
            ('{"a bob": 1, "a sam": 2}', '{"a [X]": 1, "a [X]#2": 2}'),
        ],
    )
    def test_keys_that_would_become_equal_get_a_number(self, raw, after):
        spans = [Span(*place, "P1") for place in locate(arguments(raw), ["bob", "sam", '"in"', "al"])[0]]
        made = redacted(arguments(raw), *spans, put=lambda span, text: "[X]" if text.isalpha() else text)
        assert made == after
        assert len(list(strings(json.loads(made)))) == len(list(strings(json.loads(raw))))

    def test_what_is_put_is_read_and_written_without_escapes(self):
        raw = '{"a": "x\\u0041\\ny", "n": 4.50}'
        spans = (Span(9, 15, "P"), Span(raw.index(".5"), raw.index(".5") + 1, "P"))
        made = redacted(arguments(raw), *spans, put=lambda span, text: f'<{text}>\\"\n')
        assert json.loads(made) == {"a": 'x<A\n>\\"\ny', "n": '<4.50>\\"\n'}

    @pytest.mark.parametrize(("raw", "after"), [(' {"a": "sec', ' {"a": "\\"\\n'), ("rm sec", 'rm "\n')])
    def test_what_looks_like_broken_json_gets_its_replacements_escaped(self, raw, after):
        span = Span(raw.index("sec"), len(raw), "P1")
        assert redacted(arguments(raw), span, put=lambda span, text: '"\n') == after

    @pytest.mark.parametrize("leaf", ['"bob"', "4711", '{"bob": "bob"}'])
    def test_many_leaves_and_many_spans_come_to_an_end(self, leaf):
        raw = f"[{', '.join([leaf] * 20_000)}]"
        spans = [Span(at, at + 2, "P1") for at in range(1, len(raw) - 2, 3)]
        assert len(json.loads(redacted(arguments(raw), *spans))) == 20_000
        assert len(json.loads(redacted(arguments(raw), Span(0, len(raw), "P1")))) == 20_000
