import pytest

from guardrail.detectors.pii_birth_date import BIRTH_DATE, find_birth_date
from tests.detectors.prefixes import assert_held, embedded


def found(text: str) -> list[str]:
    return [text[start:end] for start, end in find_birth_date(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DOB: 1990-05-03", "1990-05-03"),
        ("D.O.B. 03/05/1990", "03/05/1990"),
        ("dob 3/5/62", "3/5/62"),
        ("Date of birth: 03.05.1990", "03.05.1990"),
        ('{"birth_date": "1990-05-03T00:00"}', "1990-05-03"),
        ("date-of-birth | 05/23/1990 |", "05/23/1990"),
        ("She was born on 3 May 1990", "3 May 1990"),
        ("born May 3rd, 1990", "May 3rd, 1990"),
        ("born on the 3rd of May 1990", "3rd of May 1990"),
        ("born in Leeds on 14 March 1987", "14 March 1987"),
        ("my birthday is January 31, 2001", "January 31, 2001"),
        ("geboren am 3. Mai 1990", "3. Mai 1990"),
        ("Geburtsdatum: 3. 5. 1990", "3. 5. 1990"),
        ("geb. 03.05.1990", "03.05.1990"),
        ("née le 3 mai 1990", "3 mai 1990"),
        ("né(e) à Paris le 1er août 1960", "1er août 1960"),
        ("date de naissance : 03/05/1990", "03/05/1990"),
        ("nacido el 3 de mayo de 1990", "3 de mayo de 1990"),
        ("fecha de nacimiento: 3-may-1990", "3-may-1990"),
        ("nascida em 3 de maio de 1990", "3 de maio de 1990"),
        ("nato a Roma il 3 maggio 1990", "3 maggio 1990"),
        ("data di nascita 03/05/1990", "03/05/1990"),
        ("geboortedatum: 3 mei 1990", "3 mei 1990"),
        ("född 1990-05-03", "1990-05-03"),
        ("urodzona 3 maja 1990", "3 maja 1990"),
        ("родилась 3 мая 1990 года", "3 мая 1990"),
        ("出生日期:1990年5月3日", "1990年5月3日"),
        ("1990年5月3日生まれ", "1990年5月3日"),
        ("생년월일: 1990년 5월 3일", "1990년 5월 3일"),
    ],
)
def test_dates(text: str, expected: str) -> None:
    assert found(text) == [expected]
    assert_held(BIRTH_DATE.detector, embedded(text))


@pytest.mark.parametrize(
    "text",
    [
        "1990-05-03",
        "on 3 May 1990",
        "born in 1990",
        "born on a Tuesday",
        "stubborn 1990-05-03",
        "born on 10 December 1815",
        "born on 9 December 1906",
        "NATO, 4 April 1949",
        "DOB: YYYY-MM-DD",
        "DOB: 1990-55-03",
        "DOB: 1990-05-031",
        "born to run, released on 25 August 1975",
        "1990年5月3日会议",
    ],
)
def test_what_is_no_date_of_birth(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "piece", ["DOB: ", "born in a", "born on the ", "3 May 1990 ", "DOB: 1990-", "生年月日"]
)
def test_hostile_runs_hold_no_date(piece: str) -> None:
    assert found(piece * 20_000) == []
