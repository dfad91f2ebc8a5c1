"""What is counted: spans against labelled spans, false alarms, attacks found. Pure, and tested as such."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from guardrail.detectors import find_all

__all__ = [
    "Alarms",
    "Recall",
    "Row",
    "Score",
    "attacks",
    "false_alarms",
    "found_in",
    "negative_for",
    "spans_by_type",
]

Row = dict[str, Any]
"""A line of an evaluation set."""
Find = Callable[[Iterable[str], str], list[tuple[str, int, int]]]
Spans = list[tuple[int, int]]

_POLICY_OF: Final = {
    "pii": "pii",
    "secrets": "secrets",
}  # of a detector's family; all others are about attacks


@dataclass(slots=True)
class Score:
    """How the spans that were found lie on those that are labelled; counts of spans.

    Of the labelled ones ``same`` were found with the same two ends, of ``whole`` every character was
    found, of ``touched`` any. Of the found ones ``right`` touch a labelled one; ``beside`` counts what the
    others touch instead, another type or nothing that is labelled.
    """

    labelled: int = 0
    same: int = 0
    whole: int = 0
    touched: int = 0
    found: int = 0
    right: int = 0
    beside: Counter[str] = field(default_factory=Counter)

    def add(self, labelled: Spans, found: Spans, others: Iterable[tuple[int, int, str]]) -> None:
        """One text: its labelled spans of this type, what was found, and its spans of other types."""
        covered = {at for start, end in found for at in range(start, end)}
        for start, end in labelled:
            inside = sum(at in covered for at in range(start, end))
            self.labelled += 1
            self.same += (start, end) in found
            self.whole += inside == end - start
            self.touched += inside > 0
        others = list(others)
        for start, end in found:
            self.found += 1
            if any(start < b and a < end for a, b in labelled):
                self.right += 1
            else:
                touched = (kind for a, b, kind in others if start < b and a < end)
                self.beside[next(touched, "no label")] += 1


def spans_by_type(
    lines: Iterable[Row], covered_by: Mapping[str, str], find: Find = find_all
) -> dict[str, Score]:
    """The score of each type that a detector covers, over lines with ``spans``."""
    scores = {kind: Score() for kind in covered_by}
    for row in lines:
        found: dict[str, Spans] = defaultdict(list)
        for name, start, end in find(list(covered_by.values()), row["text"]):
            found[name].append((start, end))
        spans = [(span["start"], span["end"], span["type"]) for span in row["spans"]]
        for kind, score in scores.items():
            labelled = [(start, end) for start, end, type_ in spans if type_ == kind]
            score.add(labelled, found[covered_by[kind]], (span for span in spans if span[2] != kind))
    return scores


def found_in(row: Row, names: Iterable[str], find: Find = find_all) -> set[str]:
    """The detectors that find anything in a line: in its text, or in a turn but the application's."""
    asked = list(names)
    texts = [row["text"]] if "text" in row else _judged(row["messages"])
    return {name for text in texts for name, _, _ in find(asked, text)}


def _judged(turns: Iterable[Mapping[str, str]]) -> list[str]:
    return [turn["content"] for turn in turns if turn["role"] != "system"]


def negative_for(row: Row, name: str) -> bool:
    """Whether an alarm of this detector on this line would be false, as far as the labels say."""
    policy = _POLICY_OF.get(name.split(".")[0], "prompt_injection")
    clean = row["policy"] == "benign" or row["labels"].get(policy) == 0
    return clean and policy not in row.get("not_for", ())


@dataclass(slots=True)
class Alarms:
    """Over ``lines`` clean lines: those with a false alarm, by detector; alarms that are right, by kind."""

    lines: int = 0
    false: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)


def false_alarms(
    lines: Iterable[Row],
    names: Iterable[str],
    right: Mapping[tuple[str, str], str],
    find: Find = find_all,
) -> Alarms:
    """Alarms where the labels say that there is nothing.

    ``right`` says of (line, detector) what the alarm found: those were read one by one, and the label,
    not the detector, is in the wrong.
    """
    alarms = Alarms()
    for row in lines:
        asked = [name for name in names if negative_for(row, name)]
        alarms.lines += bool(asked)
        for name in found_in(row, asked, find):
            kind = right.get((row["id"], name))
            if kind is None:
                alarms.false[name] += 1
            else:
                alarms.right[kind] += 1
    return alarms


@dataclass(slots=True)
class Recall:
    """Of ``lines``, how many were ``found``, and ``by`` which detectors."""

    lines: int = 0
    found: int = 0
    by: Counter[str] = field(default_factory=Counter)

    def add(self, by: set[str]) -> None:
        """One line, and the detectors that found something in it."""
        self.lines += 1
        self.found += bool(by)
        self.by.update(by)


def attacks(lines: Iterable[Row], names: Iterable[str], find: Find = find_all) -> dict[str, Recall]:
    """By language, the lines labelled ``prompt_injection`` in which any of the detectors finds anything."""
    asked = list(names)
    recalls: dict[str, Recall] = defaultdict(Recall)
    for row in lines:
        if row["labels"].get("prompt_injection") == 1:
            recalls[row["lang"]].add(found_in(row, asked, find))
    return dict(recalls)
