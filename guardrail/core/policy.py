"""Policies: what the judge reads, what its labels mean, and the closed vocabularies around them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

from guardrail.errors import PolicyError

__all__ = [
    "CATEGORIES",
    "Action",
    "AnswerForm",
    "Effort",
    "FailMode",
    "LabelRule",
    "Mode",
    "Policy",
    "PolicySet",
    "Stage",
    "Strategy",
]

_ID: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_LANGUAGE: Final = re.compile(r"(?:[a-z]{2,3}(?:-[a-z0-9]{2,8})*)?")
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
JUDGE_REFUSAL: Final = "judge-refusal"
CATEGORIES: Final = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent",
    "self-harm", "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence",
    "violence/graphic",
)  # fmt: skip
"""OpenAI's moderation categories, as in ``openai.types.moderation.Categories`` (openai-python 2.54)."""


class Stage(StrEnum):
    """Which side of the chat model is judged."""

    INPUT = "input"
    OUTPUT = "output"


class Action(IntEnum):
    """What is done, in order of strictness: the strictest finding wins."""

    PASS = 0
    FLAG = 1
    REDACT = 2
    BLOCK = 3

    @property
    def word(self) -> str:
        """The lower-case name used in files, headers and records."""
        return self.name.lower()


class FailMode(StrEnum):
    """What happens when a check could not be made: let through and say so, or refuse."""

    OPEN = "open"
    CLOSED = "closed"


class Mode(StrEnum):
    """Whether a policy acts (enforce), is only recorded (shadow), or is not asked at all (off)."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    OFF = "off"


class AnswerForm(StrEnum):
    """How the policy tells the judge to answer: a JSON object, or the bare label."""

    JSON = "json"
    BINARY = "binary"


class Effort(StrEnum):
    """Reasoning effort; it is part of the prefix that servers cache, so it is fixed per policy."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Strategy(StrEnum):
    """What is put in the place of a redacted text.

    ``[REDACTED:<label>]``; the text with all but its last characters masked; a keyed hash of it; or a
    placeholder, which is replaced by the text again where the model's answer repeats it.
    """

    REPLACE = "replace"
    MASK = "mask"
    HASH = "hash"
    PLACEHOLDER = "placeholder"


@dataclass(frozen=True, slots=True)
class LabelRule:
    """What one label means: the model chooses the label, never the action.

    ``escalate``: a second judge, or the same with more effort, is asked before the label counts.
    ``strategy``: how its text is redacted; None: as configured for all.
    """

    label: str
    violation: bool
    action: Action = Action.PASS
    escalate: bool = False
    strategy: Strategy | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """One written policy.

    ``body`` is the whole system message, byte for byte. ``detectors`` and ``phrases`` map the name
    of a detector, and an RE2 pattern, to the label that a hit stands for. A hit of a detector in
    ``prefilter``, which must block, does so without the judge. ``cache_ttl_s``: how long its verdicts
    are remembered, in seconds (None: as the cache is configured; 0: not at all). ``covers`` maps a label
    to the ``CATEGORIES`` that a text under it falls into. ``refusal`` is what a refusal under this policy
    says, by language (RFC 5646, such as ``"de"``); ``""`` is for all others. Raises ``PolicyError``.
    """

    id: str
    body: str
    labels: Mapping[str, LabelRule]
    title: str = ""
    version: str = "0"
    stages: frozenset[Stage] = frozenset(Stage)
    answer: AnswerForm = AnswerForm.JSON
    reasoning_effort: Effort = Effort.LOW
    mode: Mode = Mode.ENFORCE
    detectors: Mapping[str, str] = field(default_factory=dict)
    phrases: Mapping[str, str] = field(default_factory=dict)
    prefilter: frozenset[str] = frozenset()
    cache_ttl_s: float | None = None
    covers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    refusal: Mapping[str, str] = field(default_factory=dict)
    revision: str = field(init=False)

    def __post_init__(self) -> None:
        for law in (_law_id, _law_body, _law_labels, _law_strategies, _law_hits, _law_covers, _law_refusal):
            law(self)
        revision = hashlib.sha256(self.body.encode()).hexdigest()
        object.__setattr__(self, "revision", revision)

    def __hash__(self) -> int:
        return hash((self.id, self.revision))

    @property
    def strictest(self) -> LabelRule:
        """The violating label with the strictest action; the last one declared wins a tie."""
        return max(
            (rule for rule in reversed(tuple(self.labels.values())) if rule.violation),
            key=lambda rule: rule.action,
        )

    @property
    def safe_label(self) -> str:
        """The first label that is no violation."""
        return next(rule.label for rule in self.labels.values() if not rule.violation)

    def action_of(self, label: str | None) -> Action:
        """The action of a label; a refusal of the judge or an unknown label takes the strictest one."""
        if label is None:
            return Action.PASS
        rule = self.labels.get(label)
        return self.strictest.action if rule is None else rule.action

    def strategy_of(self, label: str) -> Strategy | None:
        """How text under a label is redacted; None: as configured for all."""
        rule = self.labels.get(label)
        return None if rule is None else rule.strategy


