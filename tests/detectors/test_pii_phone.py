import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.detectors.pii_phone import PHONE, find_phone
from tests.detectors.prefixes import assert_held, embedded


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
        ("+ 49 30 23125 123", "+ 49 30 23125 123"),
        ("+447700677662", "+447700677662"),  # no such range, but nothing else is written so
        ("(898)666-3621x0135", "(898)666-3621x0135"),
        ("001-518-640-0854", "001-518-640-0854"),
        ("0041 44 668 18 00", "0041 44 668 18 00"),
        ("01.84.17.61.18", "01.84.17.61.18"),
        ("01 84 17 61 18", "01 84 17 61 18"),
        ("024 971 50 30", "024 971 50 30"),
        ("Phone: 780 6326", "780 6326"),
        ("my phone number is 2025550123", "2025550123"),
        ("Mobile: 737 219 628", "737 219 628"),
        ("Fax: 259.735.7502x459", "259.735.7502x459"),
        ("call me on 450 0840?", "450 0840"),
        ("tel. (64) 3591-3246", "(64) 3591-3246"),
        ("Handy 0151 2345678", "0151 2345678"),
        ("telefono: 333 1234567", "333 1234567"),
        ("手机号13800138000", "13800138000"),
    ],
)
def test_numbers(text: str, expected: str) -> None:
    assert found(text) == [expected]
    assert_held(PHONE.detector, embedded(text))


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
        "1-800-555-0100, 800 555 0100, +1 800-555-0100, 0800 080 080",  # free: nobody's own
        "call us at 1-800-123-4567",
        "phone 2024-01-02, phone: 02.01.2024",
        "phone 12 345",
        "iPhone 15 128 256",
        "2 + 98172488 is more",
        "x + 14285714.286",
        "DFARS 252.227-7013",
        "078-05-1120",
        "0044 0532",
        "DE89 3704 0044 0532 0130 00",
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


@pytest.mark.parametrize(
    "piece", ["1", "1-", "+1", "+1(", "001 ", "0", "phone: 555-", "call me ", "(2", "202-555-"]
)
def test_hostile_runs_hold_no_number(piece: str) -> None:
    assert found(piece * 20_000) == []
