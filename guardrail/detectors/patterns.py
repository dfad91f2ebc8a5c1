"""Patterns: RE2 on texts. The only module that touches google-re2 (its source: google/re2, BSD).

RE2 runs in time linear in the text whatever the pattern, so no text can stall the process. One
``re2.Set`` pass says which of many patterns occur at all; only those are then searched one by one.
Searching is done on UTF-8 bytes: google-re2 accepts ``str`` too, but re-encodes it on every call
and raises on a lone surrogate. Here each lone surrogate is read as "?", one byte for one character.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any, Final

import re2  # ships no types: see the overrides of mypy in pyproject.toml

__all__ = ["Patterns", "fault"]

_CONTINUATION: Final = bytes(range(0x80, 0xC0))
# RE2's own default is 8 MiB a pattern; a Set needs room for all of its patterns together, and
# gets it only as far as it fills it (1,000 phrases: about 15 MiB).
_SET_MEMORY: Final = 64 << 20
_PATTERN_MEMORY: Final = 32 << 20  # counted repeats of Unicode classes would overflow the default and crawl


def _options(memory: int) -> Any:
    options = re2.Options()
    options.log_errors = False  # RE2 would write the pattern to stderr
    options.max_mem = memory
    return options


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> Any:
    """The compiled pattern; the cache bounds the memory of policies with thousands of phrases."""
    return re2.compile(pattern, _options(_PATTERN_MEMORY))


def fault(pattern: str) -> str | None:
    """Why RE2 does not accept the pattern, or None when it does."""
    try:
        _compiled(pattern)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0]
        return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
    return None


class Patterns:
    """Several RE2 patterns to be searched for together.

    A pattern's span is its first group where it has one, else the whole match. ``screens`` are
    what the pre-pass looks for, one for each pattern, when that is cheaper than the pattern itself;
    a screen must occur wherever its pattern does. All of it is compiled at the first search: many
    detectors are known, few are used, and each may take megabytes.
    """

    def __init__(self, patterns: Sequence[str], screens: Sequence[str] | None = None) -> None:
        self._patterns = tuple(patterns)
        self._screens = self._patterns if screens is None else tuple(screens)

    @cached_property
    def _sets(self) -> list[tuple[int, Any]]:
        return _sets(self._screens, 0)

    def hits(self, text: str) -> list[int]:
        """The indexes of the patterns whose screen occurs in the text, ascending."""
        return self._hits(text.encode("utf-8", "replace"))

    def spans(self, text: str) -> list[tuple[int, int, int]]:
        """(index of the pattern, start, end) of every match, in code points, not empty."""
        encoded = text.encode("utf-8", "replace")
        found = [
            (index, start, end)
            for index in self._hits(encoded)
            for start, end in _walk(_compiled(self._patterns[index]), encoded)
        ]
        if not found or len(encoded) == len(text):
            return found
        return _in_code_points(encoded, found)

    def _hits(self, encoded: bytes) -> list[int]:
        return sorted(first + hit for first, one in self._sets for hit in one.Match(encoded) or ())


def _sets(screens: tuple[str, ...], first: int) -> list[tuple[int, Any]]:
    """(index of its first screen, set) for as many sets as their memory asks for."""
    if not screens:
        return []
    one = re2.Set.SearchSet(_options(_SET_MEMORY))
    for screen in screens:
        one.Add(screen)
    try:
        one.Compile()  # to match with a set that did not compile would crash the process
    except re2.error:
        if len(screens) == 1:
            raise
        half = len(screens) // 2
        return _sets(screens[:half], first) + _sets(screens[half:], first + half)
    return [(first, one)]


def _walk(pattern: Any, encoded: bytes) -> Iterator[tuple[int, int]]:
    """Byte ranges of the matches; each search starts where the last *span* ended.

    So what a pattern reads behind its group is read again as the left neighbour of the next match.
    """
    group = 1 if pattern.groups else 0
    position = 0
    while (match := pattern.search(encoded, position)) is not None:
        start, end = match.span(group)
        if end > start:
            yield start, end
            position = end
        else:
            position = match.start() + 1
        if position > len(encoded):
            return


def _in_code_points(encoded: bytes, found: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Byte offsets as code point offsets: the number of bytes before it that begin a character."""
    points = {0: 0}
    last = 0
    for offset in sorted({at for _, start, end in found for at in (start, end)}):
        begun = len(encoded[last:offset].translate(None, _CONTINUATION))
        points[offset] = points[last] + begun
        last = offset
    return [(index, points[start], points[end]) for index, start, end in found]
