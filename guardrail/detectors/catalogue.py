"""The catalogue: every detector by its name, and the search for several of them in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from guardrail.detectors import (
    encodings,
    injection_phrases,
    injection_tokens,
    pii_address,
    pii_bank_routing,
    pii_birth_date,
    pii_crypto,
    pii_documents,
    pii_email,
    pii_ip,
    pii_mac,
    pii_national_id,
    pii_numbers,
    pii_phone,
    secret_assignment,
    secret_blocks,
    secret_headers,
    secret_keys,
    unicode_confusables,
    unicode_hidden,
    unicode_marks,
)
from guardrail.detectors.detector import ENCODED_RUN, Detector, Triggered, tidy
from guardrail.detectors.folding import forms
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
        pii_mac.MAC,
        pii_address.ADDRESS,
        pii_birth_date.BIRTH_DATE,
        pii_national_id.NATIONAL_ID,
        pii_documents.PASSPORT,
        pii_documents.DRIVING_LICENCE,
        pii_bank_routing.BANK_ROUTING,
        pii_crypto.CRYPTO,
        secret_keys.PROVIDER_KEY,
        secret_blocks.PRIVATE_KEY,
        secret_blocks.JWT,
        secret_blocks.CONNECTION_STRING,
        secret_assignment.ASSIGNMENT,
        secret_headers.HEADER,
        unicode_hidden.INVISIBLE,
        unicode_hidden.BIDI,
        unicode_hidden.TAGS,
        unicode_marks.COMBINING,
        unicode_confusables.CONFUSABLES,
        injection_tokens.SPECIAL_TOKENS,
        injection_phrases.OVERRIDE,
        injection_phrases.PERSONA,
        injection_phrases.PROMPT_LEAK,
    )
}

_NONE: Final[frozenset[int]] = frozenset()

DETECTORS: Final[Mapping[str, Detector]] = MappingProxyType(
    {name: entry.detector for name, entry in _ENTRIES.items()}
)
"""Every detector by its name."""


def find_all(names: Iterable[str], text: str) -> list[tuple[str, int, int]]:
    """(detector's name, start, end) of all that the named detectors find, in the text's order.

    Encoded text is looked through as well (see ``encodings``), by all but ``unicode.*``. Offsets are
    code points; spans of different detectors may overlap. Text in which nothing is found costs one
    pass; when it is not ASCII, one for each of its forms. Raises ``ConfigError`` for an unknown name.
    """
    spans: dict[str, list[tuple[int, int]]] = {}
    for name, start, end in _search(tuple(names), text, encodings.DEPTH):
        spans.setdefault(name, []).append((start, end))
    found = [
        (name, start, end)
        for name, some in spans.items()
        for start, end in tidy(some, max(DETECTORS[name].longest, ENCODED_RUN))
    ]
    return sorted(found, key=lambda hit: (hit[1], hit[2], hit[0]))


def _search(
    names: tuple[str, ...], text: str, depth: int, done: frozenset[int] = _NONE
) -> Iterator[tuple[str, int, int]]:
    """What is found in a text and, to a depth, in what is encoded there; in no order.

    ``done``: the kinds of layers that are not to be looked through again.
    """
    pre_pass = _pre_pass(names)
    suspects, kinds = pre_pass.suspects(text)
    for one in suspects:
        for start, end in one.find(text):
            yield one.name, start, end
    if not depth:
        return
    for kind, layer in encodings.layers(text, kinds - done):
        once = done | encodings.ONCE.intersection((kind,))
        hits = [*_search(pre_pass.inside, layer.text, depth - 1, once)]
        places = layer.back([(start, end) for _, start, end in hits])
        for (name, _, _), (start, end) in zip(hits, places, strict=True):
            yield name, start, end


@dataclass(frozen=True, slots=True)
class _Screen:
    """Detectors whose triggers are looked for in one pass over one form of the text."""

    detectors: tuple[Detector, ...]
    triggers: Patterns

    @classmethod
    def of(cls, entries: Iterable[Triggered], signs: Iterable[str] = ()) -> _Screen:
        """The screen of these entries and, behind them, of the signs of layers."""
        kept = tuple(entries)
        return cls(tuple(e.detector for e in kept), Patterns([*(e.trigger for e in kept), *signs]))

    def suspects(self, text: str) -> tuple[list[Detector], frozenset[int]]:
        """The detectors that may find something, and the kinds of layers that there may be."""
        hits = self.triggers.hits(text)
        if not hits:
            return [], _NONE
        size = len(self.detectors)
        kinds = frozenset(hit - size for hit in hits if hit >= size)
        return [self.detectors[hit] for hit in hits if hit < size], kinds


@dataclass(frozen=True, slots=True)
class _PrePass:
    """The screens of one choice of detectors: ASCII text is its own folded form.

    ``inside``: those of them that look through what is encoded.
    """

    ascii: _Screen
    raw: _Screen
    folded: _Screen
    inside: tuple[str, ...]

    def suspects(self, text: str) -> tuple[list[Detector], frozenset[int]]:
        """As of a screen."""
        if text.isascii():
            return self.ascii.suspects(text)
        suspects, kinds = self.raw.suspects(text)
        if self.folded.detectors:
            hits = [one for form in forms(text) for one in self.folded.suspects(form)[0]]
            suspects += dict.fromkeys(hits)
        return suspects, kinds


@lru_cache(maxsize=64)
def _pre_pass(names: tuple[str, ...]) -> _PrePass:
    entries = [_entry(name) for name in dict.fromkeys(names)]
    inside = tuple(entry.detector.name for entry in entries if entry.detector.inside)
    signs = encodings.SIGNS if inside else ()
    return _PrePass(
        ascii=_Screen.of((entry for entry in entries if not entry.beyond_ascii), signs),
        raw=_Screen.of((entry for entry in entries if not entry.folded), signs),
        folded=_Screen.of(entry for entry in entries if entry.folded),
        inside=inside,
    )


def _entry(name: str) -> Triggered:
    try:
        return _ENTRIES[name]
    except KeyError:
        known = ", ".join(_ENTRIES)
        raise ConfigError(f"unknown detector {name!r}; there are {known}") from None
