import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import iban, luhn

from guardrail.detectors.pii_numbers import CARD, IBAN, US_SSN, find_card, find_iban, find_us_ssn
from tests.detectors.prefixes import assert_held, embedded

# Numbers that payment providers and the standards publish for tests.
CARDS = [
    "4111111111111111",
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "41111111 11111111",
    "4222222222222",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "3782 822463 10005",
    "6011 1111 1111 1117",
    "3530111333300000",
    "30569309025904",
    "6200 0000 0000 0005",
    "6759649826438453",
    "676222165679",
    "2200 0000 0000 0004",
]


@pytest.mark.parametrize("card", CARDS)
def test_cards(card: str) -> None:
    text = f"Karte №1: {card}, gültig bis 12/27"
    assert [text[start:end] for start, end in find_card(text)] == [card]
    assert_held(CARD.detector, embedded(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cvv after 4111 1111 1111 1111 123", ["4111 1111 1111 1111"]),
        ("100 4111 1111 1111 1111", ["4111 1111 1111 1111"]),
        ("no.4111111111111111", ["4111111111111111"]),
        ("5555555555554444 4111111111111111", ["5555555555554444", "4111111111111111"]),
    ],
)
def test_cards_among_other_digits(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in find_card(text)] == expected


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # Luhn
        "1234567890123452",  # no issuer
        "411111111111111",  # no such length
        "0.4111111111111111",
        "a4111111111111111 4111111111111111b",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "0000 0000 0000 0000",
        "1 2 3",
    ],
)
def test_what_is_no_card(text: str) -> None:
    assert find_card(text) == []


@pytest.mark.parametrize(
    "written",
    [
        "DE89370400440532013000",
        "DE89 3704 0044 0532 0130 00",
        "DE89-3704-0044-0532-0130-00",
        "de89370400440532013000",
        "GB82 WEST 1234 5698 7654 32",
        "NO93 8601 1117 947",
    ],
)
def test_ibans(written: str) -> None:
    text = f"AB12 to {written} thanks"
    assert [text[start:end] for start, end in find_iban(text)] == [written]
    assert_held(IBAN.detector, embedded(text))


@pytest.mark.parametrize(
    "text",
    [
        "DE88370400440532013000",  # check digits
        "DE8937040044053201300",  # too short
        "DE89370400440532013000x",  # too long
        "DE89 3704 0044 0532",
        "ZZ89370400440532013000",  # no such country
        "DE89  3704 0044 0532 0130 00",
        "DE89 3704 0044 0532 -0130 00",
        "XDE89370400440532013000",
    ],
)
def test_what_is_no_iban(text: str) -> None:
    assert find_iban(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("536-22-8145", "536-22-8145"),
        ("536 22 8145", "536 22 8145"),
        ("(536-22-8145).", "536-22-8145"),
        ("my SSN is 536228145", "536228145"),
        ("social security number: 536.22.8145", "536.22.8145"),
        ("SSN 078-05-1120", "078-05-1120"),
    ],
)
def test_social_security_numbers(text: str, expected: str) -> None:
    assert [text[start:end] for start, end in find_us_ssn(text)] == [expected]
    assert_held(US_SSN.detector, embedded(text))


@pytest.mark.parametrize(
    "text",
    [
        "536228145",  # no separators
        "536-22 8145",
        "000-22-8145",
        "666-22-8145",
        "900-22-8145",
        "536-00-8145",
        "536-22-0000",
        "078-05-1120",  # the number of the wallet that was sold
        "SSN 000-00-0000",
        "1-536-22-8145",
        "536-22-8145-1",
    ],
)
def test_what_is_no_social_security_number(text: str) -> None:
    assert find_us_ssn(text) == []


DIGITS = st.text(st.sampled_from("0123456789 -.GBDEx٣"), max_size=80)


@given(DIGITS)
def test_whatever_is_found_passes_its_check(text: str) -> None:
    for start, end in find_card(text):
        assert 12 <= end - start <= 24
        assert luhn.is_valid(text[start:end].replace(" ", "").replace("-", ""))
    assert all(iban.is_valid(text[start:end]) for start, end in find_iban(text))
    assert all(text[start:end].count("-") in {0, 2} for start, end in find_us_ssn(text))


@pytest.mark.parametrize(
    "piece", ["1", "1-", "4111 ", "001 ", "123456 ", "DE89 3704 ", "GB", "SSN ", "000-00-0000 "]
)
def test_hostile_runs_hold_no_number(piece: str) -> None:
    text = piece * 20_000
    assert find_card(text) == find_iban(text) == find_us_ssn(text) == []
