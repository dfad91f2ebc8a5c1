"""Passports, identity cards and driving licences (``pii.passport``, ``pii.driving_licence``)."""

from __future__ import annotations

from typing import Final

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns
from guardrail.detectors.pii_context import behind

__all__ = ["DRIVING_LICENCE", "PASSPORT", "find_driving_licence", "find_passport"]

_LONGEST_PASSPORT: Final = 44  # ICAO Doc 9303 part 4: a line of the machine readable zone
_LONGEST_LICENCE: Final = 20

# ICAO Doc 9303 part 4 section 4.2.2: number, nationality, birth, sex, expiry, personal number; behind
# each of them its check digit.
_ZONE: Final = (
    r"(?:^|[^A-Z0-9<])([A-Z0-9<]{9}\d[A-Z<]{3}\d{7}[MFX<]\d{7}[A-Z0-9<]{14}[\d<]\d)(?:$|[^A-Z0-9<])"
)
_PASSPORT: Final = behind(
    r"passports?|(?:reise)?pass(?:nummer|nr\.?)|reisepass|passeport|pasaporte|passaporto|passaporte"
    r"|paspoort(?:nummer)?|paszportu?|pasaport|паспорта?|护照(?:号码?)?|護照(?:號碼)?"
    r"|パスポート(?:番号)?|旅券(?:番号)?|여권(?:번호)?"
    r"|(?:personal)?ausweis(?:nummer|nr\.?)?|identity card|id card|carte d'identit[eé]"
    r"|carta d'identit[aà]|identiteitskaart",
    r"[A-Z]{0,3}\d[A-Z0-9]{5,8}|[A-Z]{1,2} ?\d{6,8}|[A-Z]{2}\d{5}[A-Z]{2}|\d\d ?\d\d ?\d{6}",
)
_LICENCE: Final = behind(
    r"driv(?:er.?s?|ing)[ _-]?licen[cs]e|dl(?: ?#| number| no\.?)"
    r"|f[uü]hrerschein(?:nummer|nr\.?)?|permis de conduire|(?:permiso|carn[eé]|licencia) de conducir"
    r"|patente di guida|rijbewijs(?:nummer)?|k[oø]rekort|k[oö]rkort",
    r"[A-Z]{0,5}\d[A-Z0-9\-]{4,18}",
)
_PASSPORTS: Final = Patterns([_ZONE, _PASSPORT])
_LICENCES: Final = Patterns([_LICENCE])
_LEAST_DIGITS: Final = 5  # of a number: a German passport's nine characters hold five or more


def find_passport(text: str) -> list[tuple[int, int]]:
    """Spans of the numbers of passports and identity cards behind their name.

    And of the line of the machine readable zone that holds one.
    """
    spans = [
        (start, end)
        for index, start, end in _PASSPORTS.spans(text)
        if (_is_zone(text[start:end]) if index == 0 else _is_number(text[start:end]))
    ]
    return tidy(spans, _LONGEST_PASSPORT)


def _is_zone(line: str) -> bool:
    """The check digits of number, birth and expiry: weights 7, 3, 1 (Doc 9303 part 3 section 4.9)."""
    return all(_check_digit(line[first:last]) == line[last] for first, last in ((0, 9), (13, 19), (21, 27)))


def _check_digit(field: str) -> str:
    total = sum((0 if c == "<" else int(c, 36)) * (7, 3, 1)[at % 3] for at, c in enumerate(field))
    return str(total % 10)


def _is_number(written: str) -> bool:
    return sum(c.isdigit() for c in written) >= _LEAST_DIGITS


def find_driving_licence(text: str) -> list[tuple[int, int]]:
    """Spans of the numbers of driving licences behind their name."""
    spans = [(start, end) for _, start, end in _LICENCES.spans(text) if _is_number(text[start:end])]
    return tidy(spans, _LONGEST_LICENCE)


PASSPORT: Final = Triggered(
    Detector("pii.passport", find_passport, _LONGEST_PASSPORT),
    rf"{_PASSPORT}|[A-Z<]\d{{7}}[MFX<]\d{{7}}",
)
DRIVING_LICENCE: Final = Triggered(
    Detector("pii.driving_licence", find_driving_licence, _LONGEST_LICENCE), _LICENCE
)
