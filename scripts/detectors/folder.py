"""What is measured in the evaluation folder beside the repository."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from guardrail.detectors import DETECTORS
from scripts.detectors.own import AGAINST_ATTACKS, ROOT
from scripts.detectors.scores import Alarms, Recall, Row, Score, attacks, false_alarms, spans_by_type
from scripts.detectors.tables import counted, share, table

__all__ = ["COVERED_BY", "FOLDER", "alarms", "figures", "personal_data", "recalls"]

FOLDER: Final = ROOT / "../shared/data/eval"

COVERED_BY: Final = {
    "EMAIL_ADDRESS": "pii.email",
    "PHONE_NUMBER": "pii.phone",
    "CREDIT_CARD": "pii.card",
    "IBAN_CODE": "pii.iban",
    "US_SSN": "pii.us_ssn",
    "IP_ADDRESS": "pii.ip",
    "STREET_ADDRESS": "pii.address",
    "US_DRIVER_LICENSE": "pii.driving_licence",
}
"""Types of the spans in presidio_pii, and the detector that looks for each."""

_ATTACKS: Final = (
    "deepset_injections", "xsafety", "inthewild_jailbreaks", "injection_misc", "jbb_jbc", "jbb_dsn",
    "jbb_gcg", "bipia",
)  # fmt: skip

# (line, detector) of alarms on lines that are labelled clean, read one by one and found to be right.
_RIGHT: Final[Mapping[tuple[str, str], str]] = {
    ("benign_arena_hard:d1aebee12c67", "pii.birth_date"): "the date of birth of a public person",
}


def rows(name: str) -> list[Row]:
    """The lines of a set."""
    with (FOLDER / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def personal_data() -> dict[str, Score]:
    """By type, how what is found lies on the spans of presidio_pii."""
    return spans_by_type(rows("presidio_pii"), COVERED_BY)


def alarms() -> dict[str, Alarms]:
    """By set, false alarms: benign sets, near misses, look-alikes, clean lines among attacks."""
    benign = sorted(file.stem for file in FOLDER.glob("benign_*.jsonl"))
    others = ("coconot_contrast", "cyberseceval_frr", "notinject", "deepset_injections", "bipia")
    return {
        name: false_alarms(rows(name), DETECTORS, _RIGHT)
        for name in ("secrets_negatives", *benign, *others)
    }


def recalls() -> dict[tuple[str, str], Recall]:
    """By set and language, the attacks in which anything but personal data and secrets is found."""
    return {
        (name, lang): recall
        for name in _ATTACKS
        for lang, recall in sorted(attacks(rows(name), AGAINST_ATTACKS).items())
    }


def figures() -> Iterator[str]:
    """All of it as Markdown."""
    yield from _spans()
    yield from ["### False alarms", ""]
    yield from table(
        ["set", "clean lines", "false alarms (lines)", "right after all"],
        (
            [f"`{name}`", str(one.lines), counted(one.false) or "none", counted(one.right)]
            for name, one in alarms().items()
        ),
    )
    yield from ["", "### Attacks found", ""]
    yield from table(
        ["set", "language", "found", "by (lines)"],
        (
            [f"`{name}`", lang, share(one.found, one.lines), counted(one.by)]
            for (name, lang), one in recalls().items()
        ),
    )


_HEAD: Final = [
    "type", "detector", "recall", "all of it found", "found with the same ends", "precision",
    "precision, same ends", "alarms beside it",
]  # fmt: skip


def _spans() -> Iterator[str]:
    lines = rows("presidio_pii")
    yield from [f"### Personal data: `presidio_pii`, {len(lines)} lines", ""]
    yield from table(
        _HEAD,
        (
            [
                kind,
                f"`{COVERED_BY[kind]}`",
                *(share(part, one.labelled) for part in (one.touched, one.whole, one.same)),
                *(share(part, one.found) for part in (one.right, one.same)),
                counted(one.beside),
            ]
            for kind, one in personal_data().items()
        ),
    )
    kinds = Counter(span["type"] for row in lines for span in row["spans"])
    missing = {kind: count for kind, count in kinds.items() if kind not in COVERED_BY}
    yield from ["", f"No detector looks for {counted(missing)}.", ""]
    others = {name: name for name in DETECTORS if name not in COVERED_BY.values()}
    found = {name: one for name, one in spans_by_type(lines, others).items() if one.found}
    told = "; ".join(f"`{name}` {one.found}: {counted(one.beside)}" for name, one in found.items())
    yield from [f"Found in the same lines by the other detectors: {told or 'nothing'}.", ""]