def _law_id(policy: Policy) -> None:
    if not _ID.fullmatch(policy.id):
        raise PolicyError(f"policy id {policy.id!r}: use lower-case letters, digits, '.', '_' and '-'")


def _law_body(policy: Policy) -> None:
    if not policy.body.strip():
        raise PolicyError(f"policy {policy.id}: the body is empty; write what the judge shall read")


def _law_labels(policy: Policy) -> None:
    rules = policy.labels.values()
    for key, rule in policy.labels.items():
        if key != rule.label or key == JUDGE_REFUSAL:
            raise PolicyError(f"policy {policy.id}: label {key!r} is reserved or not its rule's own name")
        if not _LABEL.fullmatch(rule.label):
            raise PolicyError(
                f"policy {policy.id}: label {rule.label!r} must be up to 32 letters, digits, . _ -"
            )
        if rule.violation and rule.action is Action.PASS:
            raise PolicyError(
                f"policy {policy.id}: label {rule.label} is a violation, "
                "so it needs an action: flag, redact or block"
            )
        if not rule.violation and rule.action is not Action.PASS:
            raise PolicyError(
                f"policy {policy.id}: label {rule.label} is no violation, so remove its action"
            )
    if not any(r.violation for r in rules) or all(r.violation for r in rules):
        raise PolicyError(
            f"policy {policy.id}: declare at least one label with violation: true "
            "and one with violation: false"
        )
    if len({label.casefold() for label in policy.labels}) != len(policy.labels):
        raise PolicyError(f"policy {policy.id}: two labels differ only in case; rename one")


def _law_strategies(policy: Policy) -> None:
    for rule in policy.labels.values():
        if rule.strategy is not None and rule.action is not Action.REDACT:
            raise PolicyError(
                f"policy {policy.id}: label {rule.label} has a strategy and redacts nothing; "
                "give it action: redact, or remove its strategy"
            )


def _law_hits(policy: Policy) -> None:
    for key, hits in (("detectors", policy.detectors), ("phrases", policy.phrases)):
        for label in hits.values():
            rule = policy.labels.get(label)
            if rule is None or not rule.violation:
                raise PolicyError(
                    f"policy {policy.id}: {key} map to label {label!r}; "
                    "name a declared label with violation: true"
                )
    for name in sorted(policy.prefilter):
        if name not in policy.detectors:
            raise PolicyError(f"policy {policy.id}: prefilter: {name!r} is none of its detectors; add it")
        if policy.action_of(policy.detectors[name]) is not Action.BLOCK:
            raise PolicyError(
                f"policy {policy.id}: prefilter: {name!r} does not block, so the judge must read the rest; "
                "remove it"
            )


def _law_covers(policy: Policy) -> None:
    for label, categories in policy.covers.items():
        rule = policy.labels.get(label)
        if rule is None or not rule.violation:
            raise PolicyError(
                f"policy {policy.id}: covers: {label!r} is no declared label with violation: true"
            )
        for category in categories:
            if category not in CATEGORIES:
                raise PolicyError(
                    f"policy {policy.id}: covers: {category!r} is no category of OpenAI's; "
                    f"take one of {', '.join(CATEGORIES)}"
                )


def _law_refusal(policy: Policy) -> None:
    for language, text in policy.refusal.items():
        if not _LANGUAGE.fullmatch(language):
            raise PolicyError(
                f"policy {policy.id}: refusal: {language!r} is no language; write it like de or pt-br"
            )
        if not text.strip():
            raise PolicyError(f"policy {policy.id}: refusal: the text is empty; write what is said")


class PolicySet:
    """Policies by id, in the order given. Raises ``PolicyError`` on a duplicate id."""

    __slots__ = ("_by_id",)

    def __init__(self, policies: list[Policy]) -> None:
        self._by_id: dict[str, Policy] = {}
        for policy in policies:
            if policy.id in self._by_id:
                raise PolicyError(f"policy id {policy.id!r} is used twice; rename one of them")
            self._by_id[policy.id] = policy

    def __iter__(self) -> Iterator[Policy]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, policy_id: str) -> bool:
        return policy_id in self._by_id

    def __getitem__(self, policy_id: str) -> Policy:
        return self._by_id[policy_id]
