"""Which refusal a client gets: by the stage, the path, the caller's key, the policy and the language.

The style, the finish reason and the status are those of the first rule that fits the request, else of the
stage. The words are those of the policy that blocks, if it has some, else the general ones; of either those
in the language that ``Accept-Language`` likes best (lookup as in RFC 4647 section 3.4: ``de-AT`` is served
by ``de``), else those without a language. Nobody knows which language these are in: who likes one best that
there is no translation into may like it better than all the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Final

from guardrail.core.decision import Decision
from guardrail.core.policy import Stage
from guardrail.wire.replies import Header, Refusal

__all__ = ["RefusalRule", "Refusals", "Refusing", "key_digest"]

_KEYS: Final = (b"x-api-key", b"api-key", b"authorization")
"""Where callers put their keys: Anthropic's clients, Azure's, OpenAI's."""
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

    def fits(self, path: str, keys: AbstractSet[str]) -> bool:
        """Whether the rule is for a request to ``path`` with these keys (``key_digest``)."""
        return (not self.paths or path in self.paths) and (not self.keys or bool(self.keys & keys))


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
            keys = {key_digest(_key(value)) for name in _KEYS if (value := _named(headers, name))}
            stages = next((rule.stages for rule in self.rules if rule.fits(path, keys)), stages)
        return Refusing(stages, self.words, headers)


def _named(headers: Iterable[Header], wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in headers if name.lower() == wanted), "")


def _key(value: str) -> str:
    """The key in such a header; the scheme before it is in any case (RFC 9110 section 11.1)."""
    scheme, _, credentials = value.partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else value


def _languages(header: str) -> list[str]:
    """The tags of an ``Accept-Language`` header (RFC 9110 section 12.5.4), the most wanted first."""
    wanted: list[tuple[float, str]] = []
    for part in header.split(","):
        tag, _, weight = part.lower().partition(";")
        try:
            quality = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if quality > 0 and tag.strip():
            wanted.append((-quality, tag.strip()))
    return [tag for _, tag in sorted(wanted, key=lambda own: own[0])]


def _best(texts: Mapping[str, str], languages: Sequence[str]) -> str:
    """The text in the language that is liked best; "" if there is none.

    Other tags of it count too: ``pt, pt-BR;q=0.9`` is served by ``pt-BR``.
    """
    best = languages[0].partition("-")[0] if languages else ""
    for tag in takewhile(lambda tag: tag.partition("-")[0] == best, languages) if texts else ():
        while tag:
            if tag in texts:
                return texts[tag]
            tag = tag.rpartition("-")[0]
    return ""
