# Words in other alphabets are what some of these tests are made of.
# ruff: noqa: RUF001

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.detectors.pii_national_id import NATIONAL_ID, find_national_id
from tests.detectors.prefixes import assert_held, embedded

# (name before it, number); the numbers are the examples of python-stdnum and of the authorities.
NUMBERS = [
    ("", "AB 12 34 56 C"),
    ("", "AB123456C"),
    ("National Insurance number: ", "QQ 12 34 56 C"),
    ("NHS number: ", "943 476 5870"),
    ("Steuer-ID: ", "36 574 261 809"),
    ("Identifikationsnummer ", "36574261809"),
    ("", "2 95 10 99 126 111 93"),
    ("", "295109912611193"),
    ("DNI ", "54362315-K"),
    ("", "54.362.315-K"),
    ("", "X2482300W"),
    ("", "RCCMNL83S18D969H"),
    ("", "rccmnl83s18d969h"),
    ("BSN: ", "111222333"),
    ("", "85.07.30-033.28"),
    ("rijksregisternummer ", "85073003328"),
    ("SVNR ", "1237 010180"),
    ("", "756.9217.0769.85"),
    ("", "7569217076985"),
    ("", "00000000 0 ZZ4"),
    ("NIF: ", "501964843"),
    ("PPS number ", "6433435F"),
    ("personnummer ", "880320-0016"),
    ("CPR-nummer: ", "211062-5629"),
    ("", "151086 95088"),
    ("fødselsnummer er ", "15108695088"),
    ("", "131052-308T"),
    ("henkilötunnus: ", "131052-308T"),
    ("kennitala ", "120174-3399"),
    ("PESEL: ", "44051401359"),
    ("", "710319/2745"),
    ("CNP ", "1630615123457"),
    ("ЕГН ", "8032056031"),
    ("ΑΜΚΑ: ", "01013099997"),
    ("OIB ", "33392005961"),
    ("EMŠO: ", "0101006500006"),
    ("isikukood ", "36805280109"),
    ("personas kods ", "161175-19997"),
    ("ИНН ", "123456789047"),
    ("РНОКПП ", "1759013776"),
    ("TC kimlik no: ", "17291716060"),
    ("", "912-90-3456"),
    ("SIN ", "123-456-782"),
    ("", "BOXW310820HNERXN09"),
    ("RFC: ", "GODE561231GR8"),
    ("", "390.533.447-05"),
    ("CPF ", "39053344705"),
    ("", "20-05536168-2"),
    ("DNI ", "20.123.456"),
    ("", "12.531.909-2"),
    ("RUT: ", "12531909-2"),
    ("cédula ", "001-1391820-5"),
    ("cédula de identidad no. ", "171430710-3"),
    ("", "360426199101010071"),
    ("", "971013-9019902"),
    ("マイナンバーは", "6214 9832 0257"),
    ("", "S0000001I"),
    ("", "T0000001E"),
    ("", "F0000001U"),
    ("", "G0000001P"),
    ("", "M0000001Q"),
    ("", "770305-02-1234"),
    ("NIK: ", "3171011708450001"),
    ("", "1-2345-45678-78-1"),
    ("Thai ID ", "3100600445635"),
    ("Aadhaar: ", "2341 2341 2346"),
    ("", "ACUPP7085R"),
    ("", "34201-0891231-8"),
    ("תעודת זהות ", "3933742-3"),
    ("TFN: ", "123 456 782"),
    ("IRD ", "49-098-576"),
    ("ID number: ", "7503305044089"),
]


def found(text: str) -> list[str]:
    return [text[start:end] for start, end in find_national_id(text)]


@pytest.mark.parametrize(("name", "number"), NUMBERS)
def test_numbers(name: str, number: str) -> None:
    assert found(f"Siehe: {name}{number}.") == [number]
    assert_held(NATIONAL_ID.detector, embedded(f"({name}{number})"))


@pytest.mark.parametrize(("name", "number"), [case for case in NUMBERS if case[0]])
def test_a_number_that_needs_its_name_is_nothing_without(name: str, number: str) -> None:
    distinct = {number for name, number in NUMBERS if not name} | {"54362315-K", "131052-308T"}
    assert found(f"Siehe: {number}.") == ([number] if number in distinct else [])


@pytest.mark.parametrize(
    "text",
    [
        "BG 12 34 56 C",  # a prefix that is not given
        "NHS number: 943 476 5871",
        "295109912611199",
        "54362315-Z",
        "X2482300A",
        "RCCMNL83S18D969A",
        "85.07.30-033.29",
        "756.9217.0769.84",
        "131052-308U",
        "710319/2746",
        "912-40-3456",
        "390.533.447-06",
        "12.531.909-3",
        "360426199101010072",
        "S0000001A",
        "M0000000A",
        "Order no. 20240317-5586",
        "2024-01-02, 12:30:45, 192.0.2.7, v1.2.3",
        "a4-390.533.447-05",  # inside something longer
        "x390.533.447-05",
        "390.533.447-05-1",
        "1700000000000",
        "4111 1111 1111 1111",
        "(202) 555-0123",
        "978-3-16-148410-0",
    ],
)
def test_what_is_no_such_number(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "piece", ["1", "1-", "1 ", "123456 ", "BSN: ", "tax id number is ", "AB 12 ", "A1", "."]
)
def test_hostile_runs_hold_no_number(piece: str) -> None:
    assert found(piece * 20_000) == []


@given(st.text(st.sampled_from("0123456789-./ ABNKXZx\ud800é"), max_size=60))
def test_any_text_can_be_searched(text: str) -> None:
    for start, end in find_national_id(text + " 390.533.447-05"):
        assert 8 <= end - start <= NATIONAL_ID.detector.longest
