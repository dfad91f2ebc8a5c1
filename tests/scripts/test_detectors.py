"""What ``scripts/detectors`` counts, on spans made here; and what the detectors reached, where the data is.

The floors are a little under what was measured when they were written (docs/detectors.md has the figures),
so that a change that costs a finding or two is seen in the page, and one that breaks a detector turns red.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from guardrail.detectors import DETECTORS


def _script() -> ModuleType:
    """The script as a module. It has no suffix, so that ``import`` would not find it."""
    path = Path(__file__).parents[2] / "scripts/detectors"
    module = sys.modules["scripts_detectors"] = ModuleType("scripts_detectors")  # dataclasses look there
    module.__file__ = str(path)
    exec(compile(path.read_text(), path, "exec"), module.__dict__)
    return module


script = _script()
NEEDS_FOLDER = pytest.mark.skipif(
    not script.FOLDER.is_dir(),
    reason=f"the evaluation sets are not part of the repository: no {script.FOLDER}",
)


def finder(**words: str) -> Any:
    """A stand-in for ``find_all``: each detector finds one word."""

    def find(names: Any, text: str) -> list[tuple[str, int, int]]:
        asked = {name: words[name] for name in names if words.get(name, "\0") in text}
        return [(name, text.index(word), text.index(word) + len(word)) for name, word in asked.items()]

    return find


def line(text: str, *spans: tuple[int, int, str], **more: Any) -> dict[str, Any]:
    return {
        "id": "x:1", "text": text, "lang": "en", "policy": "benign", "labels": {},
        "spans": [{"start": start, "end": end, "type": kind} for start, end, kind in spans], **more,
    }  # fmt: skip


class TestSpans:
    @pytest.mark.parametrize(
        ("word", "spans", "recall", "precision", "beside"),
        [
            ("name", [(3, 7, "A")], (1, 1), (1, 1), {}),
            ("am", [(3, 7, "A")], (1, 0), (1, 0), {}),
            ("a name b", [(3, 7, "A")], (1, 0), (1, 0), {}),
            ("name", [(10, 11, "A")], (0, 0), (0, 0), {"no label": 1}),
            ("name", [(0, 1, "A"), (3, 7, "B")], (0, 0), (0, 0), {"B": 1}),
            ("name", [(3, 5, "A"), (5, 7, "A")], (1, 0), (1, 0), {}),
            ("name", [(3, 7, "A"), (8, 9, "A")], (0.5, 0.5), (1, 1), {}),
            ("no such word", [(3, 7, "A")], (0, 0), (1, 1), {}),
            ("name", [], (1, 1), (0, 0), {"no label": 1}),
        ],
    )
    def test_how_found_spans_lie_on_labelled_ones(
        self,
        word: str,
        spans: list[tuple[int, int, str]],
        recall: tuple[float, float],
        precision: tuple[float, float],
        beside: dict[str, int],
    ) -> None:
        row = line("-a name b - ", *spans)
        score = script.spans_by_type([row], {"A": "one"}, finder(one=word))["A"]
        assert (score.recall, score.recall_same) == recall
        assert (score.precision, score.precision_same) == precision
        assert score.beside == beside

    def test_a_span_is_whole_only_when_all_of_it_was_found(self) -> None:
        rows = [line("ab", (0, 2, "A")), line("ab", (0, 1, "A"), (1, 2, "A"))]
        part = script.spans_by_type(rows, {"A": "one"}, finder(one="a"))["A"]
        assert (part.labelled, part.touched, part.whole, part.same) == (3, 2, 1, 1)


class TestAlarms:
    CLEAN = line("so clean")

    @pytest.mark.parametrize(
        ("row", "name", "false"),
        [
            (CLEAN, "pii.x", True),
            (CLEAN, "unicode.x", True),
            (CLEAN | {"not_for": ["pii"]}, "pii.x", False),
            (CLEAN | {"not_for": ["pii"]}, "secrets.x", True),
            (CLEAN | {"policy": "secrets", "labels": {"secrets": 0}}, "secrets.x", True),
            (CLEAN | {"policy": "secrets", "labels": {"secrets": 0}}, "pii.x", False),
            (
                CLEAN | {"policy": "prompt_injection", "labels": {"prompt_injection": 1}},
                "injection.x",
                False,
            ),
            (CLEAN | {"policy": "prompt_injection", "labels": {"prompt_injection": 0}}, "unicode.x", True),
        ],
    )
    def test_an_alarm_is_false_only_where_the_label_says_so(
        self, row: dict[str, Any], name: str, false: bool
    ) -> None:
        found = script.false_alarms([row], [name], finder(**{name: "clean"}))
        assert found == (Counter({name: 1} if false else {}), Counter())

    def test_an_alarm_that_was_read_and_is_right_counts_apart(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(script, "RIGHT_AFTER_ALL", {("x:1", "pii.x"): "a real one"})
        rows = [self.CLEAN, self.CLEAN | {"id": "x:2"}]
        found = script.false_alarms(rows, ["pii.x"], finder(**{"pii.x": "clean"}))
        assert found == (Counter({"pii.x": 1}), Counter({"a real one": 1}))

    def test_attacks_count_by_language_and_turns_of_the_application_do_not(self) -> None:
        turns = [{"role": "system", "content": "b"}, {"role": "tool", "content": "a"}]
        rows = [
            line("a", labels={"prompt_injection": 1}),
            line("b", labels={"prompt_injection": 1}),
            line("a", labels={"prompt_injection": 0}),
            {"messages": turns, "lang": "de", "labels": {"prompt_injection": 1}},
        ]
        found = script.attacks(rows, ["i.a", "i.b"], finder(**{"i.a": "a", "i.b": "x"}))
        assert {lang: (one.found, one.lines, one.by) for lang, one in found.items()} == {
            "en": (1, 2, {"i.a": 1}),
            "de": (1, 1, {"i.a": 1}),
        }
        assert script.attacks(rows[3:], ["i.b"], finder(**{"i.b": "b"}))["de"].found == 0


class TestPage:
    def test_only_what_stands_between_the_markers_is_written(self) -> None:
        begin, end = "<!-- figures: written by scripts/detectors -->\n", "<!-- end of figures -->\n"
        page = f"before\n{begin}old\n{end}after\n"
        assert script.written(page, "figures", ["new", ""]) == f"before\n{begin}new\n{end}after\n"
        with pytest.raises(AssertionError, match="no marker"):
            script.written("before", "figures", [])
        with pytest.raises(AssertionError, match="does not end"):
            script.written(begin, "figures", [])

    def test_the_page_lists_the_detectors_as_they_are(self) -> None:
        page = script.PAGE.read_text()
        assert "\n".join(script.catalogue()) in page, "run scripts/detectors"
        assert all(f"| `{name}` |" in page for name in DETECTORS)


@NEEDS_FOLDER
class TestFloors:
    pass
