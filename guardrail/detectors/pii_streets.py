"""How streets are written with their house numbers, in RE2 (see ``pii_address``).

Names of streets are of no closed set; the words for "street" are, and where the number stands depends
on the language. Words that mean as much elsewhere (ring, hof, markt) are left out.
"""

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

_EN_LONG: Final = (
    r"Street|Avenue|Road|Drive|Lane|Boulevard|Court|Place|Way|Terrace|Circle|Square|Highway|Parkway|Trail"
    r"|Close|Crescent|Grove|Mews|Row|Walk|Gardens|Hill|Loop|Alley|Plaza|Ridge|Expressway|Turnpike|Broadway"
)
_EN_SHORT: Final = r"(?:St|Ave|Av|Rd|Dr|Ln|Blvd|Ct|Pl|Ter|Cir|Sq|Hwy|Pkwy|Trl|Cres)"
_ENGLISH: Final = (
    rf"{_LEFT}({_NUMBER},? (?:(?:[NSEW]|North|South|East|West|[NS][EW])\.? )?"
    rf"(?:(?:{_WORD}|\d{{1,3}}(?:st|nd|rd|th)) ){{1,4}}(?:{_EN_LONG})){_RIGHT}",
    # "St" before a name is a saint.
    rf"{_LEFT}({_NUMBER},? (?:(?:[NSEW]|North|South|East|West|[NS][EW])\.? )?"
    rf"(?:(?:{_WORD}|\d{{1,3}}(?:st|nd|rd|th)) ){{1,4}}{_EN_SHORT}\.?)"
    r"(?:$|[,;:!?)\n\"']|\.(?:\s|$)| (?:[a-z#\d]|Apt|Suite|Ste|Unit|Flat))",
    # In small letters, as people write to each other, behind a word that leads to a place.
    rf"(?i:\b(?:at|address(?: is)?:?|to|on|in|is)) (\d{{1,6}}[a-z]? (?:[a-z'.]+ ){{1,3}}"
    r"(?:street|avenue|road|lane|boulevard|drive|court|crescent|terrace|ave|rd|blvd))(?:$|[^A-Za-z0-9])",
    # Any street, with a flat behind it.
    rf"{_LEFT}({_NUMBER},? (?:{_WORD} ){{0,4}}{_WORD}(?: {_NUMBER})?,?\s{{1,4}}(?i:apt|apartment|suite|ste|flat)\.? ?#?\d{{1,5}}){_RIGHT}",
)
# Any street whatever behind words for where somebody lives.
_HOME: Final = behind(
    r"li(?:ves?|ving) (?:at|on)|resid(?:es?|ing) (?:at|on)|mov(?:ed|ing) to|(?:meet|see) (?:me|us|you) at"
    r"|(?:home|billing|shipping|postal|mailing|delivery|street|new|current) address|address ?:",
    rf"{_NUMBER},? (?:{_WORD} ){{0,3}}{_WORD}(?: \d{{1,5}}[A-Za-z]?)?|(?:{_WORD} ){{1,3}}\d{{1,5}}[A-Za-z]?",
    _RIGHT,
)
_BOXES: Final = (
    rf"{_LEFT_LIST}((?i:P\. ?O\.? ?Box|PO ?Box|Post(?:al)? Box|Postbox|Postfach|Postbus|Postboks|Apartado(?: de Correos| Postal)?"
    r"|Casella Postale|Casilla(?: Postal| de Correo)?|Caixa Postal|Bo[iî]te Postale)(?: No\.?| n[º°.])?:? ?\d(?:[ \-]?\d){0,7})"
    + _RIGHT,
    # Military post of the United States (USPS Publication 28, section 225).
    rf"{_LEFT_LIST}((?i:(?:PSC|Unit|CMR) \d{{1,5}},? Box \d{{1,5}}(?:\s{{1,3}}(?:APO|FPO|DPO),? A[AEP] \d{{5}}(?:-\d{{4}})?)?)){_RIGHT}",
    rf"{_LEFT_LIST}((?:APO|FPO|DPO),? A[AEP] \d{{5}}(?:-\d{{4}})?){_RIGHT}",
)

