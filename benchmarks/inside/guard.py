"""StreamGuard with checks of no cost, beside a list that is joined whenever a window is full."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from benchmarks.inside import texts
from benchmarks.inside.detection import default_detectors
from benchmarks.inside.timing import MB, Effort, least_cpu_s
from benchmarks.table import at_least, markdown
from guardrail.core.decision import Decision
from guardrail.core.policy import Action, Stage
from guardrail.core.release import Check, Command, Release, ReleaseMode, Restorer, StreamRules
from guardrail.core.stream import StreamGuard
from guardrail.engine.lanes import sized

_TARGET_MB_S: Final = 50.0
_CHUNKS: Final = (4, 32, 256, 4096)
_RULES: Final = StreamRules()
_PASS: Final = Decision(Stage.OUTPUT, Action.PASS)
_HEAD: Final = (
    "StreamGuard: MB/s",
    "characters a chunk",
    "list and join",
    "guard",
    "ratio",
    "ns a chunk",
    "target",
    "",
)


def guarded(rules: StreamRules, chunks: Sequence[str], restorer: Restorer | None = None) -> list[str]:
    """What leaves when each check passes at once."""
    out: list[str] = []
    guard = StreamGuard(rules, restorer=restorer)
    for chunk in chunks:
        commands = guard.push(chunk)
        if commands:
            _obey(guard, commands, out)
    _obey(guard, guard.close(), out)
    return out


def _obey(guard: StreamGuard, commands: list[Command], out: list[str]) -> None:
    while commands:
        following: list[Command] = []
        for command in commands:
            if isinstance(command, Release):
                out.append(command.original)
            elif isinstance(command, Check):
                following += guard.settle(command, _PASS)
        commands = following


def joined(window: int, chunks: Sequence[str]) -> list[str]:
    """The least that gathers chunks to windows."""
    out: list[str] = []
    parts: list[str] = []
    size = 0
    for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size >= window:
            out.append("".join(parts))
            parts.clear()
            size = 0
    out.append("".join(parts))
    return out


def cut(text: str, size: int) -> list[str]:
    """The text in chunks of ``size`` characters."""
    return [text[at : at + size] for at in range(0, len(text), size)]


def measure(effort: Effort) -> str:
    """The table."""
    english, foreign = texts.clean(effort.text), texts.multilingual(effort.text)
    whole, live = (StreamRules(release=mode) for mode in (ReleaseMode.WHOLE, ReleaseMode.LIVE))
    held_back = sized(_RULES, frozenset(default_detectors()))
    cases = (
        ("window, English", _RULES, english, _CHUNKS),
        ("window, nine languages", _RULES, foreign, _CHUNKS),
        (f"window, overlap {held_back.overlap:,} for pii and secrets", held_back, english, (4, 32)),
        ("whole, English", whole, english, (4, 32)),
        ("live, English", live, english, (4, 32)),
    )
    rows = [
        _row(name, rules, cut(text, size), effort.rounds)
        for name, rules, text, sizes in cases
        for size in sizes
    ]
    return markdown(_HEAD, rows)


def _row(name: str, rules: StreamRules, chunks: Sequence[str], rounds: int) -> Sequence[object]:
    if "".join(guarded(rules, chunks)) != "".join(chunks):
        raise AssertionError("the guard changed a text that passed")
    works = partial(joined, _RULES.window, chunks), partial(guarded, rules, chunks)
    bare_s, guard_s = least_cpu_s(rounds, *works)
    size_mb = sum(len(chunk.encode()) for chunk in chunks) / MB
    bare, speed = size_mb / bare_s, size_mb / guard_s
    return (
        name,
        f"{len(chunks[0]):,}",
        f"{bare:,.0f}",
        f"{speed:,.0f}",
        f"{speed / bare:.2f}x",
        f"{guard_s * 1e9 / len(chunks):,.0f}",
        f"≥ {_TARGET_MB_S:g}",
        at_least(speed, _TARGET_MB_S),
    )
