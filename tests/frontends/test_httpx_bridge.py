"""The twin of guardrail/frontends/httpx_bridge.py: httpx to ASGI and back, without a guard between."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import httpx
import pytest

from guardrail.errors import UpstreamLost
from guardrail.frontends import httpx_bridge
from guardrail.frontends.asgi import ASGIApp, Receive, Scope, Send, send_reply
from guardrail.frontends.httpx_bridge import AppTransport, TransportApp
from guardrail.wire.replies import Reply
from tests.threads import threads

pytestmark = pytest.mark.anyio

Answer = Callable[[httpx.Request], httpx.Response]
URL = "http://upstream.example/api/v1/chat?a=b%20c"


def through(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=AppTransport(app))


def straight(answer: Answer) -> httpx.AsyncClient:
    """The bridge to an app, and back to a transport that answers so."""
    return through(TransportApp(httpx.MockTransport(answer)))


class Body(httpx.AsyncByteStream):
    """A body in pieces, and the error at its end, if any; knows whether it was closed."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self.pieces = pieces
        self.error = error
        self.closed = False
        self.go_on = anyio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        if self.error is not None:
            raise self.error

    async def aclose(self) -> None:
        self.closed = True


class TestThereAndBack:
    async def test_a_request_arrives_as_it_was_sent(self):
        seen: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return httpx.Response(201, headers=[("X-Two", "a"), ("X-Two", "b")], content=b"body")

        async with straight(answer) as client:
            sent = client.build_request(
                "PUT", URL, content=b"\x00\xff", headers={"X-Mine": "1"}, timeout=httpx.Timeout(7, read=3)
            )
            got = await client.send(sent)
        assert (seen[0].method, seen[0].url, seen[0].content) == ("PUT", httpx.URL(URL), b"\x00\xff")
        assert [(k.lower(), v) for k, v in seen[0].headers.raw] == [
            (k.lower(), v) for k, v in sent.headers.raw
        ]
        assert seen[0].extensions["timeout"] == {"connect": 7, "read": 3, "write": 7, "pool": 7}
        assert (got.status_code, got.content, got.headers.get_list("x-two")) == (201, b"body", ["a", "b"])

    async def test_a_body_in_pieces_arrives_in_pieces_that_add_up(self):
        seen: list[bytes] = []

        async def answer(request: httpx.Request) -> httpx.Response:
            seen.append(await request.aread())
            return httpx.Response(200)

        async def pieces() -> AsyncIterator[bytes]:
            for number in range(100):
                yield b"%d," % number

        async with httpx.AsyncClient(
            transport=AppTransport(TransportApp(httpx.MockTransport(answer)))  # type: ignore[arg-type]
        ) as client:
            await client.post(URL, content=pieces())
        assert seen == [b"".join(b"%d," % number for number in range(100))]

    async def test_the_app_sees_a_path_from_its_v1_on(self):
        seen: list[Scope] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope)
            await send_reply(send, Reply(200, b""))

        async with through(app) as client:
            for path in ("/api/v1/chat%2F/é", "/openai/deployments/d/chat", "/v1/a/v1/b"):
                await client.get("https://host.example:444" + path)
        assert [scope["path"] for scope in seen] == [
            "/v1/chat//é",
            "/openai/deployments/d/chat",
            "/v1/a/v1/b",
        ]
        assert seen[0]["raw_path"] == b"/v1/chat%2F/%C3%A9"
        assert (seen[0]["server"], seen[0]["scheme"]) == (("host.example", 444), "https")
        assert all(name == name.lower() for name, _ in seen[0]["headers"])

    async def test_a_stream_is_passed_on_as_it_comes(self):
        body = Body()

        async def pieces() -> AsyncIterator[bytes]:
            yield b"first"
            await body.go_on.wait()  # which nobody sets before the first was read
            yield b"second"

        body.__class__ = type("Live", (Body,), {"__aiter__": lambda self: pieces()})
        async with (
            straight(lambda request: httpx.Response(200, stream=body)) as client,
            client.stream("GET", URL) as answer,
        ):
            chunks = answer.aiter_raw()
            assert await anext(chunks) == b"first"
            body.go_on.set()
            assert [chunk async for chunk in chunks] == [b"second"]
        assert body.closed


