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
_INTERNATIONAL: Final = LEFT + r"(\+ ?\(?[1-9](?:[ ().\-/]{0,2}\d){6,15}" + _EXTENSION + ")" + _RIGHT
# The same behind the prefix that most countries dial for it (ITU-T E.164, section 4), in groups.
_DIALLED: Final = LEFT + r"(00[1-9]\d{0,2}(?:[ .\-/]\(?\d{1,5}\)?){2,5}" + _EXTENSION + ")" + _RIGHT
# The North American plan writes 3-3-4 and begins area and exchange with 2-9 (nanpa.com).
_AMERICAN: Final = (
    LEFT
    + r"((?:1[ .\-])?(?:\([2-9]\d\d\) ?[2-9]\d\d[ .\-]\d{4}"
    + "".join(rf"|[2-9]\d\d{gap}[2-9]\d\d{gap}\d{{4}}" for gap in (" ", r"\.", "-"))
    + ")"
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
    r"(?:tele|mobile |cell |smart)?phones?|(?:mobile|cell|tel|fax|gsm|desk) ?[:.#]"
    r"|(?:mobile|cell|fax) numbers?|whatsapp|handy(?:nummer)?|mobil(?:nummer)?|telefon(?:nummer)?|rufnummer"
    r"|t[eé]l[eé]phone|t[eé]l\.?|portable|m[oó]vil|tel[eé]fono|celular|telefone|telem[oó]vel|cellulare"
    r"|telefoon(?:nummer)?|(?:call|text|ring|reach|phone|dial) (?:me|us|him|her|them)"
    r"|电话(?:号码)?|手机号?码?|電話(?:番号|號碼)?|携帯|전화(?:번호)?|телефон"
)
_NAMED: Final = behind(
    _NAMES, r"\(?\d{1,5}\)?(?:[ .\-/]{1,2}\(?\d{1,8}\)?){1,5}" + _EXTENSION + r"|\d{7,15}" + _EXTENSION
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
_DIGITS: Final = re.compile("[0-9]")
_EXTENDED: Final = re.compile("[ex]")
# Free and premium numbers are nobody's own: the North American plan's toll-free codes (nanpa.com), and
# 0800, 0808 and 0900 of the others here.
_SERVICE: Final = re.compile(
    r"1?8(?:00|33|44|55|66|77|88)[0-9]{7}|0(?:800|808|900)[0-9]{5,8}|(?:44|49|33|41)0?(?:800|808|900)[0-9]{5,8}"
)
# From here on a plus sign and a run of digits are a number even where no such range is assigned yet.
_LONG: Final = 11
_LEAST_NAMED, _MOST_NAMED = 7, 15  # digits: the shortest in use without an area code, and E.164's most


def find_phone(text: str) -> list[tuple[int, int]]:
    """Spans of telephone numbers: international ones, national ones in groups, any behind a word for them.

    National ones as the United States, Britain, Germany, France and Switzerland write them. A bare run
    of digits is one only behind a word for it: order numbers and times look just the same. The others
    must lie in a range that ``phonenumbers`` (Google's libphonenumber metadata) knows, unless nothing
    else is written so: a plus sign with groups or many digits, an area code in brackets. Free and
    premium numbers are nobody's own.
    """
    spans = [
        (start, end)
        for index, start, end in _PATTERNS.spans(text)
        if end - start <= _LONGEST and _is_phone(index, text, start, end)
    ]
    return tidy(spans, _LONGEST)


def _is_phone(index: int, text: str, start: int, end: int) -> bool:
    written = text[start:end]
    digits = "".join(_DIGITS.findall(_EXTENDED.split(written, maxsplit=1)[0]))
    if _SERVICE.fullmatch(digits):
        return False
    if index == _NAMED_INDEX:
        return _LEAST_NAMED <= len(digits) <= _MOST_NAMED and _DATE.fullmatch(written) is None
    if index in {_DIALLED_INDEX, _TRUNK_INDEX} and _is_other(text, start, end):
        return False
    if index == _DIALLED_INDEX:
        written = "+" + written[2:]
    return any(_is_number(written, region) for region in _REGIONS[index])


def _is_other(text: str, start: int, end: int) -> bool:
    """Whether a number that begins with zeros is of another kind, or the end of a longer one."""
    is_tail = text[max(0, start - 2) : start].strip().isdigit()
    return is_tail or _OTHER.fullmatch(text, start, end) is not None


def _is_number(written: str, region: str | None) -> bool:
    try:
        number = phonenumbers.parse(written, region)
    except phonenumbers.NumberParseException:
        return False
    if region is None:
        if written[1] == " " and " " not in written[2:]:
            return False  # a sum
        is_unmistakable = not written[1:].isdigit() or len(written) > _LONG
    else:
        is_unmistakable = region == "US" and written.startswith("(")
    if is_unmistakable:
        return phonenumbers.is_possible_number(number)
    return phonenumbers.is_valid_number(number)


PHONE: Final = Triggered(
    Detector("pii.phone", find_phone, _LONGEST),
    r"\+ ?\(?[1-9]|00[1-9]\d{0,2}[ .\-/]\(?\d|\d{3}\)? ?[ .\-]\d{3}[ .\-]\d{4}|\d{3}\) ?\d{3}"
    r"|0[1-9]\d{0,4}\)?[ /.\-]{1,3}\d\d|" + _NAMED,
)
