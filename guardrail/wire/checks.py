"""The check of our own API: a text or messages in, the decision about it out, as JSON.

The answer tells where something was found, never what stands there.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from guardrail.core.addition import Addition
from guardrail.core.conversation import Address, Conversation, Segment, Subject, Turn, json_path
from guardrail.core.decision import Decision, Failure, Finding
from guardrail.core.excerpts import locate
from guardrail.core.policy import Mode, Stage
from guardrail.core.redaction import Span, merge
from guardrail.errors import FailureCode, UnreadableRequest
from guardrail.wire.chat_messages import read_messages
from guardrail.wire.controls import read_guardrails
from guardrail.wire.json_edit import value_at
from guardrail.wire.openai_body import read_object
from guardrail.wire.policies import WORDS, ActionWord
from guardrail.wire.requests import Message, validated

__all__ = ["ADDED", "Checked", "MessagesCheck", "TextCheck", "answer", "read", "redacted"]

ADDED: Final = "policies"
"""The field that names policies, which is ``guardrails`` elsewhere."""


class _Check(BaseModel):
    model_config = ConfigDict(extra="forbid")

    stage: Stage = Stage.INPUT
    policies: list[Any] = Field(
        [], description="Policies that are to judge this too, by id or as an object that says how."
    )


class TextCheck(_Check):
    """A prompt, or with ``stage: output`` an answer."""

    text: str


class MessagesCheck(_Check):
    """A conversation; with ``stage: output`` its last message is the answer that is judged."""

    messages: Annotated[list[Message], Field(min_length=1)]


class Place(BaseModel):
    """Where something was found: ``text[start:end]``, in code points, of the string at ``path``."""

    path: str
    start: int
    end: int
    label: str
    kind: str = Field(description="What it is, where that is known, such as email.")


class Found(BaseModel):
    """What one policy found, or why it could not be asked."""

    policy: str
    revision: str
    mode: Mode
    label: str | None
    violation: bool
    action: ActionWord
    status: Literal["judged", "cached", "unavailable"]
    reduced_coverage: bool = Field(description="Rules alone have looked at it.")
    error: FailureCode | None
    spans: list[Place]


class Checked(BaseModel):
    """The decision."""

    id: str
    stage: Stage
    action: ActionWord
    unavailable: bool = Field(description="True when it is blocked only because checks could not be made.")
    policies: list[str] = Field(description="Those whose finding asks for the action.")
    degraded: list[str] = Field(description="policy=reason for each check that no judge has made.")
    findings: list[Found]
    unjudged: list[str] = Field(description="JSON paths of what nobody could read.")
    redacted: str | list[dict[str, Any]] | None = Field(
        description="The text or the messages, with what was found replaced; only where that is the action."
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was read. ``answer`` is the turn to be judged at the output stage."""

    stage: Stage
    conversation: Conversation
    answer: Turn
    added: tuple[str | Addition, ...]
    content: str | list[Any]

    @property
    def earlier(self) -> Conversation:
        """What stands before the answer."""
        return Conversation(self.conversation.turns[:-1])

    def subject(self, trusted_roles: frozenset[str]) -> Subject:
        """What the engine judges of it."""
        if self.stage is Stage.INPUT:
            return self.conversation.as_subject(trusted_roles)
        return Subject(Stage.OUTPUT, self.earlier.turns, (self.answer,))


def read(raw: bytes) -> Asked:
    """Raises ``UnreadableRequest``."""
    body = read_object(raw)
    if ("text" in body) is ("messages" in body):
        raise UnreadableRequest("give either text or messages")
    check: TextCheck | MessagesCheck
    if "text" in body:
        check = validated(TextCheck, body)
        role = "user" if check.stage is Stage.INPUT else "assistant"
        conversation = Conversation((Turn(role, (Segment(check.text, ("text",)),)),))
        content: str | list[Any] = check.text
    else:
        check = validated(MessagesCheck, body)
        content = body["messages"]
        conversation = read_messages(body["messages"])
    added = read_guardrails(check.policies, ADDED)
    return Asked(check.stage, conversation, conversation.turns[-1], added, content)


def redacted(content: str | list[Any], texts: Mapping[Address, str]) -> str | list[Any]:
    """A copy of what was sent with new texts at these addresses."""
    if isinstance(content, str):
        return texts.get(("text",), content)
    changed = copy.deepcopy(content)
    for address, text in texts.items():
        value_at(changed, address[1:-1])[address[-1]] = text
    return changed


def answer(decision: Decision, subject: Subject, content: str | list[Any] | None) -> bytes:
    """The body of the answer; ``content`` is what was redacted, None where that is not the action."""
    segments = list(subject.segments)
    told = Checked(
        id=decision.id,
        stage=decision.stage,
        action=WORDS[decision.action],
        unavailable=decision.unavailable,
        policies=list(decision.blocking),
        degraded=list(decision.degraded),
        findings=[_found(finding, segments) for finding in decision.findings],
        unjudged=list(decision.unjudged),
        redacted=None,
    )
    # Not through the model: it limits depth, and what was read may be as deep as JSON allows.
    return orjson.dumps(told.model_dump(mode="json") | {"redacted": content})


def _found(finding: Finding, segments: Sequence[Segment]) -> Found:
    failed = finding if isinstance(finding, Failure) else None
    verdict = finding if not isinstance(finding, Failure) else None
    return Found(
        policy=finding.policy.id,
        revision=finding.policy.revision,
        mode=finding.policy.mode,
        label=verdict.label if verdict else None,
        violation=finding.violation,
        action=WORDS[finding.action],
        status="unavailable" if verdict is None else "cached" if verdict.cached else "judged",
        reduced_coverage=verdict is not None and verdict.reduced,
        error=failed.code if failed else None,
        spans=_places(finding, segments),
    )


def _places(finding: Finding, segments: Sequence[Segment]) -> list[Place]:
    """Where detectors hit, and where the judge's excerpts stand; one that stands nowhere has no place."""
    if isinstance(finding, Failure) or not finding.violation:
        return []
    label = finding.label or finding.policy.strictest.label
    hits: dict[int, list[Span]] = {}
    for index, span in finding.spans:
        hits.setdefault(index, []).append(span)
    places: list[Place] = []
    for index, segment in enumerate(segments):
        spans = hits.get(index, [])
        if finding.excerpts:
            spans += [Span(start, end, label) for start, end in locate(segment, finding.excerpts)[0]]
        path = json_path(segment.address)
        places += [
            Place(path=path, start=s.start, end=s.end, label=s.label, kind=s.kind) for s in merge(spans)
        ]
    return places
