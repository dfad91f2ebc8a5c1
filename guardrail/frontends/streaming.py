"""The responder for an answer that comes as a stream of events: hold, judge, release or halt.

Who wins a race:

| race | who wins |
| --- | --- |
| text arrives while a check runs | it is held; the next check covers it |
| a block while other text waits | the held text of that choice is dropped, other choices go on |
| a block or failure before any text left | a whole refusal, or 503, instead of a stream |
| a block after text has left | that choice ends with the dialect's last chunk; upstream is cancelled |
| a failure (closed) after text has left | an error event; no last chunk, no ``[DONE]`` (in plain text, \
which has no events, the answer breaks off) |
| upstream is lost while a check runs | the check is awaited, what it frees leaves, then an error event |
| upstream is lost inside a tool call | nothing of the call leaves, nor what came behind its beginning |
| a check runs longer than the keep-alive interval | a comment is sent; from then on it is a stream with \
status 200, whatever the check decides |
| the client hangs up | checks and upstream are cancelled; what was decided is recorded |
"""

from __future__ import annotations

from typing import Final

import anyio
from anyio.abc import TaskGroup

from guardrail.core.conversation import Kind
from guardrail.core.decision import Decision
from guardrail.core.history import Delivered
from guardrail.core.policy import Stage
from guardrail.core.release import StreamRules
from guardrail.engine.check import GuardrailEngine
from guardrail.engine.history import Chat, failed
from guardrail.engine.outbox import Ready
from guardrail.engine.streams import StreamedAnswer
from guardrail.frontends.asgi import Message, Send, kept_headers, send_reply
from guardrail.frontends.keep_alive import KeepAlive
from guardrail.wire.dialect import Delta, Dialect, GuardedRequest, StreamEvent
from guardrail.wire.refusals import Refusing
from guardrail.wire.replies import BAD_UPSTREAM, UNAVAILABLE, Header, decision_headers

__all__ = ["StreamResponder"]

_UNAVAILABLE: Final = "the answer could not be checked, and unchecked answers are not let through"


