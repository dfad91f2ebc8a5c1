"""Which policies there are, and which of them judge a request that asks for more: as values and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal, NamedTuple, TypeVar
from urllib.parse import parse_qs

from pydantic import BaseModel, Field

from guardrail.core.addition import Addition, tightened
from guardrail.core.policy import AnswerForm, Effort, FailMode, Mode, Policy, PolicySet, Stage
from guardrail.errors import UnreadableRequest

__all__ = [
    "WORDS",
    "ActionWord",
    "Applied",
    "Catalogue",
    "Listed",
    "PolicyList",
    "Query",
    "Reason",
    "Resolved",
    "listed",
    "read_query",
    "resolved",
]

Word = TypeVar("Word", bound=StrEnum)
ActionWord = Literal["pass", "flag", "redact", "block"]
WORDS: Final[tuple[ActionWord, ...]] = ("pass", "flag", "redact", "block")
"""The words of ``guardrail.core.policy.Action``, by its numbers."""


class Reason(StrEnum):
    """Why a policy applies to a request, or why it does not."""

    CONFIGURED = "configured"
    ADDED = "added"
    OFF = "off"
    OTHER_STAGE = "other_stage"

    @property
    def applies(self) -> bool:
        """Whether the policy judges, a shadow included."""
        return self in (Reason.CONFIGURED, Reason.ADDED)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """``known`` are the policies a request may name, ``configured`` those of each stage."""

    known: PolicySet
    configured: Mapping[Stage, Sequence[Policy]]

    def resolve(
        self, stage: Stage, asked: Sequence[str] = (), mode: Mode | None = None
    ) -> list[tuple[Policy, Reason]]:
        """The policies of a stage and those asked for, each with the reason why it applies or not.

        Those asked for are in this ``mode``. The same rule as ``GuardrailEngine.adding``. Raises
        ``UnreadableRequest`` for an id nobody knows, and for a mode that is milder than the policy's own.
        """
        if any(policy_id not in self.known for policy_id in asked):
            raise UnreadableRequest("policies names an unknown policy", param="policies")
        own = self.configured.get(stage, ())
        found = []
        for policy in dict.fromkeys([*own, *(self.known[policy_id] for policy_id in asked)]):
            stricter = tightened(policy, mode) if policy.id in asked else policy
            if stricter is None:
                raise UnreadableRequest("mode would make a policy milder", param="mode")
            found.append((stricter, _reason(stricter, stage, own)))
        return found

    def judging(self, stage: Stage, asked: Sequence[str] = ()) -> list[Policy]:
        """The policies that judge, shadows included."""
        return [policy for policy, reason in self.resolve(stage, asked) if reason.applies]


def _reason(policy: Policy, stage: Stage, own: Sequence[Policy]) -> Reason:
    if policy.mode is Mode.OFF:
        return Reason.OFF
    if policy.id in [configured.id for configured in own if configured.mode is not Mode.OFF]:
        return Reason.CONFIGURED
    return Reason.ADDED if stage in policy.stages else Reason.OTHER_STAGE


class Label(BaseModel):
    """What one label of a policy means."""

    violation: bool
    action: ActionWord
    escalate: bool = Field(description="A second judge is asked before it counts.")
    covers: list[str] = Field(description="OpenAI's categories that a text under it falls into.")


class Listed(BaseModel):
    """One policy."""

    id: str
    title: str
    version: str
    revision: str = Field(description="SHA-256 of what the judge reads.")
    stages: list[Stage] = Field(description="The stages it is written for.")
    configured: list[Stage] = Field(description="The stages at which it judges every request.")
    labels: dict[str, Label]
    mode: Mode
    answer: AnswerForm
    effort: Effort
    detectors: dict[str, str] = Field(description="Deterministic finders, and the label of a hit.")


class PolicyList(BaseModel):
    """Every policy that a request may name."""

    policies: list[Listed]


class Applied(BaseModel):
    """Whether one policy judges such a request, and why."""

    id: str
    revision: str
    mode: Mode
    applies: bool
    acts: bool = Field(description="False for a shadow: it is asked and recorded, and changes nothing.")
    on_unavailable: FailMode = Field(
        description="closed: whatever check of it fails blocks; open: failures of some class let through."
    )
    reason: Annotated[
        Reason,
        Field(
            description="configured: judges every request of the stage; added: by this request; "
            "off: by its mode; other_stage: not written for this stage."
        ),
    ]


class Resolved(BaseModel):
    """The policies of one stage and those asked for."""

    stage: Stage
    policies: list[Applied]


def listed(catalogue: Catalogue) -> bytes:
    """The body of ``GET /guardrail/v1/policies``."""
    policies = [_listed(policy, catalogue.configured) for policy in catalogue.known]
    return PolicyList(policies=policies).model_dump_json().encode()


def _listed(policy: Policy, configured: Mapping[Stage, Sequence[Policy]]) -> Listed:
    return Listed(
        id=policy.id,
        title=policy.title,
        version=policy.version,
        revision=policy.revision,
        stages=[stage for stage in Stage if stage in policy.stages],
        configured=[stage for stage in Stage if policy in configured.get(stage, ())],
        labels={
            name: Label(
                violation=rule.violation,
                action=WORDS[rule.action],
                escalate=rule.escalate,
                covers=list(policy.covers.get(name, ())),
            )
            for name, rule in policy.labels.items()
        },
        mode=policy.mode,
        answer=policy.answer,
        effort=policy.reasoning_effort,
        detectors=dict(policy.detectors),
    )


class Query(NamedTuple):
    """What ``resolve`` is asked: a stage, the ids of more policies, and how strict these are to be."""

    stage: Stage
    policies: tuple[str, ...] = ()
    mode: Mode | None = None
    on_unavailable: FailMode | None = None

    @property
    def additions(self) -> list[Addition]:
        """As a request would name them."""
        return [Addition(policy_id, self.mode, self.on_unavailable) for policy_id in self.policies]


def read_query(query: bytes) -> Query:
    """``stage=input&policies=a,b&mode=enforce&on_unavailable=closed``; only the stage must be there.

    Raises ``UnreadableRequest``.
    """
    try:
        values = parse_qs(query.decode("ascii"), keep_blank_values=True)
    except ValueError:
        raise UnreadableRequest("the query cannot be read") from None
    if set(values) - set(Query._fields):
        raise UnreadableRequest(f"the query has a parameter that is none of {', '.join(Query._fields)}")
    stage = _word(values, "stage", Stage)
    if stage is None:
        raise UnreadableRequest("stage is not input or output", param="stage")
    if len(values.get("policies", [])) > 1:
        raise UnreadableRequest("policies is given twice; separate ids by commas", param="policies")
    asked = [one for listed in values.get("policies", []) for one in listed.split(",")]
    mode, on_unavailable = _word(values, "mode", Mode), _word(values, "on_unavailable", FailMode)
    return Query(stage, tuple(asked), mode, on_unavailable)


def _word(values: Mapping[str, Sequence[str]], key: str, words: type[Word]) -> Word | None:
    """The one value of a parameter. Raises ``UnreadableRequest``."""
    given = values.get(key)
    if given is None:
        return None
    if len(given) != 1 or given[0] not in list(words):
        raise UnreadableRequest(f"{key} is not {' or '.join(words)}", param=key)
    return words(given[0])


def resolved(
    stage: Stage,
    found: Iterable[tuple[Policy, Reason]],
    fail_mode: Callable[[Policy, Stage], FailMode],
) -> bytes:
    """The body of ``GET /guardrail/v1/policies/resolve``.

    ``found`` is what the catalogue resolved; ``fail_mode`` what becomes of a policy's failures at a stage.
    """
    policies = [
        Applied(
            id=policy.id,
            revision=policy.revision,
            mode=policy.mode,
            applies=reason.applies,
            acts=reason.applies and policy.mode is Mode.ENFORCE,
            on_unavailable=fail_mode(policy, stage),
            reason=reason,
        )
        for policy, reason in found
    ]
    return Resolved(stage=stage, policies=policies).model_dump_json().encode()
