"""Detectors: speed on clean and mixed text, the cost of each, and how time grows on hostile texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Final

from benchmarks.inside import texts
from benchmarks.inside.timing import KB, MB, Effort, least_cpu_s
from benchmarks.processes import ROOT
from benchmarks.table import at_least, at_most, markdown
from guardrail.backends.policy_files import load_policy
from guardrail.detectors import DETECTORS, find_all

_POLICIES: Final = ("pii", "secrets")
_TARGET_MB_S: Final = 10.0
_TURN: Final = 2 * KB  # characters: a message, or what one check of a stream reads
_MOST_GROWTH: Final = 20.0  # 10 is linear, 100 quadratic
_LEAST_S: Final = 1e-3  # what takes less is not slow, and its ratio is noise

_SPEED_HEAD: Final = ("detectors of the policies pii and secrets", "spans", "MB/s", "target", "")
_COST_HEAD: Final = ("detector, alone: µs/KB", "clean", "mixed", "pii, secrets")
_GROWTH_HEAD: Final = (
    "hostile texts",
    "slowest: MB/s",
    "on",
    "time for ten times the text",
    "on",
    "limit",
    "",
)


def default_detectors() -> list[str]:
    """The detectors that the front matter of the policies names."""
    return [name for policy in _POLICIES for name in _named(policy)]


def _named(policy: str) -> Iterable[str]:
    return load_policy(ROOT / "policies" / policy / "policy.md").detectors


def measure(effort: Effort) -> str:
    """The three tables."""
    clean, mixed = texts.clean(effort.text), texts.mixed(effort.text)
    kinds = {
        "clean English, turns of 2,000 characters": _turns(clean),
        "clean English, in one piece": [clean],
        "mixed, turns of 2,000 characters": _turns(mixed),
        "mixed, in one piece": [mixed],
    }
    names = default_detectors()
    speeds = [_speed_row(kind, names, pieces, effort.rounds) for kind, pieces in kinds.items()]
    searches = {name: [name] for name in DETECTORS} | {"all together": list(DETECTORS)}
    costs = [
        (
            name,
            *_costs(search, (_turns(clean), _turns(mixed)), effort.rounds),
            "yes" if name in names else "",
        )
        for name, search in searches.items()
    ]
    families: dict[str, list[str]] = {}
    for name in DETECTORS:
        families.setdefault(name.partition(".")[0], []).append(name)
    growth = [_growth_row(family, members, effort.hostile) for family, members in families.items()]
    return "\n".join(
        (markdown(_SPEED_HEAD, speeds), markdown(_COST_HEAD, costs), markdown(_GROWTH_HEAD, growth))
    )


def _turns(text: str) -> list[str]:
    return [text[at : at + _TURN] for at in range(0, len(text), _TURN)]


def _find(names: Sequence[str], pieces: Sequence[str]) -> int:
    return sum(len(find_all(names, piece)) for piece in pieces)


def _speed_row(kind: str, names: Sequence[str], pieces: Sequence[str], rounds: int) -> Sequence[object]:
    found = _find(names, pieces)
    (seconds,) = least_cpu_s(rounds, partial(_find, names, pieces))
    speed = sum(len(piece.encode()) for piece in pieces) / MB / seconds
    return kind, f"{found:,}", f"{speed:,.1f}", f"≥ {_TARGET_MB_S:g}", at_least(speed, _TARGET_MB_S)


def _costs(names: Sequence[str], kinds: Sequence[Sequence[str]], rounds: int) -> Iterator[str]:
    for pieces in kinds:
        (seconds,) = least_cpu_s(rounds, partial(_find, names, pieces))
        yield f"{seconds * 1e6 / (sum(len(piece.encode()) for piece in pieces) / KB):.1f}"


def _growth_row(family: str, names: Sequence[str], sizes: tuple[int, int]) -> Sequence[object]:
    """The hostile text that is searched most slowly, and the one whose time grows most."""
    slowest, most = (float("inf"), ""), (0.0, "")
    for kind, make in texts.HOSTILE.items():
        searches = [partial(find_all, names, make(size)) for size in sizes]
        small_s, large_s = least_cpu_s(1, *searches)
        slowest = min(slowest, (sizes[1] / MB / large_s, kind))
        most = max(most, (large_s / max(small_s, _LEAST_S), kind))
    (speed, slow), (growth, grown) = slowest, most
    limit, outcome = f"≤ {_MOST_GROWTH:g}x", at_most(growth, _MOST_GROWTH)
    return (
        f"{family}: {len(names)} detectors",
        f"{speed:,.2f}",
        slow,
        f"{growth:.1f}x",
        grown,
        limit,
        outcome,
    )
