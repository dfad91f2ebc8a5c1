"""What ``scripts/detectors`` counts, on spans made here; and what the detectors reached, where the data is.

The floors are a little under what was measured when they were written (docs/detectors.md has the figures),
so that a change that costs a finding or two is seen in the page, and one that breaks a detector turns red.
"""

from __future__ import annotations

from typing import Any

import pytest

from guardrail.detectors import DETECTORS
from scripts.detectors import folder, own, scores, tables

NEEDS_FOLDER = pytest.mark.skipif(
    not folder.FOLDER.is_dir(),
    reason=f"the evaluation sets are not part of the repository: no {folder.FOLDER}",
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
        ("word", "spans", "labelled", "found", "beside"),
        [  # of the labelled: touched, whole, same; of the found: all, right
            ("name", [(3, 7, "A")], (1, 1, 1), (1, 1), {}),
            ("am", [(3, 7, "A")], (1, 0, 0), (1, 1), {}),
            ("a name b", [(3, 7, "A")], (1, 1, 0), (1, 1), {}),
            ("name", [(10, 11, "A")], (0, 0, 0), (1, 0), {"no label": 1}),
            ("name", [(7, 8, "A")], (0, 0, 0), (1, 0), {"no label": 1}),
            ("name", [(0, 1, "A"), (3, 7, "B")], (0, 0, 0), (1, 0), {"B": 1}),
            ("name", [(3, 7, "A"), (3, 7, "B")], (1, 1, 1), (1, 1), {}),
            ("name", [(3, 5, "A"), (5, 7, "A")], (2, 2, 0), (1, 1), {}),
            ("name", [(3, 7, "A"), (8, 9, "A")], (1, 1, 1), (1, 1), {}),
            ("no such word", [(3, 7, "A")], (0, 0, 0), (0, 0), {}),
            ("name", [], (0, 0, 0), (1, 0), {"no label": 1}),
        ],
    )
    def test_how_found_spans_lie_on_labelled_ones(
        self,
        word: str,
        spans: list[tuple[int, int, str]],
        labelled: tuple[int, int, int],
        found: tuple[int, int],
        beside: dict[str, int],
    ) -> None:
        row = line("-a name b - ", *spans)
        one = scores.spans_by_type([row, row], {"A": "one"}, finder(one=word))["A"]
        assert one.labelled == 2 * [kind for _, _, kind in spans].count("A")
        assert (one.touched, one.whole, one.same) == tuple(2 * count for count in labelled)
        assert (one.found, one.right) == tuple(2 * count for count in found)
        assert one.beside == {kind: 2 * count for kind, count in beside.items()}


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
        found = scores.false_alarms([row], [name], {}, finder(**{name: "clean"}))
        assert (found.lines, found.false) == ((1, {name: 1}) if false else (0, {}))
        assert found.right == {}

    def test_an_alarm_that_was_read_and_is_right_counts_apart(self) -> None:
        rows = [self.CLEAN, self.CLEAN | {"id": "x:2"}]
        right = {("x:1", "pii.x"): "a real one", ("x:2", "pii.y"): "another"}
        found = scores.false_alarms(rows, ["pii.x"], right, finder(**{"pii.x": "clean"}))
        assert (found.lines, found.false, found.right) == (2, {"pii.x": 1}, {"a real one": 1})

    def test_attacks_count_by_language_and_turns_of_the_application_do_not(self) -> None:
        turns = [{"role": "system", "content": "b"}, {"role": "tool", "content": "a"}]
        rows = [
            line("a", labels={"prompt_injection": 1}),
            line("b", labels={"prompt_injection": 1}),
            line("a", labels={"prompt_injection": 0}),
            {"messages": turns, "lang": "de", "labels": {"prompt_injection": 1}},
        ]
        found = scores.attacks(rows, ["i.a", "i.b"], finder(**{"i.a": "a", "i.b": "x"}))
        assert {lang: (one.found, one.lines, one.by) for lang, one in found.items()} == {
            "en": (1, 2, {"i.a": 1}),
            "de": (1, 1, {"i.a": 1}),
        }
        assert scores.attacks(rows[3:], ["i.b"], finder(**{"i.b": "b"}))["de"].found == 0


