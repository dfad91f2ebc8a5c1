"""One guarded request, from the end of its body to the last byte of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import anyio
from anyio.abc import TaskGroup

from guardrail.core.conversation import Segment, Turn
from guardrail.core.decision import Decision
from guardrail.core.policy import Action
from guardrail.core.release import StreamRules
from guardrail.engine.check import GuardrailEngine, new_decision_id
from guardrail.engine.history import Chat
from guardrail.engine.lanes import sized
from guardrail.errors import UnreadableRequest, UnreadableResponse, UpstreamLost
from guardrail.frontends.asgi import (
    ASGIApp,
    Message,
    Receive,
    Scope,
    Send,
    compressed,
    full_path,
    header,
    other_charset,
    send_reply,
)
from guardrail.frontends.client import Client
from guardrail.frontends.controls import forwarded_headers, heeded
from guardrail.frontends.streaming import StreamResponder
from guardrail.frontends.unary import UnaryResponder
from guardrail.frontends.verbatim import Verbatim
from guardrail.wire.dialect import Dialect, GuardedRequest
from guardrail.wire.refusals import Refusals
from guardrail.wire.replies import (
    BAD_UPSTREAM,
    BUSY,
    UNAVAILABLE,
    decision_headers,
    refused_headers,
)
from guardrail.wire.route import Route

__all__ = ["Exchange", "Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the middleware is told besides the engine. Sizes are in bytes.

    ``keep_alive_s``: how often a stream that is held says so, in seconds.
    ``beside``: the app is asked while the prompt is being judged. It may so see a prompt that is blocked.
    ``routes``: those of the app's own, which go before the dialects. ``exempt``: paths that only end like
    those of a dialect and are left alone; ``*`` is one segment.
    """

    refusals: Refusals = field(default_factory=Refusals)
    streaming: StreamRules = field(default_factory=StreamRules)
    keep_alive_s: float = 15.0
    max_body_bytes: int = 1_048_576
    max_concurrent_requests: int = 512
    beside: bool = False
    routes: Sequence[Route] = ()
    exempt: Sequence[str] = ()


