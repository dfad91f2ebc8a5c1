"""The routes of our own API, in a proxy: what is there, and that nothing of it asks the upstream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guardrail.core.policy import FailMode, Stage
from guardrail.engine.fail_rules import FailRules
from guardrail.frontends.api import Api
from guardrail.frontends.asgi import Message, Receive, Scope, Send
from guardrail.frontends.exchange import Settings
from guardrail.frontends.proxy import ProxyApp
from guardrail.frontends.slots import Slots
from guardrail.testing import drive_asgi
from guardrail.wire import openapi
from tests.frontends.guards import Guards, by_dialect

pytestmark = pytest.mark.anyio

ADD = (b"x-guardrail-add", b"more")
SETTINGS = Settings(max_body_bytes=1000, max_concurrent_requests=2)
BODIES: dict[str, Any] = {
    openapi.MODERATIONS: {"input": "calm"},
    openapi.CHECK: {"text": "calm"},
    openapi.LITELLM: {"input_type": "request", "texts": ["calm"]},
}


async def nobody(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("neither the guarded app nor the upstream has anything to say here")


def proxy(guards: Guards, *, metrics: bool = False) -> ProxyApp:
    api = Api(guards.engine, SETTINGS, guards.catalogue, frozenset({"system"}), Slots(2), metrics)
    return ProxyApp(nobody, nobody, guards=by_dialect, routes=api.routes())


def shown(sent: list[Message]) -> tuple[int, dict[bytes, bytes], Any]:
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"])


async def get(
    app: ProxyApp, path: str, query: str = "", added: str = ""
) -> tuple[int, dict[bytes, bytes], Any]:
    async def asking(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "query_string": query.encode()}, receive, send)

    headers = [(b"x-guardrail-add", added.encode())] if added else []
    return shown(await drive_asgi(asking, path, method="GET", headers=headers))


@pytest.mark.parametrize(
    ("path", "dialect"), [*zip(BODIES, ["moderations", "check", "litellm"], strict=True)]
)
async def test_what_is_posted_is_judged(path: str, dialect: str):
    guards = Guards()
    status, headers, _ = shown(await drive_asgi(proxy(guards), path, json.dumps(BODIES[path]).encode()))
    assert (status, headers[b"x-guardrail-decision"]) == (200, b"pass")
    assert guards.recorded == [(dialect, "input", "pass")]


@pytest.mark.parametrize("path", BODIES)
async def test_a_header_adds_policies(path: str):
    guards = Guards()
    raw = json.dumps(BODIES[path]).encode()
    assert shown(await drive_asgi(proxy(guards), path, raw, headers=[ADD]))[0] == 200
    assert sorted(policy.id for policy, _ in guards.judge.asked) == ["house", "more"]
    status, _, body = shown(await drive_asgi(proxy(guards), path, raw, headers=[(ADD[0], b"nobody")]))
    assert (status, body["error"]["param"]) == (400, "x-guardrail-add")


@pytest.mark.parametrize("path", BODIES)
async def test_a_slash_at_the_end_changes_nothing(path: str):
    guards = Guards()
    raw = json.dumps(BODIES[path]).encode()
    assert shown(await drive_asgi(proxy(guards), path + "/", raw))[0] == 200
    assert len(guards.recorded) == 1


@pytest.mark.parametrize("path", BODIES)
async def test_the_body_has_its_limit(path: str):
    status, _, body = shown(await drive_asgi(proxy(Guards()), path, b" " * 1001))
    assert (status, body["error"]["type"]) == (413, "invalid_request_error")


async def test_the_policies():
    status, headers, body = await get(proxy(Guards()), openapi.POLICIES)
    assert (status, headers[b"content-type"]) == (200, b"application/json")
    assert [policy["id"] for policy in body["policies"]] == ["house", "more"]


async def test_which_of_them_apply():
    app = proxy(Guards())
    status, _, body = await get(app, openapi.RESOLVE, "stage=output&policies=more")
    assert status == 200
    assert [(one["id"], one["reason"]) for one in body["policies"]] == [
        ("house", "configured"),
        ("more", "added"),
    ]
    for query, param in (
        ("stage=x", "stage"),
        ("stage=input&policies=nobody", "policies"),
        ("stage=input&policies=house&mode=shadow", "mode"),
        ("stage=input&policies=house&on_unavailable=open", "on_unavailable"),
    ):
        status, headers, body = await get(app, openapi.RESOLVE, query)
        assert (status, body["error"]["param"]) == (400, param)
        assert headers[b"content-type"] == b"application/json"
        assert headers[b"x-guardrail-decision"] == b"block"


async def test_which_of_them_a_header_adds():
    app = proxy(Guards())
    for query, added in (("", "more"), ("&policies=more", "more"), ("&policies=house", "more, house")):
        _, _, body = await get(app, openapi.RESOLVE, "stage=input" + query, added)
        reasons = [(one["id"], one["reason"]) for one in body["policies"]]
        assert reasons == [("house", "configured"), ("more", "added")]
    status, _, body = await get(app, openapi.RESOLVE, "stage=input", "nobody")
    assert (status, body["error"]["param"]) == (400, "x-guardrail-add")


async def test_what_becomes_of_their_failures():
    opened = Guards({"on_error": dict.fromkeys(Stage, FailRules(FailMode.OPEN))})
    query = "stage=input&policies=more&on_unavailable=closed"
    _, _, body = await get(proxy(opened), openapi.RESOLVE, query)
    told = {one["id"]: one["on_unavailable"] for one in body["policies"]}
    assert told == {"house": "open", "more": "closed"}


@pytest.mark.parametrize("metrics", [False, True])
async def test_the_document(metrics: bool):
    status, _, body = await get(proxy(Guards(), metrics=metrics), openapi.DOCUMENT)
    assert status == 200
    assert ("/metrics" in body["paths"]) is metrics
    own = {
        route.path
        for route in Api(Guards().engine, SETTINGS, Guards().catalogue, frozenset(), Slots(2)).routes()
    }
    assert own < set(body["paths"])
    checks = body["components"]["schemas"]["TextCheck"]["properties"]["policies"]
    assert checks["items"]["anyOf"][0]["enum"] == ["house", "more"]
