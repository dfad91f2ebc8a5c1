"""Addresses of crypto currencies that pass their own checks (``pii.crypto``)."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns
from guardrail.detectors.pii_context import behind
from guardrail.detectors.pii_keccak import keccak256

__all__ = ["CRYPTO", "find_crypto"]

_LONGEST: Final = 120  # Cardano's have 103 to 108 characters

# Base58Check (Bitcoin, Litecoin, Dogecoin, Dash, Tron and more): 25 bytes, four of them a checksum.
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# BIP 173 and 350 (Bitcoin since SegWit, Litecoin, Cosmos, Cardano): a readable part, "1", and at least
# 32 characters and six of a checksum, in one case.
_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_RESIDUES: Final = (1, 0x2BC830A3)
# Ethereum: twenty bytes in hexadecimal; ERC-55 hides a checksum in the case of the letters. Without it
# (all letters in one case) they are an address only where they are called one.
_HEX: Final = r"0x[0-9A-Fa-f]{40}"

_FORMS: Final = (
    rf"(?:^|[^A-Za-z0-9])([{_BASE58}]{{26,35}})(?:$|[^A-Za-z0-9])",
    rf"(?:^|[^A-Za-z0-9])([a-z]{{2,12}}1[{_BECH32}]{{38,107}}|[A-Z]{{2,12}}1[{_BECH32.upper()}]{{38,107}})"
    r"(?:$|[^A-Za-z0-9])",
    rf"(?:^|[^A-Za-z0-9])({_HEX})(?:$|[^A-Za-z0-9])",
    behind(
        r"address(?:es)?|wallet|account|metamask|ether(?:eum)?|eth|erc-?20|usd[ct]|bnb|pay(?:able)?|send",
        _HEX,
    ),
)
_PATTERNS: Final = Patterns(_FORMS)
_BASE58_INDEX, _BECH32_INDEX, _HEX_INDEX = 0, 1, 2
_BATCH: Final = 256  # hashes at once: more would leave the processor's cache


def find_crypto(text: str) -> list[tuple[int, int]]:
    """Spans of wallets' addresses with a checksum, and of Ethereum's without one behind a word for them."""
    spans, cased = [], []
    for index, start, end in _PATTERNS.spans(text):
        if index == _HEX_INDEX:
            cased.append((start, end))
        elif _is_address(index, text[start:end]):
            spans.append((start, end))
    for first in range(0, len(cased), _BATCH):
        spans.extend(_checksummed(text, cased[first : first + _BATCH]))
    return tidy(spans, _LONGEST)


def _is_address(index: int, written: str) -> bool:
    if index == _BASE58_INDEX:
        return _is_base58check(written)
    return index != _BECH32_INDEX or _is_bech32(written.lower())


def _is_base58check(written: str) -> bool:
    """Whether the last four of 25 bytes begin the double SHA-256 of the others."""
    number = 0
    for character in written:
        number = number * 58 + _BASE58.index(character)
    if number >= 1 << 200:
        return False
    body = number.to_bytes(25, "big")
    return sha256(sha256(body[:21]).digest()).digest()[:4] == body[21:]


def _is_bech32(written: str) -> bool:
    """Whether the code's remainder is Bech32's or Bech32m's (BIP 173, BIP 350)."""
    human, _, coded = written.rpartition("1")
    values = [ord(c) >> 5 for c in human] + [0] + [ord(c) & 31 for c in human]
    values += [_BECH32.index(c) for c in coded]
    remainder = 1
    for value in values:
        top = remainder >> 25
        remainder = (remainder & 0x1FFFFFF) << 5 ^ value
        for at, generator in enumerate(_GENERATORS):
            remainder ^= generator if top >> at & 1 else 0
    return remainder in _RESIDUES


def _checksummed(text: str, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Those whose capitals are where the hash of the small letters has a digit above seven (ERC-55)."""
    mixed = [(start, end) for start, end in spans if not _has_one_case(text[start + 2 : end])]
    hashes = keccak256([text[start + 2 : end].lower().encode() for start, end in mixed])
    for (start, end), digest in zip(mixed, hashes, strict=True):
        pairs = zip(text[start + 2 : end], digest.hex(), strict=False)
        if all(c.isdigit() or c.isupper() == (nibble > "7") for c, nibble in pairs):
            yield start, end


def _has_one_case(digits: str) -> bool:
    return digits == digits.lower() or digits == digits.upper()


CRYPTO: Final = Triggered(
    Detector("pii.crypto", find_crypto, _LONGEST, unbroken=True),
    rf"(?:\b|_)[{_BASE58}]{{26,35}}(?:\b|_)|(?:\b|_)[a-zA-Z]{{2,12}}1[02-9ac-hj-np-zAC-HJ-NP-Z]{{38}}|{_HEX}",
)