class Exchange:
    """One guarded request, from its first byte to the last byte of the answer."""

    def __init__(
        self,
        app: ASGIApp,
        engine: GuardrailEngine,
        settings: Settings,
        dialect: Dialect,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._app = app
        self._engine = engine
        self._settings = settings
        self._dialect = dialect
        self._scope = scope
        self._client = Client(scope, receive, send)
        self._send = self._client.send
        self._id = new_decision_id()
        self._refusing = settings.refusals.for_request(full_path(scope), scope["headers"])
        self._responder: UnaryResponder | StreamResponder | Verbatim | None = None
        self._checks: TaskGroup | None = None
        self._unreadable: UnreadableResponse | None = None
        self._complete = False  # the app ended its answer
        self._before: Decision | None = None  # about the prompt
        self._gate: anyio.Event | None = None  # opens with it, where the app is asked earlier

    async def read(self) -> GuardedRequest | None:
        """The request; None when the client hung up, or was told that it cannot be read."""
        try:
            raw = await self._client.body(self._settings.max_body_bytes)
            if raw is None:
                return None
            request = self._dialect.read_request(raw)
            headers = self._scope["headers"]
            self._engine, request = heeded(self._engine, self._dialect, request, headers)
        except UnreadableRequest as error:
            reply = self._dialect.error(error.status, "invalid_request_error", str(error), error.param)
            await send_reply(self._send, reply, refused_headers(self._id))
            return None
        return request

    async def turn_away(self) -> None:
        """Answer that too many requests are open."""
        reply = self._dialect.error(BUSY, "guardrail_overloaded", "too many requests at once")
        await send_reply(self._send, reply, refused_headers(self._id))

    async def run(self, request: GuardedRequest) -> None:
        """Serve the request; when the client hangs up, everything made for it is cancelled."""
        try:
            await self._client.wait_for(
                self._serve_stream(request) if request.stream else self._serve(request)
            )
        finally:
            if isinstance(self._responder, StreamResponder):
                self._responder.record()

    async def _serve_stream(self, request: GuardedRequest) -> None:
        """``_serve`` with a task group for the checks of a stream; an error stays what it was."""
        failed: Exception | None = None
        async with anyio.create_task_group() as group:
            self._checks = group
            try:
                await self._serve(request)
            except Exception as error:
                failed = error
            if isinstance(self._responder, StreamResponder) and self._responder.asks:
                group.cancel_scope.cancel()  # which is not for nothing: it describes who does it
        if failed is not None:
            raise failed

    async def _serve(self, request: GuardedRequest) -> None:
        chat = self._engine.chat(request.conversation)
        await chat.recall()
        if self._settings.beside and not (request.added_policies or chat.blocked):
            answered = await self._beside(request, chat)
        else:
            answered = False
            self._before = await chat.check_input(decision_id=self._id, dialect=self._dialect.name)
        decision = await self._judged()
        if decision.action is Action.BLOCK:
            await self._refuse(request, decision, chat)
        elif not answered:
            await self._answer(request, chat)

    async def _beside(self, request: GuardedRequest, chat: Chat) -> bool:
        """Judge the prompt while the app answers it; nothing of the answer is taken before the decision.

        False where it has to be asked again, or not at all: the app's call is then cancelled.
        """
        failed: Exception | None = None
        self._gate = anyio.Event()

        async def answer() -> None:
            nonlocal failed
            try:
                await self._answer(request, chat)
            except Exception as error:
                failed = error

        async with anyio.create_task_group() as group:
            group.start_soon(answer)
            decision = await chat.check_input(decision_id=self._id, dialect=self._dialect.name)
            if decision.action >= Action.REDACT:
                group.cancel_scope.cancel()
            self._before = decision
            self._gate.set()
        if failed is not None:
            raise failed
        return decision.action < Action.REDACT

    async def _judged(self) -> Decision:
        """The decision about the prompt, as soon as it is made."""
        if self._gate is not None:
            await self._gate.wait()
        assert self._before is not None  # noqa: S101 - the gate opens behind it
        return self._before

    async def _answer(self, request: GuardedRequest, chat: Chat) -> None:
        """Let the app answer, and judge that."""
        raw = request.raw
        if self._before is not None and self._before.action is Action.REDACT:
            raw = self._dialect.edit(raw, chat.redacted(self._before.redactions))
        if chat.dropped:
            raw = self._dialect.drop(raw, chat.dropped)
            self._send = _Telling(self._client.send, len(chat.dropped))
        request = replace(request, conversation=chat.forwarded)
        try:
            await self._forward(raw, request, chat)
        except UpstreamLost as error:
            await self._lost("upstream_unavailable", str(error))
        except UnreadableResponse as error:
            await self._lost("upstream_unreadable", str(error))

    async def _refuse(self, request: GuardedRequest, decision: Decision, chat: Chat) -> None:
        if decision.unavailable:
            message = "the prompt could not be checked, and unchecked prompts are not let through"
            reply = self._dialect.error(UNAVAILABLE, "guardrail_unavailable", message)
            await send_reply(self._send, reply, decision_headers(decision))
            return
        refusal = self._refusing.of(decision)
        reply = self._dialect.refuse(request, decision, refusal)
        for form in request.annotations:
            reply = form.reply(reply, decision)
        if refusal.style == "completion":
            await chat.answered(Turn("assistant", (Segment(refusal.message, (), request.refused_as),)))
        await send_reply(self._send, reply, decision_headers(decision))

    async def _lost(self, code: str, reason: str) -> None:
        decision = await self._judged()
        if self._responder is not None:
            await self._responder.lost(code, reason)
            return
        reply = self._dialect.error(BAD_UPSTREAM, code, reason)
        await send_reply(self._send, reply, decision_headers(decision))

    async def _forward(self, raw: bytes, request: GuardedRequest, chat: Chat) -> None:
        headers = forwarded_headers(self._scope["headers"], len(raw))
        scope = {**self._scope, "headers": headers, "extensions": {}}
        body: Message | None = {"type": "http.request", "body": raw, "more_body": False}

        async def receive() -> Message:
            nonlocal body
            if body is not None:
                message, body = body, None
                return message
            await self._client.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if self._unreadable is not None:
                raise self._unreadable
            try:
                await self._take(message, request, await self._judged(), chat)
            except UnreadableResponse as error:
                self._unreadable = error
                raise

        try:
            await self._app(scope, receive, send)
        except Exception:
            if self._unreadable is None:
                raise
        if self._unreadable is not None:  # whatever the app made of it
            raise self._unreadable

    async def _take(
        self, message: Message, request: GuardedRequest, decision: Decision, chat: Chat
    ) -> None:
        """Take one message of the app's; those of extensions, which were not offered, are dropped."""
        if message["type"] == "http.response.start":
            if self._responder is not None:
                raise RuntimeError("the app began its answer twice")
            start = {**message, "headers": list(message.get("headers", ()))}
            self._responder = self._respond(start, request, decision, chat)
        elif message["type"] == "http.response.body" and self._responder is not None:
            if self._complete:
                raise RuntimeError("the app went on after the end of its answer")
            self._complete = not message.get("more_body", False)
            await self._responder.body(message)

    def _respond(
        self, start: Message, request: GuardedRequest, decision: Decision, chat: Chat
    ) -> UnaryResponder | StreamResponder | Verbatim:
        form = request.reads(header(start["headers"], b"content-type"))
        if start["status"] >= 300 or form == "nothing":
            return Verbatim(start, self._send, self._dialect, decision)
        headers = start["headers"]
        if compressed(headers):
            raise UnreadableResponse("the upstream compressed its answer although it was not asked to")
        if other_charset(headers):  # its bytes are judged as UTF-8
            raise UnreadableResponse("the upstream's answer is in another charset than UTF-8")
        known = (self._engine, chat, self._dialect, request, decision, self._refusing)
        if form == "stream":
            if self._checks is None:
                raise UnreadableResponse("the upstream streams although it was not asked to")
            rules = sized(self._settings.streaming, self._engine.output_detectors)
            how = (rules, self._settings.keep_alive_s, self._checks)
            return StreamResponder(start, self._send, *known, *how)
        return UnaryResponder(start, self._send, *known)


class _Telling:
    """A ``send`` that says how many turns were left out of what was forwarded."""

    def __init__(self, send: Send, dropped: int) -> None:
        self._send = send
        self._header = (b"x-guardrail-dropped-turns", str(dropped).encode())

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], self._header]}
        await self._send(message)
