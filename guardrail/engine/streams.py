"""Drives the StreamGuards of one streamed answer: one guard per choice and channel.

Events are kept in the order in which they came. One leaves when all text it carries was released, so
an answer that passes leaves byte for byte as it came. A channel ends when its choice ends, or when
text of another kind begins in the same choice (thinking, then answering); if it is taken up again, its
earlier end is read along as context. A whole channel ends with its choice only, however often it is
interrupted (tool calls side by side).

In release mode ``live`` text leaves before it was judged, but the end of its choice does not: the event
that ends it waits for the last check, so that a client never takes an answer for sound that is not.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

import anyio
from anyio.abc import TaskGroup

from guardrail.core.conversation import Conversation, Kind, Segment, Subject, Turn, chain
from guardrail.core.decision import Decision
from guardrail.core.policy import Action, Stage
from guardrail.core.record import Held
from guardrail.core.release import Check, Command, Release, ReleaseMode, StreamRules
from guardrail.core.stream import StreamGuard
from guardrail.core.vault import Vault
from guardrail.engine.check import GuardrailEngine
from guardrail.engine.lanes import Lane, Piece
from guardrail.engine.tally import Tally

__all__ = ["Ready", "StreamedAnswer"]

E = TypeVar("E")
P = TypeVar("P", bound="Piece")


class Ready(NamedTuple, Generic[E, P]):
    """What may leave next: an event, or (``event`` is None) the end of the choice ``halted``.

    ``texts`` holds each piece that was changed with its new text, ``dropped`` the choices of the
    event that were halted before.
    """

    event: E | None
    texts: list[tuple[P, str]]
    dropped: tuple[int, ...]
    halted: int = -1


_UNCHANGED: Final[list[Any]] = []


class _Queued(NamedTuple, Generic[E, P]):
    event: E | None
    places: list[tuple[P, Lane, int]]  # each piece, its lane, and where in the lane it starts
    choices: Sequence[int]
    halted: int = -1
    ends: Sequence[Lane] = ()  # those that must be judged to their end before it leaves


class StreamedAnswer(Generic[E, P]):
    """One streamed answer. ``E`` is what the frontend queues as an event, ``P`` its pieces.

    ``vault`` restores what was redacted in the prompt. ``on_ready`` is awaited whenever something may
    leave or a choice was halted. ``group`` runs the checks: at most one per channel at a time, and at its
    end one beside it. ``split`` gives the events that were read as one, each with its piece; nothing for
    an event that is one alone. ``structured``: the answer's text is JSON.
    """

    def __init__(
        self,
        engine: GuardrailEngine,
        conversation: Conversation,
        rules: StreamRules,
        vault: Vault,
        group: TaskGroup,
        decision_id: str,
        on_ready: Callable[[], Awaitable[None]],
        split: Callable[[E], Sequence[tuple[E, P]]] = lambda event: (),
        *,
        structured: bool = False,
    ) -> None:
        self._engine = engine
        self._context = conversation.turns
        self._context_digest = conversation.digest
        self._rules = rules
        self._vault = vault
        self._group = group
        self._decision_id = decision_id
        self._on_ready = on_ready
        self._split = split
        self._structured = structured
        self._lanes: list[Lane] = []
        self._open: dict[int, list[Lane]] = {}  # by choice, the lanes that may get more text:
        self._open_whole: dict[int, list[Lane]] = {}  # a stream may have very many that are closed
        self._calls: dict[int, list[Lane]] = {}  # by choice, its whole lanes that may be unjudged
        self._latest: dict[tuple[int, str], Lane] = {}
        self._current: dict[int, Lane] = {}
        self._queue: deque[_Queued[E, P]] = deque()
        self._waiter: anyio.Event | None = None
        self._tally = Tally(engine.on_unreadable, decision_id)
        self._checking = 0
        self._first_came = self._last_came = 0.0  # when text arrived, in seconds of a monotonic clock
        self._first_left = self._last_left = 0.0
        self.waiting = 0
        self.checks = 0
        self.halted: dict[int, Decision] = {}

    @property
    def leaves(self) -> bool:
        """Whether the next event may leave."""
        return bool(self._queue) and self._is_free(self._queue[0])

    @property
    def full(self) -> bool:
        """Whether more text is held than may be."""
        return self.waiting > self._rules.max_held * max(1, len(self._open))

    @property
    def checking(self) -> bool:
        """Whether a check is outstanding."""
        return self._checking > 0

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nobody is asked."""
        return not self._queue and not self._checking

    def push(
        self, event: E, pieces: Sequence[P], choices: Sequence[int], finished: Sequence[int] = ()
    ) -> None:
        """Queue one event and hand its text to the guards; ``finished`` are the choices it ends."""
        places: list[tuple[P, Lane, int]] = []
        live = self._rules.release is ReleaseMode.LIVE
        if pieces or (live and finished):  # there it is the end that is held
            self._last_came = time.perf_counter()
            self._first_came = self._first_came or self._last_came
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
                self.waiting += size
            commands = lane.guard.push(piece.text)
            if commands:
                self._obey(lane, commands)
        for choice in finished:
            self.finish(choice)
        ends: Sequence[Lane] = ()
        if live and finished:
            ends = [lane for lane in self._lanes if lane.choice in finished]
        self._queue.append(_Queued(event, places, choices, ends=ends))

    def unreadable(self, choice: int, paths: Sequence[str]) -> None:
        """Note parts of an event that nobody can read; they block where the engine says so."""
        self._tally.unreadable(paths)
        if self._engine.on_unreadable is Action.BLOCK and choice not in self.halted:
            self._halt(choice, self.decision())

    def finish(self, choice: int, *, cut: bool = False) -> None:
        """No more text will come for this choice. ``cut``: it broke off, so a call begun is no call."""
        self._current.pop(choice, None)
        for lane in self._open.pop(choice, []) + self._open_whole.pop(choice, []):
            if not (cut and lane.call):
                self._obey(lane, lane.guard.close())

    def finish_all(self, *, cut: bool = False) -> None:
        """No more text will come at all."""
        for choice in dict.fromkeys([*self._open, *self._open_whole]):
            self.finish(choice, cut=cut)

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
                    if lane.guard.growing:  # what comes behind it could not be told for a part of it
                        self._halt(lane.choice, self.decision())
                    else:
                        self._obey(lane, lane.guard.close())
                await self._on_ready()
            if not self._checking:
                return
            await self._wait()

    def ready(self) -> list[Ready[E, P]]:
        """Take what may leave, in order."""
        out: list[Ready[E, P]] = []
        queue = self._queue
        while queue and self._is_free(queue[0]):
            queued = queue.popleft()
            if queued.places or queued.ends:
                self._last_left = time.perf_counter()
                self._first_left = self._first_left or self._last_left
            if self.halted or any(lane.edits for _, lane, _ in queued.places):
                out += [self._changed(one) for one in self._one_by_one(queued)]
            else:
                out.append(Ready(queued.event, _UNCHANGED, (), queued.halted))
        return out

    def _is_free(self, queued: _Queued[E, P]) -> bool:
        """Whether nothing keeps the event back any more."""
        for piece, lane, start in queued.places:
            if piece.choice in self.halted:
                continue
            if not lane.is_free(piece, start) or (lane.whole and not self._calls_judged(piece.choice)):
                return False
        return not queued.ends or all(
            lane.guard.finished or lane.choice in self.halted for lane in queued.ends
        )

    def _calls_judged(self, choice: int) -> bool:
        """Whether all whole lanes of a choice are: the end of one may stand behind a part of another."""
        lanes = self._calls[choice]
        while lanes and lanes[-1].guard.finished:
            lanes.pop()
        return not lanes

    def _changed(self, queued: _Queued[E, P]) -> Ready[E, P]:
        """One event without what was halted, and with what was redacted."""
        texts = [
            (piece, text)
            for piece, lane, start in queued.places
            if lane.edits
            and piece.choice not in self.halted
            and (text := lane.leave(piece.text, start)) != piece.text
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
        """All checks so far as one decision."""
        return self._tally.decision()

    def held(self) -> Held | None:
        """How long text was held, and how much was not; to be asked at the end. None if there was none."""
        if not self._lanes:
            return None
        return Held(
            first_s=max(0.0, self._first_left - self._first_came),
            last_s=max(0.0, self._last_left - self._last_came),
            unjudged_released_chars=sum(lane.guard.unjudged_released for lane in self._lanes),
        )

    @property
    def text(self) -> str:
        """The judged text, one channel a line, for the record."""
        return "\n".join("".join(lane.judged) for lane in self._lanes if lane.judged)

    def _enter(self, piece: P) -> Lane:
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
        whole = piece.whole or self._rules.release is ReleaseMode.WHOLE
        guard = StreamGuard(
            self._rules,
            whole=whole,
            restorer=self._vault or None,
            preceding=earlier.guard.preceding if earlier else "",
        )
        quoted = self._structured and piece.kind is Kind.TEXT
        lane = Lane(piece.choice, piece.channel, piece.kind, whole, guard, call=piece.whole, quoted=quoted)
        self._lanes.append(lane)
        if whole:
            self._calls.setdefault(piece.choice, []).append(lane)
        (self._open_whole if whole else self._open).setdefault(piece.choice, []).append(lane)
        self._latest[key] = self._current[piece.choice] = lane
        return lane

    def _obey(self, lane: Lane, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Release):
                lane.release(command, self._vault)
                if not lane.whole:
                    self.waiting -= len(command.original)
            elif isinstance(command, Check):
                self._checking += 1
                self.checks += 1
                self._group.start_soon(self._judge, lane, command)
            else:
                self._halt(lane.choice, command.decision)

    def _halt(self, choice: int, decision: Decision) -> None:
        self.halted[choice] = decision
        for lane in self._lanes:
            if lane.choice == choice:
                if not lane.whole:
                    self.waiting -= lane.pushed - lane.released
                lane.released = lane.pushed
        for still in (self._current, self._open, self._open_whole):
            still.pop(choice, None)
        # In front: what waits may hold the upstream's own end, and the choice ends before that.
        self._queue.appendleft(_Queued(None, [], (), choice))

    async def _judge(self, lane: Lane, check: Check) -> None:
        segment = Segment(check.text, (), lane.kind, check.preceding)
        turn = Turn("assistant", (segment,))
        if not self._context_digest:  # once for all checks
            self._context_digest = chain(self._context)[-1]
        subject = Subject(Stage.OUTPUT, self._context, (turn,), self._context_digest)
        decision = await self._engine.judge(subject, decision_id=self._decision_id)
        self._checking -= 1
        self._tally.add(decision.findings)
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
