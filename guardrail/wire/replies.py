"""Every status code and every body of our own that is not a dialect's completion."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from guardrail.core.decision import Decision, Failure, Finding
from guardrail.core.policy import Action, Stage

__all__ = [
    "BAD_UPSTREAM",
    "BLOCKED",
    "BUSY",
    "EVENT_STREAM",
    "JSON",
    "MEDIA_TYPE_UNSUPPORTED",
    "NOT_READY",
    "PLAIN_TEXT",
    "TOO_LARGE",
    "TOO_SLOW",
    "UNAVAILABLE",
    "UNGUARDED",
    "UNREADABLE",
    "WRONG_METHOD",
    "Header",
    "Refusal",
    "Reply",
    "decision_headers",
    "error_body",
    "error_headers",
    "fault",
    "filter_results",
    "openai_error",
    "refusal_error",
    "refusal_fault",
    "refused_headers",
]

Header = tuple[bytes, bytes]

UNREADABLE: Final = 400
BLOCKED: Final = 400
TOO_SLOW: Final = 408
UNGUARDED: Final = 403
WRONG_METHOD: Final = 405
TOO_LARGE: Final = 413
MEDIA_TYPE_UNSUPPORTED: Final = 415
BAD_UPSTREAM: Final = 502
UNAVAILABLE: Final = 503
BUSY: Final = 503
NOT_READY: Final = 503

JSON: Final[Header] = (b"content-type", b"application/json")
EVENT_STREAM: Final[Header] = (b"content-type", b"text/event-stream; charset=utf-8")
PLAIN_TEXT: Final[Header] = (b"content-type", b"text/plain; charset=utf-8")

RETRY_AFTER_S: Final = 5
_LONGEST: Final = 4000  # characters of a header; servers and clients take 8 KB for all of them

_UNPRINTABLE: Final = re.compile(r"[^ -~]")  # a path holds the client's own keys, line ends included


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a block looks to the client.

    ``completion``: a normal answer that holds ``message``. ``error``: an HTTP error with ``status``.
    """

    style: Literal["completion", "error"] = "completion"
    message: str = "I can't help with that."
    finish_reason: Literal["content_filter", "stop"] = "content_filter"
    status: int = BLOCKED


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of our own."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = (JSON,)


def fault(code: str, message: str, *, type_: str, param: str | None = None) -> dict[str, Any]:
    """What stands in OpenAI's error envelope."""
    return {"message": message, "type": type_, "param": param, "code": code}


def error_body(code: str, message: str, *, type_: str, param: str | None = None) -> bytes:
    """OpenAI's error envelope."""
    return orjson.dumps({"error": fault(code, message, type_=type_, param=param)})


def error_headers(status: int) -> tuple[Header, ...]:
    """The headers of an error answer; 503 also says when, and that SDKs should not, try again."""
    if status != UNAVAILABLE:
        return (JSON,)
    return (JSON, (b"retry-after", str(RETRY_AFTER_S).encode()), (b"x-should-retry", b"false"))


def openai_error(status: int, code: str, message: str, param: str | None = None) -> Reply:
    """An error answer in OpenAI's form."""
    kind = "invalid_request_error" if status < 500 else "guardrail_error"
    return Reply(status, error_body(code, message, type_=kind, param=param), error_headers(status))


def filter_results(findings: Sequence[Finding]) -> dict[str, dict[str, bool]]:
    """What was found, in the shape of Azure's custom filters, by policy id."""
    return {
        finding.policy.id: {
            "filtered": finding.acts and finding.action is Action.BLOCK,
            "detected": not isinstance(finding, Failure) and finding.violation,
        }
        for finding in findings
    }


def refusal_fault(decision: Decision, refusal: Refusal) -> dict[str, Any]:
    """What stands in the error envelope of a block, with Azure's ``innererror`` keyed by policy id."""
    return {
        "message": refusal.message,
        "type": "invalid_request_error",
        "param": "prompt" if decision.stage is Stage.INPUT else None,
        "code": "content_filter",
        "status": refusal.status,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": filter_results(decision.findings),
        },
    }


def refusal_error(decision: Decision, refusal: Refusal) -> Reply:
    """A block as an HTTP error."""
    return Reply(refusal.status, orjson.dumps({"error": refusal_fault(decision, refusal)}))


def refused_headers(decision_id: str) -> list[Header]:
    """The headers of a request that was refused before anything was decided about it."""
    return [(b"x-guardrail-decision", b"block"), (b"x-guardrail-id", decision_id.encode())]


def decision_headers(*decisions: Decision) -> list[Header]:
    """The ``x-guardrail-*`` headers for what was decided so far about one request."""
    action = max((decision.action for decision in decisions), default=Action.PASS)
    headers = [(b"x-guardrail-decision", action.word.encode())]
    if decisions:
        headers.append((b"x-guardrail-id", decisions[0].id.encode()))
        if decisions[0].coverage is not None:
            headers.append((b"x-guardrail-coverage", _coverage(decisions)))
    for name, values in (
        (b"x-guardrail-policies", [p for d in decisions for p in d.blocking if d.action is action]),
        (b"x-guardrail-degraded", [reason for d in decisions for reason in d.degraded]),
        (b"x-guardrail-unjudged", [path for d in decisions for path in d.unjudged]),
    ):
        if values:
            listed = ", ".join(dict.fromkeys(values))
            if len(listed) > _LONGEST:
                listed = listed[: _LONGEST - 3] + "..."
            headers.append((name, _UNPRINTABLE.sub("?", listed).encode()))
    return headers


def _coverage(decisions: Sequence[Decision]) -> bytes:
    """How many texts were judged, how many of these redacted, and how many were not, and why.

    A dictionary in the form of RFC 8941. ``unchecked`` stands there only where a check could not be made.
    """
    judged = redacted = unreadable = skipped = unchecked = 0
    for decision in decisions:
        redacted += len(decision.redactions)
        unreadable += len(decision.unjudged)
        if decision.coverage is None:
            continue
        read, passed_over = decision.coverage
        skipped += passed_over
        if decision.unchecked:
            unchecked += read
        else:
            judged += read
    told = f"judged={judged}, redacted={redacted}, unreadable={unreadable}, skipped={skipped}"
    return (f"{told}, unchecked={unchecked}" if unchecked else told).encode()
