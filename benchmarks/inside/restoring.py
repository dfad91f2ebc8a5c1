"""Restoring: a vault's search for its placeholders, in clean text, in dense text and in a stream."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from benchmarks.inside import texts
from benchmarks.inside.guard import cut, guarded
from benchmarks.inside.timing import KB, MB, Effort, least_cpu_s
from benchmarks.table import markdown
from guardrail.core.conversation import Segment
from guardrail.core.policy import Strategy
from guardrail.core.redaction import Span
from guardrail.core.release import StreamRules
from guardrail.core.vault import Vault

_PLACEHOLDERS: Final = 10
_APART: Final = 60  # characters between two placeholders of a dense text
_TURN: Final = 2 * KB
_CHUNK: Final = 32
_HEAD: Final = (
    f"restoring, {_PLACEHOLDERS} placeholders held",
    "restored",
    "without: MB/s",
    "MB/s",
    "ratio",
    "",
)
_KINDS: Final = ("email", "phone")


def filled() -> tuple[Vault, list[str]]:
    """A vault that holds placeholders of two kinds, and the placeholders."""
    values = [f"{name}@mail.example.org" for name in "abcdefghij"[:_PLACEHOLDERS]]
    text = " ".join(values)
    starts = [text.index(value) for value in values]
    spans = [
        Span(start, start + len(value), "PII2", _KINDS[index % 2], Strategy.PLACEHOLDER)
        for index, (start, value) in enumerate(zip(starts, values, strict=True))
    ]
    vault = Vault(bytes(32))
    return vault, [edit.text for edit in vault.redactions(Segment(text, ()), spans)]


def dense(placeholders: Sequence[str], size: int) -> str:
    """Prose with a placeholder in every sixty characters."""
    pieces = cut(texts.clean(size), _APART)
    return "".join(f"{piece} {placeholders[at % len(placeholders)]} " for at, piece in enumerate(pieces))


def measure(effort: Effort) -> str:
    """The table."""
    vault, placeholders = filled()
    kinds = {
        "clean English": texts.clean(effort.text),
        "a placeholder every 60 characters": dense(placeholders, effort.text),
    }
    rows = [_search_row(kind, vault, text, effort.rounds) for kind, text in kinds.items()]
    rows += [_stream_row(kind, vault, text, effort.rounds) for kind, text in kinds.items()]
    return markdown(_HEAD, rows)


def _search(vault: Vault, turns: Sequence[str]) -> int:
    return sum(len(vault.restorations(turn)) for turn in turns)


def _search_row(kind: str, vault: Vault, text: str, rounds: int) -> Sequence[object]:
    turns = cut(text, _TURN)
    found = _search(vault, turns)
    (seconds,) = least_cpu_s(rounds, partial(_search, vault, turns))
    speed = len(text.encode()) / MB / seconds
    return f"search in turns of 2,000 characters: {kind}", f"{found:,}", "", f"{speed:,.0f}", "", ""


def _stream_row(kind: str, vault: Vault, text: str, rounds: int) -> Sequence[object]:
    chunks = cut(text, _CHUNK)
    rules = StreamRules()
    if "".join(guarded(rules, chunks, vault)) != text:
        raise AssertionError("the guard lost text while it waited for placeholders")
    works = partial(guarded, rules, chunks), partial(guarded, rules, chunks, vault)
    bare, speed = (len(text.encode()) / MB / seconds for seconds in least_cpu_s(rounds, *works))
    what = f"StreamGuard, {_CHUNK} characters a chunk: {kind}"
    return what, "", f"{bare:,.0f}", f"{speed:,.0f}", f"{speed / bare:.2f}x", ""
