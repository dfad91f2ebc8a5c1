import pytest

from guardrail.detectors.patterns import Patterns
from guardrail.detectors.pii_streets import CORES

STREETS = Patterns(CORES)


def found(text: str) -> set[str]:
    return {text[start:end] for _, start, end in STREETS.spans(text)}


@pytest.mark.parametrize(
    ("text", "street"),
    [
        ("at 12 Baker Street.", "12 Baker Street"),
        ("221B Baker St, London", "221B Baker St"),
        ("350 5th Ave", "350 5th Ave"),
        ("88 N Avondale Rd #603", "88 N Avondale Rd"),
        ("12-14 Martin Luther King Blvd.", "12-14 Martin Luther King Blvd."),
        ("im at 42 elm street, come over", "42 elm street"),
        ("3657 Laukaantie 80\n Apt. 030", "3657 Laukaantie 80\n Apt. 030"),
        ("She lives at 255 Golfskálinn 78", "255 Golfskálinn 78"),
        ("Address: Maneeži 75, Saareküla", "Maneeži 75"),
        ("P.O. Box 287", "P.O. Box 287"),
        ("Postfach 12 34 56", "Postfach 12 34 56"),
        ("PSC 5217, Box 4854\nAPO AP 43617", "PSC 5217, Box 4854\nAPO AP 43617"),
        ("USNS Bergman\nFPO AP 93757", "FPO AP 93757"),
        ("Birkenweg 7", "Birkenweg 7"),
        ("Hauptstr. 5a", "Hauptstr. 5a"),
        ("in der Königstraße 12", "Königstraße 12"),
        ("Berliner Straße 31", "Berliner Straße 31"),
        ("Keizersgracht 174", "Keizersgracht 174"),
        ("Magasinsgatan 7", "Magasinsgatan 7"),
        ("Vestergade 16", "Vestergade 16"),
        ("Kiannonkatu 98", "Kiannonkatu 98"),
        ("12 bis, rue de la Paix", "12 bis, rue de la Paix"),
        ("5 place de la République", "5 place de la République"),
        ("Calle de Alcalá, 42", "Calle de Alcalá, 42"),
        ("C/ Mayor 5", "C/ Mayor 5"),
        ("Rua Augusta nº 100", "Rua Augusta nº 100"),
        ("Via Roma 131", "Via Roma 131"),
        ("via Giuseppe Garibaldi, 8", "via Giuseppe Garibaldi, 8"),
        ("Piazza del Duomo 1", "Piazza del Duomo 1"),
        ("ul. Zamkowa 33", "ul. Zamkowa 33"),
        ("ул. Ленина, д. 5", "ул. Ленина, д. 5"),
        ("Kálmán Imre utca 12", "Kálmán Imre utca 12"),
        ("住在中山路123号", "住在中山路123号"),
        ("東京都千代田区丸の内1丁目9番", "東京都千代田区丸の内1丁目9番"),
    ],
)
def test_streets(text: str, street: str) -> None:
    assert street in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "Baker Street is long",
        "20 Minutes St Petersburg",
        "$5 Wall Street",
        "C/C++ 17",
        "Via Python 3",
        "via Windows 10",
        "10 Route Optimization Tips",
        "a Blockade 2",
        "Katie 3",
        "The Beatles 1967",
        "et al. Nature 521",
        "I work on 3 Projects",
        "Spring 5",
    ],
)
def test_what_is_no_street(text: str) -> None:
    assert found(text) == set()
