"""The catalogue: every detector by its name, and the search for several of them in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from guardrail.detectors import (
    injection_phrases,
    injection_tokens,
    pii_email,
    pii_ip,
    pii_numbers,
    pii_phone,
    secret_assignment,
    secret_blocks,
    secret_keys,
    unicode_confusables,
    unicode_hidden,
)
from guardrail.detectors.detector import Detector, Triggered
from guardrail.detectors.folding import fold
from guardrail.detectors.patterns import Patterns
from guardrail.errors import ConfigError

__all__ = ["DETECTORS", "find_all"]

_ENTRIES: Final = {
    entry.detector.name: entry
    for entry in (
        pii_email.EMAIL,
        pii_phone.PHONE,
        pii_numbers.CARD,
        pii_numbers.IBAN,
        pii_numbers.US_SSN,
        pii_ip.IP,
        secret_keys.PROVIDER_KEY,
        secret_blocks.PRIVATE_KEY,
        secret_blocks.JWT,
        secret_blocks.CONNECTION_STRING,
        secret_assignment.ASSIGNMENT,
        unicode_hidden.INVISIBLE,
        unicode_hidden.BIDI,
        unicode_hidden.TAGS,
        unicode_confusables.CONFUSABLES,
        injection_tokens.SPECIAL_TOKENS,
        injection_phrases.OVERRIDE,
        injection_phrases.PERSONA,
        injection_phrases.PROMPT_LEAK,
    )
}

DETECTORS: Final[Mapping[str, Detector]] = MappingProxyType(
    {name: entry.detector for name, entry in _ENTRIES.items()}
)
"""Every detector by its name."""


def find_all(names: Iterable[str], text: str) -> list[tuple[str, int, int]]:
    """(detector's name, start, end) of all that the named detectors find, in the text's order.

    Offsets are code points; spans of different detectors may overlap. Text in which nothing is
    found costs one pass, or two when it is not ASCII. Raises ``ConfigError`` for an unknown name.
    """
    suspects = _pre_pass(tuple(names)).suspects(text)
    if not suspects:
        return []
    found = [(one.name, start, end) for one in suspects for start, end in one.find(text)]
    return sorted(found, key=lambda hit: (hit[1], hit[2], hit[0]))


@dataclass(frozen=True, slots=True)
class _Screen:
    """Detectors whose triggers are looked for in one pass over one form of the text."""

    detectors: tuple[Detector, ...]
    triggers: Patterns

    @classmethod
    def of(cls, entries: Iterable[Triggered]) -> _Screen:
        kept = tuple(entries)
        return cls(tuple(e.detector for e in kept), Patterns([e.trigger for e in kept]))

    def suspects(self, text: str) -> list[Detector]:
        return [self.detectors[hit] for hit in self.triggers.hits(text)]


@dataclass(frozen=True, slots=True)
class _PrePass:
    """The screens of one choice of detectors: ASCII text is its own folded form."""

    ascii: _Screen
    raw: _Screen
    folded: _Screen

    def suspects(self, text: str) -> list[Detector]:
        if text.isascii():
            return self.ascii.suspects(text)
        suspects = self.raw.suspects(text)
        if self.folded.detectors:
            suspects += self.folded.suspects(fold(text))
        return suspects


@lru_cache(maxsize=64)
def _pre_pass(names: tuple[str, ...]) -> _PrePass:
    entries = [_entry(name) for name in dict.fromkeys(names)]
    return _PrePass(
        ascii=_Screen.of(entry for entry in entries if not entry.beyond_ascii),
        raw=_Screen.of(entry for entry in entries if not entry.folded),
        folded=_Screen.of(entry for entry in entries if entry.folded),
    )


def _entry(name: str) -> Triggered:
    try:
        return _ENTRIES[name]
    except KeyError:
        known = ", ".join(_ENTRIES)
        raise ConfigError(f"unknown detector {name!r}; there are {known}") from None
