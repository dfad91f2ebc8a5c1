"""The numbers that states give to people: how each is written and checked (see ``pii_national_id``).

Forms and checks are python-stdnum's, whose modules name the law or register behind each of them;
the two it lacks are here. A form that nothing else is written in, with a strong check behind it, counts
anywhere. What every tenth bare number would pass counts only behind its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Final, cast

from stdnum.es import dni

__all__ = ["SCHEMES", "Scheme"]

Check = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Scheme:
    """One kind of number; ``is_valid`` is given the number as it is written.

    ``form``: an RE2 pattern of the form that counts anywhere. ``names`` (RE2 alternatives) and
    ``bare``: the form that counts behind one of the names. Either may be missing ("").
    """

    is_valid: Check
    form: str = ""
    names: str = ""
    bare: str = ""


def _stdnum(module: str) -> Check:
    return cast("Check", import_module(f"stdnum.{module}").is_valid)


def _is_nino(written: str) -> bool:
    """Whether the prefix is in use: HMRC's National Insurance Manual, NIM39110."""
    return written[:2] not in {"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"}


def _is_any(written: str) -> bool:
    """Behind its name a number without a check counts as it is."""
    return bool(written)


def _is_dni(written: str) -> bool:
    return bool(dni.is_valid(written.replace(".", "")))


def _is_nric(written: str) -> bool:
    """Singapore's check letter: weights 2, 7, 6, 5, 4, 3, 2; T and G add 4, M adds 3 (ICA)."""
    total = sum(
        int(digit) * weight for digit, weight in zip(written[1:8], (2, 7, 6, 5, 4, 3, 2), strict=True)
    )
    if written[0] == "M":
        return written[8] == "KLJNPQRTUWX"[10 - (total + 3) % 11]
    total += 4 if written[0] in "TG" else 0
    letters = "JZIHGFEDCBA" if written[0] in "ST" else "XWUTRQPNMLK"
    return written[8] == letters[total % 11]


_TAX: Final = r"tax[ _-]?(?:payer)?[ _-]?(?:id|identification|file|ref(?:erence)?)|\btin\b"
_PERSON_NUMBER: Final = r"person(?:n?ummer|(?:al)? (?:identity )?number|nr)|p(?:ers)?nr"

