"""Violating cases out of the golden sets beside the policies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.policy import Policy, Stage
from guardrail.errors import PolicyError

__all__ = ["violating_cases"]


def violating_cases(directory: Path, policies: Sequence[Policy], most: int) -> dict[str, list[Subject]]:
    """Up to ``most`` violating rows of each policy's ``golden.jsonl``; none where it has no such file.

    Raises ``PolicyError`` for a row that cannot be read.
    """
    return {policy.id: _cases(directory / policy.id / "golden.jsonl", policy, most) for policy in policies}


def _cases(file: Path, policy: Policy, most: int) -> list[Subject]:
    if not file.is_file():
        return []
    found: list[Subject] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if len(found) == most:
            break
        try:
            row = json.loads(line)
            if policy.labels[row["label"]].violation:
                found.append(_subject(row))
        except (ValueError, KeyError, TypeError):
            raise PolicyError(f"{file}: line {number} is no golden case; see docs/policies.md") from None
    return found


def _subject(row: dict[str, object]) -> Subject:
    messages = row.get("messages") or [{"role": "user", "content": row["text"]}]
    turns = [Turn(m["role"], (Segment(m["content"], ()),)) for m in messages]  # type: ignore[attr-defined]
    return Subject(Stage(str(row["stage"])), tuple(turns[:-1]), (turns[-1],))
