import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.detectors.pii_phone import find_phone


def found(text: str) -> list[str]:
    return [text[start:end] for start, end in find_phone(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("call (202) 555-0123 now", "(202) 555-0123"),
        ("202-555-0123.", "202-555-0123"),
        ("202.555.0123", "202.555.0123"),
        ("1-202-555-0123", "1-202-555-0123"),
        ("202-555-0123 ext. 42", "202-555-0123 ext. 42"),
        ("202-555-0123x036", "202-555-0123x036"),
        ("+1 202 555 0123", "+1 202 555 0123"),
        ("tel:+12025550123", "+12025550123"),
        ("+44 (0)20 7946 0123", "+44 (0)20 7946 0123"),
        ("020 7946 0123", "020 7946 0123"),
        ("(0161) 496 0123", "(0161) 496 0123"),
        ("030 23125 123", "030 23125 123"),
        ("0341/8387176", "0341/8387176"),
        ("+49 30 23125-123", "+49 30 23125-123"),
        ("+33 1 99 00 12 34", "+33 1 99 00 12 34"),
        ("2 +1 202 555 0123", "+1 202 555 0123"),
        ("電話+81 3-1234-5678", "+81 3-1234-5678"),
    ],
)
def test_numbers(text: str, expected: str) -> None:
    assert found(text) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "2025550123",  # a bare run of digits
        "+5 apples and +12 pears",
        "2024-01-02, 01-02-2024, 01/02/2024, 12:30:45",
        "1.202.555.0123.4",
        "order 0815-4711-0815-4711-0815",
        "id-202-555-0123",
        "123-456-7890",  # no area code begins with 1
        "202-155-0123",  # nor an exchange
        "+999 123 456 789",  # no such country
        "+12345678",
        "4111 1111 1111 1111",
        "Boston, MA 02110-1301",
        "ISSN 0264-3596",
        "RF18 5390 0754 7034",
        "978-3-16-148410-0",
        "pi is 3.141592653589793",
        "000 0000 0000",
        "+1" + "-(2" * 15,
    ],
)
def test_what_is_no_number(text: str) -> None:
    assert found(text) == []


def test_numbers_one_after_the_other() -> None:
    text = "202-555-0123 (202) 555-0124 +1 202 555 0125"
    assert found(text) == ["202-555-0123", "(202) 555-0124", "+1 202 555 0125"]


@given(st.text(st.sampled_from("0123456789+-(). /x\ud800a"), max_size=60))
def test_a_number_has_seven_to_twenty_digits(text: str) -> None:
    for number in found(text):
        assert 7 <= sum(c.isdigit() for c in number) <= 22
