"""WebSocket chats: each message of the client's is judged before the app gets it, and each answer of the
app's before the client does.

Who wins a race:

| race | who wins |
| --- | --- |
| a message comes while one before it is checked | it waits: the app gets messages in their order |
| the client hangs up during a check | the check is cancelled and recorded; then the app is told |
| the app speaks while a message of the client's is checked | neither waits for the other |
| the app closes, or returns, while its answer is held | the answer is judged first |
| the app fails while its answer is held | what is held is dropped |
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final

import anyio
from anyio.abc import TaskGroup, TaskStatus

from guardrail.core.conversation import Address, Conversation, Subject
from guardrail.core.history import changed
from guardrail.core.policy import Action, Stage
from guardrail.core.vault import Vault
from guardrail.engine.check import GuardrailEngine, new_decision_id
from guardrail.errors import UnreadableRequest
from guardrail.frontends.asgi import ASGIApp, Message, Receive, Scope, Send, full_path, send_reply
from guardrail.frontends.exchange import Settings
from guardrail.frontends.websocket_answers import Answers, Earlier, refused
from guardrail.wire import shapes
from guardrail.wire.replies import BUSY, openai_error, refused_headers
from guardrail.wire.route import Route, RouteText

__all__ = ["MAX_WAITING", "WebSocketChat", "turn_away"]

MAX_WAITING: Final = 16  # messages of the client's; past it they wait in the server

_TOO_BIG: Final = 1009  # close codes, RFC 6455 section 7.4.1 and IANA's registry
_TRY_LATER: Final = 1013


class WebSocketChat:
    """One connection. ``run`` serves it to its end."""

    def __init__(
        self,
        app: ASGIApp,
        engine: GuardrailEngine,
        settings: Settings,
        route: Route,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._app = app
        self._engine = engine
        self._settings = settings
        self._name = f"websocket {route.path}"
        self._text = RouteText(route)
        self._refusing = settings.refusals.for_request(full_path(scope), scope["headers"])
        self._scope = scope
        self._receive = receive
        self._send = send
        self._earlier = Earlier()
        self._vault: Vault | None = None  # one for the connection: a later answer may name an earlier text
        self._gone = anyio.Event()
        self._waits: set[anyio.CancelScope] = set()  # what ends when the client hangs up
        self._put_heard, self._heard = anyio.create_memory_object_stream[Message](MAX_WAITING)
        self._put_judged, self._judged = anyio.create_memory_object_stream[Message](MAX_WAITING)

    async def run(self) -> None:
        """Serve the connection. Raises what the app raises."""
        failed: Exception | None = None
        with self._put_heard, self._heard, self._put_judged, self._judged:
            async with anyio.create_task_group() as group:
                checks: TaskGroup = await group.start(self._host_checks)
                who = (self._engine, self._settings, self._refusing)
                known = (*who, self._name, self._text, self._earlier)
                self._answers = Answers(self._to_client, *known, self._known_vault, checks)
                group.start_soon(self._listen)
                group.start_soon(self._judge)
                try:
                    await self._app(self._scope, self._next, self._say)
                    with self._until_gone():
                        await self._answers.finish()
                except Exception as error:
                    failed = error
                finally:
                    self._answers.cut()
                    group.cancel_scope.cancel()
        if failed is not None:
            raise failed

    async def _host_checks(self, *, task_status: TaskStatus[TaskGroup]) -> None:
        """Runs the checks of answers; they end with the client, the app may go on."""
        async with anyio.create_task_group() as checks:
            task_status.started(checks)
            await self._gone.wait()
            checks.cancel_scope.cancel()

    async def _listen(self) -> None:
        """Hear the client all the time, so that its end is heard during a check."""
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._hang_up()
                await self._put_judged.send(message)
                return
            await self._put_heard.send(message)

    async def _judge(self) -> None:
        with self._until_gone():
            while True:
                message = await self._heard.receive()
                judged = await self._hear(message) if message["type"] == "websocket.receive" else message
                if judged is not None:
                    await self._put_judged.send(judged)

    async def _next(self) -> Message:
        """The app's ``receive``."""
        message = await self._judged.receive()
        if message["type"] == "websocket.disconnect":
            with suppress(anyio.WouldBlock):
                self._put_judged.send_nowait(message)  # who asks again hears it again
        return message

    async def _say(self, message: Message) -> None:
        """The app's ``send``. Raises ``OSError`` when the client is gone, as servers do."""
        with self._until_gone() as wait:
            if message["type"] == "websocket.send":
                await self._answers.say(message)
            else:
                if message["type"] == "websocket.close":
                    await self._answers.finish()
                await self._answers.tell(message)
        if wait.cancelled_caught:
            raise OSError("the client has hung up")

    async def _hear(self, message: Message) -> Message | None:
        """One message of the client's as the app gets it; None where it does not."""
        said: str | None = message.get("text")
        raw = b"" if said is None else said.encode()
        limit = self._settings.max_body_bytes
        if max(len(raw), len(message.get("bytes") or b"")) > limit:
            await self._close(_TOO_BIG, f"the message is larger than {limit} bytes")
            return None
        decision_id = new_decision_id()
        try:
            conversation = self._read(raw) if said is not None else Conversation((), ("$",))
            if (
                said is not None and message.get("bytes") is not None
            ):  # the app may take them for the message
                conversation = replace(conversation, unreadable=(*conversation.unreadable, "$"))
        except UnreadableRequest as error:
            await self._reply(self._text.fail("invalid_request_error", str(error), id=decision_id).decode())
            return None
        judged = conversation.turns[-1:]
        decision = await self._engine.check(
            Subject(Stage.INPUT, (*self._earlier.turns, *conversation.turns[:-1]), judged),
            unjudged=conversation.unreadable,
            decision_id=decision_id,
            dialect=self._name,
        )
        if decision.action is Action.BLOCK:
            refusal = self._refusing.of(decision)
            await self._reply(refused(self._text, decision, refusal, "message"))
            return None
        texts: dict[Address, str] = {}
        if decision.action is Action.REDACT:
            chat = self._engine.chat(conversation, self._vault)
            texts = chat.redacted(decision.redactions)
            self._vault = chat.vault
        for turn in judged:
            self._earlier.add(changed(turn, texts))
        return {**message, "text": shapes.edit(raw, texts).decode()} if texts else message

    def _read(self, raw: bytes) -> Conversation:
        """Raises ``UnreadableRequest``. A message without a prompt is one that cannot be read."""
        conversation = self._text.read_prompt(self._text.input.parse(raw))
        if conversation.turns[-1].segments:
            return conversation
        return Conversation((), conversation.unreadable or ("$",))

    async def _reply(self, text: str) -> None:
        await self._answers.tell({"type": "websocket.send", "text": text})

    async def _close(self, code: int, reason: str) -> None:
        await self._answers.tell({"type": "websocket.close", "code": code, "reason": reason})
        await self._put_judged.send({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._hang_up()

    async def _to_client(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:  # the client is gone, which a server may tell so too
            self._hang_up()

    def _known_vault(self) -> Vault:
        if self._vault is None:
            self._vault = self._engine.vault(Conversation(()))
        return self._vault

    def _hang_up(self) -> None:
        self._gone.set()
        for wait in self._waits:
            wait.cancel()

    @contextmanager
    def _until_gone(self) -> Iterator[anyio.CancelScope]:
        with anyio.CancelScope() as wait:
            self._waits.add(wait)
            if self._gone.is_set():
                wait.cancel()
            try:
                yield wait
            finally:
                self._waits.discard(wait)


async def turn_away(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a connection: too many are open. As 503 where the server can say that."""
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": _TRY_LATER, "reason": "guardrail_overloaded"})
        return

    async def answer(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    reply = openai_error(BUSY, "guardrail_overloaded", "too many connections at once")
    await send_reply(answer, reply, refused_headers(new_decision_id()))
