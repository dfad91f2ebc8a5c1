"""The record of a decision, as sinks receive it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from guardrail.core.conversation import Address, json_path
from guardrail.core.coverage import Places
from guardrail.core.decision import Decision, Failure, Finding
from guardrail.core.verdict import Step, Usage

__all__ = ["DecisionRecord", "Held", "fingerprint", "to_json"]

# One step of a path: its word, if it is plain, and its indexes. Any other is a key of the caller's making.
_STEP: Final = re.compile(r"\$|[A-Za-z0-9_-]{1,40}(?:\[[0-9]{1,9}\])*")
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")


def fingerprint(text: str) -> str:
    """The first 16 hex digits of the SHA-256 of ``text``: tells equal texts apart from unequal ones.

    It identifies, it does not hide: a short or guessable text can be found by trying.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Held:
    """How long the text of a streamed answer was held, in seconds: its first and its last piece.

    ``unjudged_released_chars``: characters that left before a check of them was settled; 0 unless the
    release mode is ``live``.
    """

    first_s: float
    last_s: float
    unjudged_released_chars: int = 0


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One decision. ``time`` is Unix seconds; ``id`` is the value of ``x-guardrail-id``.

    ``text`` is the judged text; a sink writes it only where it was configured to. ``cancelled`` is
    true when the client hung up before the decision was made; the action then never took effect.
    ``checks`` counts the checks behind it: several for one stream. ``held`` is for streams alone.
    ``places`` says which texts of the body were judged; a stream has no one body.
    """

    decision: Decision
    time: float
    dialect: str
    text: str = field(repr=False)
    checks: int = 1
    cancelled: bool = False
    held: Held | None = None
    places: Places | None = None


def to_json(record: DecisionRecord, content: str) -> dict[str, Any]:
    """The record as one JSON object; ``content`` is ``none``, ``fingerprint`` or ``full``."""
    decision = record.decision
    line: dict[str, Any] = {
        "id": decision.id,
        "time": round(record.time, 3),
        "stage": decision.stage.value,
        "dialect": record.dialect,
        "action": "cancelled" if record.cancelled else decision.action.word,
        "degraded": bool(decision.degraded),
        "checks": record.checks,
        "findings": [_finding(finding) for finding in decision.findings],
        "unjudged": [path if content == "full" else _plain(path) for path in decision.unjudged],
        "coverage": _coverage(record, content),
    }
    if record.held is not None:
        line["held"] = {
            "first_s": round(record.held.first_s, 3),
            "last_s": round(record.held.last_s, 3),
            "unjudged_released_chars": record.held.unjudged_released_chars,
        }
    if content != "none":
        line["fingerprint"] = fingerprint(record.text)
    if content == "full":
        line["text"] = record.text
        line["rationales"] = {
            f.policy.id: f.rationale
            for f in decision.findings
            if not isinstance(f, Failure) and f.rationale
        }
    return line


def _coverage(record: DecisionRecord, content: str) -> dict[str, list[str]] | None:
    """The JSON paths of what was judged, redacted, not checked and skipped."""
    if record.places is None:
        return None
    read, skipped = record.places
    unchecked = record.decision.unchecked
    redacted = [redaction.address for redaction in record.decision.redactions]

    def paths(addresses: Iterable[Address]) -> list[str]:
        return [json_path(one if content == "full" else _plain_steps(one)) for one in addresses]

    return {
        "judged": paths(() if unchecked else read),
        "redacted": paths(redacted),
        "unchecked": paths(read if unchecked else ()),
        "skipped": paths(skipped),
    }


def _plain(path: str) -> str:
    """The path with ``?`` for each step that may hold a text: keys can be the caller's own."""
    return ".".join(step if _STEP.fullmatch(step) else "?" for step in path.split("."))


def _plain_steps(address: Address) -> Address:
    return tuple([s if isinstance(s, int) or _KEY.fullmatch(s) else "?" for s in address])


def _finding(finding: Finding) -> dict[str, Any]:
    common = {
        "policy": finding.policy.id,
        "revision": finding.policy.revision,
        "action": finding.action.word,
        "mode": finding.policy.mode.value,
        "judge": finding.judge,
        "latency_ms": round(finding.latency_ms, 1),
    }
    if isinstance(finding, Failure):
        return common | {
            "label": None,
            "effort": finding.policy.reasoning_effort.value,
            "status": "unavailable",
            "error": finding.code.value,
            "fail_mode": finding.fail_mode.value,
            "tokens": _tokens(finding.usage),
        }
    return common | {
        "label": finding.label,
        "effort": None if finding.effort is None else finding.effort.value,
        "status": "cached" if finding.cached else "judged",
        "error": None,
        "reduced_coverage": finding.reduced,
        "tokens": _tokens(finding.usage),
        "steps": [_step(step) for step in finding.steps],
    }


def _tokens(usage: Usage | None) -> dict[str, Any] | None:
    """What the judge's server reported; ``cached`` and ``cost_usd`` are null where nobody knows."""
    if usage is None:
        return None
    return {
        "prompt": usage.prompt,
        "cached": usage.cached,
        "completion": usage.completion,
        "cost_usd": usage.cost_usd,
    }


def _step(step: Step) -> dict[str, Any]:
    """Who was asked before the verdict, and what came of it."""
    return {
        "judge": step.judge,
        "effort": None if step.effort is None else step.effort.value,
        "label": step.label,
        "error": None if step.error is None else step.error.value,
        "latency_ms": round(step.latency_ms, 1),
        "tokens": _tokens(step.usage),
    }
