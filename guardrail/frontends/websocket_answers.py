"""What an app says on one WebSocket: each message is held until its text was judged.

Without ``end`` in its route a message is an answer: it is judged whole, and leaves or not. With ``end`` all
messages up to the one that says so are one answer, of which text leaves as in any stream. A client that
speaks in between does not end it: else a client could cut an answer into pieces that say nothing alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import anyio
import orjson
from anyio.abc import TaskGroup

from guardrail.core.conversation import Conversation, Segment, Turn
from guardrail.core.decision import Decision
from guardrail.core.prompt import MAX_CONTEXT_CHARS
from guardrail.core.vault import Vault
from guardrail.engine.check import GuardrailEngine, new_decision_id
from guardrail.engine.lanes import sized
from guardrail.engine.streams import StreamedAnswer
from guardrail.errors import UnreadableRequest
from guardrail.frontends.asgi import Message, Send
from guardrail.frontends.exchange import Settings
from guardrail.wire import shapes
from guardrail.wire.dialect import Delta, StreamEvent
from guardrail.wire.refusals import Refusing
from guardrail.wire.replies import Refusal, refusal_error
from guardrail.wire.route import RouteText
from guardrail.wire.route_stream import deltas_of
from guardrail.wire.shapes import PlainText
from guardrail.wire.sse import Event

__all__ = ["Answers", "Earlier", "refused"]

_UNREADABLE: Final = "the app's message is not what its route says"


class Earlier:
    """What was said on a connection, as it was delivered: the latest of it, as much as a judge is shown."""

    def __init__(self) -> None:
        self._turns: deque[Turn] = deque()
        self._size = 0

    def add(self, turn: Turn) -> None:
        """Remember one more turn; the oldest are forgotten."""
        self._turns.append(turn)
        self._size += _size(turn)
        while self._size > MAX_CONTEXT_CHARS or len(self._turns) > MAX_CONTEXT_CHARS:
            self._size -= _size(self._turns.popleft())

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Oldest first."""
        return tuple(self._turns)


class _Said(NamedTuple):
    message: Message
    read: StreamEvent


