import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.detectors.patterns import Patterns
from guardrail.detectors.pii_context import LEFT, REACH, RIGHT, behind

NUMBERS = Patterns([behind(r"card|карта|卡号", r"\d{4}")])


def found(text: str) -> list[str]:
    return [text[start:end] for _, start, end in NUMBERS.spans(text)]


@pytest.mark.parametrize(
    "text",
    [
        "card 1234",
        "Card: 1234.",
        "my CARD number is 1234, I think",
        "card no. 1234",
        "card №1234",
        '{"card": "1234"}',
        '{"card_number": "1234"}',
        "card\n1234\n",
        "card | 1234 |",
        "Card est le 1234",
        "Карта: 1234",
        "我的卡号是1234。",
        "card1234",
    ],
)
def test_a_value_behind_its_name(text: str) -> None:
    assert found(text) == ["1234"]


@pytest.mark.parametrize(
    "text",
    [
        "1234",
        "postcard 1234",
        "cards 1234",
        "card of the shop that I went to 1234",
        "card 12345",
        "card 1234a",
        "card 1234.5",
        "card 1234-5",
        "card.....1234",
        "the number of the card, of the shop, of my town, of 1234",
    ],
)
def test_what_is_not_behind_its_name(text: str) -> None:
    assert found(text) == []


def test_the_reach_covers_the_longest_name_and_link() -> None:
    name = "x" * 58
    text = f" {name}" + "    numbers" * 3 + "    1234"
    assert found("card" + "    numbers" * 3 + "    1234") == ["1234"]
    [(_, start, _)] = Patterns([behind(name, r"\d{4}")]).spans(text)
    assert start == REACH


def test_the_right_edge_can_be_another() -> None:
    assert Patterns([behind("day", r"\d\d", "T")]).spans("day 03T") == [(0, 4, 6)]


@given(st.text(st.sampled_from("12.-+a é")))
def test_the_edges_of_a_number(text: str) -> None:
    for _, start, end in Patterns([rf"{LEFT}(\d+){RIGHT}"]).spans(text):
        assert not text[:start].endswith((".", "-", "+", "a"))
        assert text[end : end + 2] not in {".1", "-1", ".2", "-2", ".a", "-a"}
        assert not text[end : end + 1].isdigit()


def test_a_text_full_of_names_holds_no_value() -> None:
    assert found("card number is " * 20_000) == []