class TestPage:
    def test_only_what_stands_between_the_markers_is_written(self) -> None:
        begin, end = "<!-- part: written by scripts/detectors -->\n", "<!-- end of part -->\n"
        page = f"before\n{begin}old\n{end}after\n"
        assert tables.page_with(page, "part", ["new", ""]) == f"before\n{begin}new\n{end}after\n"
        with pytest.raises(AssertionError, match="no marker"):
            tables.page_with("before", "part", [])
        with pytest.raises(AssertionError, match="does not end"):
            tables.page_with(begin, "part", [])

    def test_tables(self) -> None:
        lines = tables.table(["a", "b"], [[tables.share(1, 2), tables.counted({"y": 1, "x": 2})]])
        assert lines == ["| a | b |", "| --- | --- |", "| 0.50 (1/2) | x (2), y (1) |"]
        assert tables.share(0, 0) == "–"  # noqa: RUF001

    @pytest.mark.parametrize(
        ("part", "written"), [("catalogue", own.catalogue), ("own cases", own.own_cases)]
    )
    def test_the_page_tells_of_the_detectors_as_they_are(self, part: str, written: Any) -> None:
        page = (own.ROOT / "docs/detectors.md").read_text()
        assert tables.page_with(page, part, written()) == page, "run python -m scripts.detectors"

    def test_each_detector_has_its_line(self) -> None:
        lines = list(own.catalogue())
        assert [line.split("`")[1] for line in lines[2:]] == list(DETECTORS)


# By type: the share of labelled spans that is touched, and found whole; of found ones, that is labelled.
SPANS = {
    "EMAIL_ADDRESS": (0.95, 0.95, 0.95),
    "PHONE_NUMBER": (0.83, 0.83, 0.95),
    "CREDIT_CARD": (0.92, 0.92, 0.95),
    "IBAN_CODE": (0.94, 0.94, 0.94),
    "US_SSN": (0.91, 0.91, 0.91),
    "IP_ADDRESS": (0.83, 0.83, 0.83),
    "STREET_ADDRESS": (0.67, 0.51, 0.96),
    "US_DRIVER_LICENSE": (0.8, 0.8, 0.8),
}
# By set and language: the share of attacks in which something is found.
ATTACKS = {
    ("deepset_injections", "de"): 0.4,
    ("deepset_injections", "en"): 0.35,
    ("xsafety", "ar"): 0.88,
    ("xsafety", "bn"): 0.89,
    ("xsafety", "de"): 0.83,
    ("xsafety", "en"): 0.91,
    ("xsafety", "es"): 0.88,
    ("xsafety", "fr"): 0.87,
    ("xsafety", "hi"): 0.88,
    ("xsafety", "ja"): 0.89,
    ("xsafety", "ru"): 0.89,
    ("xsafety", "zh"): 0.93,
    ("inthewild_jailbreaks", "en"): 0.58,
    ("injection_misc", "en"): 0.61,
    ("jbb_jbc", "en"): 0.96,
}
MOST_FALSE_ALARMS = 3  # in 1,800 clean lines


@NEEDS_FOLDER
class TestFloors:
    def test_every_type_that_is_covered_has_a_floor(self) -> None:
        assert SPANS.keys() == folder.COVERED_BY.keys()
        assert set(folder.COVERED_BY.values()) <= DETECTORS.keys()

    def test_recall_and_precision_of_personal_data(self) -> None:
        for kind, one in folder.personal_data().items():
            reached = (one.touched / one.labelled, one.whole / one.labelled, one.right / one.found)
            assert all(share >= floor for share, floor in zip(reached, SPANS[kind], strict=True)), kind

    def test_attacks_by_language(self) -> None:
        reached = {key: one.found / one.lines for key, one in folder.recalls().items()}
        assert {key: reached[key] for key, floor in ATTACKS.items() if reached[key] < floor} == {}

    def test_false_alarms(self) -> None:
        alarms = folder.alarms()
        false = {name: one.false for name, one in alarms.items() if one.false}
        assert sum(one.lines for one in alarms.values()) > 1_800
        assert sum(sum(counts.values()) for counts in false.values()) <= MOST_FALSE_ALARMS, false
        assert not alarms["secrets_negatives"].false

    def test_the_page_has_the_figures(self) -> None:
        page = (own.ROOT / "docs/detectors.md").read_text()
        assert tables.page_with(page, "figures", folder.figures()) == page, (
            "run python -m scripts.detectors"
        )
