"""A stream that is held until judged, for who has no server around it: pushed and pulled by hand.

push(event) ──▶ events that may leave by now          finish() ──▶ the rest, once it was judged
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Generic

import anyio

from guardrail.core.conversation import Conversation
from guardrail.core.decision import Decision
from guardrail.core.release import StreamRules
from guardrail.core.vault import Vault
from guardrail.engine.check import GuardrailEngine
from guardrail.engine.lanes import sized
from guardrail.engine.outbox import E, P, Ready
from guardrail.engine.streams import StreamedAnswer

__all__ = ["HeldStream"]


class HeldStream(Generic[E, P]):
    """One streamed answer, of one choice unless said otherwise; to be closed, in the loop of its pushes.

    Checks run between the calls; what they free leaves with the next one. A block raises
    ``PolicyViolation`` from the call after what may leave before it. ``structured``: its text is JSON.
    """

    def __init__(
        self,
        engine: GuardrailEngine,
        conversation: Conversation,
        rules: StreamRules,
        vault: Vault,
        *,
        decision_id: str,
        dialect: str,
        structured: bool = False,
    ) -> None:
        self._engine = engine
        self._conversation = conversation
        self._rules = sized(rules, engine.output_detectors)
        self._vault = vault
        self._id = decision_id
        self._dialect = dialect
        self._structured = structured
        self._answer: StreamedAnswer[E, P] | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun = anyio.Event()
        self._over = anyio.Event()
        self._whole = False
        self._ready: list[Ready[E, P]] = []

    async def push(
        self,
        event: E,
        pieces: Sequence[P],
        *,
        choices: Sequence[int] = (0,),
        finished: Sequence[int] = (),
        unreadable: Sequence[str] = (),
    ) -> list[Ready[E, P]]:
        """Take one event; ``finished`` are the choices it ends. Waits where more is held than may be."""
        answer = await self._open()
        if unreadable:
            for choice in choices or (0,):
                answer.unreadable(choice, unreadable)
        answer.push(event, pieces, choices, finished)
        if answer.full:
            await answer.room()
        return await self._leaving()

    async def finish(self) -> list[Ready[E, P]]:
        """The rest, once all of it was judged."""
        answer = await self._open()
        answer.finish_all()
        await answer.settled()
        self._whole = True
        return await self._leaving()

    @property
    def decision(self) -> Decision:
        """All checks so far as one decision; to be asked before it is closed."""
        assert self._answer is not None  # noqa: S101 - the caller pushed or finished
        return self._answer.decision()

    def halted(self) -> None:
        """Raise ``PolicyViolation`` if the answer was blocked; to be asked when what was given has left."""
        if self._answer is not None and 0 in self._answer.halted:
            self._answer.halted[0].raise_for_block()

    async def aclose(self) -> None:
        """Cancel what runs, and record what was decided."""
        answer, task = self._answer, self._task
        if answer is None or task is None:
            return
        self._answer = None
        self._over.set()
        if self._loop is asyncio.get_running_loop():  # else that loop has ended, and the task with it
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task])
        self._engine.record(
            answer.decision(),
            self._dialect,
            answer.text,
            checks=answer.checks,
            cancelled=not (self._whole or answer.halted),
            held=answer.held(),
        )

    async def _leaving(self) -> list[Ready[E, P]]:
        await anyio.lowlevel.checkpoint()  # who pushes without a break would let no check begin
        await self._take()
        out = []
        for ready in self._ready:
            if ready.event is None or ready.dropped:  # the end, and nothing that came behind it
                break
            out.append(ready)
        self._ready.clear()
        return out

    async def _take(self) -> None:
        if self._answer is not None:
            self._ready += self._answer.outbox.ready()

    async def _open(self) -> StreamedAnswer[E, P]:
        if self._answer is None:
            # A bare task: the checks outlive the call that asked for them. Ended by aclose.
            self._loop = asyncio.get_running_loop()
            self._task = asyncio.create_task(self._hold())  # noqa: TID251
            await self._begun.wait()
        elif self._loop is not asyncio.get_running_loop():
            raise RuntimeError("the stream was closed with its guard")
        assert self._answer is not None  # noqa: S101 - made before the event
        return self._answer

    async def _hold(self) -> None:
        async with anyio.create_task_group() as group:
            self._answer = StreamedAnswer(
                self._engine,
                self._conversation,
                self._rules,
                self._vault,
                group,
                self._id,
                self._take,
                structured=self._structured,
            )
            self._begun.set()
            await self._over.wait()
            group.cancel_scope.cancel()
