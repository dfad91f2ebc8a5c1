"""Telephone numbers (``pii.phone``)."""

from __future__ import annotations

import re
from typing import Final

import phonenumbers

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns
from guardrail.detectors.pii_context import LEFT, behind

__all__ = ["PHONE", "find_phone"]

_LONGEST: Final = 48

_RIGHT: Final = r"(?:$|[^\w.\-]|[.\-](?:\D|$))"
_EXTENSION: Final = r"(?: ?(?:x|ext\.?) ?\d{1,5})?"
# E.164: a plus sign and at most 15 digits; ITU-T E.123 writes them in groups.
_INTERNATIONAL: Final = LEFT + r"(\+ ?\(?[1-9](?:[ ().\-/]{0,3}\d){6,15}" + _EXTENSION + ")" + _RIGHT
# The same behind the prefix that most countries dial for it (ITU-T E.164, section 4), in groups.
_DIALLED: Final = LEFT + r"(00[1-9]\d{0,2}(?:[ .\-/]\(?\d{1,5}\)?){2,5}" + _EXTENSION + ")" + _RIGHT
# The North American plan writes 3-3-4 and begins area and exchange with 2-9 (nanpa.com).
_AMERICAN: Final = (
    LEFT
    + r"((?:1[ .\-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .\-])[2-9]\d\d[ .\-]\d{4}"
    + _EXTENSION
    + ")"
    + _RIGHT
)
# Trunk prefix 0, an area code, the rest in groups: Britain (Ofcom's numbering plan), Germany
# (DIN 5008), and the pairs of France (ARCEP's) with spaces or full stops.
_TRUNK: Final = (
    LEFT
    + r"((?:\(0[1-9]\d{1,4}\)|0[1-9]\d{1,4})(?: ?[/\-] ?| )\d{2,8}(?:[ \-]\d{2,8}){0,3}"
    + r"|0[1-9](?:\.\d\d){4}|0[1-9](?: \d\d){4})"
    + _RIGHT
)
# Behind its name any number of enough digits, in groups of any kind, assigned or not.
_NAMES: Final = (
    r"(?:tele|mobile |cell |smart)?phones?|(?:mobile|cell|tel|fax|gsm|desk) ?[:.#]|(?:mobile|cell|fax) numbers?"
    r"|whatsapp|handynummer|handy|mobil(?:nummer)?|telefon(?:nummer)?|rufnummer"
    r"|t[eé]l[eé]phone|t[eé]l\.?|portable|m[oó]vil|tel[eé]fono|celular|telefone|telem[oó]vel|cellulare"
    r"|telefoon(?:nummer)?|(?:call|text|ring|reach|phone|dial) (?:me|us|him|her|them)"
    r"|电话(?:号码)?|手机号?码?|電話(?:番号|號碼)?|携帯|전화(?:번호)?|телефон"
)
_NAMED: Final = behind(
    _NAMES, r"\(?\d{1,5}\)?(?:[ .\-/]{1,2}\(?\d{1,5}\)?){1,5}" + _EXTENSION + r"|\d{7,15}" + _EXTENSION
)
_PATTERNS: Final = Patterns([_INTERNATIONAL, _DIALLED, _AMERICAN, _TRUNK, _NAMED])
_DIALLED_INDEX, _TRUNK_INDEX, _NAMED_INDEX = 1, 3, 4
_REGIONS: Final[tuple[tuple[str | None, ...], ...]] = ((None,), (None,), ("US",), ("GB", "DE", "FR", "CH"))
# A ZIP+4 code of New England (USPS) and an ISSN (ISO 3297), which would do as numbers of Germany.
# So would a number that the United States' social security never assigned.
_OTHER: Final = re.compile(r"0[0-9]{3,4}-[0-9]{4}|0[0-9]{2}-[0-9]{2}-[0-9]{4}")
_DATE: Final = re.compile(
    r"(?:19|20)[0-9]{2}([./ -])[0-9]{1,2}\1[0-9]{1,2}|[0-9]{1,2}([./ -])[0-9]{1,2}\2(?:19|20)[0-9]{2}"
)
# From here on a plus sign and a run of digits are a number even where no such range is assigned yet.
_LONG: Final = 11
_LEAST_NAMED, _MOST_NAMED = 7, 15  # digits: the shortest in use without an area code, and E.164's most


def find_phone(text: str) -> list[tuple[int, int]]:
    """Spans of numbers that ``phonenumbers`` (Google's libphonenumber metadata) knows, or that are named.

    International ones of any country; national ones as the United States, Britain, Germany, France and
    Switzerland write them. A bare run of digits is a phone number only behind a word for it: order
    numbers and times look just the same. Others must lie in an assigned range, unless nothing else is
    written so: a plus sign with groups or many digits, an area code in brackets.
    """
    spans = [
        (start, end)
        for index, start, end in _PATTERNS.spans(text)
        if end - start <= _LONGEST and _is_phone(index, text, start, end)
    ]
    return tidy(spans, _LONGEST)


def _is_phone(index: int, text: str, start: int, end: int) -> bool:
    written = text[start:end]
    if index == _NAMED_INDEX:
        return _is_named_number(written)
    if index in {_DIALLED_INDEX, _TRUNK_INDEX} and _is_other(text, start, end):
        return False
    if index == _DIALLED_INDEX:
        written = "+" + written[2:]
    return any(_is_number(written, region) for region in _REGIONS[index])


def _is_named_number(written: str) -> bool:
    digits = sum(c.isdigit() for c in re.split("[ex]", written, maxsplit=1)[0])
    is_sound = _LEAST_NAMED <= digits <= _MOST_NAMED and _DATE.fullmatch(written) is None
    return is_sound and not any(_is_service(written, region) for region in _REGIONS[index])


def _is_other(text: str, start: int, end: int) -> bool:
    """Whether a number that begins with zeros is of another kind, or the end of a longer one."""
    is_tail = text[max(0, start - 2) : start].strip().isdigit()
    return is_tail or _OTHER.fullmatch(text, start, end) is not None


def _is_number(written: str, region: str | None) -> bool:
    try:
        number = phonenumbers.parse(written, region)
    except phonenumbers.NumberParseException:
        return False
    if phonenumbers.number_type(number) in _SERVICES:
        return False
    is_unmistakable = (
        not written[1:].isdigit() or len(written) > _LONG if region is None else written.startswith("(")
    )
    if is_unmistakable and region in {None, "US"}:
        return phonenumbers.is_possible_number(number)
    return phonenumbers.is_valid_number(number)


PHONE: Final = Triggered(
    Detector("pii.phone", find_phone, _LONGEST),
    r"\+ ?\(?[1-9]|00[1-9]\d{0,2}[ .\-/]\(?\d|\d{3}\)? ?[ .\-]\d{3}[ .\-]\d{4}|\d{3}\) ?\d{3}"
    r"|0[1-9]\d{0,4}\)?[ /.\-]{1,3}\d\d|" + _NAMED,
)
