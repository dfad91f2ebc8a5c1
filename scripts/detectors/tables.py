"""How figures are written: Markdown tables, shares, and the parts of a page between its markers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["counted", "page_with", "share", "table"]


def table(head: list[str], lines: Iterable[list[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines)]


def share(part: int, whole: int) -> str:
    """``0.50 (1/2)``, or a dash for a share of nothing."""
    return f"{part / whole:.2f} ({part}/{whole})" if whole else "–"  # noqa: RUF001


def counted(counts: Mapping[str, int]) -> str:
    """``key (count)`` of each, by key."""
    return ", ".join(f"{key} ({count})" for key, count in sorted(counts.items()))


def page_with(page: str, part: str, lines: Iterable[str]) -> str:
    """The page with what stands between the markers of one part written anew."""
    begin, end = f"<!-- {part}: written by scripts/detectors -->\n", f"<!-- end of {part} -->\n"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    assert found, f"the page has no marker for {part}"
    assert closed, f"the page does not end its {part}"
    return before + begin + "\n".join(lines).rstrip("\n") + "\n" + end + after
