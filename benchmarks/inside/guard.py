"""StreamGuard with checks of no cost, beside a list that is joined whenever a window is full."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from benchmarks.inside import texts
from benchmarks.inside.timing import MB, Effort, least_cpu_s
from benchmarks.table import at_least, markdown
from guardrail.core.decision import Decision
from guardrail.core.policy import Action, Stage
from guardrail.core.stream import Check, Command, Release, StreamGuard
from guardrail.engine.streams import StreamRules

_TARGET_MB_S: Final = 50.0
_CHUNKS: Final = (4, 32, 256, 4096)
_RULES: Final = StreamRules()
_PASS: Final = Decision(Stage.OUTPUT, Action.PASS)
_HEAD: Final = (
    "StreamGuard",
    "characters a chunk",
    "list and join",
    "guard",
    "ratio",
    "ns a chunk",
    "target",
    "",
)


def make_guard(rules: StreamRules) -> StreamGuard:
    return StreamGuard(rules.window, rules.overlap)


def guarded(chunks: Sequence[str], rules: StreamRules) -> list[str]:
    """What leaves when each check passes at once."""
    out: list[str] = []
    guard = make_guard(rules)
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
                out.append(command.text)
            elif isinstance(command, Check):
                following += guard.settle(command, _PASS)
        commands = following


def joined(chunks: Sequence[str], window: int) -> list[str]:
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


def measure(effort: Effort) -> str:
    """The table."""
    rows = [
        _row(name, text, size, effort.rounds)
        for name, text in (("English", texts.clean(MB)), ("nine languages", texts.multilingual(MB)))
        for size in _CHUNKS
    ]
    return markdown(_HEAD, rows)


def _row(name: str, text: str, size: int, rounds: int) -> Sequence[object]:
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    window = _RULES.window or len(text)
    if "".join(guarded(chunks, _RULES)) != text:
        raise AssertionError("the guard changed a text that passed")
    bare_s, guard_s = least_cpu_s(rounds, partial(joined, chunks, window), partial(guarded, chunks, _RULES))
    speed, bare = (len(text.encode()) / MB / seconds for seconds in (guard_s, bare_s))
    outcome = at_least(speed, _TARGET_MB_S)
    return (
        f"{name}: MB/s",
        f"{size:,}",
        f"{bare:,.0f}",
        f"{speed:,.0f}",
        f"{speed / bare:.2f}x",
        f"{guard_s * 1e9 / len(chunks):,.0f}",
        f"≥ {_TARGET_MB_S:g}",
        outcome if bare >= _TARGET_MB_S else f"{outcome}; so does list and join",
    )
