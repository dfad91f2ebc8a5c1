import pytest

from guardrail.detectors.pii_address import ADDRESS, find_address
from tests.detectors.prefixes import assert_held, embedded


def found(text: str) -> list[str]:
    return [text[start:end] for start, end in find_address(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12 Baker Street", "12 Baker Street"),
        ("27 Birch Hollow Road, Apt 4, Fairview", "27 Birch Hollow Road, Apt 4"),
        (
            "4201 Whittier Blvd, Los Angeles, CA 90023, United States",
            "4201 Whittier Blvd, Los Angeles, CA 90023",
        ),
        ("221B Baker Street, London NW1 6XE", "221B Baker Street, London NW1 6XE"),
        (
            "88 N Avondale Rd #603\n Avondale Estates, GA 30002-1234",
            "88 N Avondale Rd #603\n Avondale Estates, GA 30002-1234",
        ),
        ("Birkenweg 7, 12345 Neuhausen", "Birkenweg 7, 12345 Neuhausen"),
        ("Keizersgracht 174, 1016 DW Amsterdam", "Keizersgracht 174, 1016 DW Amsterdam"),
        ("12 rue de la Paix, 75002 Paris", "12 rue de la Paix, 75002 Paris"),
        ("5 Heron Terrace, Flat 12", "5 Heron Terrace, Flat 12"),
        ("2021 Main Street", "2021 Main Street"),
        ("11 Souterhead Road Suite 445", "11 Souterhead Road Suite 445"),
        ("Postfach 123456", "Postfach 123456"),
    ],
)
def test_addresses(text: str, expected: str) -> None:
    assert found(f"({text})") == [expected]
    assert_held(ADDRESS.detector, embedded(f"({text})"))


@pytest.mark.parametrize(
    "text",
    [
        "the 2008 Wall Street crash",
        "in 1886, Robert Lane",
        "Copyright 2016 Iain Lane",
        "1991-1998, Thomas Hill",
        "at 5 minutes down the road",
        "is a 2 lane road",
        "to 4 more road",
        "Parkplatz 3",
        "Lösungsweg 2",
        "12 " + "Long" * 30 + " Street",
    ],
)
def test_what_is_no_address(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "piece",
    [
        "1 ",
        "A ",
        "1 A ",
        ", apt 1",
        "Calle de la A ",
        "1 rue de la ",
        "lives at ",
        "路",
        "at 1 a ",
        "P.O. Box ",
    ],
)
def test_hostile_runs_hold_no_address(piece: str) -> None:
    assert found(piece * 20_000) == []


def test_streets_one_after_the_other() -> None:
    assert len(find_address("1 A Street, Aa Aa Aa Aa! " * 5_000)) == 5_000
