"""Drives the StreamGuards of one streamed answer: one guard per choice and channel.

Events are kept in the order in which they came. One leaves when all text it carries was released, so
an answer that passes leaves byte for byte as it came. A channel ends when its choice ends, or when
text of another kind begins in the same choice (thinking, then answering); if it is taken up again, its
earlier end is read along as context. A whole channel ends with its choice only, however often it is
interrupted (tool calls side by side).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import anyio
from anyio.abc import TaskGroup

from guardrail.core.conversation import Conversation, Kind, Segment, Subject, Turn, chain
from guardrail.core.decision import Decision, Failure, Finding, strictest
from guardrail.core.policy import Action, Stage
from guardrail.core.redaction import Span, redact_segment
from guardrail.core.stream import Check, Command, Release, StreamGuard
from guardrail.engine.check import GuardrailEngine

__all__ = ["Piece", "Ready", "StreamRules", "StreamedAnswer"]

E = TypeVar("E")
P = TypeVar("P", bound="Piece")


@dataclass(frozen=True, slots=True)
class StreamRules:
    """How text is held, in characters. ``window=None`` holds every answer to its end."""

    window: int | None = 400
    overlap: int = 120
    max_held: int = 16_384


class Piece(Protocol):
    """The text one event adds to one channel; a ``whole`` channel leaves only when it is done."""

    @property
    def choice(self) -> int:
        """Index of the choice it belongs to."""

    @property
    def channel(self) -> str:
        """Name of its channel within the choice."""

    @property
    def kind(self) -> Kind:
        """What its text is."""

    @property
    def text(self) -> str:
        """The text; may be empty."""

    @property
    def whole(self) -> bool:
        """Whether the channel leaves only as a whole."""


@dataclass(slots=True)
class _Lane:
    """One channel: its guard and the fate of its text, in characters from the lane's start."""

    choice: int
    channel: str
    kind: Kind
    whole: bool
    guard: StreamGuard
    pushed: int = 0
    released: int = 0
    spans: list[Span] = field(default_factory=list)
    redacted: str = ""  # of a whole lane
    judged: list[str] = field(default_factory=list)


class Ready(NamedTuple, Generic[E, P]):
    """What may leave next: an event, or (``event`` is None) the end of the choice ``halted``.

    ``texts`` holds each piece that was redacted with its new text, ``dropped`` the choices of the
    event that were halted before.
    """

    event: E | None
    texts: list[tuple[P, str]]
    dropped: tuple[int, ...]
    halted: int = -1


_UNCHANGED: Final[list[Any]] = []


class _Queued(NamedTuple, Generic[E, P]):
    event: E | None
    places: list[tuple[P, _Lane, int]]  # each piece, its lane, and where in the lane it starts
    choices: Sequence[int]
    halted: int = -1


