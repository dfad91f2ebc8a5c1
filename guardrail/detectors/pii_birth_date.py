"""Dates of birth, behind the words that call them so (``pii.birth_date``)."""

from __future__ import annotations

from typing import Final

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns
from guardrail.detectors.pii_context import behind

__all__ = ["BIRTH_DATE", "find_birth_date"]

_LONGEST: Final = 32

# Months from their first three letters or more in the Latin languages below, and in Russian.
_MONTH: Final = (
    r"(?:jan|ene|gen|sty|feb|fev|f[eé]v|lut|mar|m[aä]r|maa|mrt|apr|abr|avr|kwi|may|mai|mei|maj|mag|jun|giu|cze"
    r"|jui|jul|lug|lip|aug|ago|ao[uû]|sie|sep|set|wrz|oct|okt|out|ott|paź|nov|lis|dec|dez|d[eé]c|dic|gru"
    r"|янв|фев|мар|апр|мая|май|июн|июл|авг|сен|окт|ноя|дек)[a-zA-Zçéû\x{400}-\x{4FF}]{0,9}\.?"
)
_YEAR: Final = r"(?:19[1-9]\d|20\d\d)"
_DAY: Final = r"(?:0?[1-9]|[12]\d|3[01])"
_ORDINAL: Final = r"(?:st|nd|rd|th|er|\.|º)?"
_DATE: Final = (
    r"(?i:"
    rf"{_DAY}[./\-][01]?\d[./\-](?:{_YEAR}|\d\d)"
    rf"|[01]?\d[./\-]{_DAY}[./\-](?:{_YEAR}|\d\d)"
    rf"|{_DAY}\. ?[01]?\d\. ?{_YEAR}"
    rf"|{_YEAR}[./\-][01]?\d[./\-]{_DAY}"
    rf"|{_YEAR} ?年 ?[01]?\d ?月 ?{_DAY} ?日"
    rf"|{_YEAR}년 ?[01]?\d월 ?{_DAY}일"
    rf"|{_DAY}{_ORDINAL}[ \-](?:of |de |d')?{_MONTH},?[ \-](?:de |del )?{_YEAR}"
    rf"|{_MONTH} {_DAY}(?:st|nd|rd|th)?,? {_YEAR}"
    r")"
)
_NAMES: Final = (
    # Where somebody was born may stand between: "born in Leeds on", "né à Paris le".
    r"d\.?o\.?b\.?|born(?: in [\w ,\-]{2,30} on)?|date[ _\-]?of[ _\-]?birth|birth[ _\-]?(?:date|day)"
    r"|geb\.?|geboren|geburts(?:datum|tag)|n[eé]e?(?:\(e\))?(?: [aà] [\w ,\-]{2,30} le)?|naissance"
    r"|nacid[oa]|nac[ií](?:[oó])?|nacimiento|natal[ií]cio|nascid[oa]|nasc[ií](?:mento)?"
    r"|nat[oa](?: a [\w ,\-]{2,30})? il|(?:data di )?nascita|geboortedatum|f[oø]dt|f[oö]dd"
    r"|f[oø]dselsdato|f[oö]delsedatum|urodz(?:on[ya]|enia)|ur\.|родил(?:ся|ась)|рождения"
    r"|出生(?:日期|于|年月日)?|生年月日|生日|誕生日|생년월일"
)
_BORN: Final = (
    behind(_NAMES, _DATE, r"(?:$|[^0-9])"),
    rf"({_YEAR} ?年 ?[01]?\d ?月 ?{_DAY} ?日)(?:生|出生)",  # Chinese and Japanese say it behind
)
_PATTERNS: Final = Patterns(_BORN)


def find_birth_date(text: str) -> list[tuple[int, int]]:
    """Spans of dates from 1910 on that a text calls somebody's birth.

    Not the name before them. Hardly anybody who was born earlier is alive: such a date is history.
    """
    return tidy(((start, end) for _, start, end in _PATTERNS.spans(text)), _LONGEST)


BIRTH_DATE: Final = Triggered(Detector("pii.birth_date", find_birth_date, _LONGEST), "|".join(_BORN))
