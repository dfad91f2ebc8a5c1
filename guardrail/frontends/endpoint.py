"""One endpoint of our own that is asked with a body: its limits, its errors, its client's end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from guardrail.engine.check import new_decision_id
from guardrail.errors import UnreadableRequest
from guardrail.frontends.asgi import Receive, Scope, Send, send_reply
from guardrail.frontends.client import Client
from guardrail.frontends.slots import Slots
from guardrail.wire.replies import BUSY, Header, Reply, openai_error, refused_headers

__all__ = ["Answer", "Endpoint", "Handler"]


class Answer(NamedTuple):
    """A reply, and the headers that tell what was decided."""

    reply: Reply
    headers: Sequence[Header]


Handler = Callable[[bytes, str], Awaitable[Answer]]
"""From a body and the request's decision id to its answer. Raises ``UnreadableRequest``."""


class Endpoint:
    """An ASGI app around a handler. ``max_body_bytes`` and ``slots`` are those of the guarded routes."""

    def __init__(self, handler: Handler, max_body_bytes: int, slots: Slots) -> None:
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
            await client.wait_for(self._answer(raw, decision_id, client.send))
        finally:
            self._slots.give_back()

    async def _answer(self, raw: bytes, decision_id: str, send: Send) -> None:
        try:
            answer = await self._handler(raw, decision_id)
        except UnreadableRequest as error:
            await _refuse(send, error, decision_id)
            return
        await send_reply(send, answer.reply, answer.headers)


async def _refuse(send: Send, error: UnreadableRequest, decision_id: str) -> None:
    reply = openai_error(error.status, "invalid_request_error", str(error), error.param)
    await send_reply(send, reply, refused_headers(decision_id))
