"""The twin of guardrail/frontends/verbatim.py: an error passes byte for byte, with our headers."""

from __future__ import annotations

import json

import pytest

from guardrail.core.decision import Decision
from guardrail.core.policy import Action, Stage
from guardrail.frontends.asgi import Message
from guardrail.frontends.verbatim import Verbatim
from guardrail.wire.chat import ChatDialect

pytestmark = pytest.mark.anyio

DECISION = Decision(Stage.INPUT, Action.FLAG, id="gr-1")
START = {
    "type": "http.response.start",
    "status": 429,
    "headers": [(b"retry-after", b"7"), (b"content-length", b"4"), (b"x-guardrail-id", b"forged")],
}


def half(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def responder(sent: list[Message]) -> Verbatim:
    async def send(message: Message) -> None:
        sent.append(message)

    return Verbatim(START, send, ChatDialect(), DECISION)


async def test_an_error_passes_with_our_headers_behind_its_own():
    sent: list[Message] = []
    one = responder(sent)
    await one.body(half(b"so", more=True))
    await one.body(half(b"!!", more=False))
    assert sent[0]["status"] == 429
    assert sent[0]["headers"][:2] == START["headers"][:2]
    assert dict(sent[0]["headers"])[b"x-guardrail-id"] == b"gr-1"
    assert sent[1:] == [half(b"so", more=True), half(b"!!", more=False)]


async def test_one_that_is_lost_before_it_began_is_an_error_of_ours():
    sent: list[Message] = []
    await responder(sent).lost("upstream_unavailable", "gone")
    assert sent[0]["status"] == 502
    assert json.loads(sent[1]["body"])["error"]["code"] == "upstream_unavailable"
    assert (b"x-guardrail-id", b"gr-1") in sent[0]["headers"]


async def test_one_that_breaks_off_has_no_proper_end():
    sent: list[Message] = []
    one = responder(sent)
    await one.body(half(b"so", more=True))
    await one.lost("upstream_unavailable", "gone")
    assert sent[1:] == [half(b"so", more=True)]
