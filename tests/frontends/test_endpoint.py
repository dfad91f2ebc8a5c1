"""One endpoint: its body, its limits, its errors, and a client that goes."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from guardrail.core.conversation import Conversation, Segment, Turn
from guardrail.errors import UnreadableRequest
from guardrail.frontends.asgi import Message
from guardrail.frontends.controls import adding
from guardrail.frontends.endpoint import Answer, Asking, Endpoint, Handler
from guardrail.frontends.slots import Slots
from guardrail.testing import drive_asgi
from guardrail.wire.replies import Reply
from tests.frontends.guards import Guards

pytestmark = pytest.mark.anyio


def at(handler: Handler, size: int, slots: Slots) -> Endpoint:
    return Endpoint(Guards().engine, handler, size, slots)


async def echo(asking: Asking) -> Answer:
    return Answer(Reply(200, asking.raw), [(b"x-guardrail-id", asking.decision_id.encode())])


async def refuse(asking: Asking) -> Answer:
    raise UnreadableRequest("this cannot be read", status=400, param="input")


def shown(sent: list[Message]) -> tuple[int, dict[bytes, bytes], Any]:
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"])


async def test_the_whole_body_and_a_fresh_id_reach_the_handler():
    endpoint = at(echo, 100, Slots(1))
    ids = set()
    for _ in range(3):  # the one slot is given back each time
        status, headers, body = shown(await drive_asgi(endpoint, body=[b'{"a"', b": 1}"]))
        assert (status, body) == (200, {"a": 1})
        assert headers[b"content-length"] == b"8"
        ids.add(headers[b"x-guardrail-id"])
    assert len(ids) == 3


async def test_what_the_handler_cannot_read():
    status, headers, body = shown(await drive_asgi(at(refuse, 100, Slots(1)), body=b"{}"))
    assert status == 400
    assert headers[b"x-guardrail-decision"] == b"block"
    assert body["error"] == {
        "message": "this cannot be read",
        "type": "invalid_request_error",
        "param": "input",
        "code": "invalid_request_error",
    }


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"x" * 101, [], 413),
        ([b"x" * 60, b"x" * 60], [], 413),
        (b"x", [(b"content-encoding", b"gzip")], 415),
    ],
)
async def test_a_body_that_may_not_be(body: Any, headers: list[tuple[bytes, bytes]], status: int):
    slots = Slots(1)
    found = shown(await drive_asgi(at(echo, 100, slots), body=body, headers=headers))
    assert (found[0], found[1][b"x-guardrail-decision"]) == (status, b"block")
    assert slots.take()


async def test_one_too_many_is_turned_away():
    endpoint = at(echo, 100, Slots(0))
    status, headers, body = shown(await drive_asgi(endpoint, body=b"{}"))
    assert (status, body["error"]["code"]) == (503, "guardrail_overloaded")
    assert headers[b"x-should-retry"] == b"false"


async def test_two_endpoints_share_their_slots():
    slots = Slots(1)
    begun, go = anyio.Event(), anyio.Event()

    async def wait(asking: Asking) -> Answer:
        begun.set()
        await go.wait()
        return await echo(asking)

    first: list[Message] = []

    async def ask() -> None:
        first.extend(await drive_asgi(at(wait, 100, slots), body=b"{}"))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await begun.wait()
            assert shown(await drive_asgi(at(echo, 100, slots), body=b"{}"))[0] == 503
            go.set()
    assert shown(first)[0] == 200


async def test_a_client_that_goes_ends_the_work_and_frees_the_slot():
    slots, ended = Slots(1), anyio.Event()

    async def work(asking: Asking) -> Answer:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()
        raise AssertionError("not reached")

    with anyio.fail_after(20):
        assert await drive_asgi(at(work, 100, slots), body=b"{}", hang_up_after=0) == []
    assert ended.is_set()
    assert slots.take()


async def test_a_client_that_goes_in_its_body_is_forgotten():
    sent: list[Message] = []
    asked: list[bytes] = []
    incoming = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def note(asking: Asking) -> Answer:
        asked.append(asking.raw)
        return await echo(asking)

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await at(note, 100, Slots(1))({"type": "http", "headers": []}, receive, send)
    assert (sent, asked) == ([], [])


async def test_a_handler_that_crashes_gives_its_slot_back():
    async def crash(asking: Asking) -> Answer:
        raise RuntimeError("boom")

    slots = Slots(1)
    with pytest.raises(RuntimeError, match="boom"):
        await drive_asgi(at(crash, 100, slots), body=b"{}")
    assert slots.take()


class TestAdding:
    async def test_a_header_adds_policies_for_this_request(self):
        seen: list[Asking] = []

        async def note(asking: Asking) -> Answer:
            seen.append(asking)
            return await echo(asking)

        guards = Guards()
        endpoint = Endpoint(guards.engine, note, 100, Slots(1))
        added = [(b"X-Guardrail-Add", b"more, ,house")]
        assert shown(await drive_asgi(endpoint, body=b"{}", headers=added))[0] == 200
        assert shown(await drive_asgi(endpoint, body=b"{}"))[0] == 200
        assert [asking.added for asking in seen] == [("more", "house"), ()]
        for asking, ids in zip(seen, (["house", "more"], ["house"]), strict=True):
            guards.judge.asked.clear()
            await asking.engine.check_input(Conversation((Turn("user", (Segment("calm", ()),)),)))
            assert sorted(policy.id for policy, _ in guards.judge.asked) == ids

    @pytest.mark.parametrize(
        ("header", "value"),
        [("x-guardrail-add", b"more, nobody"), ("x-guardrail-annotations", b"openai")],
    )
    async def test_one_that_is_wrong_is_named(self, header: str, value: bytes):
        slots = Slots(1)
        headers = [(header.encode(), value)]
        status, told, body = shown(await drive_asgi(at(echo, 100, slots), body=b"{}", headers=headers))
        assert (status, body["error"]["param"]) == (400, header)
        assert told[b"x-guardrail-decision"] == b"block"
        assert b"nobody" not in json.dumps(body).encode()
        assert slots.take()

    async def test_without_one_the_engine_is_the_same(self):
        engine = Guards().engine
        assert adding(engine, ()) is engine
