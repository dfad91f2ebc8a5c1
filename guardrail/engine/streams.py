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
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic

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
from guardrail.engine.lanes import Lane
from guardrail.engine.outbox import E, Outbox, P
from guardrail.engine.tally import Tally

__all__ = ["StreamedAnswer"]


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
        self._structured = structured
        self._lanes: list[Lane] = []
        self._open: dict[int, list[Lane]] = {}  # by choice, the lanes that may get more text:
        self._open_whole: dict[int, list[Lane]] = {}  # a stream may have very many that are closed
        self._latest: dict[tuple[int, str], Lane] = {}
        self._current: dict[int, Lane] = {}
        self._waiter: anyio.Event | None = None
        self._tally = Tally(engine.on_unreadable, decision_id)
        self._tallies: dict[int, Tally] = {}  # of each choice, what could be read
        self._checking = 0
        self._first_came = self._last_came = 0.0  # when text arrived, in seconds of a monotonic clock
        self.waiting = 0
        self.checks = 0
        self.halted: dict[int, Decision] = {}
        self.outbox: Outbox[E, P] = Outbox(self.halted, split)
        """What may leave is taken out of it."""

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
        return not self.outbox and not self._checking

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
        self.outbox.put(event, places, choices, ends)

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

    def decision(self) -> Decision:
        """All checks so far as one decision."""
        return self._tally.decision()

    def decision_of(self, choice: int) -> Decision:
        """The checks of one choice so far as one decision; parts that nobody can read do not count."""
        return self._tallies.get(choice, Tally(Action.PASS, self._decision_id)).decision()

    def held(self) -> Held | None:
        """How long text was held, and how much was not; to be asked at the end. None if there was none."""
        if not self._lanes:
            return None
        return Held(
            first_s=max(0.0, self.outbox.first_left - self._first_came),
            last_s=max(0.0, self.outbox.last_left - self._last_came),
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
            self.outbox.expect(lane)
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
        self.outbox.end(choice)

    async def _judge(self, lane: Lane, check: Check) -> None:
        segment = Segment(check.text, (), lane.kind, check.preceding)
        turn = Turn("assistant", (segment,))
        if not self._context_digest:  # once for all checks
            self._context_digest = chain(self._context)[-1]
        subject = Subject(Stage.OUTPUT, self._context, (turn,), self._context_digest)
        decision = await self._engine.judge(subject, decision_id=self._decision_id)
        self._checking -= 1
        self._tally.add(decision.findings)
        own = self._tallies.get(lane.choice)
        if own is None:
            own = self._tallies[lane.choice] = Tally(Action.PASS, self._decision_id)
        own.add(decision.findings)
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
