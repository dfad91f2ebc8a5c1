"""OpenAI's moderation endpoint, answered from our policies.

Shapes: ``openai/types/moderation*.py`` (openai-python 2.54). A category is the id of a policy, or one of
OpenAI's that a policy covers. What nobody judges has no category: ``false`` would claim that it is absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, Field

from guardrail.core.addition import Addition
from guardrail.core.conversation import Conversation, Segment, Turn, json_path
from guardrail.core.decision import Decision, Failure
from guardrail.core.policy import Action, Mode, Policy
from guardrail.core.verdict import Verdict
from guardrail.errors import UnreadableRequest
from guardrail.wire.controls import read_guardrails
from guardrail.wire.openai_body import read_object
from guardrail.wire.replies import Header, Reply, decision_headers
from guardrail.wire.requests import validated

__all__ = [
    "MOST_TEXTS",
    "UNREADABLE",
    "Moderated",
    "Moderation",
    "ModerationRequest",
    "answer",
    "read",
    "result",
]

MOST_TEXTS: Final = 128
"""The most strings in one request: each is a check of its own under every policy."""
UNREADABLE: Final = "guardrail/unreadable"
"""The category of what nobody could read; no policy's id has a slash."""
MODEL: Final = "guardrail"


class TextPart(BaseModel):
    """A text."""

    type: Literal["text"]
    text: str


class ImageURL(BaseModel):
    """Where an image is, or the image itself as a data URL."""

    url: str


class ImagePart(BaseModel):
    """An image; nobody here can read it."""

    type: Literal["image_url"]
    image_url: ImageURL


class ModerationRequest(BaseModel):
    """One text, several, or one made of parts."""

    input: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS)]
        | Annotated[list[TextPart | ImagePart], Field(min_length=1)]
    )
    model: str | None = Field(None, description="Not used: the policies decide who is asked.")
    guardrails: list[Any] | None = Field(
        None, description="Policies that are to judge this too, by id or as an object that says how."
    )


class Moderated(BaseModel):
    """What was found in one text."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float] = Field(description="1 or 0: a verdict has no probability.")
    category_applied_input_types: dict[str, list[Literal["text", "image"]]]


class Moderation(BaseModel):
    """One result for each text."""

    id: str
    model: str
    results: list[Moderated]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was read: one conversation for each result."""

    conversations: tuple[Conversation, ...]
    added: tuple[str | Addition, ...]


def read(raw: bytes) -> Asked:
    """Raises ``UnreadableRequest``."""
    body = read_object(raw)
    given = body.get("input")
    if isinstance(given, list) and len(given) > MOST_TEXTS and isinstance(given[0], str):
        raise UnreadableRequest(
            f"input has more than {MOST_TEXTS} texts; send several requests", param="input"
        )
    try:
        request = validated(ModerationRequest, body)
    except UnreadableRequest as error:
        if error.param != "input":
            raise
        message = "input is neither a text nor a list of texts, nor one of text and image_url parts"
        raise UnreadableRequest(message, param="input") from None
    return Asked(_conversations(request.input), read_guardrails(request.guardrails))


def _conversations(given: Any) -> tuple[Conversation, ...]:
    if isinstance(given, str):
        return (_of([Segment(given, ("input",))]),)
    if isinstance(given[0], str):
        return tuple(_of([Segment(text, ("input", index))]) for index, text in enumerate(given))
    parts = list(enumerate(given))
    texts = [Segment(part.text, ("input", i, "text")) for i, part in parts if isinstance(part, TextPart)]
    images = [json_path(("input", i)) for i, part in parts if isinstance(part, ImagePart)]
    return (_of(texts, images),)


def _of(segments: Sequence[Segment], unreadable: Sequence[str] = ()) -> Conversation:
    return Conversation((Turn("user", tuple(segments)),), tuple(unreadable))


def unjudged(decision: Decision) -> bool:
    """Whether a check of a policy that acts could not be made; its fail mode changes nothing about that."""
    return any(isinstance(finding, Failure) and finding.acts for finding in decision.findings)


def headers(decisions: Sequence[Decision]) -> list[Header]:
    """As elsewhere; what could not be checked is refused here, whatever its fail mode lets pass."""
    told = [replace(d, action=Action.BLOCK) if unjudged(d) else d for d in decisions]
    return decision_headers(*told)


def answer(
    decision_id: str, asked: Asked, decisions: Sequence[Decision], policies: Sequence[Policy]
) -> Reply:
    """One result a text; ``policies`` are those that judged. No decision may be ``unjudged``."""
    acting = [policy for policy in policies if policy.mode is Mode.ENFORCE]
    results = [
        result(decision, acting, _types(conversation))
        for conversation, decision in zip(asked.conversations, decisions, strict=True)
    ]
    return Reply(200, orjson.dumps({"id": decision_id, "model": MODEL, "results": results}))


def _types(conversation: Conversation) -> list[str]:
    return ["text"] if any(text.strip() for text in conversation.texts) else []


def result(decision: Decision, policies: Sequence[Policy], read: list[str]) -> dict[str, Any]:
    """What these policies found. ``read``: the types of what they judged."""
    categories: dict[str, bool] = {}
    for policy in policies:
        categories[policy.id] = False
        for covered in policy.covers.values():
            categories |= {category: categories.get(category, False) for category in covered}
    for finding in decision.findings:
        if isinstance(finding, Verdict) and finding.acts and finding.violation:
            categories |= dict.fromkeys([finding.policy.id, *_covered(finding)], True)
    applied = dict.fromkeys(categories, read)
    if decision.floor > Action.PASS:
        categories[UNREADABLE] = True
        applied[UNREADABLE] = ["image"]
    return {
        "flagged": any(categories.values()),
        "categories": categories,
        "category_scores": {category: float(true) for category, true in categories.items()},
        "category_applied_input_types": applied,
    }


def _covered(verdict: Verdict) -> Sequence[str]:
    """A label that the policy does not declare, such as a refusal's, counts as the strictest one."""
    policy = verdict.policy
    label = verdict.label if verdict.label in policy.labels else policy.strictest.label
    return policy.covers.get(label or "", ())
