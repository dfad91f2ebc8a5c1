"""The responder for an answer that is no completion: an upstream's error, a redirect."""

from __future__ import annotations

from guardrail.core.decision import Decision
from guardrail.frontends.asgi import Message, Send, kept_headers, send_reply
from guardrail.wire.dialect import Dialect
from guardrail.wire.replies import BAD_UPSTREAM, decision_headers

__all__ = ["Verbatim"]


class Verbatim:
    """An upstream's error, passed on byte for byte."""

    def __init__(self, start: Message, send: Send, dialect: Dialect, decision: Decision) -> None:
        self._ours = decision_headers(decision)
        headers = kept_headers(start["headers"], same_length=True)
        self._start: Message | None = {**start, "headers": headers + self._ours}
        self._send = send
        self._dialect = dialect

    async def body(self, message: Message) -> None:
        """Pass one body message on."""
        if self._start is not None:
            await self._send(self._start)
            self._start = None
        await self._send(message)

    async def lost(self, code: str, reason: str) -> None:
        """The error itself broke off: end without a proper end, if it has begun."""
        if self._start is not None:
            await send_reply(self._send, self._dialect.error(BAD_UPSTREAM, code, reason), self._ours)
