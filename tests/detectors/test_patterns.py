import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from guardrail.detectors import patterns
from guardrail.detectors.patterns import Patterns, fault

ANY_TEXT = st.text(st.characters())  # lone surrogates included


@pytest.mark.parametrize(
    ("written", "text", "expected"),
    [
        (["b+"], "abbc", [(0, 1, 3)]),
        (["b+", "c"], "abbc", [(0, 1, 3), (1, 3, 4)]),
        (["b+"], "äbb😀b", [(0, 1, 3), (0, 4, 5)]),  # offsets are code points
        (["[ä😀]"], "äbb😀b", [(0, 0, 1), (0, 3, 4)]),
        (["b+"], "\ud800bb", [(0, 1, 3)]),  # a lone surrogate is one character
        (["a(b)c"], "abc abc", [(0, 1, 2), (0, 5, 6)]),  # the group is the span
        (["(?:^| )(b)(?: |$)"], "b b b", [(0, 0, 1), (0, 2, 3), (0, 4, 5)]),
        (["b*"], "abba", [(0, 1, 3)]),  # empty matches are none
        (["(x)?b"], "bxb", [(0, 1, 2)]),  # nor is a group that took no part
        (["b"], "", []),
        ([], "anything", []),
    ],
)
def test_spans(written: list[str], text: str, expected: list[tuple[int, int, int]]) -> None:
    assert Patterns(written).spans(text) == expected


def test_screens_decide_which_patterns_are_searched() -> None:
    guarded = Patterns(["a+", "b+"], screens=["aa", "b"])
    assert guarded.hits("a b") == [1]
    assert guarded.spans("a b") == [(1, 2, 3)]
    assert guarded.spans("aa b") == [(0, 0, 2), (1, 3, 4)]


def test_patterns_too_large_for_one_set_are_searched_in_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patterns, "_SET_MEMORY", 200_000)
    many = Patterns([rf"word{number}\s+[a-z]{{1,30}}x" for number in range(64)])
    assert len(many._sets) > 1
    assert many.hits("word3 ax, word63 bx") == [3, 63]
    with pytest.raises(re2.error):
        Patterns([r"\pL{200}", "a"]).hits("")


@pytest.mark.parametrize("written", ["(", "a**b(", "[z-a]", r"\p{Nonsense}", "\ud800", r"(a)\1"])
def test_what_re2_does_not_accept_has_a_reason(written: str) -> None:
    assert fault(written)


def test_what_re2_accepts_has_no_fault() -> None:
    assert fault(r"\b(a|b)+\b") is None


@given(ANY_TEXT)
def test_spans_agree_with_str_slices(text: str) -> None:
    for _, start, end in Patterns([r"[^a-z]+"]).spans(text):
        assert not set(text[start:end]) & set("abcdefghijklmnopqrstuvwxyz")
    found = Patterns([r"(?s)."]).spans(text)
    assert found == [(0, at, at + 1) for at in range(len(text))]
