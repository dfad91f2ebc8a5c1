import pytest

from guardrail.detectors.pii_documents import (
    DRIVING_LICENCE,
    PASSPORT,
    find_driving_licence,
    find_passport,
)
from tests.detectors.prefixes import assert_held, embedded

# The specimen of ICAO Doc 9303.
ZONE = "L898902C36UTO7408122F1204159ZE184226B<<<<<10"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("passport number: X1234567", "X1234567"),
        ("My passport no. is 123456789", "123456789"),
        ('"passport_number": "AB1234567"', "AB1234567"),
        ("Reisepass C01X00T47", "C01X00T47"),
        ("Reisepassnummer: C01X00T478", "C01X00T478"),
        ("passeport n° 12AB34567", "12AB34567"),
        ("pasaporte AAA123456", "AAA123456"),
        ("passaporto n. YA1234567", "YA1234567"),
        ("паспорт 45 08 123456", "45 08 123456"),
        ("护照号码E12345678", "E12345678"),
        ("Personalausweis L01X00T471", "L01X00T471"),
        ("carta d'identità CA12345AA", "CA12345AA"),
        ("P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<\n" + ZONE, ZONE),
    ],
)
def test_passports(text: str, expected: str) -> None:
    assert [text[start:end] for start, end in find_passport(text)] == [expected]
    assert_held(PASSPORT.detector, embedded(text))


@pytest.mark.parametrize(
    "text",
    [
        "X1234567",
        "passport 2024-2025",
        "passport in 30 days",
        "passport photos: 35 x 45",
        "passport-js 0.7.0",
        "passport A12345678901",
        "passport ABCDEF1",
        "passport 12AB34CD",
        "compass X1234567",
        "pass: 123456789",
        ZONE[:9] + "7" + ZONE[10:],  # check digit of the number
        ZONE[:-1],
    ],
)
def test_what_is_no_passport(text: str) -> None:
    assert find_passport(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("My driver's license number is U62928788557186", "U62928788557186"),
        ("my driver's license number is 2270-66-1551", "2270-66-1551"),
        ("driving licence: MORGA753116SM9IJ", "MORGA753116SM9IJ"),
        ("DL# F162823540116", "F162823540116"),
        ("Führerschein B072RRE2I55", "B072RRE2I55"),
        ("permis de conduire n° 941078300172", "941078300172"),
    ],
)
def test_driving_licences(text: str, expected: str) -> None:
    assert [text[start:end] for start, end in find_driving_licence(text)] == [expected]
    assert_held(DRIVING_LICENCE.detector, embedded(text))


@pytest.mark.parametrize(
    "text",
    [
        "F162823540116",
        "driver's license in 2024",
        "MIT licence 1234567",
        "licence number 1234567",
        "patente 1234567",
        "driving licence category B1",
        "driving licence ABC-DE-1234",
    ],
)
def test_what_is_no_driving_licence(text: str) -> None:
    assert find_driving_licence(text) == []


@pytest.mark.parametrize("piece", ["passport ", "passport number is ", "X1234567 ", "<", "A", "dl # ", "1"])
def test_hostile_runs_hold_nothing(piece: str) -> None:
    assert find_passport(piece * 30_000) == []
    assert find_driving_licence(piece * 30_000) == []
