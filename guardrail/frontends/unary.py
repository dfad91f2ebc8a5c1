"""The responder for an answer that comes as one body: collect, judge every choice, send."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

import anyio

from guardrail.core.conversation import Address, Segment, Turn
from guardrail.core.decision import Decision
from guardrail.core.history import changed
from guardrail.core.policy import Action, Stage
from guardrail.engine.check import GuardrailEngine
from guardrail.engine.history import Chat, failed
from guardrail.errors import UnreadableResponse
from guardrail.frontends.asgi import Message, Send, header, kept_headers, send_reply
from guardrail.wire.dialect import Choice, Dialect, GuardedRequest
from guardrail.wire.refusals import Refusing
from guardrail.wire.replies import (
    BAD_UPSTREAM,
    UNAVAILABLE,
    Header,
    Refusal,
    Reply,
    decision_headers,
)

__all__ = ["UnaryResponder"]

MAX_RESPONSE_BYTES: Final = 64 * 1024 * 1024


class UnaryResponder:
    """Receives the inner app's messages of one answer and sends what the client may see."""

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
    ) -> None:
        self._start = start
        self._send = send
        self._engine = engine
        self._chat = chat
        self._dialect = dialect
        self._request = request
        self._before = before
        self._refusing = refusing
        self._parts: list[bytes] = []
        self._size = 0

    async def body(self, message: Message) -> None:
        """Take one body message; at the last one, judge and answer."""
        part: bytes = message.get("body", b"")
        self._parts.append(part)
        self._size += len(part)
        if self._size > MAX_RESPONSE_BYTES:
            raise UnreadableResponse("the upstream's answer is too large to be judged")
        if not message.get("more_body", False):
            await self._answer(b"".join(self._parts))

    async def lost(self, code: str, reason: str) -> None:
        """The inner app broke off: nothing was sent yet, so this is an error answer."""
        reply = self._dialect.error(BAD_UPSTREAM, code, reason)
        await send_reply(self._send, reply, decision_headers(self._before))

    async def _answer(self, raw: bytes) -> None:
        try:
            choices = self._dialect.read_response(raw)
        except UnreadableResponse:
            await self._unreadable(raw)
            return
        decisions = await self._decide(choices)
        reply = self._refused(decisions)
        headers = decision_headers(self._before, *decisions)
        if reply is not None:
            await send_reply(self._send, reply, headers)
            return
        blocked: dict[int, Refusal] = {}
        texts: dict[Address, str] = {}
        for choice, decision in zip(choices, decisions, strict=True):
            if decision.action is Action.BLOCK:
                blocked[choice.position] = self._refusing.of(decision)
            else:
                texts |= self._chat.delivered(
                    choice.turn, decision.redactions, structured=self._request.structured
                )
        body = raw
        if texts:
            body = self._dialect.edit(body, texts)
        if blocked:
            body = self._dialect.refuse_choices(body, blocked, structured=self._request.structured)
        if self._request.annotations:
            found = {c.position: d for c, d in zip(choices, decisions, strict=True)}
            for form in self._request.annotations:
                body = form.body(body, self._before, found.get)
        if self._chat.remembers:  # before it leaves: the client's next turn may come at once
            for choice, decision in zip(choices, decisions, strict=True):
                await self._remember(choice, decision, texts)
        await self._pass_on(body, headers, same=body is raw)

    async def _remember(self, choice: Choice, decision: Decision, texts: Mapping[Address, str]) -> None:
        """Remember a choice as it was delivered, unless a check of it could not be made."""
        if failed(decision.findings):
            return
        if decision.action is Action.BLOCK:
            words = Segment(self._refusing.of(decision).message, (), self._request.refused_as)
            await self._chat.answered(Turn("assistant", (words,)))
        else:
            await self._chat.answered(changed(choice.turn, texts))

    def _refused(self, decisions: list[Decision]) -> Reply | None:
        """The whole answer that replaces the body, where one is due."""
        if any(decision.unavailable for decision in decisions):
            message = "the answer could not be checked, and unchecked answers are not let through"
            return self._dialect.error(UNAVAILABLE, "guardrail_unavailable", message)
        blocking = next((d for d in decisions if d.action is Action.BLOCK), None)
        in_words = self._request.choices and self._refusing.stages[Stage.OUTPUT].style == "completion"
        if blocking is not None and not in_words:
            return self._dialect.refuse(self._request, blocking, self._refusing.of(blocking))
        return None

    async def _decide(self, choices: list[Choice]) -> list[Decision]:
        found: list[Decision | None] = [None] * len(choices)
        if len(choices) == 1:
            await self._check(choices[0], 0, found)
        elif choices:
            async with anyio.create_task_group() as group:
                for index, choice in enumerate(choices):
                    group.start_soon(partial(self._check, choice, index, found))
        return [decision for decision in found if decision is not None]

    async def _check(self, choice: Choice, index: int, found: list[Decision | None]) -> None:
        found[index] = await self._engine.check_output(
            self._request.conversation,
            choice.turn,
            unjudged=choice.unreadable,
            decision_id=self._before.id,
            dialect=self._dialect.name,
        )

    async def _unreadable(self, raw: bytes) -> None:
        """No answer that can be judged: refused, but for the files of a route, which follow the rule."""
        kind = header(self._start["headers"], b"content-type").lower()
        action = self._engine.on_unreadable
        if b"json" in kind or action is Action.BLOCK or not self._request.files:
            raise UnreadableResponse(
                "the upstream's answer is neither JSON of this API nor a text/event-stream that was asked "
                "for, so it cannot be judged"
            )
        decision = Decision(Stage.OUTPUT, action, unjudged=("$",), id=self._before.id)
        self._engine.record(decision, self._dialect.name, "")
        await self._pass_on(raw, decision_headers(self._before, decision), same=True)

    async def _pass_on(self, body: bytes, headers: list[Header], *, same: bool) -> None:
        kept = kept_headers(self._start["headers"], same_length=same)
        if not same:
            kept.append((b"content-length", str(len(body)).encode()))
        await self._send({**self._start, "headers": kept + headers})
        await self._send({"type": "http.response.body", "body": body})
