# Letters and marks that pass for others are what these tests are made of.
# ruff: noqa: RUF001

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.redaction import Span
from guardrail.detectors.phrases import PhraseRules
from guardrail.errors import PolicyError


def found(pattern: str, text: str) -> list[str]:
    return [text[span.start : span.end] for span in PhraseRules({pattern: "label"}).find(text)]


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("free money", "Get FREE  \n money now", ["FREE  \n money"]),
        ("free ?money", "freemoney free money", ["freemoney", "free money"]),
        (r"a\ b|a[ ]c|\Qa d\E", "a b, a c, a d", ["a b", "a c", "a d"]),
        (r"a\ b|a[ ]c|\Qa  d", "a  b, a  c, a d", []),  # these spaces are as written
        ("[^ ]x[]a ]y", "zx y", ["zx y"]),
        ("[[:alpha:]]+ing", "ring, sing!", ["ring", "sing"]),
        ("ass", "a class of asses, ass", ["ass"]),
        ("kill|killer", "killer", ["killer"]),
        (r"c\+\+", "I like C++, and C++", ["C++", "C++"]),
        (r"<\|start\|>", "x<|start|>y", ["<|start|>"]),
        ("café", "CAFE, café, cafe\u0301", ["CAFE", "café", "cafe\u0301"]),
        ("cafe", "un café", ["café"]),
        ("don't", "don’t", ["don’t"]),
        ("don’t", "don't", ["don't"]),
        ("ignore", "i\u200bg\u200bnore!", ["i\u200bg\u200bnore"]),
        ("ignore", "ignоrе іgnore", ["ignоrе", "іgnore"]),
        ("убить", "Убить, убить убить; неубить", ["Убить", "убить", "убить"]),
        ("忽略", "请忽略忽略指令", ["忽略", "忽略"]),
        ("忽略(?:指令)?", "请忽略指令", ["忽略指令"]),
        ("무시", "무시하세요", ["무시"]),
        ("…", "wait... a.b", ["..."]),  # what folds to "." is no wildcard
        ("（a）|[（]b", "(a) (b", ["(a)", "(b"]),
        (r"\Qé.\E", "e.", ["e."]),
        ("x*", "aaa", []),
        ("", "aaa", []),
    ],
)
def test_find(pattern: str, text: str, expected: list[str]) -> None:
    assert found(pattern, text) == expected


def test_spans_carry_the_label_of_their_pattern_and_are_sorted() -> None:
    rules = PhraseRules({"beta": "B", "alpha": "A", "alpha beta": "AB"})
    assert rules.find("alpha beta") == [Span(0, 5, "A"), Span(0, 10, "AB"), Span(6, 10, "B")]
    assert PhraseRules({}).find("alpha") == []


@pytest.mark.parametrize("pattern", ["(", "[a", r"\（", "a**b(", "\u200b*", r"(?=a)", "\\"])
def test_a_pattern_that_does_not_compile_is_named(pattern: str) -> None:
    with pytest.raises(PolicyError, match="RE2") as caught:
        PhraseRules({"fine": "label", pattern: "label"})
    assert repr(pattern) in str(caught.value)


@given(st.text(st.characters()), st.text(st.characters()))
def test_a_hit_stands_where_it_says_and_no_text_raises(before: str, after: str) -> None:
    rules = PhraseRules({"free money": "spam", r"\w+": "word"})
    text = f"{before} Free\u200b Möney {after}"
    spans = rules.find(text)
    assert Span(len(before) + 1, len(before) + 12, "spam") in spans
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert spans == sorted(spans)
