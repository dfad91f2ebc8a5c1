import unicodedata

import pytest

from guardrail.detectors.unicode_marks import COMBINING, find_combining
from tests.detectors.prefixes import assert_held, embedded

FLOOD = "".join(chr(0x300 + number) for number in range(40))


@pytest.mark.parametrize(
    "flood",
    [
        f"Z{FLOOD}",
        "H\u0321\u0322\u0323e\u0301\u0302l\u0303\u0304\u0305\u0306",
        "i\u0336g\u0336n\u0336o\u0336r\u0336e\u0336",
        "x" + "\u20dd" * 6,
    ],
)
def test_floods(flood: str) -> None:
    text = f"so {flood} it is"
    assert [text[start:end] for start, end in find_combining(text)] == [flood]


def test_a_long_flood_is_covered_in_pieces() -> None:
    text = "a" + FLOOD * 10
    spans = find_combining(text)
    assert (spans[0][0], spans[-1][1]) == (0, len(text))
    assert max(end - start for start, end in spans) == COMBINING.detector.longest


@pytest.mark.parametrize(
    "text",
    [
        unicodedata.normalize("NFD", "Tiếng Việt có nhiều dấu: ấế ọ́ ữ"),
        "בְּרֵאשִׁ֖ית בָּרָ֣א אֱלֹהִ֑ים",
        "ภาษาไทยน้ำที่นี่",
        "ཀྵྐྱེ",
        "निर्देशों को",
        "e\u0301\u0302 x\u0336 ok",
        "plain",
    ],
)
def test_what_is_only_written_so(text: str) -> None:
    assert find_combining(text) == []


@pytest.mark.parametrize(
    "flood",
    ["Z" + FLOOD, "a\u0301\u0302\u0303\u0304\u0305" * 3, "i\u0336g\u0336n\u0336"],
)
def test_no_part_of_a_flood_is_let_go(flood: str) -> None:
    assert_held(COMBINING.detector, embedded(flood))