SCHEMES: Final = (
    # Europe
    Scheme(_is_nino, r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?: ?\d\d){3} ?[A-D]"),
    Scheme(_is_any, names=r"national insurance|nino", bare=r"[A-Z]{2}(?: ?\d\d){3} ?[A-D]"),
    Scheme(_stdnum("gb.nhs"), names=r"nhs", bare=r"\d{3}[ \-]?\d{3}[ \-]?\d{4}"),
    Scheme(
        _stdnum("de.idnr"),
        names=rf"steuer-?id\w*|id-?nr|(?:steuerliche )?identifikationsnummer|{_TAX}",
        bare=r"\d\d ?\d{3} ?\d{3} ?\d{3}",
    ),
    Scheme(_stdnum("fr.nir"), r"[12] ?\d\d ?(?:0[1-9]|1[0-2]) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d"),
    Scheme(_is_dni, r"(?:\d{8}|\d\d\.\d{3}\.\d{3})-?[A-HJ-NP-TV-Z]"),
    Scheme(_stdnum("es.nie"), r"[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z]"),
    Scheme(_stdnum("it.codicefiscale"), r"(?i:[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z])"),
    Scheme(
        _stdnum("nl.bsn"), names=r"bsn|burgerservicenummer|sofi-?nummer", bare=r"\d{4}[ .]?\d\d[ .]?\d{3}"
    ),
    Scheme(
        _stdnum("be.nn"),
        r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d",
        names=r"rijksregister\w*|num[eé]ro national|registre national|insz|niss",
        bare=r"\d{11}",
    ),
    Scheme(_stdnum("at.vnr"), names=r"sv-?nr|(?:sozial)?versicherungsnummer", bare=r"\d{4} ?\d{6}"),
    Scheme(_stdnum("ch.ssn"), r"756\.?\d{4}\.?\d{4}\.?\d\d"),
    Scheme(_stdnum("pt.cc"), r"\d{8} ?\d ?[A-Z]{2}\d"),
    Scheme(_stdnum("pt.nif"), names=r"nif|contribuinte", bare=r"[12356789]\d\d ?\d{3} ?\d{3}"),
    Scheme(_stdnum("ie.pps"), names=rf"pps[n]?|{_TAX}", bare=r"\d{7}[A-W][A-IWTX]?"),
    Scheme(
        _stdnum("se.personnummer"),
        names=rf"{_PERSON_NUMBER}|samordningsnummer",
        bare=r"(?:\d\d)?\d{6}[\-+]?\d{4}",
    ),
    Scheme(_stdnum("dk.cpr"), names=rf"cpr|{_PERSON_NUMBER}", bare=r"\d{6}-?\d{4}"),
    Scheme(
        _stdnum("no.fodselsnummer"),
        r"[0-7]\d[01]\d{3} \d{5}",
        names=rf"f[oø]dselsnummer|f[oø]dselsnr|{_PERSON_NUMBER}",
        bare=r"\d{11}",
    ),
    Scheme(
        _stdnum("fi.hetu"),
        r"[0-3]\d[01]\d{3}[\-+A-FU-Y]\d{3}[A-FHJ-NPR-Y]",
        names=r"hetu|henkil[oö]tunnus|personbeteckning",
        bare=r"\d{6}[\-+A-FU-Y]\d{3}\w",
    ),
    Scheme(_stdnum("is_.kennitala"), names=r"kennitala", bare=r"\d{6}-?\d{4}"),
    Scheme(_stdnum("pl.pesel"), names=r"pesel", bare=r"\d{11}"),
    Scheme(_stdnum("cz.rc"), r"\d\d[0-8]\d[0-3]\d/\d{4}"),
    Scheme(_stdnum("ro.cnp"), names=r"cnp|cod(?:ul)? numeric personal", bare=r"[1-9]\d{12}"),
    Scheme(_stdnum("bg.egn"), names="егн|egn", bare=r"\d{10}"),
    Scheme(_stdnum("gr.amka"), names="αμκα|amka", bare=r"\d{11}"),
    Scheme(_stdnum("hr.oib"), names=r"oib", bare=r"\d{11}"),
    Scheme(_stdnum("si.emso"), names=r"em[sš]o|jmbg", bare=r"\d{13}"),
    Scheme(_stdnum("ee.ik"), names=r"isikukood|asmens kodas", bare=r"[3-6]\d{10}"),
    Scheme(_stdnum("lv.pvn"), names=r"personas kods", bare=r"\d{6}-?\d{5}"),
    Scheme(_stdnum("ru.inn"), names="инн", bare=r"\d{12}"),
    Scheme(_stdnum("ua.rntrc"), names="рнокпп|іпн|ідентифікаційний код", bare=r"\d{10}"),
    Scheme(_stdnum("tr.tckimlik"), names=r"t\.?c\.?(?: kimlik)?|tckn|kimlik", bare=r"[1-9]\d{10}"),
    # America
    Scheme(_stdnum("us.itin"), r"9\d\d-(?:5\d|6[0-5]|7\d|8[0-8]|9[0-24-9])-\d{4}"),
    Scheme(
        _stdnum("ca.sin"),
        names=r"sin|social insurance|(?:num[eé]ro d')?assurance sociale|nas",
        bare=r"\d{3}[ \-]?\d{3}[ \-]?\d{3}",
    ),
    Scheme(_stdnum("mx.curp"), r"(?i:[A-Z]{4}\d{6}[HMX][A-Z]{5}[A-Z0-9]\d)"),
    Scheme(_stdnum("mx.rfc"), names=r"rfc", bare=r"[A-Z&Ñ]{4}[ \-]?\d{6}[ \-]?[A-Z0-9]{3}"),
    Scheme(_stdnum("br.cpf"), r"\d{3}\.\d{3}\.\d{3}-\d\d", names=r"cpf", bare=r"\d{11}"),
    Scheme(_stdnum("ar.cuit"), r"2[0347]-\d{8}-\d"),
    Scheme(_stdnum("ar.dni"), names=r"dni|documento", bare=r"\d{1,2}\.\d{3}\.\d{3}|\d{7,8}"),
    Scheme(_stdnum("cl.rut"), r"\d{1,2}\.\d{3}\.\d{3}-[\dKk]", names=r"rut|run", bare=r"\d{7,8}-[\dKk]"),
    Scheme(_stdnum("do.cedula"), names=r"c[eé]dula(?: de identidad)?", bare=r"\d{3}-?\d{7}-?\d"),
    Scheme(_stdnum("ec.ci"), names=r"c[eé]dula(?: de identidad)?", bare=r"\d{9}-?\d"),
    # Asia, Oceania, Africa
    Scheme(_stdnum("cn.ric"), r"[1-9]\d{5}(?:18|19|20)\d\d[01]\d[0-3]\d{4}[\dXx]"),
    Scheme(_stdnum("kr.rrn"), r"\d\d[01]\d[0-3]\d-[0-9]\d{6}"),
    Scheme(_stdnum("jp.in_"), names="マイナンバー|個人番号|my number", bare=r"\d{4}[ \-]?\d{4}[ \-]?\d{4}"),
    Scheme(_is_nric, r"[STFGM]\d{7}[A-Z]"),
    Scheme(_stdnum("my.nric"), r"\d\d[01]\d[0-3]\d-\d\d-\d{4}"),
    Scheme(_stdnum("id.nik"), names=r"nik|ktp", bare=r"\d{16}"),
    Scheme(
        _stdnum("th.pin"),
        r"[1-8]-\d{4}-\d{5}-\d\d-\d",
        names="เลขประจำตัวประชาชน|บัตรประชาชน|thai id",
        bare=r"[1-8]\d{12}",
    ),
    Scheme(_stdnum("in_.aadhaar"), names="aadha?ar|uidai|आधार", bare=r"[2-9]\d{3}[ \-]?\d{4}[ \-]?\d{4}"),
    Scheme(_stdnum("in_.pan"), r"[A-Z]{3}P[A-Z]\d{4}[A-Z]"),
    Scheme(_stdnum("pk.cnic"), r"[1-7]\d{4}-\d{7}-\d"),
    Scheme(_stdnum("il.idnr"), names="תעודת זהות|teudat zehut|israeli id", bare=r"\d{7,8}-?\d"),
    Scheme(_stdnum("au.tfn"), names=rf"tfn|{_TAX}", bare=r"\d{3} ?\d{3} ?\d{2,3}"),
    Scheme(_stdnum("nz.ird"), names=r"ird", bare=r"\d{2,3}-?\d{3}-?\d{3}"),
    Scheme(_stdnum("za.idnr"), names=r"id|identity", bare=r"\d{6} ?\d{4} ?\d{3}"),
)
"""Every kind of number. Some checks refuse a birth date that lies in the future."""
