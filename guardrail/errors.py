"""Every exception that guardrail raises on purpose.

GuardrailError                    anything below
├── ConfigError                   the configuration cannot be used; names place and remedy
│   └── PolicyError               one policy file cannot be used
├── ClassifierError               a check could not be made; becomes a Failure, and the fail mode decides
│   ├── ClassifierTimeout         the judge did not answer inside the deadline
│   ├── ClassifierUnavailable     no connection, a 5xx answer, or a lost connection
│   ├── ClassifierRejected        the judge refuses the call: credentials, unknown model, content too long
│   ├── ClassifierRateLimited     the judge asks us to slow down for longer than the deadline allows
│   └── MalformedVerdict          the judge answered, but not with one sound verdict
├── UnreadableRequest             the client's request cannot be read; answered with a 4xx
├── UnreadableResponse            the upstream's answer cannot be read, so it cannot be judged
├── UpstreamLost                  the upstream cannot be reached, or was lost in mid-answer
└── PolicyViolation               only from ``Decision.raise_for_block()``

No message of these classes ever holds prompt text, completion text or a secret.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guardrail.core.decision import Decision
    from guardrail.core.verdict import Usage

__all__ = [
    "ClassifierError",
    "ClassifierRateLimited",
    "ClassifierRejected",
    "ClassifierTimeout",
    "ClassifierUnavailable",
    "ConfigError",
    "FailureCode",
    "GuardrailError",
    "MalformedVerdict",
    "PolicyError",
    "PolicyViolation",
    "UnreadableRequest",
    "UnreadableResponse",
    "UpstreamLost",
]


class FailureCode(StrEnum):
    """The class of a failed check; ``on_error`` in the configuration is keyed by it."""

    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    AUTH = "auth"
    MALFORMED = "malformed"
    TRUNCATED = "truncated"
    TOO_LONG = "too_long"
    OVERLOADED = "overloaded"
    INTERNAL = "internal"


class GuardrailError(Exception):
    """Root of the tree: ``except GuardrailError`` catches whatever guardrail raises on purpose."""


class ConfigError(GuardrailError):
    """The configuration cannot be used. The message names the file, the key and the remedy."""


class PolicyError(ConfigError):
    """A policy cannot be used. The message names the policy, the key and the remedy."""


class ClassifierError(GuardrailError):
    """A check could not be made. ``code`` is the class of failure that the fail mode looks at.

    ``retry_after_s``: how long the judge asks to be left alone, in seconds; None where it does not say.
    ``usage``: what the calls cost all the same (``guardrail.core.verdict.Usage``); None where nobody knows.
    """

    code: FailureCode = FailureCode.INTERNAL
    retry_after_s: float | None = None
    usage: Usage | None = None

    def __init__(self, message: str, *, code: FailureCode | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class ClassifierTimeout(ClassifierError):
    """The judge did not answer inside the deadline."""

    code = FailureCode.TIMEOUT


class ClassifierUnavailable(ClassifierError):
    """No connection to the judge, a 5xx answer, or a connection lost on the way."""

    code = FailureCode.UNAVAILABLE


class ClassifierRejected(ClassifierError):
    """The judge refuses the call for good: credentials, unknown model (``auth``) or ``too_long``."""

    code = FailureCode.AUTH


class ClassifierRateLimited(ClassifierError):
    """The judge is rate limited for longer than the deadline allows."""

    code = FailureCode.RATE_LIMITED


class MalformedVerdict(ClassifierError):
    """The judge answered, but not with exactly one sound verdict.

    ``violation`` is true when the answer does say "violation" and only its label is missing or
    unknown: with a closed fail mode such an answer takes the policy's strictest action.
    """

    code = FailureCode.MALFORMED

    def __init__(self, message: str, *, code: FailureCode | None = None, violation: bool = False) -> None:
        super().__init__(message, code=code)
        self.violation = violation


class UnreadableRequest(GuardrailError):
    """The client's request cannot be read. ``status`` and ``param`` shape the answer to it."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param


class UnreadableResponse(GuardrailError):
    """The upstream's answer cannot be read, so it cannot be judged and must not be passed on."""


class UpstreamLost(GuardrailError):
    """The upstream cannot be reached, or its answer broke off. Raised by inner apps of ours."""


class PolicyViolation(GuardrailError):
    """A decision was BLOCK. ``decision`` says why, without the text that was judged."""

    def __init__(self, decision: Decision) -> None:
        policies = ", ".join(decision.blocking) or "unreadable content"
        super().__init__(f"{decision.stage} blocked by {policies} (decision {decision.id})")
        self.decision = decision
