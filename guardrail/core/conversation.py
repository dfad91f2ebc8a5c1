"""Conversations as plain values: who said what, and where in the body each text stands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from guardrail.core.policy import Stage

__all__ = ["Address", "Conversation", "Kind", "Segment", "Subject", "Turn", "chain", "json_path"]

Address = tuple[str | int, ...]
"""The way from the top of a JSON body to one string in it, such as ``("messages", 0, "content")``."""


def json_path(address: Address) -> str:
    """``("messages", 0, "content")`` as ``$.messages[0].content``."""
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in address)


class Kind(StrEnum):
    """What a segment is in its body."""

    TEXT = "text"
    REASONING = "reasoning"
    REFUSAL = "refusal"
    TOOL_ARGUMENTS = "tool_arguments"
    FIELD = "field"


@dataclass(frozen=True, slots=True)
class Segment:
    """One text and its address in the body.

    ``preceding`` is text that stood before it and has already left (in a stream): it is read with
    the segment so that matches see their left neighbour, and is never judged or changed itself.
    """

    text: str
    address: Address
    kind: Kind = Kind.TEXT
    preceding: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation; ``role`` is the role as the client wrote it."""

    role: str
    segments: tuple[Segment, ...]


def chain(turns: Iterable[Turn], start: str = "") -> list[str]:
    """The digest of every prefix: place ``i`` stands for the first ``i`` turns, the first is ``start``.

    Covers roles, kinds and texts that are not empty. Addresses stay out: the same conversation in
    another dialect is the same conversation.
    """
    digests = [start]
    for turn in turns:
        segments: Sequence[Segment] = turn.segments
        if "" in [segment.text for segment in segments]:
            segments = [segment for segment in segments if segment.text or segment.preceding]
        written = _written(turn.role, segments)
        start = hashlib.sha256((start + written).encode("utf-8", "surrogatepass")).hexdigest()
        digests.append(start)
    return digests


def _written(role: str, segments: Sequence[Segment]) -> str:
    """A turn in one text, every piece with its length: no two turns are written the same way."""
    if len(segments) == 1 and not segments[0].preceding:  # nearly every turn; the same in one step
        text = segments[0].text
        return f"\n{len(role)}:{role}:1\n" + segments[0].kind + f":0::{len(text)}:" + text
    parts = [f"\n{len(role)}:{role}:{len(segments)}"]
    for segment in segments:
        text, before = segment.text, segment.preceding
        parts += ("\n", segment.kind, f":{len(before)}:", before, f":{len(text)}:", text)
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns of one request, and the JSON paths of what could not be read.

    ``asides`` are texts that stand beside the turns, such as a prediction: judged with every request.
    ``digest`` is ``chain(turns)[-1]`` from who knows it already.
    """

    turns: tuple[Turn, ...]
    unreadable: tuple[str, ...] = ()
    asides: tuple[Turn, ...] = ()
    digest: str = field(default="", compare=False, repr=False)

    @property
    def texts(self) -> Iterator[str]:
        """All texts in it."""
        return (s.text for turn in (*self.turns, *self.asides) for s in turn.segments)

    def lead(self, trusted_roles: frozenset[str]) -> int:
        """How many leading turns have trusted roles."""
        turns = self.turns
        lead = 0
        while lead < len(turns) and turns[lead].role in trusted_roles:
            lead += 1
        return lead

    def as_subject(self, trusted_roles: frozenset[str]) -> Subject:
        """The whole conversation to be judged; leading turns of trusted roles are context only."""
        lead = self.lead(trusted_roles)
        return Subject(Stage.INPUT, self.turns[:lead], self.turns[lead:] + self.asides)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a classifier is asked about: ``turns`` are judged, ``context`` is only read with them.

    ``context_digest`` is ``chain(context)[-1]`` from who knows it already; else it is made here.
    """

    stage: Stage
    context: tuple[Turn, ...]
    turns: tuple[Turn, ...]
    context_digest: str = field(default="", compare=False, repr=False)

    @property
    def segments(self) -> Iterator[Segment]:
        """The judged segments in order."""
        return (segment for turn in self.turns for segment in turn.segments)

    @property
    def text(self) -> str:
        """The judged text, one segment a line, as sinks fingerprint it."""
        return "\n".join([segment.text for turn in self.turns for segment in turn.segments])

    @property
    def read_text(self) -> str:
        """All that a judge is shown: context, what has left, and the judged text."""
        return "\n".join(
            [
                text
                for turn in (*self.context, *self.turns)
                for segment in turn.segments
                for text in (segment.preceding, segment.text)
                if text
            ]
        )

    def digest(self) -> str:
        """SHA-256 over stage, roles, kinds and texts; equal only for equal subjects.

        Empty texts count among the judged ones alone, because spans are told by place among these.
        """
        context = self.context_digest or chain(self.context)[-1]
        parts = [f"{self.stage}:{context}:{len(self.turns)}"]
        parts += [_written(turn.role, turn.segments) for turn in self.turns]
        return hashlib.sha256("".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