# The name and the word for "street" in one word, then the number.
_COMPOUND: Final = (
    r"stra(?:ß|ss)e|str\.|weg|platz|allee|gasse|chaussee|damm"  # German
    r"|straat|laan|plein|gracht|kade|singel|steeg|dreef|plantsoen"  # Dutch
    r"|gatan|gata|v[aä]gen|vegen|veien|[^aeiou]vej|svej|[^aeiou]gade|gaten|all[eé]en|bakken|torget|stien"  # Nordic
    r"|katu|kuja|polku|[kn]tie|v[aä]yl[aä]"  # Finnish
    r"|stræti|gerði|braut"  # Icelandic
)
_OF: Final = r"(?:(?:de la|de las|de los|de l'|dell'|d'|de|del|des|du|da|do|das|dos|di|della|dei|delle|degli|le|la|les|los|las|el) ?)"
_ROMANCE_FIRST: Final = (
    r"Calle|C/|Avenida|Avda\.?|Paseo|Camino|Carretera|Ronda|Traves[ií]a|Carrer|Avinguda|Rambla"  # Spanish, Catalan
    r"|Rua|R[uú]a|Pra[çc]a|Travessa|Estrada|Alameda"  # Portuguese
    r"|Viale|Piazza|Piazzale|Piazzetta|Corso|Vicolo|Contrada|Lungotevere|Lungomare|Strada"  # Italian
    r"|[Uu]l\.|[Uu]lica|[Uu]licy|[Aa]l\.|[Aa]leja|[Oo]s\."  # Polish
    r"|[Уу]л\.|[Уу]лица|[Пп]р\.|[Пп]роспект|[Пп]ереулок"  # Russian
)
_FRENCH: Final = (
    r"(?:rue|avenue|av\.|boulevard|bd|place|all[eé]e|impasse|chemin|quai|cours|route|passage|faubourg)"
)
_EUROPE: Final = (
    rf"{_LEFT_LIST}({_CAPITAL}{_LETTER}+(?:[ \-]{_WORD}){{0,2}}(?:{_COMPOUND}) {_NUMBER}){_RIGHT}",
    rf"{_LEFT_LIST}({_WORD}(?:[ \-]{_WORD}){{0,2}}[ \-](?:Stra(?:ß|ss)e|Str\.|Weg|Allee|Gasse|Chaussee|Damm|utca|[uú]t|u\.) {_NUMBER}){_RIGHT}",
    rf"{_LEFT}(\d{{1,4}}(?: ?(?:bis|ter|quater|[A-D]))?,? (?i:{_FRENCH}) {_OF}{{0,2}}{_WORD}(?:[ \-](?:{_OF}{{0,2}}{_WORD})){{0,3}}){_RIGHT}",
    rf"{_LEFT_LIST}((?:{_ROMANCE_FIRST}) ?{_OF}{{0,2}}{_WORD}(?: {_OF}{{0,2}}{_WORD}){{0,3}},? (?:(?i:n[º°.]?|no\.|nr\.?|д\.) ?)?{_NUMBER}){_RIGHT}",
    # "Via" leads elsewhere too: Italian names end in a vowel.
    rf"{_LEFT_LIST}([Vv]ia {_OF}{{0,2}}(?:{_WORD} ){{0,3}}{_CAPITAL}{_LETTER}*[aoi],? (?:n\. ?)?{_NUMBER}){_RIGHT}",
)
_ASIA: Final = (
    r"([\x{4E00}-\x{9FFF}]{2,20}(?:路|街|大道|巷|弄|胡同) ?\d{1,5} ?[号號])",
    r"([\x{4E00}-\x{9FFF}]{1,20}[市区町村][\x{3040}-\x{30FF}\x{4E00}-\x{9FFF}]{1,20}\d{1,3}(?:丁目|-)\d{1,4}(?:番地?|-\d{1,4})?(?:\d{1,4}号)?)",
)

CORES: Final = (*_ENGLISH, _HOME, *_BOXES, *_EUROPE, *_ASIA)
"""The patterns; of each the first group is the street with its number, or the box."""
