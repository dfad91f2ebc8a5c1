"""What goes into a shared cache: compact JSON with its version and age, signed where there is a secret.

A value is ``version byte + mark + JSON``. The mark (16 bytes) is an HMAC-SHA256 over version, name and
JSON, so a value counts under its own name alone; without a secret it only tells accidents. The JSON is
a list: when it was written, in milliseconds since 1970, then the fields. Never pickle: who writes there
could run code here.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from typing import Any, Final

import orjson

from guardrail.core.history import Remembered
from guardrail.core.policy import Effort, Policy
from guardrail.core.verdict import Step, Verdict

__all__ = ["Seal", "known_fields", "read_known", "read_verdict", "verdict_fields"]

_VERSION: Final = b"\x01"
_MARK: Final = 16
_MOST_BYTES: Final = 1 << 14  # an honest value has a few hundred
_SKEW_S: Final = 60.0  # how far the clocks of two machines may differ


class Seal:
    """Names, packs and opens values. ``secret`` signs them, and makes their names unguessable."""

    def __init__(
        self, secret: str = "", *, prefix: str = "guardrail:", clock: Callable[[], float] = time.time
    ) -> None:
        self._secret = secret.encode()
        self._prefix = prefix
        self._clock = clock

    def name(self, kind: str, key: str) -> str:
        """Where a value stands.

        A cache key is a digest of the text. Who may read the cache and guess a short text could find it
        by that digest; with a secret he cannot.
        """
        if self._secret:
            key = hmac.digest(self._secret, f"name\n{key}".encode(), "sha256").hex()
        return f"{self._prefix}{kind}:{key}"

    def pack(self, name: str, fields: list[Any]) -> bytes:
        """The value to store under that name."""
        body = orjson.dumps([int(self._clock() * 1e3), *fields])
        return _VERSION + self._mark(name, body) + body

    def unpack(self, name: str, value: bytes) -> tuple[float, list[Any]] | None:
        """Age in seconds and fields.

        None for what we did not write: another version, another or no secret, another name, not JSON.
        """
        start = 1 + _MARK
        if value[:1] != _VERSION or len(value) > _MOST_BYTES:
            return None
        if not hmac.compare_digest(value[1:start], self._mark(name, value[start:])):
            return None
        try:
            content = orjson.loads(value[start:])
        except ValueError:
            return None
        match content:
            case [int() as written, *fields]:
                age_s = self._clock() - written / 1e3
                return (max(0.0, age_s), fields) if age_s > -_SKEW_S else None
        return None

    def _mark(self, name: str, body: bytes) -> bytes:
        signed = b"%bvalue\n%b\n%b" % (_VERSION, name.encode(), body)
        return hmac.digest(self._secret, signed, "sha256")[:_MARK]


def verdict_fields(verdict: Verdict) -> list[Any] | None:
    """A verdict without the judge's own words; None for one that must not be shared.

    Excerpts are pieces of the judged text, and without them (or the spans) a redaction would hit the
    wrong place. A verdict of rules alone, or in place of a judge that failed, must not outlive the
    outage everywhere.
    """
    if verdict.excerpts or verdict.spans or verdict.reduced or any(step.error for step in verdict.steps):
        return None
    steps = [[step.judge, step.effort, step.label] for step in verdict.steps]
    return [verdict.label, verdict.violation, verdict.judge, verdict.effort, steps]


def read_verdict(policy: Policy, fields: list[Any]) -> Verdict | None:
    """The verdict, not yet held against the policy's front matter; None for fields of another shape."""
    match fields:
        case [str() | None as label, bool() as violation, str() as judge, effort, list() as steps]:
            try:
                return Verdict(
                    policy,
                    label,
                    violation,
                    judge=judge,
                    effort=None if effort is None else Effort(effort),
                    steps=tuple(_step(step) for step in steps),
                    cached=True,
                )
            except ValueError:
                return None
    return None


def _step(fields: Any) -> Step:
    match fields:
        case [str() as judge, str() as effort, str() | None as label]:
            return Step(judge, Effort(effort), label)
    raise ValueError("no step")


def known_fields(known: Remembered) -> list[Any] | None:
    """What is known of a conversation; None for one in which something was redacted.

    Where a redaction stands is trusted by what reads it, so it comes from this process alone.
    """
    return None if known.spans else [known.blocked, list(known.dropped)]


def read_known(fields: list[Any]) -> Remembered | None:
    """The reverse; None for fields of another shape."""
    match fields:
        case [bool() as blocked, list() as dropped] if all(type(turn) is int for turn in dropped):
            return Remembered(blocked, dropped=tuple(dropped))
    return None
