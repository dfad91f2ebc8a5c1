"""One call of a LangChain model: what goes in, what comes out, guarded as the proxy guards a request."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from langchain_core.messages import AIMessage, BaseMessage

from guardrail.core.conversation import Conversation, Segment, Turn, json_path
from guardrail.core.decision import Decision
from guardrail.core.history import changed
from guardrail.core.policy import Strategy
from guardrail.core.redaction import Redaction
from guardrail.core.release import StreamRules
from guardrail.engine.check import GuardrailEngine, new_decision_id
from guardrail.engine.history import failed
from guardrail.engine.outbox import Ready
from guardrail.frontends.held_stream import HeldStream
from guardrail.frontends.langchain_messages import Piece, edited, edited_all, pieces, read, read_all
from guardrail.frontends.langchain_values import answer_of
from guardrail.frontends.loop_thread import LoopThread

__all__ = ["DIALECT", "NOSTREAM", "HeldChunks", "Part", "Round", "aheld", "held"]

DIALECT = "langchain"
NOSTREAM = "nostream"
"""LangGraph's tag: what carries it shows no tokens in ``stream_mode="messages"``."""
HeldChunks = HeldStream[Any, Piece]
Part = Literal["input", "tool_results", "output"]
_TOOLS = ("tool", "function")


class Round:
    """First ``before``, then ``after`` or a stream.

    ``parts`` are what is judged; what is not is context for the judging of the answer only. ``strategy``
    stands in the place of the policies' own. ``unread`` are the paths of what the model gets besides the
    messages; they belong to the input.
    """

    def __init__(
        self,
        engine: GuardrailEngine,
        messages: Sequence[BaseMessage],
        *,
        parts: frozenset[Part] = frozenset({"input", "tool_results", "output"}),
        strategy: Strategy | None = None,
        unread: Sequence[str] = (),
    ) -> None:
        self._engine = engine
        self._messages = messages
        self._parts = parts
        self._strategy = strategy
        self._id = new_decision_id()
        whole = read_all(messages)
        self._whole = replace(whole, unreadable=(*whole.unreadable, *unread))
        self._chat = engine.chat(self._judged(self._whole))

    async def before(self) -> list[BaseMessage]:
        """The messages as the model gets them. Raises ``PolicyViolation``."""
        if not self._parts & {"input", "tool_results"}:
            return list(self._messages)
        await self._chat.recall()
        decision = await self._chat.check_input(decision_id=self._id, dialect=DIALECT)
        decision.raise_for_block()
        texts = self._chat.redacted(self._restyled(decision.redactions))
        dropped = self._chat.dropped
        return [m for i, m in enumerate(edited_all(self._messages, texts)) if i not in dropped]

    async def after(self, answer: AIMessage, *, structured: bool = False) -> AIMessage:
        """The answer as its caller gets it; raises ``PolicyViolation``. ``structured``: a JSON text."""
        turn, unreadable = read(answer)
        decision: Decision | None = None
        redactions: tuple[Redaction, ...] = ()
        if "output" in self._parts:
            decision = await self._engine.check_output(
                self.context, turn, unjudged=unreadable, decision_id=self._id, dialect=DIALECT
            )
            decision.raise_for_block()
            redactions = self._restyled(decision.redactions)
        texts = self._chat.delivered(turn, redactions, structured=structured)
        if decision is None or not failed(decision.findings):
            await self._chat.answered(changed(turn, texts))
        return edited(answer, texts)

    async def refused(self, text: str) -> None:
        """Remember the refusal that the caller got as the answer."""
        await self._chat.answered(Turn("assistant", (Segment(text, ()),)))

    def stream(self, rules: StreamRules) -> HeldChunks:
        """What holds the answer's chunks."""
        return HeldStream(
            self._engine, self.context, rules, self._chat.vault, decision_id=self._id, dialect=DIALECT
        )

    async def streamed(self, chunks: Sequence[Any], decision: Decision) -> None:
        """Remember an answer that was delivered as a stream."""
        if self._chat.remembers and chunks and not failed(decision.findings):
            first, *others = (answer_of(chunk, chunk=True) for chunk in chunks)
            whole: Any = sum(others, first)
            await self._chat.answered(read(whole)[0])

    @property
    def context(self) -> Conversation:
        """What the answer is judged with."""
        dropped = self._chat.dropped
        if self._chat.forwarded.turns == self._whole.turns:
            return self._chat.forwarded
        return Conversation(tuple(turn for i, turn in enumerate(self._whole.turns) if i not in dropped))

    def _judged(self, whole: Conversation) -> Conversation:
        """The conversation, with empty turns in the place of those that are not judged."""
        if {"input", "tool_results"} <= self._parts:
            return whole
        kept = [turn.role == "system" or self._applies(turn.role) for turn in whole.turns]
        left_out = tuple(json_path((place,)) for place, judged in enumerate(kept) if not judged)
        turns = [
            turn if judged else Turn(turn.role, ()) for turn, judged in zip(whole.turns, kept, strict=True)
        ]
        beside = "input" in self._parts  # what stands in no message
        unreadable = [
            path
            for path in whole.unreadable
            if (beside or path.startswith("$[")) and not path.startswith(left_out)
        ]
        return Conversation(tuple(turns), tuple(unreadable))

    def _applies(self, role: str) -> bool:
        return ("tool_results" if role in _TOOLS else "input") in self._parts

    def _restyled(self, redactions: Iterable[Redaction]) -> tuple[Redaction, ...]:
        if self._strategy is None:
            return tuple(redactions)
        return tuple(
            replace(r, spans=tuple(replace(span, strategy=self._strategy) for span in r.spans))
            for r in redactions
        )


