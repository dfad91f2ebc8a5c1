"""The vault: nothing of a redacted text is left, and every placeholder finds back to its text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Kind, Segment
from guardrail.core.placeholders import codes
from guardrail.core.policy import Strategy
from guardrail.core.redaction import Span, apply, merge
from guardrail.core.vault import RedactionRules, Vault, mask
from guardrail.core.views import leaves
from guardrail.detectors import DETECTORS, find_all

KEY = b"k" * 32
MAIL = "bob@x.example"
# Signs that mean something around a placeholder, and letters that none is made of.
SIGNS = st.text(st.sampled_from('aeio_-[]()\\【】* "{}:,\n\u00e9\u202f😀'), max_size=12)
VALUES = st.text(st.sampled_from('aeio@.0123 \\"(_[]\n\u00e9😀'), min_size=1, max_size=8)
STRATEGIES = st.sampled_from(Strategy)


def segment(text: str, kind: Kind = Kind.TEXT, preceding: str = "") -> Segment:
    return Segment(text, (), kind, preceding)


def hidden(
    text: str, *values: str, strategy=Strategy.PLACEHOLDER, label="PII2", kind="email"
) -> list[Span]:
    """Spans of every occurrence of the values."""
    found = []
    for value in values:
        at = text.find(value)
        while at >= 0:
            found.append(Span(at, at + len(value), label, kind, strategy))
            at = text.find(value, at + len(value))
    return list(merge(found))


def redact(vault: Vault, text: str, spans, kind: Kind = Kind.TEXT) -> str:
    return apply(text, vault.redactions(segment(text, kind), spans))


def answer(vault: Vault, text: str, *spans: Span, kind: Kind = Kind.TEXT, preceding: str = "") -> str:
    return apply(text, vault.answer(segment(text, kind, preceding), spans))


def kept(value: str = MAIL, **changes) -> tuple[Vault, str]:
    """A vault that holds one text, and its placeholder."""
    vault = Vault(KEY)
    return vault, redact(vault, value, hidden(value, value, **changes))


def stands_alone(text: str, start: int, end: int) -> bool:
    """Whether no letter or digit stands next to one at an edge of ``text[start:end]``."""
    before, after = text[:start][-1:], text[end:][:1]
    left = before.isalnum() and text[start].isalnum()
    return not left and not (text[end - 1].isalnum() and after.isalnum())


@st.composite
def secrets_in_text(draw) -> tuple[str, list[Span]]:
    """A text with values to be hidden, some of them side by side, some twice."""
    values = draw(st.lists(VALUES, min_size=1, max_size=3))
    pieces = draw(st.lists(st.one_of(SIGNS, st.sampled_from(values)), max_size=8))
    text = "".join([values[0], *pieces])
    spans, at = [], 0
    for piece in [values[0], *pieces]:
        if piece in values:
            kind = draw(st.sampled_from(["email", "phone", ""]))
            spans.append(
                Span(at, at + len(piece), draw(st.sampled_from(["P", "PII2"])), kind, Strategy.PLACEHOLDER)
            )
        at += len(piece)
    return text, spans


JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False), st.integers(), SIGNS, VALUES),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(SIGNS, inner, max_size=3)),
    max_leaves=8,
)


class TestStrategies:
    @pytest.mark.parametrize(
        ("strategy", "there"),
        [
            (Strategy.REPLACE, "[REDACTED:PII2]"),
            (Strategy.MASK, "***@*.***mple"),
            (Strategy.HASH, "[HASH:PII2:TFSNHCGGJZWCCQHH]"),
            (Strategy.PLACEHOLDER, "[EMAIL_RNCFXGGW]"),
        ],
    )
    def test_what_comes_in_the_place_of_a_text(self, strategy, there):
        vault = Vault(KEY)
        text = f"to {MAIL}, {MAIL}"
        assert redact(vault, text, hidden(text, MAIL, strategy=strategy)) == f"to {there}, {there}"
        assert bool(vault) is (strategy is Strategy.PLACEHOLDER)

    @pytest.mark.parametrize(
        ("text", "masked"),
        [
            ("4111 1111 1111 1234", "**** **** **** 1234"),
            ("12345678", "********"),
            ("123456789", "*****6789"),
            ("01/02/1981", "**/**/****"),
            ("a", "*"),
            ("--", "**"),
            ("Zo\u00eb M\u00fcller, Gasse 7", "*** ******, **sse 7"),
            ("\u0928\u092e\u0938\u094d\u0924\u0947", "******"),
            ("e\u0301" * 6, "********e\u0301e\u0301"),
        ],
    )
    def test_a_mask_leaves_the_last_letters_of_a_long_text(self, text, masked):
        assert mask(text, 4) == masked

    def test_how_much_a_mask_leaves_can_be_chosen(self):
        assert [mask("abcdef", keep) for keep in (0, 2, 3)] == ["******", "****ef", "******"]
        assert redact(Vault(KEY, keep_last=1), "abc", [Span(0, 3, "P", "", Strategy.MASK)]) == "**c"

    def test_a_hash_depends_on_text_and_key_alone(self):
        made = {
            redact(Vault(key), text, [Span(0, 9, "P", kind, Strategy.HASH)])
            for key in (KEY, b"other")
            for text in ("abc", "abd")
            for kind in ("email", "phone")
        }
        assert len(made) == 4

    def test_rules_by_default(self):
        rules = RedactionRules()
        assert (rules.strategy, rules.keep_last, len(rules.key)) == (Strategy.REPLACE, 4, 32)
        assert rules.key != RedactionRules().key
        assert repr(rules.key)[2:-1] not in repr(rules)


class TestPlaceholders:
    def test_the_same_text_has_the_same_placeholder_in_every_request_under_one_key(self):
        (_, one), (_, other) = kept(), kept()
        assert one == other
        assert redact(Vault(b"other"), MAIL, hidden(MAIL, MAIL)) != one

    def test_other_texts_and_other_kinds_have_others(self):
        assert len({kept()[1], kept("al@x.example")[1], kept(kind="phone")[1], kept(kind="")[1]}) == 4

    def test_a_text_behind_json_escapes_has_the_same(self):
        vault, placeholder = kept("Zo\u00eb")
        raw = json.dumps(["Zo\u00eb"])
        assert redact(vault, raw, [Span(2, len(raw) - 2, "PII2", "email", Strategy.PLACEHOLDER)],
                      Kind.TOOL_ARGUMENTS) == f'["{placeholder}"]'  # fmt: skip

    @pytest.mark.parametrize("typed", ["%s", "`%s`", '{"a": "\\u005b%s"}'])
    def test_one_that_stands_in_the_request_is_never_given_out(self, typed):
        bare = kept()[1][1:-1]
        for spelling in (f"[{bare}]", bare.lower(), bare.replace("_", "-"), bare.replace("_", r"\_")):
            vault = Vault(KEY, taken=["hello", typed % spelling])
            given_out = redact(vault, MAIL, hidden(MAIL, MAIL))
            assert given_out[1:-1] != bare
            assert answer(vault, f"{typed % spelling} {given_out}") == f"{typed % spelling} {MAIL}"
            again = Vault(KEY, taken=[f"[{bare}]"])
            assert redact(again, MAIL, hidden(MAIL, MAIL)) == given_out

    def test_two_texts_never_share_one(self, monkeypatch):
        monkeypatch.setattr(
            "guardrail.core.vault.code", lambda digest, length=8: "BCDFGHJ" + "BCDF"[digest[0] % 4]
        )
        vault = Vault(KEY)
        made = [redact(vault, text, [Span(0, 1, "P", "", Strategy.PLACEHOLDER)]) for text in "abcd"]
        assert len(set(made)) == 4
        assert [answer(vault, placeholder) for placeholder in made] == list("abcd")

    def test_a_text_that_could_not_be_sent_is_replaced_for_good(self):
        raw = '["\\ud800x"]'
        made = redact(Vault(KEY), raw, [Span(2, 9, "P", "", Strategy.PLACEHOLDER)], Kind.TOOL_ARGUMENTS)
        assert json.loads(made) == ["[REDACTED:P]"]

    def test_a_vault_shows_nothing(self):
        vault, placeholder = kept()
        (edit,) = vault.restorations(placeholder)
        assert MAIL not in repr(vault) + str(vault) + repr(edit) + repr(vault._kept)


class TestAndBack:
    @given(secrets_in_text())
    def test_what_was_redacted_is_restored(self, made):
        text, spans = made
        vault = Vault(KEY, taken=[text])
        redacted = redact(vault, text, spans)
        assert apply(redacted, vault.restorations(redacted)) == text
        assert answer(vault, redacted) == text

    @given(secrets_in_text(), st.lists(st.integers(0, 300), max_size=6))
    def test_in_streams_wherever_they_are_cut(self, made, cuts):
        text, spans = made
        vault = Vault(KEY, taken=[text])
        redacted = redact(vault, text, spans)
        out, left, held = "", "", ""
        for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(redacted)], strict=True):
            held += redacted[start:end]
            at = vault.open_at(held) if end < len(redacted) else len(held)
            out += answer(vault, held[:at], preceding=left)
            left, held = left + held[:at], held[at:]
        assert out == text

    @given(JSON_VALUES, st.lists(VALUES, min_size=1, max_size=2), st.booleans(), st.sampled_from([None, 1]))
    def test_in_tool_arguments(self, value, secrets, ascii_only, indent):
        value = {"first": secrets, secrets[0]: value, "rest": [value, secrets[-1] + "x"]}
        raw = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
        spans = hidden(raw, *(json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for secret in secrets))
        vault = Vault(KEY, taken=[raw])
        redacted = redact(vault, raw, spans, Kind.TOOL_ARGUMENTS)
        restored = json.loads(answer(vault, redacted, kind=Kind.TOOL_ARGUMENTS))
        assert restored == strings_for_hit_numbers(raw, spans)

    @given(
        st.lists(st.text("pqrs", min_size=4, max_size=9), min_size=1, max_size=4), SIGNS, SIGNS, STRATEGIES
    )
    def test_nothing_of_a_redacted_text_is_left(self, values, before, after, strategy):
        text = before + after.join(values)
        made = redact(Vault(KEY, keep_last=0), text, hidden(text, *values, strategy=strategy))
        assert not any(value in made for value in values)

    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ("to %s!", f"to {MAIL}!"),
            ("[%s](mailto:%s)", f"[{MAIL}](mailto:{MAIL})"),
            ("**%s** `%s`", f"**{MAIL}** `{MAIL}`"),
            ("x%s %sX", None),
        ],
    )
    def test_however_the_model_writes_it(self, written, read):
        vault, placeholder = kept()
        bare = placeholder[1:-1]
        for spelling in (bare, bare.lower(), bare.replace("_", r"\_"), bare.replace("_", "-")):
            text = written.replace("%s", spelling)
            assert answer(vault, text) == (read or text)

    @pytest.mark.parametrize("after", ["(", "\\u0028", "(x)(", ""])
    def test_before_a_parenthesis_that_was_there(self, after):
        raw = f'{{"a": "{MAIL}{after}{MAIL}("}}'
        vault = Vault(KEY, taken=[raw])
        redacted = redact(vault, raw, hidden(raw, MAIL), Kind.TOOL_ARGUMENTS)
        assert answer(vault, redacted, kind=Kind.TOOL_ARGUMENTS) == raw

    def test_before_the_mask_of_a_parenthesis(self):
        text, vault = f"{MAIL}(12) 345 678 9", Vault(KEY)
        mail, phone = hidden(text, MAIL)[0], Span(len(MAIL), len(text), "P", "phone", Strategy.MASK)
        assert answer(vault, redact(vault, text, [mail, phone])) == f"{MAIL}(**) *** 678 9"

    def test_only_by_the_vault_that_redacted_it(self):
        _, placeholder = kept()
        assert answer(Vault(KEY), placeholder) == placeholder
        assert answer(kept("al@x.example")[0], placeholder) == placeholder
        assert Vault(KEY).open_at("[EMAIL_") == len("[EMAIL_")

    def test_what_has_left_decides_whether_it_stands_inside_a_word(self):
        vault, placeholder = kept()
        bare = placeholder[1:-1]
        assert answer(vault, bare, preceding="long text ") == MAIL
        assert answer(vault, f"{bare}__", preceding="long __") == f"{MAIL}__"
        for before in ("x", "long_x", "a_"):
            assert answer(vault, bare, preceding=before) == bare
            assert vault.restorations(bare, before) == []


def strings_for_hit_numbers(raw: str, spans: list[Span]) -> object:
    """The JSON value with the numbers that a span touches as strings."""
    out, at = "", 0
    for leaf in leaves(raw):
        if not leaf.quoted and any(span.start < leaf.end and leaf.start < span.end for span in spans):
            out += f'{raw[at : leaf.start]}"{raw[leaf.start : leaf.end]}"'
            at = leaf.end
    return json.loads(out + raw[at:])


class TestAnswers:
    def test_a_placeholder_that_a_span_touches_goes_with_it(self):
        vault, placeholder = kept()
        text = f"a {placeholder} b {placeholder} c"
        assert answer(vault, text, Span(0, 4, "P")) == f"[REDACTED:P] b {MAIL} c"
        assert answer(vault, text, Span(12, 22, "P")) == "a [REDACTED:P] c"
        assert answer(vault, text, Span(0, len(text), "P")) == "[REDACTED:P]"

    def test_an_answer_gets_no_placeholder(self):
        vault = Vault(KEY)
        spans = [
            Span(0, 1, "P", "", Strategy.PLACEHOLDER),
            Span(2, 3, "P", "", Strategy.HASH),
            Span(4, 5, "P", "", Strategy.MASK),
        ]
        made = answer(vault, "a b c", *spans)
        assert made.startswith("[REDACTED:P] [HASH:P:")
        assert made.endswith("] *")
        assert not vault

    @given(secrets_in_text(), st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=3))
    def test_spans_and_placeholders_together(self, made, ranges):
        text, spans = made
        vault = Vault(KEY, taken=[text])
        redacted = redact(vault, text, spans)
        cut = [Span(at, at + size, "CUT") for at, size in ranges]
        out = answer(vault, redacted, *cut)
        assert codes([out]) <= codes([text])
        covered = {offset for span in cut for offset in range(span.start, span.end)}
        if not covered & set(range(len(redacted))):
            assert out == text

    @pytest.mark.parametrize(
        ("value", "raw", "there"),
        [
            ('say "hi"\n', '{"a": "x %s"}', {"a": 'x say "hi"\n'}),
            ("4711", '{"a": %s}', None),
            ("Zo\u00eb", '["%s", "[%s]"]', ["Zo\u00eb", "Zo\u00eb"]),
            ("key", '{"%s": 1}', {"key": 1}),
        ],
    )
    def test_in_tool_arguments_it_is_the_content_of_a_string(self, value, raw, there):
        vault, placeholder = kept(value)
        text = raw.replace("%s", placeholder[1:-1])
        made = answer(vault, text, kind=Kind.TOOL_ARGUMENTS)
        if there is None:
            assert made == '{"a": 4711}'
        else:
            assert json.loads(made) == there

    def test_a_cut_call_stays_what_it_was(self):
        vault, placeholder = kept('a"b')
        assert answer(vault, f'{{"a": "{placeholder}', kind=Kind.TOOL_ARGUMENTS) == '{"a": "a\\"b'


class TestValues:
    @given(secrets_in_text())
    def test_a_delivered_answer_sent_again_holds_placeholders_in_their_place(self, made):
        text, spans = made
        vault = Vault(KEY, taken=[text])
        delivered = answer(vault, redact(vault, text, spans))
        found = vault.values_in(segment(delivered))
        covered = {offset for span in found for offset in range(span.start, span.end)}
        for value in {text[span.start : span.end] for span in spans}:
            for at in range(len(delivered)):
                if len(value) >= 4 and delivered.startswith(value, at):
                    assert covered >= set(range(at, at + len(value)))
        again = Vault(KEY, taken=[delivered])
        assert answer(again, redact(again, delivered, found)) == delivered

    @pytest.mark.parametrize("kind", [Kind.TEXT, Kind.TOOL_ARGUMENTS])
    def test_they_stand_as_they_were_redacted(self, kind):
        vault, placeholder = kept()
        raw = f'{{"a": "{placeholder}", "b": "al@x.example"}}'
        delivered = answer(vault, raw, kind=kind)
        at = delivered.index(MAIL)
        found = vault.values_in(segment(delivered, kind))
        assert found == [Span(at, at + len(MAIL), "PII2", "email", Strategy.PLACEHOLDER)]
        assert redact(Vault(KEY), delivered, found, kind) == raw

    def test_behind_the_escapes_of_json(self):
        vault, placeholder = kept('a"\n b')
        delivered = answer(vault, f'["{placeholder}"]', kind=Kind.TOOL_ARGUMENTS)
        found = vault.values_in(segment(delivered, Kind.TOOL_ARGUMENTS))
        assert redact(Vault(KEY), delivered, found, Kind.TOOL_ARGUMENTS) == f'["{placeholder}"]'

    @pytest.mark.parametrize(
        ("values", "text", "there"),
        [
            (["an"], "an ant, Jan: (an) \u00e9an an", ["an", "an", "an"]),
            (["-a"], "x-a -ab b-a", ["-a", "-a"]),
            (["anna"], "anna joanna annas", ["anna", "anna", "anna"]),
            (["anna", "anna b", "annab"], "anna b annab anna", ["anna b", "annab", "anna"]),
            (["abcd", "cdef"], "abcdef", ["abcdef"]),
            (["aaaa"], "aaaaaa", ["aaaaaa"]),
            ([], "anna", []),
        ],
    )
    def test_a_short_one_must_be_a_word_and_the_longest_counts(self, values, text, there):
        vault = Vault(KEY)
        for value in values:
            redact(vault, value, hidden(value, value))
            redact(vault, value, hidden(value, value, kind="again"))
        assert [text[span.start : span.end] for span in vault.values_in(segment(text))] == there

    @given(
        st.lists(
            st.tuples(st.text("ab -", min_size=1, max_size=7), st.sampled_from(["", "x", "y"])), max_size=8
        ),
        st.text("ab -", max_size=30),
    )
    def test_all_places_count_and_of_long_ones_the_longest_at_each(self, values, text):
        vault, first = Vault(KEY), dict[str, str]()
        for value, kind in values:
            redact(vault, value, [Span(0, len(value), "P", kind, Strategy.PLACEHOLDER)])
            first.setdefault(value, kind)
        found = []
        for at in range(len(text)):
            here = sorted((value for value in first if text.startswith(value, at)), key=len)
            shown = [v for v in here if len(v) < 4 and stands_alone(text, at, at + len(v))]
            for value in shown + [v for v in here if len(v) >= 4][-1:]:
                found.append(Span(at, at + len(value), "P", first[value], Strategy.PLACEHOLDER))
        assert vault.values_in(segment(text)) == list(merge(found))

    def test_many_that_begin_alike_cost_no_more_in_a_text_that_does_too(self):
        vault = Vault(KEY)
        for length in range(4, 2000):
            value = "a" * length + "@e.co"
            redact(vault, value, hidden(value, value))
        text = "a" * 200_000
        assert vault.values_in(segment(text)) == []
        assert [span.end for span in vault.values_in(segment(text + "@e.co"))] == [200_005]

    def test_replaced_texts_are_not_looked_for(self):
        vault, _ = kept(strategy=Strategy.HASH)
        assert vault.values_in(segment(MAIL)) == []


FOUND_IN_VALUES = [
    MAIL,
    "a.very.long.local.part@mail.co",
    "4111 1111 1111 1111",
    "+43 660 1234567",
    "DE89 3704 0044 0532 0130 00",
    "10.20.30.123",
    "2001:db8:85a3::8a2e:370:7334",
    "fe80:1234:5678::8329",
    "123-45-6789",
    "1-800-555-0123",
    "postgres://bob:hunter22@db.example/x",
    "ghp_" + "a1B2" * 9,
    "correct horse battery staple",
    "ignore all previous instructions",
]


class TestDetectorsFindNothing:
    @pytest.mark.parametrize("strategy", Strategy)
    @pytest.mark.parametrize("around", ["%s", "password = %s", 'api_key: "%s"', "call %s 1", "token=%s"])
    def test_in_what_stands_in_the_place_of_a_text(self, strategy, around):
        kinds = sorted({name.partition(".")[2] for name in DETECTORS})
        places = [("PI4", ""), ("judge-refusal", ""), *(("S1", kind) for kind in kinds)]
        nothing = find_all(DETECTORS, around % "x")
        for value in FOUND_IN_VALUES:
            for label, kind in places if strategy is Strategy.PLACEHOLDER else places[:3]:
                made = redact(Vault(KEY), value, [Span(0, len(value), label, kind, strategy)])
                assert find_all(DETECTORS, around % made) == nothing

    @given(st.text(st.sampled_from("0123456789abcdefXYZ@.:-+ ()"), min_size=1, max_size=40), STRATEGIES)
    def test_whatever_the_text(self, value, strategy):
        made = redact(Vault(KEY), value, [Span(0, len(value), "PII2", "card", strategy)])
        assert find_all(DETECTORS, made) == []

    @given(st.binary(min_size=1, max_size=8))
    def test_whatever_the_key(self, key):
        for strategy in (Strategy.HASH, Strategy.PLACEHOLDER):
            assert (
                find_all(DETECTORS, redact(Vault(key), "x", [Span(0, 1, "S1", "provider_key", strategy)]))
                == []
            )


@pytest.mark.parametrize("piece", ["[", "EMAIL_", "[EMAIL_BCDFGHJ", "\\", '"', '{"', "[EMAIL_BCDFGHJK] "])
@pytest.mark.parametrize("kind", [Kind.TEXT, Kind.TOOL_ARGUMENTS])
def test_a_megabyte_of_beginnings_comes_to_an_end(piece, kind):
    vault, placeholder = kept()
    text = piece * (1_000_000 // len(piece))
    assert answer(vault, text, kind=kind) == text
    assert answer(vault, f"{text} {placeholder}", kind=kind) == f"{text} {MAIL}"


def test_a_great_many_texts_are_restored():
    words = [f"word{number}" for number in range(20_000)]
    text = " ".join(words)
    starts, at = [], 0
    for word in words:
        starts.append(at)
        at += len(word) + 1
    vault = Vault(KEY)
    spans = [
        Span(at, at + len(word), "P", "", Strategy.PLACEHOLDER)
        for at, word in zip(starts, words, strict=True)
    ]
    redacted = redact(vault, text, spans)
    assert "word" not in redacted
    assert answer(vault, redacted) == text
    assert vault.values_in(segment(text)) == spans
