"""Which refusal a client gets: by the stage, the path, the caller's key, the policy and the language.

The style, the finish reason and the status are those of the first rule that fits the request, else of the
stage. The words are those of the policy that blocks, if it has some, else the general ones; of either the
best for ``Accept-Language`` are taken (lookup as in RFC 4647 section 3.4: ``de-AT`` is served by ``de``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from guardrail.core.decision import Decision
from guardrail.core.policy import Stage
from guardrail.wire.replies import Header, Refusal

__all__ = ["RefusalRule", "Refusals", "Refusing", "key_digest"]

_DEFAULT: Mapping[Stage, Refusal] = {stage: Refusal() for stage in Stage}


def key_digest(key: str) -> str:
    """What a rule knows of a caller's key: its SHA-256, in hex."""
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class RefusalRule:
    """Refusals of requests to these paths with these keys (``key_digest``); none named: any."""

    stages: Mapping[Stage, Refusal]
    paths: frozenset[str] = frozenset()
    keys: frozenset[str] = field(default=frozenset(), repr=False)

    def fits(self, path: str, key: str) -> bool:
        """Whether the rule is for a request to ``path`` by the holder of ``key``."""
        return (not self.paths or path in self.paths) and (not self.keys or key_digest(key) in self.keys)


@dataclass(frozen=True, slots=True)
class Refusing:
    """How one request is refused."""

    stages: Mapping[Stage, Refusal]
    words: Mapping[str, str] = field(default_factory=dict)
    headers: Iterable[Header] = ()

    def of(self, decision: Decision) -> Refusal:
        """The refusal for what was decided."""
        refusal = self.stages[decision.stage]
        policies = [f.policy for f in decision.findings if f.policy.id in decision.blocking]
        own = next((policy.refusal for policy in policies if policy.refusal), {})
        languages = _languages(_named(self.headers, b"accept-language"))
        text = _best(own, languages) or own.get("") or _best(self.words, languages)
        return replace(refusal, message=text) if text else refusal


@dataclass(frozen=True, slots=True)
class Refusals:
    """What is configured: the refusals of each stage, rules before them, general words by language."""

    stages: Mapping[Stage, Refusal] = field(default_factory=lambda: _DEFAULT)
    rules: tuple[RefusalRule, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)

    def for_request(self, path: str, headers: Iterable[Header]) -> Refusing:
        """How a request with this path and these headers is refused."""
        stages = self.stages
        if self.rules:
            path = path.rstrip("/")
            key = _named(headers, b"x-api-key") or _named(headers, b"authorization").removeprefix("Bearer ")
            stages = next((rule.stages for rule in self.rules if rule.fits(path, key)), stages)
        return Refusing(stages, self.words, headers)


def _named(headers: Iterable[Header], wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in headers if name.lower() == wanted), "")


def _languages(header: str) -> list[str]:
    """The tags of an ``Accept-Language`` header (RFC 9110 section 12.5.4), the most wanted first."""
    wanted: list[tuple[float, str]] = []
    for part in header.split(","):
        tag, _, weight = part.partition(";")
        try:
            quality = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if quality > 0:
            wanted.append((-quality, tag.strip().lower()))
    return [tag for _, tag in sorted(wanted, key=lambda own: own[0])]


def _best(texts: Mapping[str, str], languages: Sequence[str]) -> str:
    """The text in the first of the languages that there is one for; "" if there is none."""
    for tag in languages if texts else ():
        while tag:
            if tag in texts:
                return texts[tag]
            tag = tag.rpartition("-")[0]
    return ""