class Answers:
    """The app's side of one connection. ``group`` runs the checks; ``vault`` is asked for when needed."""

    def __init__(
        self,
        send: Send,
        engine: GuardrailEngine,
        settings: Settings,
        refusing: Refusing,
        name: str,
        text: RouteText,
        earlier: Earlier,
        vault: Callable[[], Vault],
        group: TaskGroup,
    ) -> None:
        self._send = send
        self._engine = engine
        self._rules = sized(settings.streaming, engine.output_detectors)
        self._refusing = refusing
        self._name = name
        self._text = text
        self._earlier = earlier
        self._vault = vault
        self._group = group
        self._order = anyio.Lock()  # an app may speak from several tasks
        self._writing = anyio.Lock()
        self._answer: StreamedAnswer[_Said, Delta] | None = None
        self._delivered: list[str] = []
        self._id = ""

    async def say(self, message: Message) -> None:
        """Take one message of the app's."""
        async with self._order:
            try:
                read = self._read(message)
            except UnreadableRequest:  # it may hold text in another place
                words = self._text.fail("upstream_unreadable", _UNREADABLE)
                await self.tell({"type": "websocket.send", "text": words.decode()})
                return
            if self._answer is None:
                if not (read.deltas or read.unreadable):
                    await self.tell(message)
                    return
                self._answer = self._begin()
            answer = self._answer
            if read.unreadable:
                answer.unreadable(0, read.unreadable)
            ends = self._text.end is None or bool(read.finished)
            answer.push(_Said(message, read), read.deltas, read.choices, (0,) if ends else ())
            await self._flush()
            if ends:
                await self._end(answer)
            elif answer.full:
                await answer.room()

    async def finish(self) -> None:
        """The app says no more: judge what is held, and let it leave."""
        async with self._order:
            if self._answer is not None:
                await self._end(self._answer)

    async def tell(self, message: Message) -> None:
        """Send a message that is not judged: one without text, or one of ours."""
        async with self._writing:
            await self._send(message)

    def cut(self) -> None:
        """The connection is over: record what was decided about an answer that did not end."""
        self._record(cancelled=True)

    def _begin(self) -> StreamedAnswer[_Said, Delta]:
        self._id = new_decision_id()
        self._delivered = []
        conversation = Conversation(self._earlier.turns)
        known = (conversation, self._rules, self._vault(), self._group, self._id)
        return StreamedAnswer(self._engine, *known, self._flush)

    async def _end(self, answer: StreamedAnswer[_Said, Delta]) -> None:
        answer.finish_all()
        await answer.settled()
        await self._flush()
        self._record(cancelled=False)

    def _record(self, *, cancelled: bool) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            return
        if self._delivered:
            self._earlier.add(Turn("assistant", (Segment("".join(self._delivered), ()),)))
        self._engine.record(
            answer.decision(),
            self._name,
            answer.text,
            checks=answer.checks,
            cancelled=cancelled,
            held=answer.held(),
        )

    def _read(self, message: Message) -> StreamEvent:
        """Raises ``UnreadableRequest``. Bytes nobody can read, and a server may prefer them to a text."""
        said = message.get("text")
        raw = b"" if said is None else said.encode()
        event = Event(raw, raw)
        if self._text.output is None:
            return deltas_of(self._text, event)
        if said is None:
            return StreamEvent(event, (), (), ("$",), (0,))
        read = deltas_of(self._text, event)
        return read if message.get("bytes") is None else read._replace(unreadable=(*read.unreadable, "$"))

    async def _flush(self) -> None:
        """Send whatever may leave, and the refusal of an answer that was halted."""
        async with self._writing:
            answer = self._answer
            if answer is None:
                return
            for item in answer.outbox.ready():
                if item.event is None:
                    await self._send(self._halt(answer.halted[0]))
                    continue
                texts = {delta.address: text for delta, text in item.texts}
                message = self._changed(item.event, texts, dropped=bool(item.dropped))
                if message is not None:
                    await self._send(message)

    def _changed(
        self, said: _Said, texts: dict[tuple[str | int, ...], str], *, dropped: bool
    ) -> Message | None:
        """One message as it leaves. Of an answer that was halted only what has no text leaves.

        The message that ends it does so without its texts: a client waits for it.
        """
        read = said.read
        if dropped:
            if read.unreadable or (read.deltas and not read.finished):
                return None
            texts = {delta.address: "" for delta in read.deltas}
        else:
            self._delivered += [texts.get(delta.address, delta.text) for delta in read.deltas]
        if not texts:
            return said.message
        return {**said.message, "text": shapes.edit(read.event.raw, texts).decode()}

    def _halt(self, decision: Decision) -> Message:
        refusal = self._refusing.of(decision)
        words = refused(self._text, decision, refusal, "answer", spoke=any(self._delivered))
        if not decision.unavailable and refusal.style == "completion":
            self._delivered.append(refusal.message)
        return {"type": "websocket.send", "text": words}


def refused(
    text: RouteText, decision: Decision, refusal: Refusal, what: str, *, spoke: bool = False
) -> str:
    """The message that a client gets in the place of one that was refused; ``what`` names it."""
    if decision.unavailable:
        reason = f"the {what} could not be checked, and unchecked {what}s are not let through"
        return text.fail("guardrail_unavailable", reason, id=decision.id).decode()
    if text.output is None or (refusal.style == "error" and not isinstance(text.output, PlainText)):
        body = orjson.loads(refusal_error(decision, refusal).body)
        body["error"]["id"] = decision.id
        return orjson.dumps(body).decode()
    return text.say("\n\n" + refusal.message if spoke else refusal.message, text.output).decode()


def _size(turn: Turn) -> int:
    return sum(len(segment.text) for segment in turn.segments)
