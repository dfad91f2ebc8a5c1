import pytest

from guardrail.detectors.pii_bank_routing import BANK_ROUTING, find_bank_routing
from tests.detectors.prefixes import assert_held, embedded


def found(text: str) -> list[str]:
    return [text[start:end] for start, end in find_bank_routing(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("routing number: 111000025", ["111000025"]),
        ("ABA 1110 0002 5", ["1110 0002 5"]),
        ("routing number 111000025, account number 123456789", ["111000025", "123456789"]),
        ("sort code 20-00-00, account number 55779911", ["20-00-00", "55779911"]),
        ("Sort code: 200000", ["200000"]),
        ("my bank account number is 123456789012", ["123456789012"]),
        ("Kontonummer: 1234567", ["1234567"]),
        ("SWIFT code: DEUTDEFF500", ["DEUTDEFF500"]),
        ("BIC COBADEFFXXX", ["COBADEFFXXX"]),
        ("SWIFT: BARCGB22", ["BARCGB22"]),
    ],
)
def test_routing(text: str, expected: list[str]) -> None:
    assert found(text) == expected
    assert_held(BANK_ROUTING.detector, embedded(text))


@pytest.mark.parametrize(
    "text",
    [
        "111000025",
        "routing number: 111000026",  # check digit
        "routing table 111000025",
        "account number 123456789012",  # of whatever
        "SWIFT COMPILER",
        "swift code: COMPXYLER",  # no such country
        "BIC: cobadeffxxx",
        "sort code 200",
    ],
)
def test_what_is_no_routing(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "piece", ["routing ", "sort code ", "routing 1 account ", "swift: ABCDEF", "BIC: "]
)
def test_hostile_runs_hold_nothing(piece: str) -> None:
    assert found(piece * 20_000) == []
