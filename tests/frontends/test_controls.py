"""The door's part of request controls: the engine and the request of one request, and what goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from guardrail.core.addition import Addition
from guardrail.core.policy import FailMode
from guardrail.errors import UnreadableRequest
from guardrail.frontends.controls import forwarded_headers, heeded
from guardrail.wire.azure import Annotations
from guardrail.wire.chat import ChatDialect
from guardrail.wire.completions import CompletionsDialect
from guardrail.wire.inline_moderation import ChatModeration
from tests.frontends.guards import Guards

CHAT = ChatDialect()
REQUEST = CHAT.read_request(b'{"messages": [{"role": "user", "content": "hello"}]}')
ADD = (b"x-guardrail-add", b"more")
AZURE = (b"x-guardrail-annotations", b"azure")


def test_a_request_that_asks_for_nothing_stays_what_it_is():
    engine = Guards().engine
    assert heeded(engine, CHAT, REQUEST, [(b"host", b"h")]) == (engine, REQUEST)
    assert heeded(engine, CHAT, REQUEST, [(b"host", b"h")])[1] is REQUEST


@pytest.mark.anyio
async def test_body_and_header_both_add():
    guards = Guards()
    asking = replace(REQUEST, added_policies=(Addition("house", fail_mode=FailMode.CLOSED),))
    engine, request = heeded(guards.engine, CHAT, asking, [ADD])
    assert request.added_policies == (*asking.added_policies, "more")
    await engine.check_input(request.conversation)
    assert sorted(policy.id for policy, _ in guards.judge.asked) == ["house", "more"]


def test_annotations_are_for_chats():
    engine = Guards().engine
    asked = heeded(engine, CHAT, REQUEST, [AZURE])[1]
    assert [type(form) for form in asked.annotations] == [Annotations]
    assert replace(asked, annotations=()) == REQUEST
    assert heeded(engine, CompletionsDialect(), REQUEST, [AZURE])[1] == REQUEST


def test_a_header_adds_to_the_forms_that_the_body_asks_for():
    asking = CHAT.read_request(b'{"messages": [], "moderation": {"model": "m"}}')
    asked = heeded(Guards().engine, CHAT, asking, [AZURE])[1]
    assert [type(form) for form in asked.annotations] == [ChatModeration, Annotations]


@pytest.mark.parametrize(
    ("header", "param"),
    [((b"x-guardrail-add", b"nobody"), "x-guardrail-add"), ((AZURE[0], b"x"), "x-guardrail-annotations")],
)
def test_a_header_that_is_wrong_is_named(header: tuple[bytes, bytes], param: str):
    with pytest.raises(UnreadableRequest) as caught:
        heeded(Guards().engine, CHAT, REQUEST, [header])
    assert caught.value.param == param


def test_what_goes_on():
    kept = [(b"Authorization", b"Bearer a"), (b"x-guard", b"b"), (b"accept", b"c"), (b"accept", b"d")]
    ours = [ADD, AZURE, (b"X-GUARDRAIL-Add", b"e")]
    replaced = [
        (b"Content-Length", b"1"),
        (b"accept-encoding", b"gzip"),
        (b"transfer-encoding", b"chunked"),
    ]
    assert forwarded_headers([*ours, kept[0], *replaced, *kept[1:]], 5) == [
        *kept,
        (b"content-length", b"5"),
        (b"accept-encoding", b"identity"),
    ]
