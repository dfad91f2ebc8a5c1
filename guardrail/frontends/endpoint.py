"""One endpoint of our own that is asked with a body: its limits, its errors, its client's end.

What the headers of a request ask of the guard is heeded as on a guarded route.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from guardrail.engine.check import GuardrailEngine, new_decision_id
from guardrail.errors import UnreadableRequest
from guardrail.frontends.asgi import Receive, Scope, Send, send_reply
from guardrail.frontends.client import Client
from guardrail.frontends.controls import adding
from guardrail.frontends.slots import Slots
from guardrail.wire.controls import read_headers
from guardrail.wire.replies import BUSY, Header, Reply, openai_error, refused_headers

__all__ = ["Answer", "Asking", "Endpoint", "Handler"]


class Asking(NamedTuple):
    """One request. ``engine`` has the policies that its headers add, which ``added`` names."""

    engine: GuardrailEngine
    raw: bytes
    decision_id: str
    added: tuple[str, ...] = ()


class Answer(NamedTuple):
    """A reply, and the headers that tell what was decided."""

    reply: Reply
    headers: Sequence[Header]


Handler = Callable[[Asking], Awaitable[Answer]]
"""From a request to its answer. Raises ``UnreadableRequest``."""


class Endpoint:
    """An ASGI app around a handler. ``max_body_bytes`` and ``slots`` are those of the guarded routes."""

    def __init__(
        self, engine: GuardrailEngine, handler: Handler, max_body_bytes: int, slots: Slots
    ) -> None:
        self._engine = engine
        self._handler = handler
        self._max_body_bytes = max_body_bytes
        self._slots = slots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry; a client that hangs up ends the checks made for it."""
        client = Client(scope, receive, send)
        decision_id = new_decision_id()
        try:
            raw = await client.body(self._max_body_bytes)
        except UnreadableRequest as error:
            await _refuse(client.send, error, decision_id)
            return
        if raw is None:
            return
        if not self._slots.take():
            reply = openai_error(BUSY, "guardrail_overloaded", "too many requests at once")
            await send_reply(client.send, reply, refused_headers(decision_id))
            return
        try:
            await client.wait_for(self._answer(scope["headers"], raw, decision_id, client.send))
        finally:
            self._slots.give_back()

    async def _answer(self, headers: Iterable[Header], raw: bytes, decision_id: str, send: Send) -> None:
        try:
            added = read_headers(headers).added
            answer = await self._handler(Asking(adding(self._engine, added), raw, decision_id, added))
        except UnreadableRequest as error:
            await _refuse(send, error, decision_id)
            return
        await send_reply(send, answer.reply, answer.headers)


async def _refuse(send: Send, error: UnreadableRequest, decision_id: str) -> None:
    reply = openai_error(error.status, "invalid_request_error", str(error), error.param)
    await send_reply(send, reply, refused_headers(decision_id))
