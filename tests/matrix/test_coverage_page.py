"""docs/coverage.md says what the matrix holds, and the matrix was played as it says."""

from __future__ import annotations

import os
from pathlib import Path

from tests.matrix.cells import Play
from tests.matrix.conftest import Played
from tests.matrix.page import SERVED, mark_of, tables
from tests.matrix.plays import DIALECTS

PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"
BEGIN, END = "<!-- coverage tables -->\n", "<!-- end of coverage tables -->"


def test_what_is_served_was_served_and_what_is_refused_was_refused(played: dict[Play, Played]) -> None:
    for play, own in played.items():
        mark = mark_of(DIALECTS[play.cell.dialect], play.cell)
        assert (mark == SERVED) is (own.client.error is None), play


def test_the_page_holds_the_tables() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    assert mark, f"{PAGE.name} has lost the marks of its tables"
    written = before + BEGIN + tables() + END + after
    if os.environ.get("GUARDRAIL_WRITE_DOCS"):
        PAGE.write_text(written, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == written, "write it anew with GUARDRAIL_WRITE_DOCS=1"
