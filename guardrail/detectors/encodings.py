r"""Encodings: a text as it reads once decoded, and the way back to where that stood.

Four kinds of layers may lie behind a text, each told by a cheap sign and none longer than the text, so
that looking through all of them to a bounded depth stays linear:

- **escapes**: percent (RFC 3986), HTML entities, ``\x41``, ``\u0041`` and their relatives, undone
  wherever they stand; each character goes back to the very escape that it came from;
- **runs**: base 64 (RFC 4648, both alphabets, padded or not), hexadecimal, and text hidden in tags or
  variation selectors. A run counts when it is UTF-8 and printable but for an odd byte, as hashes, keys,
  images and UUIDs are not, and what is found inside stands for the whole run. White space ends a
  run, so of base 64 in lines each line is read by itself;
- **rot13** of the whole text, where the text names it or holds the commonest words of attacks in it;
- **disguise**: the folded text (see ``folding``), where letters or digits of ASCII are written in
  compatibility forms or with invisible characters between them.

Every detector looks through these but ``unicode.*``: what those find is ordinary in what is escaped. A
stream holds a run back whole (``Detector.run``); of escapes with white space between them and of rot13,
what one window of it shows is found.
"""

from __future__ import annotations

import codecs
import re
from base64 import b64decode
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from html import unescape
from typing import Final

from guardrail.detectors.folding import fold, unfold
from guardrail.detectors.patterns import Patterns

__all__ = ["DEPTH", "ONCE", "SIGNS", "Layer", "layers"]

DEPTH: Final = 3
"""How many layers, one inside the other, are looked through."""

_SHORTEST: Final = 16  # of a run: 12 bytes of base 64
_UNREADABLE: Final = 0.05  # of a run's characters: an odd byte among them, not binary data
_GAP: Final = "\n\0\n\0\n"  # between the texts of runs: nothing that is looked for reaches over it

_ESCAPE: Final = re.compile(
    r"(?P<percent>(?:%[0-9A-Fa-f]{2})+)|(?P<bytes>(?:\\x[0-9A-Fa-f]{2})+)|(?P<units>(?:\\u[0-9A-Fa-f]{4})+)"
    r"|\\u\{(?P<point>[0-9A-Fa-f]{1,5})\}|\\U000(?P<long>[0-9A-Fa-f]{5})"
    r"|(?P<entity>&(?:#[0-9]{1,7};?|#[xX][0-9A-Fa-f]{1,6};?|[A-Za-z][A-Za-z0-9]{1,31};))"
)
_RUNS: Final = Patterns(
    [
        rf"[A-Za-z0-9+/_\-]{{{_SHORTEST},}}={{0,2}}",
        r"[\x{E0020}-\x{E007E}]{4,}",
        r"[\x{FE00}-\x{FE0F}\x{E0100}-\x{E01EF}]{4,}",
    ]
)
_PART: Final = re.compile(rf"[A-Za-z0-9]{{{_SHORTEST},}}")
_HEX: Final = re.compile(r"(?:0[xX])?((?:[0-9A-Fa-f]{2})+)")
# Base 64 of a text goes up between the cases, which most names do not: of the evaluation data's English,
# cut into pieces of 12 bytes, one piece in 800 does not either, of 16 bytes one in 4,000.
_CASES: Final = re.compile(r"[a-z0-9][A-Z]")
_STANDARD: Final = str.maketrans("-_", "+/")
# The stems of the commonest attacks: an alternation has no letters but those of its words.
_ROT13: Final = r"rot-?13|ebg-?13|" + codecs.encode(
    "ignor(?:e|ing) |disregard|forget |instruction|previous |prompt|reveal |bypass |pretend |password",
    "rot13",
)

ESCAPES: Final = 0
RUNS: Final = 1
HIDDEN: Final = 2
ROT13: Final = 3
DISGUISE: Final = 4
SIGNS: Final = (
    r"%[0-9A-Fa-f]{2}|&(?:#[0-9xX]|[A-Za-z][A-Za-z0-9]{1,31};)|\\[xuU][0-9A-Fa-f{]",
    # Without the signs that words and lines are made with: a run of base 64 has stretches without them.
    rf"[A-Za-z0-9+/]{{{_SHORTEST}}}",
    r"[\x{E0020}-\x{E007E}]{4}|[\x{FE00}-\x{FE0F}\x{E0100}-\x{E01EF}]{4}",
    f"(?i){_ROT13}",
    # Not the punctuation of Chinese and Japanese, nor the single digits and letters in it.
    r"[\x{FF10}-\x{FF19}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}]{4}|\x{FF20}|[\x{1D400}-\x{1D7FF}\x{2460}-\x{24FF}]{2}"
    r"|[!-~][\x{00AD}\x{034F}\x{180E}\x{200B}-\x{200F}\x{202A}-\x{202E}\x{2060}-\x{206F}\x{FEFF}"
    r"\x{FE00}-\x{FE0F}\x{E0000}-\x{E01EF}]+[!-~]",
)
"""By kind of layer, the RE2 pattern without which a text has none of it."""
ONCE: Final = frozenset((ROT13, DISGUISE))
"""The kinds that are not looked for again behind a layer of their own: they lead nowhere new."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A text behind a text: ``back`` leads from its spans to those of the text before it."""

    text: str
    back: Callable[[Iterable[tuple[int, int]]], list[tuple[int, int]]] = field(repr=False)