class StreamResponder:
    """Receives the inner app's messages of one stream and sends what the client may see.

    ``group`` runs the checks; it is cancelled once the client has its last byte. While an answer is held a
    comment is sent every ``keep_alive_s`` seconds.
    """

    def __init__(
        self,
        start: Message,
        send: Send,
        engine: GuardrailEngine,
        chat: Chat,
        dialect: Dialect,
        request: GuardedRequest,
        before: Decision,
        refusing: Refusing,
        rules: StreamRules,
        keep_alive_s: float,
        group: TaskGroup,
    ) -> None:
        self._start = start
        self._send = send
        self._engine = engine
        self._chat = chat
        self._dialect = dialect
        self._request = request
        self._before = before
        self._refusing = refusing
        self._group = group
        self._frames = request.frames()
        self._stream = dialect.stream(request)
        for form in request.annotations:
            found = lambda choice: self._answer.decision_of(choice)  # noqa: E731 - it is made below
            self._stream = form.stream(self._stream, before, found, request.choices)
        self._lock = anyio.Lock(fast_acquire=True)
        self._answer: StreamedAnswer[StreamEvent, Delta] = StreamedAnswer(
            engine,
            request.conversation,
            rules,
            chat.vault,
            group,
            before.id,
            self._flush,
            self._stream.split,
            structured=request.structured,
        )
        self._keep_alive = KeepAlive(keep_alive_s, self._is_held, self._say_that_it_is_held)
        self._waiting: list[bytes] = []  # events before the first text
        self._spoke: set[int] = set()  # choices whose text has left
        self._delivered = Delivered() if chat.remembers else None
        self._finished: set[int] = set()  # choices whose end the upstream has told
        self._started = False
        self._ended = False
        self._complete = False  # the inner app ended its answer
        self._lost = False  # it broke off before anything left

    @property
    def asks(self) -> bool:
        """Whether a check runs."""
        return self._answer.checking

    async def body(self, message: Message) -> None:
        """Take one body message."""
        if self._ended:
            return
        for read in self._stream.read(self._frames.feed(message.get("body", b""))):
            self._take(read)
            if self._answer.full:  # one message may bring far more text than may be held
                await self._answer.room()
        if self._answer.outbox.leaves:
            await self._flush()
        if self._ended or message.get("more_body", False):
            return
        self._complete = True
        rest = self._frames.flush()
        if rest is not None:
            for read in self._stream.read([rest]):
                self._take(read)
        await self._drain()
        if not self._ended:
            await self._remember()
            await self._write(b"", last=True)

    async def lost(self, code: str, reason: str) -> None:
        """The inner app broke off. What was judged leaves, then an error and no proper end."""
        await self._drain(cut=True)
        if self._ended:
            return
        if self._started:
            await self._break_off(b"", code, reason)
        else:
            self._ended = self._lost = True
            reply = self._dialect.error(BAD_UPSTREAM, code, reason)
            await send_reply(self._send, reply, decision_headers(self._before))

    def record(self) -> None:
        """Record the stream's decision, whole or cut; a stream that was lost unjudged has none."""
        self._keep_alive.stop()
        answer = self._answer
        if self._lost and not answer.checks:
            return
        self._engine.record(
            answer.decision(),
            self._dialect.name,
            answer.text,
            checks=answer.checks,
            cancelled=not (self._ended or self._all_left),  # clients hang up at the last word
            held=answer.held(),
        )

    def _take(self, read: StreamEvent) -> None:
        if read.unreadable:
            for choice in read.choices or range(self._request.choices):  # what belongs to none is all's
                self._answer.unreadable(choice, read.unreadable)
        self._finished.update(read.finished)
        self._answer.push(read, read.deltas, read.choices, read.finished)

    async def _drain(self, *, cut: bool = False) -> None:
        self._answer.finish_all(cut=cut)
        await self._answer.settled()
        await self._flush()

    async def _flush(self) -> None:
        """Write whatever may leave; the last word, if all choices were halted."""
        async with self._lock:
            if self._ended:
                return
            ready = self._answer.outbox.ready()
            if ready:
                await self._leave(ready)

    async def _leave(self, ready: list[Ready[StreamEvent, Delta]]) -> None:
        halted = self._answer.halted
        unmade = next((d for d in halted.values() if d.unavailable), None)
        whole = len(halted) >= self._request.choices
        silent = not self._started and not any(r.event and r.event.deltas and not r.dropped for r in ready)
        if silent and (unmade or (whole and len(halted) == 1)):
            await self._refuse(unmade or next(iter(halted.values())))
            return
        out: list[bytes] = []
        over = False  # what the upstream sent behind the last halt, such as its [DONE], stays here
        for item in ready:
            if item.event is None:
                over = whole or unmade is not None
                if not unmade:
                    out.append(self._halt(item.halted))
            elif not over:
                out.append(self._event(item, item.event))
        if unmade:
            await self._break_off(b"".join(out), "guardrail_unavailable", _UNAVAILABLE)
            return
        if whole and self._says_words:
            out.append(self._stream.end())
        if not (self._spoke or halted):
            self._waiting.extend(out)
            return
        if self._all_left or (whole and self._says_words):
            await self._remember()
        await self._write(b"".join(out), last=whole)

    def _event(self, item: Ready[StreamEvent, Delta], event: StreamEvent) -> bytes:
        texts = {delta.address: text for delta, text in item.texts} if item.texts else {}
        for delta in event.deltas:
            if delta.choice in item.dropped:
                continue
            if delta.text or delta.whole:
                self._spoke.add(delta.choice)
            if self._delivered is not None:
                text = texts.get(delta.address, delta.text)
                self._delivered.add(delta.choice, delta.channel, delta.kind, text, whole=delta.whole)
        return self._stream.write(event, texts, item.dropped)

    def _halt(self, choice: int) -> bytes:
        decision = self._answer.halted[choice]
        refusal = self._refusing.of(decision)
        spoke = choice in self._spoke
        if self._delivered is not None and not spoke:
            self._delivered.add(choice, *self._refused_in, refusal.message, whole=False)
        return self._stream.halt(choice, decision, refusal, spoke=spoke)

    @property
    def _all_left(self) -> bool:
        """Whether the end of every choice has left."""
        return len(self._finished) >= self._request.choices and self._answer.idle

    @property
    def _says_words(self) -> bool:
        """Whether refusals are answers, not errors."""
        return self._refusing.stages[Stage.OUTPUT].style == "completion"

    @property
    def _refused_in(self) -> tuple[str, Kind]:
        """Channel and kind of a refusal's text."""
        kind = self._request.refused_as
        return ("refusal" if kind is Kind.REFUSAL else "content"), kind

    async def _refuse(self, decision: Decision) -> None:
        """Nothing left yet: a whole answer instead of a stream."""
        self._ended = True
        if decision.unavailable:
            reply = self._dialect.error(UNAVAILABLE, "guardrail_unavailable", _UNAVAILABLE)
        else:
            refusal = self._refusing.of(decision)
            reply = self._dialect.refuse(self._request, decision, refusal)
            for form in self._request.annotations:
                reply = form.reply(reply, self._before, decision)
            if self._delivered is not None and self._says_words:
                self._delivered.add(0, *self._refused_in, refusal.message, whole=False)
                await self._remember()
        await send_reply(self._send, reply, decision_headers(self._before, decision))
        self._stop()

    def _is_held(self) -> bool:
        return bool(self._frames.keep_alive) and not self._answer.idle

    async def _say_that_it_is_held(self) -> None:
        async with self._lock:
            if not (self._ended or self._answer.idle):
                await self._write(self._frames.keep_alive)

    async def _write(self, data: bytes, *, last: bool = False) -> None:
        self._keep_alive.wrote()
        if last:
            self._ended = True
        if self._waiting:
            data = b"".join(self._waiting) + data
            self._waiting.clear()
        if not self._started:
            self._started = True
            headers: list[Header] = kept_headers(self._start["headers"], same_length=False)
            decided = decision_headers(self._before, self._answer.decision())
            await self._send({**self._start, "headers": headers + decided})
        if data or last:
            await self._send({"type": "http.response.body", "body": data, "more_body": not last})
        if last:
            self._stop()

    async def _break_off(self, before: bytes, code: str, reason: str) -> None:
        """Say that the rest is missing; where the form cannot say it, there is no proper end either."""
        error = self._stream.error(code, reason)
        if error:
            await self._write(before + error, last=True)
            return
        if before or self._waiting:
            await self._write(before)
        self._ended = True
        self._stop()

    async def _remember(self) -> None:
        """Remember each choice as it is delivered, unless a check could not be made.

        Before its end leaves: the client's next turn may come at once.
        """
        delivered, self._delivered = self._delivered, None
        if delivered is None or failed(self._answer.decision().findings):
            return
        for choice in range(self._request.choices):
            await self._chat.answered(delivered.turn(choice))

    def _stop(self) -> None:
        """Cancel the inner app and the checks; an app that is done may finish its own work."""
        if not self._complete:
            self._group.cancel_scope.cancel()
