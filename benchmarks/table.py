"""Markdown tables, and whether a figure meets its target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table whose first and last columns are text and whose others are figures."""
    rule = ["---", *["--:"] * (len(head) - 2), "---"]
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in (head, rule, *rows))


def at_most(value: float, budget: float, stretch: float | None = None) -> str:
    """Whether the value keeps within its budget, or even within the stretch."""
    if value > budget:
        return "**missed**"
    return "met, stretch too" if stretch is not None and value <= stretch else "met"


def at_least(value: float, target: float) -> str:
    """Whether the value reaches its target."""
    return "met" if value >= target else "**missed**"
