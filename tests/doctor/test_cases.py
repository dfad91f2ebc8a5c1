"""The twin of guardrail/doctor/cases.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guardrail.core.policy import Action, LabelRule, Policy, Stage
from guardrail.doctor.cases import violating_cases
from guardrail.errors import PolicyError

POLICY = Policy("p", "Body.", {"OK": LabelRule("OK", False), "BAD": LabelRule("BAD", True, Action.BLOCK)})


def write(folder: Path, *rows: object) -> None:
    (folder / "p").mkdir()
    text = "".join(row + "\n" if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    (folder / "p" / "golden.jsonl").write_text(text)


def test_the_violating_rows_up_to_so_many(tmp_path: Path):
    turns = [{"role": "user", "content": "first"}, {"role": "assistant", "content": "answer"}]
    write(
        tmp_path,
        {"text": "fine", "stage": "input", "label": "OK"},
        {"text": "bad", "stage": "input", "label": "BAD"},
        {"messages": turns, "stage": "output", "label": "BAD"},
        {"text": "bad too", "stage": "input", "label": "BAD"},
    )
    first, second = violating_cases(tmp_path, [POLICY], 2)["p"]
    assert (first.stage, first.text, first.context) == (Stage.INPUT, "bad", ())
    assert (second.stage, second.text, [t.role for t in second.context]) == (
        Stage.OUTPUT,
        "answer",
        ["user"],
    )


def test_without_a_golden_set_there_are_none(tmp_path: Path):
    assert violating_cases(tmp_path, [POLICY], 3) == {"p": []}


@pytest.mark.parametrize(
    "row", ["{", {"text": "x", "stage": "input"}, {"text": "x", "stage": "input", "label": "X"}]
)
def test_a_row_that_is_none_is_named_by_its_line(tmp_path: Path, row: object):
    write(tmp_path, {"text": "fine", "stage": "input", "label": "OK"}, row)
    with pytest.raises(PolicyError, match="line 2"):
        violating_cases(tmp_path, [POLICY], 3)
