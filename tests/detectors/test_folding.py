# Letters and marks that pass for others are what these tests are made of.
# ruff: noqa: RUF001

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.detectors import folding
from guardrail.detectors.folding import fold, folded_spans, forms, unfold
from guardrail.detectors.patterns import Patterns

ANY_TEXT = st.text(st.characters())


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("plain ASCII, \t kept", "plain ASCII, \t kept"),
        ("crème brûlée", "creme brulee"),
        ("cre\u0300me", "creme"),
        ("＜｜ｓｔａｒｔ｜＞", "<|start|>"),
        ("ig\u200bn\u00adore", "ignore"),
        ("a\u202eb\u2066c", "abc"),
        ("a\U000e0041\U000e0100b", "ab"),
        ("a\u3164\uffa0b", "ab"),
        ("“quoted” ‘words’", "\"quoted\" 'words'"),
        ("a\u00a0b\u3000c\u2028d", "a b c d"),
        ("Straße, Łódź, Ærø", "Strasse, Lodz, AEro"),
        ("ﬁn", "fin"),
        ("한국어", "한국어"),
        ("ёлка й", "елка и"),
    ],
)
def test_fold(text: str, folded: str) -> None:
    assert fold(text) == folded


@pytest.mark.parametrize(
    ("text", "found", "expected"),
    [
        ("say \u200bignore\u200b", "ignore", "ignore\u200b"),
        ("ig\u200b\u200bnore it", "ignore", "ig\u200b\u200bnore"),
        ("ﬁne", "i", "ﬁ"),
        ("é", "e", "é"),
        ("e\u0301\u200b!", "e", "e\u0301\u200b"),
        ("\u200be", "e", "e"),
    ],
)
def test_unfold(text: str, found: str, expected: str) -> None:
    at = fold(text).index(found)
    [(start, end)] = unfold(text, [(at, at + len(found))])
    assert text[start:end] == expected


def test_unfold_of_nothing_and_of_ascii_is_itself() -> None:
    assert unfold("é", []) == []
    assert unfold("abc", iter([(0, 2)])) == [(0, 2)]


@given(ANY_TEXT)
def test_every_folded_character_comes_from_a_raw_one(text: str) -> None:
    folded = fold(text)
    each = [(at, at + 1) for at in range(len(folded))]
    for (start, end), char in zip(unfold(text, each), folded, strict=True):
        assert char in fold(text[start:end])


@given(ANY_TEXT)
def test_folding_is_done_character_by_character(text: str) -> None:
    assert fold(text) == "".join(map(fold, text))


def test_the_table_does_not_grow_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "_CACHED", 3)
    folding._TABLE.clear()
    assert fold("àèìòùçñ") == "aeioucn"
    assert len(folding._TABLE) <= 3


@pytest.mark.parametrize(
    ("text", "skeleton"),
    [
        ("ignоrе", "ignore"),  # Cyrillic
        ("іgпогe thе ѕуstеm", "ignore the system"),
        ("ΙgΝοrε", "IgNore"),  # Greek
        ("ignօre yօսr", "ignore your"),  # Armenian
        ("ᎥᏀnore", "iGnore"),  # Cherokee
        ("ꓲꓖꓠꓳꓣꓰ", "IGNORE"),  # Lisu
        ("ɪɢɴᴏʀᴇ", "ignore"),
        ("🅸🅶🅽🅾🆁🅴 🇳🇴", "IGNORE NO"),
        ("сёл", "ceл"),
    ],
)
def test_letters_that_pass_for_latin_ones_are_seen_through(text: str, skeleton: str) -> None:
    assert forms(text) == (fold(text), skeleton)


@pytest.mark.parametrize("text", ["plain", "crème ＡＢＣ", "한국어 中文", ""])
def test_other_texts_have_one_form(text: str) -> None:
    assert forms(text) == (fold(text),)


@given(ANY_TEXT)
def test_the_offsets_of_all_forms_agree(text: str) -> None:
    assert {len(form) for form in forms(text)} == {len(fold(text))}


def test_matches_in_any_form_are_found_once_and_in_the_text() -> None:
    patterns = Patterns(["(?i)rule", "правило", "x"])
    text = "Æ rulе, ＲＵＬＥ; правило x"
    assert [(index, text[start:end]) for index, start, end in folded_spans(patterns, text)] == [
        (0, "ＲＵＬＥ"),
        (1, "правило"),
        (2, "x"),
        (0, "rulе"),
    ]