class TestErrors:
    @pytest.mark.parametrize(
        "error", [httpx.ConnectError("no"), httpx.ReadTimeout("late"), httpx.RemoteProtocolError("odd")]
    )
    async def test_the_transport_s_own_error_is_raised(self, error: httpx.TransportError):
        def answer(request: httpx.Request) -> httpx.Response:
            raise error

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await TransportApp(httpx.MockTransport(answer))(scope, receive, send)
            except UpstreamLost:  # as a guard would tell a client that is far away
                await send_reply(send, Reply(502, b"lost"))

        for one in (app, TransportApp(httpx.MockTransport(answer))):
            async with through(one) as client:
                with pytest.raises(type(error)) as caught:
                    await client.get(URL)
            assert caught.value is error
            assert str(caught.value.request.url) == URL

    async def test_but_not_where_the_app_has_something_else_to_say(self):
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            with pytest.raises(UpstreamLost):
                await TransportApp(httpx.MockTransport(_refused))(scope, receive, send)
            await send_reply(send, Reply(200, b"refused"))

        async with through(app) as client:
            assert (await client.get(URL)).content == b"refused"

    async def test_an_answer_502_of_the_upstream_s_is_an_answer(self):
        async with straight(lambda request: httpx.Response(502, content=b"down")) as client:
            got = await client.get(URL)
        assert (got.status_code, got.content) == (502, b"down")

    async def test_an_error_of_the_app_s_is_raised(self):
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            raise LookupError("mine")

        async def silent(scope: Scope, receive: Receive, send: Send) -> None:
            pass

        async with through(app) as client:
            with pytest.raises(LookupError, match="mine"):
                await client.get(URL)
        async with through(silent) as client:
            with pytest.raises(httpx.RemoteProtocolError, match="no answer"):
                await client.get(URL)

    async def test_an_answer_that_breaks_off_never_looks_whole(self):
        broken = httpx.ReadError("cut")
        body = Body(b"begun", error=broken)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})

        async with straight(lambda request: httpx.Response(200, stream=body)) as client:
            with pytest.raises(httpx.ReadError) as caught:
                await client.get(URL)
        assert (caught.value, body.closed) == (broken, True)
        async with through(app) as client:
            with pytest.raises(httpx.RemoteProtocolError, match="broke off"):
                await client.get(URL)


def _refused(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no")


class Endless:
    """An app that streams until its client is gone, or was cancelled."""

    def __init__(self, first: bytes = b"x", *, silent: bool = False) -> None:
        self.first = first
        self.silent = silent
        self.told: list[str] = []
        self.sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, receive, group)
            await send({"type": "http.response.body", "body": self.first, "more_body": True})
            if self.silent:
                await anyio.sleep_forever()
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                self.sent += 1
                await anyio.lowlevel.checkpoint()

    async def _watch(self, receive: Receive, group: Any) -> None:
        self.told.append((await receive())["type"])
        group.cancel_scope.cancel()


class TestClosing:
    async def test_early_tells_the_app_and_waits_for_its_end(self):
        app = Endless()
        async with through(app) as client:
            async with client.stream("POST", URL, content=b"x") as answer:
                assert (await anext(answer.aiter_raw())).startswith(b"x")
                assert app.told == []
            assert app.told == ["http.disconnect"]

    async def test_a_slow_reader_holds_the_app_up(self):
        app = Endless()
        async with through(app) as client, client.stream("POST", URL, content=b"x") as answer:
            for _ in range(200):
                await anyio.lowlevel.checkpoint()
            assert app.sent < 20
            assert answer.status_code == 200

    async def test_behind_done_the_app_may_end_in_order(self):
        ended: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": True})
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            await send({"type": "http.response.body", "body": b""})
            ended.append("in order")

        async with through(app) as client, client.stream("GET", URL) as answer:
            await anext(answer.aiter_raw())
        assert ended == ["in order"]

    async def test_but_it_has_to(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(httpx_bridge, "GRACE_S", 0.01)
        app = Endless(b"data: [DONE]\n\n", silent=True)
        async with through(app) as client, client.stream("POST", URL, content=b"x") as answer:
            chunks = answer.aiter_raw()
            assert await anext(chunks) == b"data: [DONE]\n\n"
            await answer.aclose()
            with pytest.raises(httpx.ReadError, match="closed"):
                await anext(chunks)
        assert app.told == ["http.disconnect"]

    async def test_who_stops_waiting_for_the_head_ends_the_call(self):
        told: list[str] = []
        asked = anyio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            while (message := await receive())["type"] == "http.request":
                asked.set()
            told.append(message["type"])

        async with through(app) as client, anyio.create_task_group() as group:
            group.start_soon(client.get, URL)
            await asked.wait()
            group.cancel_scope.cancel()
        assert told == ["http.disconnect"]

    async def test_the_transport_ends_what_nobody_closed(self):
        app = Endless()
        transport = AppTransport(app)
        client = httpx.AsyncClient(transport=transport)
        await client.send(client.build_request("POST", URL, content=b"x"), stream=True)
        gc.collect()
        assert app.told == []
        await client.aclose()
        assert app.told == ["http.disconnect"]

    async def test_no_thread_is_started(self):
        before = threads()
        async with straight(lambda request: httpx.Response(200)) as client:
            await client.get(URL)
        assert threads() <= before
