"""How work inside one process is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MB: Final = 1_000_000
KB: Final = 1_000


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: rounds of each figure; bytes of a text, and of a hostile one twice."""

    rounds: int
    text: int
    hostile: tuple[int, int]


FULL: Final = Effort(rounds=7, text=MB, hostile=(100 * KB, MB))
QUICK: Final = Effort(rounds=2, text=250 * KB, hostile=(20 * KB, 200 * KB))


def least_cpu_s(rounds: int, *works: Callable[[], object]) -> list[float]:
    """The least CPU time of each work in seconds, taking turns: whatever else runs can only add."""
    least = [float("inf")] * len(works)
    for _ in range(rounds):
        for index, work in enumerate(works):
            started = time.process_time()
            work()
            least[index] = min(least[index], time.process_time() - started)
    return least
