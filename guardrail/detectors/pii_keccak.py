"""Keccak-256, the hash of Ethereum's addresses, of many short messages at once.

``hashlib`` has SHA-3 only, whose padding is another. The state of all messages is kept in 25 integers,
64 bits for each message, so that one operation of Python works on all of them: a text full of addresses
costs microseconds an address instead of a millisecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, repeat
from typing import Final

__all__ = ["RATE", "keccak256"]

RATE: Final = 136
"""Bytes of a block (the Keccak reference, section 1.2, with c = 512); a message has two fewer at most."""


def _constants() -> list[int]:
    """The 24 round constants, by the shift register of the Keccak reference, section 1.2."""
    bits = list(
        accumulate(repeat(None, 167), lambda r, _: (r << 1) ^ (0x171 if r & 0x80 else 0), initial=1)
    )
    return [sum((bits[7 * at + j] & 1) << (1 << j) - 1 for j in range(7)) for at in range(24)]


_CONSTANTS: Final = _constants()
# Along the path of rho and pi: from which lane to which, and by how many bits (section 1.2, tables 1, 2).
_PATH: Final = (10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4, 15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1)


def keccak256(messages: Sequence[bytes]) -> list[bytes]:
    """The 32 bytes of each message's hash, for messages of at most ``RATE - 2`` bytes."""
    blocks = [(message + b"\x01").ljust(RATE - 1, b"\x00") + b"\x80" for message in messages]
    ones = int.from_bytes(b"\x01\0\0\0\0\0\0\0" * len(blocks), "little")
    full = ones * ((1 << 64) - 1)
    lanes = [
        int.from_bytes(b"".join(block[8 * at : 8 * at + 8] for block in blocks), "little")
        for at in range(17)
    ] + [0] * 8

    def turned(lane: int, by: int) -> int:
        low = ones * ((1 << 64 - by) - 1)
        return (lane & low) << by | (lane & ~low & full) >> (64 - by)

    for constant in _CONSTANTS:
        column = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
        mixed = [column[x - 1] ^ turned(column[(x + 1) % 5], 1) for x in range(5)]
        lanes = [lane ^ mixed[at % 5] for at, lane in enumerate(lanes)]
        moving = lanes[1]
        for step, to in enumerate(_PATH):
            moving, lanes[to] = lanes[to], turned(moving, (step + 1) * (step + 2) // 2 % 64)
        lanes = [
            lanes[at] ^ (full ^ lanes[at - at % 5 + (at + 1) % 5]) & lanes[at - at % 5 + (at + 2) % 5]
            for at in range(25)
        ]
        lanes[0] ^= ones * constant
    parts = [lane.to_bytes(8 * len(blocks), "little") for lane in lanes[:4]]
    return [b"".join(part[8 * at : 8 * at + 8] for part in parts) for at in range(len(blocks))]
