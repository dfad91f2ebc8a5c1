"""How streets are written with their house numbers, in RE2 (see ``pii_address``).

Names of streets are of no closed set; the words for "street" are, and where the number stands depends
on the language. Words that mean as much elsewhere (ring, hof, markt) are left out.
"""

# Russian words are what some of the patterns are made of.
# ruff: noqa: RUF001

from __future__ import annotations

from typing import Final

from guardrail.detectors.pii_context import behind

__all__ = ["CORES"]

# Latin, Greek and Cyrillic. Letters beyond ASCII count as capitals: one range is a hundredth of \p{Lu}.
_CAPITAL: Final = r"[A-Z\x{C0}-\x{52F}]"
_LETTER: Final = r"[A-Za-z\x{C0}-\x{52F}]"
_WORD: Final = rf"{_CAPITAL}[A-Za-z\x{{C0}}-\x{{52F}}'\x{{2019}}.\-]*"
_NUMBER: Final = r"\d{1,6}[A-Za-z]?(?:[\-/]\d{1,5})?"
_LEFT: Final = r"(?:^|[^A-Za-z0-9\x{C0}-\x{52F}.,\-/$€£#])"
_LEFT_LIST: Final = r"(?:^|[^A-Za-z0-9\x{C0}-\x{52F}])"
_RIGHT: Final = r"(?:$|[^A-Za-z0-9])"

# "10 North 5th", "42 Elm", "7 Martin Luther King": what stands before the word for "street".
_EN_NAME: Final = (
    rf"{_NUMBER},? (?:(?:[NSEW]|North|South|East|West|[NS][EW])\.? )?"
    rf"(?:(?:{_WORD}|\d{{1,3}}(?:st|nd|rd|th)) ){{1,4}}"
)
_EN_LONG: Final = (
    r"(?:Street|Avenue|Road|Drive|Lane|Boulevard|Court|Place|Way|Terrace|Circle|Square|Highway|Parkway"
    r"|Trail|Close|Crescent|Grove|Mews|Row|Walk|Gardens|Hill|Loop|Alley|Plaza|Ridge|Expressway|Turnpike"
    r"|Broadway)"
)
_EN_SHORT: Final = r"(?:St|Ave|Av|Rd|Dr|Ln|Blvd|Ct|Pl|Ter|Cir|Sq|Hwy|Pkwy|Trl|Cres)"
_FLAT: Final = r"(?i:apt|apartment|suite|ste|flat)\.? ?#?\d{1,5}"
_ENGLISH: Final = (
    rf"{_LEFT}({_EN_NAME}{_EN_LONG}){_RIGHT}",
    # "St" before a name is a saint.
    rf"{_LEFT}({_EN_NAME}{_EN_SHORT}\.?)"
    r"(?:$|[,;:!?)\n\"']|\.(?:\s|$)| (?:[a-z#\d]|Apt|Suite|Ste|Unit|Flat))",
    # In small letters, as people write to each other, behind a word that leads to a place.
    r"(?i:\b(?:at|address(?: is)?:?|to|on|in|is)) "
    r"(\d{1,6}[a-z]? (?:[a-z'.]+ ){1,2}(?:street|avenue|road|lane|boulevard|ave|rd|blvd))" + _RIGHT,
    # Any street, with a flat behind it.
    rf"{_LEFT}({_NUMBER},? (?:{_WORD} ){{0,4}}{_WORD}(?: {_NUMBER})?,?\s{{1,4}}{_FLAT}){_RIGHT}",
)
# Any street whatever behind words for where somebody lives.
_LIVES: Final = r"li(?:ves?|ving) (?:at|on)|resid(?:es?|ing) (?:at|on)"
_ADDRESS: Final = r"(?:home|billing|shipping|postal|mailing|delivery|street|new|current) address|address ?:"
_HOMES: Final = (
    behind(
        rf"{_LIVES}|{_ADDRESS}|(?:meet|see) (?:me|us|you) at",
        rf"{_NUMBER},? (?:{_WORD} ){{0,3}}{_WORD}(?: \d{{1,5}}[A-Za-z]?)?",
        _RIGHT,
    ),
    behind(rf"{_LIVES}|{_ADDRESS}", rf"(?:{_WORD} ){{1,3}}\d{{1,5}}[A-Za-z]?", _RIGHT),
)

