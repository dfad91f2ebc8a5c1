"""Texts to measure on, made in code with a fixed seed: the same on every machine and in every run."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from typing import Final

_SEED: Final = 4
_ASCII: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def _listed(words: str) -> list[str]:
    return words.split(", ")


_NOUNS: Final = _listed(
    "garden, river, engineer, kitchen, teacher, window, library, morning, market, bridge, story, answer, "
    "question, winter, letter, station, mountain, painter, journey, harbour, village, report, method"
)
_VERBS: Final = _listed(
    "explains, follows, measures, carries, remembers, opens, describes, changes, reaches, compares, paints"
)
_PLACES: Final = _listed(
    "behind the old mill, near the coast, in the second chapter, before the meeting, without a map, "
    "on a quiet street, for the first time, after a long pause"
)
_FOREIGN: Final = (
    "Der Ingenieur misst jeden Morgen, wie schnell der Fluss unter der Brücke fließt. ",
    "La pintora vuelve al mercado después de la lluvia y guarda sus cuadros. ",
    "Le boulanger ouvre la fenêtre, écoute la rue et range les cartes près du four. ",
    "Утром учитель открыл окно и долго смотрел на спокойную реку. ",
    "老师早上打开窗户，看着河边的花园，然后继续写她的故事。",  # noqa: RUF001
    "先生は静かな図書館で新しい物語を読み、手紙を書きました。",
    "शिक्षक ने खिड़की खोली और नदी के पास बगीचे को देखा। ",
    "فتح المعلم النافذة ونظر إلى الحديقة قرب النهر. ",
    "The review says 👍🏽 and the family 👨\u200d👩\u200d👧 liked it too. ",
)


def clean(size: int) -> str:
    """English prose of about ``size`` bytes, with years and quantities in it and nothing to find."""
    return _joined(_sentences(random.Random(_SEED)), size)


def multilingual(size: int) -> str:
    """Prose in nine scripts and languages, of about ``size`` bytes of UTF-8."""
    chosen = random.Random(_SEED)
    return _joined(iter(lambda: chosen.choice(_FOREIGN), ""), size)


def mixed(size: int) -> str:
    """What passes a proxy: prose in several languages, code, logs, now and then something to find."""
    return _joined(_blocks(random.Random(_SEED)), size)


def _joined(pieces: Iterator[str], size: int) -> str:
    out: list[str] = []
    while size > 0:
        out.append(next(pieces))
        size -= len(out[-1].encode())
    return "".join(out)


def _sentences(chosen: random.Random) -> Iterator[str]:
    while True:
        subject, other = chosen.sample(_NOUNS, 2)
        end = chosen.choice(
            (
                ". ",
                ". ",
                ". ",
                f", all {chosen.randint(2, 60)} of them. ",
                f" since {chosen.randint(1900, 2020)}. ",
            )
        )
        yield f"The {subject} {chosen.choice(_VERBS)} the {other} {chosen.choice(_PLACES)}{end}"


def _blocks(chosen: random.Random) -> Iterator[str]:
    """Three sentences for each block of another kind; a finding about every 700 bytes."""
    prose = _sentences(chosen)
    others = (_foreign, _code, _log, _finding)
    while True:
        for _ in range(3):
            yield next(prose)
        yield chosen.choice(others)(chosen)


def _foreign(chosen: random.Random) -> str:
    return chosen.choice(_FOREIGN) + chosen.choice(_FOREIGN)


def _code(chosen: random.Random) -> str:
    name, other = chosen.sample(_NOUNS, 2)
    return (
        f"\n```python\ndef {name}({other}: dict[str, int]) -> int:\n"
        f"    return sum({other}.values()) % {chosen.randint(3, 997)}\n```\n"
    )


def _log(chosen: random.Random) -> str:
    commit, took = f"{chosen.getrandbits(160):040x}", f"{chosen.random():.4f}"
    return f'\n2026-03-0{chosen.randint(1, 9)}T08:1{chosen.randint(0, 9)}:07Z INFO "{commit}" took={took}\n'


def _finding(chosen: random.Random) -> str:
    """One thing that a detector of personal data or secrets finds, in a sentence."""
    digits = f"{chosen.randint(0, 9999):04}"
    kinds = (
        f"Write to {chosen.choice(_NOUNS)}.{chosen.choice(_NOUNS)}@mail.example.org soon. ",
        f"Call me on +1 (415) 555-{digits} after six. ",
        f"It came from 203.0.113.{chosen.randint(1, 254)} at noon. ",
        "I paid with 4111 1111 1111 1111 yesterday. ",
        "The rent goes to DE89 3704 0044 0532 0130 00. ",
        "My number is 219-09-9999 on that form. ",
        f"It reads sk-{'proj'}-{_word(chosen, 40)} in the file. ",
        f'Then set {"pass"}word = "{_word(chosen, 16)}7" and restart. ',
        f"Use postgres://app:{_word(chosen, 12)}@db.example.org:5432/shop instead. ",
    )
    return chosen.choice(kinds)


def _word(chosen: random.Random, size: int) -> str:
    return "".join(chosen.choices(_ASCII, k=size))


def _repeated(unit: str) -> Callable[[int], str]:
    return lambda size: (unit * (size // len(unit.encode()) + 1))[: size * len(unit) // len(unit.encode())]


def _base64(size: int) -> str:
    return base64.b64encode(random.Random(_SEED).randbytes(size * 3 // 4)).decode()


def _nested_percent(size: int) -> str:
    """ "%252525...": each layer of decoding gives one more to decode."""
    return "%" + "25" * ((size - 2) // 2) + "41"


HOSTILE: Final[dict[str, Callable[[int], str]]] = {
    "one digit": _repeated("7"),
    "groups of digits": _repeated("415 555 0132 "),
    "groups of four digits": _repeated("4111 "),
    "digits with dots": _repeated("1.2.3."),
    "hex": _repeated("0123456789abcdef"),
    "hex with colons": _repeated("0a:"),
    "base64": _base64,
    "one letter": _repeated("a"),
    "a@a@a@": _repeated("a@"),
    "a.a.a.": _repeated("a."),
    "mail addresses": _repeated("a@b.co "),
    "opening brackets": _repeated("("),
    "[[[[": _repeated("["),
    "token marks": _repeated("<|"),
    "nested percent": _nested_percent,
    "percent": _repeated("%41"),
    "HTML entities": _repeated("&#65;"),
    "unicode escapes": _repeated("\\u0041"),
    "zero-width": _repeated("\u200b"),
    "zero-width in a word": _repeated("a\u200b"),
    "tags": _repeated("\U000e0041"),
    "marks": _repeated("a\u0301\u0301\u0301"),
    "look-alikes": _repeated("рауmеnt "),  # noqa: RUF001
    "white space": _repeated(" "),
    "DOB:": _repeated("DOB: "),
    "IBAN heads": _repeated("DE89 3704 "),
    "password=": _repeated("password="),
    "begin key": _repeated("-----BEGIN RSA " + "PRIVATE KEY-----\n"),
    "token heads": _repeated("eyJ" + "hbGciOi."),
    "scheme://": _repeated("postgres://a:"),
    "ignore all": _repeated("ignore all previous "),
    "new lines": _repeated("\n"),
    "mixed prose": mixed,
}
"""Name -> a text of so many bytes, each meant to make a careless search repeat itself."""