def layers(text: str, kinds: Collection[int]) -> Iterator[tuple[int, Layer]]:
    """(kind, layer) of what lies right behind a text, of the kinds of which it has a sign."""
    if ESCAPES in kinds and (unescaped := _unescaped(text)) is not None:
        yield ESCAPES, unescaped
    if (RUNS in kinds or HIDDEN in kinds) and (inside := _inside_runs(text)) is not None:
        yield RUNS, inside
    if ROT13 in kinds:
        yield ROT13, Layer(codecs.encode(text, "rot13"), list)
    if DISGUISE in kinds:
        yield DISGUISE, Layer(fold(text), lambda spans: unfold(text, spans))


class _Pieces:
    """A text put together from pieces, each with its place in the text before it."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._starts: list[int] = []  # of the pieces, in the new text
        self._places: list[tuple[int, int, bool]] = []  # start, end, whether it is a copy
        self._size = 0

    def copy(self, text: str, start: int, end: int) -> None:
        """The next piece, taken as it stands in ``text``."""
        self._add(text[start:end], start, end, True)

    def put(self, part: str, start: int, end: int) -> None:
        """The next piece, which stands for all from ``start`` to ``end``."""
        self._add(part, start, end, False)

    def layer(self) -> Layer:
        """The pieces as one layer."""
        return Layer("".join(self._parts), self._back)

    def _add(self, part: str, start: int, end: int, is_copy: bool) -> None:
        if part:
            self._parts.append(part)
            self._starts.append(self._size)
            self._places.append((start, end, is_copy))
            self._size += len(part)

    def _back(self, spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(self._place(start)[0], self._place(end - 1)[1]) for start, end in spans]

    def _place(self, at: int) -> tuple[int, int]:
        """Where the character at ``at`` stood."""
        piece = bisect_right(self._starts, at) - 1
        start, end, is_copy = self._places[piece]
        if not is_copy:
            return start, end
        return start + at - self._starts[piece], start + at - self._starts[piece] + 1


def _unescaped(text: str) -> Layer | None:
    """The text with its escapes undone, or None when there are none."""
    pieces = _Pieces()
    position = 0
    for escape in _ESCAPE.finditer(text):
        width, decoded = _decoded(escape)
        if decoded is None:
            continue
        pieces.copy(text, position, escape.start())
        position = escape.start()
        for char in decoded:
            pieces.put(char, position, position + width(char))
            position += width(char)
        position = escape.end()
    if not position:
        return None
    pieces.copy(text, position, len(text))
    return pieces.layer()


def _decoded(escape: re.Match[str]) -> tuple[Callable[[str], int], str | None]:
    """How wide a character of it is written, and what it stands for (None: nothing)."""
    kind, value = escape.lastgroup, escape[0]
    if kind == "percent":
        return _from_bytes(bytes.fromhex(value.replace("%", "")), 3)
    if kind == "bytes":
        return _from_bytes(bytes.fromhex(value.replace("\\x", "")), 4)
    if kind == "units":
        units = bytes.fromhex(value.replace("\\u", ""))
        return lambda c: 6 if c <= "\uffff" else 12, units.decode("utf-16-be", "replace")
    if kind == "entity":
        char = unescape(value)
        return lambda c: len(value), char if len(char) == 1 else None
    return lambda c: len(value), chr(int(escape["point"] or escape["long"], 16))


def _from_bytes(encoded: bytes, width: int) -> tuple[Callable[[str], int], str]:
    """As ``_decoded``: bytes, each ``width`` characters wide, in UTF-8 or else in Latin-1."""
    try:
        return lambda c: width * len(c.encode()), encoded.decode()
    except UnicodeDecodeError:
        return lambda c: width, encoded.decode("latin-1")


def _inside_runs(text: str) -> Layer | None:
    """What runs of base 64, hexadecimal, tags or selectors spell, or None when none spells anything."""
    pieces = _Pieces()
    for kind, start, end in _RUNS.spans(text):
        for decoded, at, until in _spelled(kind, text[start:end]):
            pieces.put(decoded + _GAP, start + at, start + until)
    layer = pieces.layer()
    return layer if layer.text else None


def _spelled(kind: int, run: str) -> Iterator[tuple[str, int, int]]:
    """(text, start, end) of what a run spells: the whole of it, or those of its parts that do."""
    if kind == 1:
        yield "".join(chr(ord(c) - 0xE0000) for c in run), 0, len(run)
    elif kind == 2:
        smuggled = bytes(ord(c) - (0xFE00 if c <= "\ufe0f" else 0xE0100 - 16) for c in run)
        if (text := _readable(smuggled)) is not None:
            yield text, 0, len(run)
    elif (text := _from_letters(run)) is not None:
        yield text, 0, len(run)
    else:
        for part in _PART.finditer(run):
            if len(part[0]) < len(run) and (text := _from_letters(part[0])) is not None:
                yield text, part.start(), part.end()


def _from_letters(run: str) -> str | None:
    """The text that a run spells in hexadecimal or base 64."""
    if (digits := _HEX.fullmatch(run)) and (text := _readable(bytes.fromhex(digits[1]))) is not None:
        return text
    if _CASES.search(run) is None:
        return None
    run = run.rstrip("=")
    whole = len(run) - (len(run) % 4 == 1)  # one character more than a group is none of it
    padded = run[:whole].translate(_STANDARD) + "=" * (-whole % 4)
    return _readable(b64decode(padded))


def _readable(encoded: bytes) -> str | None:
    """Bytes as text, or None for what is no text."""
    text = encoded.decode("utf-8", "replace")
    hidden = len(text) - sum(map(str.isprintable, text)) - sum(map(text.count, "\t\r\n"))
    return text if hidden + text.count("\ufffd") <= _UNREADABLE * len(text) else None
