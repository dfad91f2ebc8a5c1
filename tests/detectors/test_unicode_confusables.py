# Letters and marks that pass for others are what these tests are made of.
# ruff: noqa: RUF001

import pytest

from guardrail.detectors.unicode_confusables import find_confusables


@pytest.mark.parametrize(
    "word",
    [
        "p\u0430ypal",  # Cyrillic a
        "\u0440\u0430ypal",
        "ign\u03bfre",  # Greek omicron
        "ign\u0585re",  # Armenian
        "\u13a5gnore",  # Cherokee
        "g\u043e\u043egle",
        "Pоссия",  # Latin P in a Russian word
        "пpивет",
        "\u0391pple",
    ],
)
def test_disguised_words(word: str) -> None:
    text = f"Say {word}, ünd gut"
    assert [text[start:end] for start, end in find_confusables(text)] == [word]


@pytest.mark.parametrize(
    "text",
    [
        "plain ASCII and ünïcode",
        "Привет, мир. Γειά σου Κόσμε.",
        "Привет paypal",  # two words
        "SMSка, IBMовский, PDFка",  # a Russian ending on a Latin abbreviation
        "5 μm, Δx, λx, αx",
        "nжqшz",  # nothing looks alike
        "жabc",
    ],
)
def test_words_that_hide_nothing(text: str) -> None:
    assert find_confusables(text) == []
