"""What an API dialect must offer: read, edit and refuse, for bodies and for streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from guardrail.core.addition import Addition
from guardrail.core.conversation import Address, Conversation, Kind, Turn
from guardrail.core.decision import Decision
from guardrail.wire.frames import Frames, SseFrames
from guardrail.wire.replies import Refusal, Reply
from guardrail.wire.sse import Event

__all__ = [
    "Annotation",
    "AnswerForm",
    "Choice",
    "DecisionOf",
    "Delta",
    "Dialect",
    "EventStream",
    "GuardedRequest",
    "StreamEvent",
    "by_type",
]

AnswerForm = Literal["body", "stream", "nothing"]
"""How an answer is read. ``nothing``: it is passed on as it comes, unjudged."""

DecisionOf = Callable[[int], Decision | None]
"""The decision about one choice of an answer; None where it was not judged."""


def by_type(content_type: bytes) -> AnswerForm:
    """What nearly every API does: a stream says that it is one, all else is a body."""
    return "stream" if content_type.lower().startswith(b"text/event-stream") else "body"


@dataclass(frozen=True, slots=True)
class GuardedRequest:
    """A request that was read. ``raw`` is its body as it will be forwarded.

    ``structured``: the answer's text will be parsed, so a refusal must not stand in its place.
    ``refused_as``: what the words of a refusal are in the answer.
    ``annotations``: the forms in which the answer is to tell what was decided.
    ``files``: an answer that cannot be read, and is no JSON, may be a file, which follows ``unreadable``.
    ``reads``: how an answer with this ``content-type`` is read. ``frames``: made anew for each streamed
    answer, cuts it into events.
    """

    raw: bytes
    conversation: Conversation
    model: str
    stream: bool
    choices: int
    include_usage: bool
    added_policies: tuple[str | Addition, ...] = ()
    structured: bool = False
    refused_as: Kind = Kind.TEXT
    annotations: tuple[Annotation, ...] = ()
    files: bool = False
    reads: Callable[[bytes], AnswerForm] = by_type
    frames: Callable[[], Frames] = SseFrames


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of a response body. ``position`` is its place in the body."""

    position: int
    turn: Turn
    unreadable: tuple[str, ...] = ()


class Delta(NamedTuple):
    """Text that one event adds to one channel of one choice.

    ``whole`` channels (tool calls) leave only at once, when all of them was judged.
    """

    choice: int
    channel: str
    kind: Kind
    text: str
    address: Address
    whole: bool = False


class StreamEvent(NamedTuple):
    """One event of a stream. ``choices`` are the indexes in it, ``finished`` those that end.

    ``parts``: the events that were read as one, which adds the text of all to one channel.
    """

    event: Event
    deltas: Sequence[Delta]
    finished: Sequence[int] = ()
    unreadable: Sequence[str] = ()
    choices: Sequence[int] = ()
    parts: Sequence[Event] = ()


class EventStream(Protocol):
    """One streamed answer: reads its events in their order, writes those that leave, and ends it."""

    def read(self, events: Sequence[Event]) -> Iterator[StreamEvent]:
        """What each event adds. Runs of events that add to one channel may be read as one (``parts``).

        Such events come by the dozen in one read of a fast stream. Raises ``UnreadableResponse``, after
        the events before.
        """
        ...

    def split(self, read: StreamEvent) -> Sequence[tuple[StreamEvent, Delta]]:
        """The events of a run, one by one, each with its only delta; nothing for an event that is none."""
        ...

    def write(self, read: StreamEvent, texts: Mapping[Address, str], dropped: Sequence[int]) -> bytes:
        """The event with new texts, and without the choices of these indexes, which were halted.

        To be called for every event that leaves. What is no data of it (its name, comments) stays; nothing
        at all where no choice does; where nothing changed these are the event's own bytes.
        """
        ...

    def halt(self, choice: int, decision: Decision, refusal: Refusal, *, spoke: bool) -> bytes:
        """The bytes that end one choice in mid-stream. ``spoke``: text of it has left."""
        ...

    def end(self) -> bytes:
        """The bytes that end a stream whose choices were all halted."""
        ...

    def error(self, code: str, message: str) -> bytes:
        """The bytes of an error in mid-stream; nothing follows it.

        Empty where the form of the stream has no way to say so: the answer then has no proper end.
        """
        ...


class Annotation(Protocol):
    """A form in which an answer tells what was decided."""

    def body(self, raw: bytes, before: Decision, found: DecisionOf) -> bytes:
        """The body, annotated; ``found`` is asked about the choice at a position."""
        ...

    def reply(self, reply: Reply, before: Decision, answer: Decision | None = None) -> Reply:
        """A refusal, annotated; one that is an error stays as it is."""
        ...

    def stream(self, stream: EventStream, before: Decision, found: DecisionOf, choices: int) -> EventStream:
        """The stream, annotated; ``found`` is asked about a choice when that has ended."""
        ...


class Dialect(Protocol):
    """One API. Pure: bytes in, values or bytes out."""

    name: str

    def read_request(self, raw: bytes) -> GuardedRequest:
        """Raises ``UnreadableRequest``."""
        ...

    def edit(self, raw: bytes, texts: Mapping[Address, str]) -> bytes:
        """The body with new texts at these addresses, and nothing else changed that must not be."""
        ...

    def drop(self, raw: bytes, turns: Sequence[int]) -> bytes:
        """The body without these turns of its conversation; to be called after ``edit``."""
        ...

    def read_response(self, raw: bytes) -> list[Choice]:
        """Raises ``UnreadableResponse``."""
        ...

    def refuse_choices(self, raw: bytes, refused: Mapping[int, Refusal], *, structured: bool) -> bytes:
        """The body with the choices at these positions replaced, each by its refusal.

        ``structured`` as the request was.
        """
        ...

    def refuse(self, request: GuardedRequest, decision: Decision, refusal: Refusal) -> Reply:
        """A whole answer that refuses, as a body or as a stream, as the request asked."""
        ...

    def stream(self, request: GuardedRequest) -> EventStream:
        """For the streamed answer to this request."""
        ...

    def error(self, status: int, code: str, message: str, param: str | None = None) -> Reply:
        """A whole answer in the dialect's error form."""
        ...