_BOX: Final = (
    r"(?:P\. ?O\.? ?Box|PO ?Box|Post(?:al)? Box|Postbox|Postfach|Postbus|Postboks"
    r"|Apartado(?: de Correos| Postal)?|Casella Postale|Casilla(?: Postal| de Correo)?|Caixa Postal"
    r"|Bo[iî]te Postale)(?: No\.?| n[º°.])?:? ?\d(?:[ \-]?\d){0,7}"
)
# Military post of the United States (USPS Publication 28, section 225).
_ABROAD: Final = r"(?:APO|FPO|DPO),? A[AEP] \d{5}(?:-\d{4})?"
_BOXES: Final = (
    rf"{_LEFT_LIST}((?i:{_BOX})){_RIGHT}",
    rf"{_LEFT_LIST}((?i:(?:PSC|Unit|CMR) \d{{1,5}},? Box \d{{1,5}}(?:\s{{1,3}}{_ABROAD})?)){_RIGHT}",
    rf"{_LEFT_LIST}({_ABROAD}){_RIGHT}",
)

# The name and the word for "street" in one word, then the number.
_COMPOUND: Final = (
    r"(?:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse|chaussee|damm"  # German
    r"|straat|laan|plein|gracht|singel|steeg|dreef|plantsoen"  # Dutch
    r"|gatan|[ns]gata|v[aä]gen|vegen|veien|[^aeiou]vej|[^aeiou]gade|gaten"  # Swedish, Norwegian, Danish
    r"|all[eé]en|bakken|torget|stien"
    r"|katu|kuja|polku|(?:[aeio]n|k)tie|v[aä]yl[aä]"  # Finnish
    r"|stræti|gerði|braut)"  # Icelandic
)
_APART: Final = r"(?:Stra(?:ß|ss)e|Str\.|Weg|Allee|Gasse|Chaussee|Damm|utca|[uú]t|u\.)"  # German, Hungarian
_OF: Final = (
    r"(?:(?:de la|de las|de los|de l'|dell'|d'|de|del|des|du|da|do|das|dos|di|della|dei|delle|degli"
    r"|le|la|les|los|las|el) ?)"
)
_FIRST: Final = (
    r"(?:Calle|C/|Avenida|Avda\.?|Paseo|Camino|Carretera|Ronda|Traves[ií]a|Carrer|Avinguda|Rambla"
    r"|Rua|Rúa|Pra[çc]a|Travessa|Estrada|Alameda"  # Portuguese, after Spanish and Catalan
    r"|Viale|Piazza|Piazzale|Piazzetta|Corso|Vicolo|Contrada|Lungotevere|Lungomare|Strada"  # Italian
    r"|[Uu]l\.|[Uu]lica|[Uu]licy|[Aa]leja"  # Polish
    r"|[Уу]л\.|[Уу]лица|[Пп]росп\.|[Пп]роспект|[Пп]ереулок)"  # Russian
)
_NTH: Final = r"(?:(?i:n[º°.]?|no\.|nr\.?|д\.) ?)?"
_FRENCH: Final = (
    r"(?i:rue|avenue|av\.|boulevard|bd|impasse|chemin|quai|all[eé]e|faubourg) "
    rf"{_OF}{{0,2}}|(?i:place|cours|route|passage) {_OF}{{1,2}}"
)
_EUROPE: Final = (
    rf"{_LEFT_LIST}({_CAPITAL}{_LETTER}+(?:[ \-]{_WORD}){{0,2}}{_COMPOUND} {_NUMBER}){_RIGHT}",
    rf"{_LEFT_LIST}({_WORD}(?:[ \-]{_WORD}){{0,2}}[ \-]{_APART} {_NUMBER}){_RIGHT}",
    rf"{_LEFT}(\d{{1,4}}(?: ?(?:bis|ter|quater|[A-D]))?,? (?:{_FRENCH}){_WORD}"
    rf"(?:[ \-]{_OF}{{0,2}}{_WORD}){{0,3}}){_RIGHT}",
    rf"{_LEFT_LIST}({_FIRST} {_OF}{{0,2}}{_WORD}(?: {_OF}{{0,2}}{_WORD}){{0,3}},? {_NTH}{_NUMBER}){_RIGHT}",
    # "Via" leads elsewhere too: Italian names end in a vowel.
    rf"{_LEFT_LIST}([Vv]ia {_OF}{{0,2}}(?:{_WORD} ){{0,3}}{_CAPITAL}{_LETTER}*[aoi],? {_NTH}{_NUMBER})"
    + _RIGHT,
)
_ASIA: Final = (
    r"([\x{4E00}-\x{9FFF}]{2,20}(?:路|街|大道|巷|弄|胡同) ?\d{1,5} ?[号號])",
    r"([\x{4E00}-\x{9FFF}]{1,20}[市区町村][\x{3040}-\x{30FF}\x{4E00}-\x{9FFF}]{1,20}\d{1,3}(?:丁目|-)"
    r"\d{1,4}(?:番地?|-\d{1,4})?(?:\d{1,4}号)?)",
)

CORES: Final = (*_ENGLISH, *_HOMES, *_BOXES, *_EUROPE, *_ASIA)
"""The patterns; of each the first group is the street with its number, or the box."""