class StreamedAnswer(Generic[E, P]):
    """One streamed answer. ``E`` is what the frontend queues as an event, ``P`` its pieces.

    ``on_ready`` is awaited whenever something may leave or a choice was halted. ``group`` runs the
    checks: at most one per channel at a time, and at its end one beside it. ``split`` gives the events
    that were read as one, each with its piece; nothing for an event that is one alone.
    """

    def __init__(
        self,
        engine: GuardrailEngine,
        conversation: Conversation,
        rules: StreamRules,
        group: TaskGroup,
        decision_id: str,
        on_ready: Callable[[], Awaitable[None]],
        split: Callable[[E], Sequence[tuple[E, P]]] = lambda event: (),
    ) -> None:
        self._engine = engine
        self._context = conversation.turns
        self._context_digest = conversation.digest
        self._rules = rules
        self._group = group
        self._decision_id = decision_id
        self._on_ready = on_ready
        self._split = split
        self._lanes: list[_Lane] = []
        self._open: dict[int, list[_Lane]] = {}  # by choice, the lanes that may get more text:
        self._open_whole: dict[int, list[_Lane]] = {}  # a stream may have very many that are closed
        self._latest: dict[tuple[int, str], _Lane] = {}
        self._current: dict[int, _Lane] = {}
        self._queue: deque[_Queued[E, P]] = deque()
        self._waiter: anyio.Event | None = None
        self._findings: dict[tuple[str, bool], Finding] = {}  # by policy, and whether it failed
        self._unreadable: dict[str, None] = {}
        self._checking = 0
        self.held = 0
        self.checks = 0
        self.halted: dict[int, Decision] = {}

    @property
    def textless(self) -> bool:
        """Whether the next event carries no text: only such a one can leave without a check."""
        return bool(self._queue) and not self._queue[0].places

    @property
    def full(self) -> bool:
        """Whether more text is held than may be."""
        return self.held > self._rules.max_held

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nobody is asked."""
        return not self._queue and not self._checking

    def push(self, event: E, pieces: Sequence[P], choices: Sequence[int]) -> None:
        """Queue one event and hand its text to the guards."""
        places: list[tuple[P, _Lane, int]] = []
        for piece in pieces:
            if piece.choice in self.halted:
                continue
            lane = self._current.get(piece.choice)
            if lane is None or lane.channel != piece.channel:
                lane = self._enter(piece)
            size = len(piece.text)
            places.append((piece, lane, lane.pushed))
            lane.pushed += size
            if not lane.whole:
                self.held += size
            commands = lane.guard.push(piece.text)
            if commands:
                self._obey(lane, commands)
        self._queue.append(_Queued(event, places, choices))

    def unreadable(self, choice: int, paths: Sequence[str]) -> None:
        """Note parts of an event that nobody can read; they block where the engine says so."""
        self._unreadable.update(dict.fromkeys(paths))
        if self._engine.on_unreadable is Action.BLOCK and choice not in self.halted:
            self._halt(choice, self.decision())

    def finish(self, choice: int) -> None:
        """No more text will come for this choice."""
        self._current.pop(choice, None)
        for lane in self._open.pop(choice, []) + self._open_whole.pop(choice, []):
            self._obey(lane, lane.guard.close())

    def finish_all(self) -> None:
        """No more text will come at all."""
        for choice in dict.fromkeys([*self._open, *self._open_whole]):
            self.finish(choice)

    async def settled(self) -> None:
        """Wait until no check is outstanding."""
        while self._checking:
            await self._wait()

    async def room(self) -> None:
        """Wait while more text is held than may be: reading waits for judging only here.

        Text that waits for its channel's end (tool calls, release mode ``whole``) does not count.
        """
        while self.full:
            if not self._checking:
                self._current = {c: lane for c, lane in self._current.items() if lane.whole}
                lanes = [lane for own in self._open.values() for lane in own]
                self._open.clear()
                for lane in lanes:
                    self._obey(lane, lane.guard.close())
            if not self._checking:
                return
            await self._wait()

    def ready(self) -> list[Ready[E, P]]:
        """Take what may leave, in order."""
        out: list[Ready[E, P]] = []
        queue, halted = self._queue, self.halted
        while queue:
            event, places, _, end = queue[0]
            for piece, lane, start in places:
                if piece.choice not in halted and not _free(piece, lane, start):
                    return out
            queued = queue.popleft()
            if halted or any(lane.spans for _, lane, _ in places):
                out += [self._changed(one) for one in self._one_by_one(queued)]
            else:
                out.append(Ready(event, _UNCHANGED, (), end))
        return out

    def _changed(self, queued: _Queued[E, P]) -> Ready[E, P]:
        """One event without what was halted, and with what was redacted."""
        texts = [
            (piece, text)
            for piece, lane, start in queued.places
            if lane.spans
            and piece.choice not in self.halted
            and (text := _redacted(piece.text, lane, start)) != piece.text
        ]
        dropped = tuple([choice for choice in queued.choices if choice in self.halted])
        return Ready(queued.event, texts, dropped, queued.halted)

    def _one_by_one(self, queued: _Queued[E, P]) -> Iterator[_Queued[E, P]]:
        """The events that were queued as one: a change touches them one by one."""
        parts = self._split(queued.event) if queued.event is not None else ()
        if not parts:
            yield queued
            return
        start = queued.places[0][2] if queued.places else 0
        for event, piece in parts:
            places = [(piece, queued.places[0][1], start)] if queued.places else []
            yield _Queued(event, places, queued.choices)
            start += len(piece.text)

    def decision(self) -> Decision:
        """All checks so far as one decision: the strictest finding of each policy.

        A check that failed is always among them, beside a stricter verdict.
        """
        found = self._findings
        findings = tuple(
            finding
            for (policy_id, failed), finding in sorted(found.items(), key=lambda item: item[0])
            if failed or not ((other := found.get((policy_id, True))) and other.action >= finding.action)
        )
        unjudged = tuple(self._unreadable)
        floor = self._engine.on_unreadable if unjudged else Action.PASS
        action = strictest(findings, floor)
        return Decision(Stage.OUTPUT, action, findings, (), unjudged, self._decision_id)

    @property
    def text(self) -> str:
        """The judged text, one channel a line, for the record."""
        return "\n".join("".join(lane.judged) for lane in self._lanes if lane.judged)

    def _enter(self, piece: P) -> _Lane:
        """Make the piece's channel the current one of its choice; those of another kind end."""
        key = (piece.choice, piece.channel)
        lanes = self._open.get(piece.choice, [])
        if lanes and lanes[0].kind is not piece.kind:  # thinking in two channels at once is one
            del self._open[piece.choice]
            for before in lanes:
                self._obey(before, before.guard.close())
        earlier = self._latest.get(key)
        if earlier is not None and not earlier.guard.closed:
            self._current[piece.choice] = earlier
            return earlier
        whole = piece.whole or self._rules.window is None
        guard = StreamGuard(
            None if whole else self._rules.window,
            self._rules.overlap,
            earlier.guard.preceding if earlier else "",
        )
        lane = _Lane(piece.choice, piece.channel, piece.kind, whole, guard)
        self._lanes.append(lane)
        (self._open_whole if whole else self._open).setdefault(piece.choice, []).append(lane)
        self._latest[key] = self._current[piece.choice] = lane
        return lane

    def _obey(self, lane: _Lane, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Release):
                self._release(lane, command)
            elif isinstance(command, Check):
                self._checking += 1
                self.checks += 1
                self._group.start_soon(self._judge, lane, command)
            else:
                self._halt(lane.choice, command.decision)

    def _release(self, lane: _Lane, release: Release) -> None:
        at = lane.released
        for span in release.spans:
            lane.spans.append(Span(at + span.start, at + span.end, span.label))
        if lane.whole and release.spans:
            segment = Segment(release.original, (), lane.kind)
            lane.redacted = redact_segment(segment, release.spans)
        lane.judged.append(release.original)
        lane.released += len(release.original)
        if not lane.whole:
            self.held -= len(release.original)

    def _halt(self, choice: int, decision: Decision) -> None:
        self.halted[choice] = decision
        for lane in self._lanes:
            if lane.choice == choice:
                if not lane.whole:
                    self.held -= lane.pushed - lane.released
                lane.released = lane.pushed
        for still in (self._current, self._open, self._open_whole):
            still.pop(choice, None)
        # In front: what waits may hold the upstream's own end, and the choice ends before that.
        self._queue.appendleft(_Queued(None, [], (), choice))

    async def _judge(self, lane: _Lane, check: Check) -> None:
        segment = Segment(check.text, (), lane.kind, check.preceding)
        turn = Turn("assistant", (segment,))
        if not self._context_digest:  # once for all checks
            self._context_digest = chain(self._context)[-1]
        subject = Subject(Stage.OUTPUT, self._context, (turn,), self._context_digest)
        decision = await self._engine.judge(subject, decision_id=self._decision_id)
        self._checking -= 1
        for finding in decision.findings:
            key = finding.policy.id, isinstance(finding, Failure)
            known = self._findings.get(key)
            if known is None or finding.action >= known.action:
                self._findings[key] = finding
        if lane.choice not in self.halted:
            if decision.action is Action.BLOCK:
                lane.judged.append(check.text)
            self._obey(lane, lane.guard.settle(check, decision))
        await self._on_ready()
        if self._waiter is not None:
            self._waiter.set()
            self._waiter = None

    async def _wait(self) -> None:
        self._waiter = anyio.Event()
        await self._waiter.wait()


def _free(piece: Piece, lane: _Lane, start: int) -> bool:
    """Whether all text of a piece was released."""
    if lane.whole:
        return lane.guard.finished
    return lane.released >= start + len(piece.text)


def _redacted(text: str, lane: _Lane, start: int) -> str:
    """The new text of the piece that starts at ``start`` of its lane."""
    if lane.whole:  # all of the redacted text goes into the lane's first piece that has any
        return lane.redacted if text and start == 0 else ""
    end = start + len(text)
    out: list[str] = []
    position = start
    for span in lane.spans:
        if span.end <= start or span.start >= end:
            continue
        if span.start >= start:  # the replacement stands where the span begins
            out.append(text[position - start : span.start - start])
            out.append(f"[REDACTED:{span.label}]")
        position = min(span.end, end)
    out.append(text[position - start :])
    return "".join(out)