def held(
    loop: LoopThread, stream: HeldChunks, chunks: Iterator[Any], call: Round | None = None
) -> Iterator[Any]:
    """The chunks, each as soon as its text was judged. Raises ``PolicyViolation``."""
    said: list[Any] = []
    run = loop.call  # the first starts the loop; the others belong to what runs there
    try:
        for chunk in chunks:
            ready = run(partial(_push, stream, chunk))
            run = loop.resume
            for new in ready:
                said.append(new)
                yield new
            stream.halted()
        for new in run(partial(_finish, stream)):
            said.append(new)
            yield new
        stream.halted()
        if call is not None:
            loop.resume(partial(call.streamed, said, stream.decision))
    finally:
        loop.finish(stream.aclose)
        if hasattr(chunks, "close"):
            chunks.close()  # and with it the request to the model


async def aheld(
    stream: HeldChunks, chunks: AsyncIterator[Any], call: Round | None = None
) -> AsyncGenerator[Any, None]:
    """``held`` for asynchronous code."""
    said: list[Any] = []
    try:
        async for chunk in chunks:
            for new in await _push(stream, chunk):
                said.append(new)
                yield new
            stream.halted()
        for new in await _finish(stream):
            said.append(new)
            yield new
        stream.halted()
        if call is not None:
            await call.streamed(said, stream.decision)
    finally:
        await stream.aclose()
        if hasattr(chunks, "aclose"):
            await chunks.aclose()


async def _push(stream: HeldChunks, chunk: Any) -> list[Any]:
    message = answer_of(chunk, chunk=True)
    found, unreadable = pieces(message)
    finished = (0,) if message.response_metadata.get("finish_reason") else ()
    ready = await stream.push(chunk, found, finished=finished, unreadable=unreadable)
    return [_leave(one) for one in ready]


async def _finish(stream: HeldChunks) -> list[Any]:
    return [_leave(one) for one in await stream.finish()]


def _leave(ready: Ready[Any, Piece]) -> Any:
    if not ready.texts:
        return ready.event
    new = edited(answer_of(ready.event, chunk=True), {piece.address: text for piece, text in ready.texts})
    return new.content if isinstance(ready.event, str) else new
