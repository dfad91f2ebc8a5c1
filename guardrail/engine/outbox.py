"""The outbox of one streamed answer: events in the order in which they came, until each may leave."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from guardrail.engine.lanes import Lane, Piece

__all__ = ["E", "Outbox", "P", "Ready"]

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


class Outbox(Generic[E, P]):
    """Holds the events of one answer, each with the places of its pieces in their lanes.

    ``halted`` are the choices that were halted, which its owner adds to. ``split`` gives the events that
    were read as one, each with its piece; nothing for an event that is one alone.
    """

    def __init__(self, halted: Collection[int], split: Callable[[E], Sequence[tuple[E, P]]]) -> None:
        self._halted = halted
        self._split = split
        self._queue: deque[_Queued[E, P]] = deque()
        self._calls: dict[int, list[Lane]] = {}  # by choice, its whole lanes that may be unjudged
        self.first_left = self.last_left = 0.0
        """When text left for the first and the last time, in seconds of ``time.perf_counter``; 0: never."""

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._queue)

    @property
    def leaves(self) -> bool:
        """Whether the next event may leave."""
        return bool(self._queue) and self._is_free(self._queue[0])

    def expect(self, lane: Lane) -> None:
        """Let no part of a whole lane leave before this one of the same choice was judged too."""
        self._calls.setdefault(lane.choice, []).append(lane)

    def put(
        self, event: E, places: list[tuple[P, Lane, int]], choices: Sequence[int], ends: Sequence[Lane]
    ) -> None:
        """Queue an event; ``places`` are each piece, its lane, and where in the lane it starts.

        ``ends`` are lanes that must be judged to their end before it leaves.
        """
        self._queue.append(_Queued(event, places, choices, ends=ends))

    def end(self, choice: int) -> None:
        """Queue the end of a choice that was halted.

        In front: what waits may hold the upstream's own end, and the choice ends before that.
        """
        self._queue.appendleft(_Queued(None, [], (), choice))

    def ready(self) -> list[Ready[E, P]]:
        """Take what may leave, in order."""
        out: list[Ready[E, P]] = []
        queue = self._queue
        while queue and self._is_free(queue[0]):
            queued = queue.popleft()
            if queued.places or queued.ends:
                self.last_left = time.perf_counter()
                self.first_left = self.first_left or self.last_left
            if self._halted or any(lane.edits for _, lane, _ in queued.places):
                out += [self._changed(one) for one in self._one_by_one(queued)]
            else:
                out.append(Ready(queued.event, _UNCHANGED, (), queued.halted))
        return out

    def _is_free(self, queued: _Queued[E, P]) -> bool:
        """Whether nothing keeps the event back any more."""
        for piece, lane, start in queued.places:
            if piece.choice in self._halted:
                continue
            if not lane.is_free(piece, start) or (lane.whole and not self._calls_judged(piece.choice)):
                return False
        return not queued.ends or all(
            lane.guard.finished or lane.choice in self._halted for lane in queued.ends
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
            and piece.choice not in self._halted
            and (text := lane.leave(piece.text, start)) != piece.text
        ]
        dropped = tuple([choice for choice in queued.choices if choice in self._halted])
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
