"""Views: a text as it is read, with the way back to the text as it was written.

Matching runs on a view (folded, or with its escapes resolved); what it finds is mapped back, so what is
replaced is always a piece of the raw text.
"""

from __future__ import annotations

import json
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

__all__ = ["Leaf", "View", "folded", "json_view", "leaves", "plain", "unescaped"]

_PIECE: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}"
    r'|\\["\\/bfnrt]|[^\\]++|\\',
)
_ESCAPES: Final = dict(zip('"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True))
_TOKEN: Final = re.compile(
    r'"(?P<string>(?:[^"\\]++|\\.)*+)"(?P<key>\s*+:)?|(?P<number>-?[0-9][0-9.eE+-]*+)|[{}\[\]]', re.DOTALL
)
_RUN: Final = re.compile(r"[!-~]++|.", re.DOTALL)
# Quotes and dashes that models straighten. U+2039 and U+00A6 stand for "<" and "|" in the judge's copy
# (prompt.py), so they fold back here.
_SAME: Final = str.maketrans("‘’‚‛`“”„‟«»‹›¦‐‒–—―−", '\'\'\'\'\'""""""<>|------')  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class View:
    """``text`` derived from a raw text; character ``i`` came from ``raw[starts[i]:ends[i]]``."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def to_raw(self, start: int, end: int) -> tuple[int, int]:
        """The raw range behind ``text[start:end]`` (``start < end``)."""
        return self.starts[start], self.ends[end - 1]

    def whole(self, start: int, end: int) -> tuple[int, int]:
        """A raw range widened so that it cuts no piece (an escape, a letter) in two."""
        first = bisect_right(self.starts, start) - 1
        last = min(bisect_left(self.ends, end), len(self.ends) - 1)
        return self.starts[first], self.ends[last]

    def read(self, start: int, end: int) -> str:
        """The text of a raw range that cuts no piece in two."""
        return self.text[bisect_left(self.starts, start) : bisect_right(self.ends, end)]


class Leaf(NamedTuple):
    """The inside of a string, or a number, at ``raw[start:end]`` of a JSON text.

    ``owner`` numbers the object whose key it is; -1 for what is no key.
    """

    start: int
    end: int
    quoted: bool
    owner: int


def plain(text: str) -> View:
    """The text as it is."""
    return View(text, range(len(text)), range(1, len(text) + 1))


def unescaped(raw: str) -> View:
    """``raw`` with JSON's escapes resolved wherever they stand; a backslash that is none stays."""
    if "\\" not in raw:
        return plain(raw)
    text: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for piece in _PIECE.finditer(raw):
        written, start, end = piece[0], piece.start(), piece.end()
        if written[0] != "\\" or end - start == 1:
            text.append(written)
            starts.extend(range(start, end))
            ends.extend(range(start + 1, end + 1))
        else:
            text.append(_ESCAPES.get(written[1]) or json.loads(f'"{written}"'))
            starts.append(start)
            ends.append(end)
    return View("".join(text), starts, ends)


def json_view(raw: str) -> View | None:
    """``raw`` with the escapes inside its JSON strings resolved, or None when it is not JSON."""
    try:
        json.loads(raw, parse_int=str)  # int() refuses numbers of more than 4,300 digits
    except (ValueError, RecursionError):
        return None
    return unescaped(raw)  # JSON has backslashes inside strings alone


def leaves(raw: str) -> Iterator[Leaf]:
    """The strings and numbers of a valid JSON text, in order."""
    owners = [-1]
    opened = 0
    for token in _TOKEN.finditer(raw):
        if token["string"] is not None:
            yield Leaf(*token.span("string"), True, owners[-1] if token["key"] else -1)
        elif token["number"]:
            yield Leaf(*token.span(), False, -1)
        elif token[0] in "{[":
            owners.append(opened)
            opened += 1
        else:
            owners.pop()


def folded(text: str) -> View:
    """Case, accents, compatibility forms, quotes, dashes, white space and invisible characters folded."""
    out: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for run in _RUN.finditer(text):
        written, offset = run[0], run.start()
        if written.isascii() and written > " ":
            out.append(written.lower().replace("`", "'"))
            starts.extend(range(offset, run.end()))
            ends.extend(range(offset + 1, run.end() + 1))
            continue
        pieces = _fold(written)
        if out and not pieces:  # a mark belongs to the letter before it
            ends[-1] = offset + 1
        for piece in pieces:
            if piece == " " and out and out[-1] == " ":
                ends[-1] = offset + 1
                continue
            out.append(piece)
            starts.append(offset)
            ends.append(offset + 1)
    return View("".join(out), starts, ends)


@lru_cache(maxsize=8192)
def _fold(char: str) -> str:
    decomposed = unicodedata.normalize("NFKD", char).translate(_SAME).casefold()
    return "".join(
        " " if c.isspace() else c
        for c in decomposed
        if c.isspace() or unicodedata.category(c) not in ("Mn", "Cf", "Cc")
    )
