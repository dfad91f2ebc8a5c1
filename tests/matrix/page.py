"""The tables of docs/coverage.md, written from the cells."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from tests.matrix.cells import Action, Cell, Dialect, Feature, Play, Stage, every
from tests.matrix.plays import DIALECTS, PLAYS

SERVED, REFUSED, ABSENT = "✓", "refused", "·"
_WAYS = [
    (stage, streaming, f"{stage} as a {'stream' if streaming else 'body'}")
    for stage, streaming in itertools.product(Stage, (False, True))
]
_NAMES = {
    "openai-python": "OpenAI's Python SDK",
    "openai-node": "OpenAI's Node SDK",
    "anthropic-python": "Anthropic's Python SDK",
    "anthropic-node": "Anthropic's Node SDK",
    "ai-sdk": "Vercel's AI SDK",
}


def mark_of(dialect: Dialect, cell: Cell) -> str:
    """What the page says of one cell."""
    if dialect.absent(cell):
        return ABSENT
    return REFUSED if dialect.refused(cell) else SERVED


def _entry(dialect: Dialect, feature: Feature, action: Action) -> str:
    """One mark for all stages and both ways, or each that differs by its name."""
    marks = {
        name: mark_of(dialect, Cell(dialect.name, streaming, stage, action, feature))
        for stage, streaming, name in _WAYS
    }
    there = {name: mark for name, mark in marks.items() if mark != ABSENT}
    if len(set(there.values())) <= 1:
        return next(iter(there.values()), ABSENT)
    return ", ".join(f"{mark} {name}" for name, mark in there.items())


def _ways(dialect: Dialect) -> Iterator[str]:
    """Where it can be played at all, and why nowhere else."""
    cells = [
        (name, Cell(dialect.name, way, stage, Action.PASS, Feature.PLAIN)) for stage, way, name in _WAYS
    ]
    yield ", ".join(name for name, cell in cells if not dialect.absent(cell)) + "."
    reasons = dict.fromkeys(reason for _, cell in cells if (reason := dialect.absent(cell)))
    if reasons:
        yield f"Not applicable elsewhere: {', '.join(reasons)}."


def _reasons(dialect: Dialect) -> Iterator[str]:
    """Why features are not applicable, and why actions are refused."""
    absent: dict[str, dict[str, None]] = {}
    refused: dict[str, dict[str, None]] = {}
    for cell in every(dialect.name):
        if reason := dialect.absent(cell):
            plain = Cell(cell.dialect, cell.streaming, cell.stage, cell.action, Feature.PLAIN)
            if not dialect.absent(plain):
                absent.setdefault(reason, {})[cell.feature] = None
        elif reason := dialect.refused(cell):
            refused.setdefault(reason, {})[cell.action] = None
    for kind, found in (("Refused by design", refused), ("Not applicable", absent)):
        for reason, names in found.items():
            yield f"- {kind}: *{'*, *'.join(names)}*: {reason}."
    for client in dialect.clients:
        lacking: dict[str, dict[str, None]] = {}
        for cell in every(dialect.name):
            reason = dialect.lacks(Play(cell, client, ""))
            if reason and not dialect.absent(cell):
                lacking.setdefault(reason, {})[cell.feature] = None
        for reason, names in lacking.items():
            yield f"- Not with {_NAMES[client]}: *{'*, *'.join(names)}*: {reason}."


def section(dialect: Dialect) -> list[str]:
    """One dialect: where it is played, its table, the reasons."""
    count = sum(play.cell.dialect == dialect.name for play in PLAYS)
    rows = [
        " | ".join([feature.value, *(_entry(dialect, feature, action) for action in Action)])
        for feature in Feature
    ]
    return [
        f"### {dialect.name}",
        "",
        f"`POST /v1{dialect.path}`: {' '.join(_ways(dialect))} {count} plays with "
        f"{', '.join(_NAMES[client] for client in dialect.clients)}.",
        "",
        f"| the conversation has | {' | '.join(Action)} |",
        "| --- |" + " :-: |" * len(Action),
        *(f"| {row} |" for row in rows),
        "",
        *_reasons(dialect),
        "",
    ]


def tables(dialects: Iterable[Dialect] = DIALECTS.values()) -> str:
    """All of it, as Markdown."""
    return "\n".join(line for dialect in dialects for line in section(dialect))
