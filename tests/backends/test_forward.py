"""The twin of guardrail/backends/forward.py: through real upstreams on loopback."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.abc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.backends.forward import HttpForwarder
from guardrail.backends.network_errors import NetworkError
from guardrail.backends.outbound import Outbound
from guardrail.errors import ConfigError, UpstreamLost
from guardrail.testing import drive_asgi
from tests.fakes import FakeServer, FakeUpstream, Say

pytestmark = pytest.mark.anyio

BOUND_S = 10.0
KEY = "sk-" + "upstream-0123456789abcdef"
CALLER = "sk-" + "caller-0123456789abcdef"
JSON = (b"content-type", b"application/json")
Headers = Iterable[tuple[bytes, bytes]]


@asynccontextmanager
async def forwarder(url: str, api_key: str = "", **outbound: Any) -> AsyncIterator[HttpForwarder]:
    app = HttpForwarder(url, api_key, Outbound(**outbound))
    try:
        with anyio.fail_after(BOUND_S):
            yield app
    finally:
        await app.aclose()


Handle = Callable[[anyio.abc.SocketStream], Awaitable[None]]


@asynccontextmanager
async def raw_server(serve: Handle) -> AsyncIterator[str]:
    """A TCP server on loopback, for what no HTTP server would say."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.listeners[0].extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        yield f"http://127.0.0.1:{port}/v1"
        group.cancel_scope.cancel()


def saying(*parts: bytes) -> Handle:
    """Read a request, send the parts one by one, hang up."""

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            for part in parts:
                await stream.send(part)
                await anyio.sleep(0.02)  # so that each is read by itself

    return serve


def bodies(messages: list[Any]) -> bytes:
    return b"".join(message["body"] for message in messages if message["type"] == "http.response.body")


class TestRequest:
    @pytest.mark.parametrize(
        "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PURGE"]
    )
    async def test_the_method_and_the_body_are_passed_on(self, method: str):
        body = b"" if method in ("GET", "HEAD", "OPTIONS") else b'{"a": 1}'
        with FakeServer(Say(b"ok")) as upstream:
            async with forwarder(upstream.url) as app:
                messages = await drive_asgi(app, "/v1/files", body, method=method)
        (seen,) = upstream.seen
        assert (seen.method, seen.path, seen.body) == (method, "/v1/files", body)
        assert messages[0]["status"] == 200

    @pytest.mark.parametrize(
        ("base", "path", "wanted"),
        [
            ("/v1", "/v1/chat/completions", "/v1/chat/completions"),
            ("/v1/", "/v1/chat/completions", "/v1/chat/completions"),
            ("/api/openai/v2", "/v1/chat/completions", "/api/openai/v2/chat/completions"),
            ("", "/v1/models", "/models"),
            ("/v1", "/v1", "/v1"),
            ("/v1", "/v1/", "/v1/"),
            ("/v1", "/v10/models", "/v1/v10/models"),
            ("/v1", "/models", "/v1/models"),
            ("/v1", "/v1/v1/models", "/v1/v1/models"),
            ("/v1", "/v1/models?limit=2&q=a%26b", "/v1/models?limit=2&q=a%26b"),
            ("/v1", "/v1/models/a%2Fb%20c%25", "/v1/models/a%2Fb%20c%25"),
            ("/v1", "/v1/models/caf%c3%a9", "/v1/models/caf%c3%a9"),
            ("/v1", "/v1/models/~a!b$&'()*+,;=:@", "/v1/models/~a!b$&'()*+,;=:@"),
            ("/v1", "/v1/models?x=%23&y=+", "/v1/models?x=%23&y=+"),
            ("/v1", "/v1/models?", "/v1/models"),
        ],
    )
    async def test_the_path_below_v1_goes_below_the_base_url(self, base: str, path: str, wanted: str):
        with FakeServer(Say(b"ok")) as upstream:
            async with forwarder(f"http://127.0.0.1:{upstream.port}{base}") as app:
                await self.get(app, path)
        assert [seen.path for seen in upstream.seen] == [wanted]

    @staticmethod
    async def get(app: HttpForwarder, path: str, *, raw: bool = True, root: str = "") -> list[Any]:
        """As a server would call it: path decoded, raw_path and query as they came."""
        from urllib.parse import unquote

        path, _, query = path.partition("?")

        async def with_scope(scope: Any, receive: Any, send: Any) -> None:
            scope |= {"query_string": query.encode("latin-1"), "root_path": root, "path": unquote(path)}
            scope["raw_path"] = path.encode("latin-1")
            if not raw:
                del scope["raw_path"]
            await app(scope, receive, send)

        return await drive_asgi(with_scope, path, method="GET")

    @pytest.mark.parametrize(
        ("root", "path", "wanted"),
        [
            ("/api", "/api/v1/models", "/v1/models"),
            ("/v1", "/v1/models", "/v1/models"),
            ("/api", "/v1/models", "/v1/models"),
            ("/api", "/apiary/v1/models", "/v1/apiary/v1/models"),
            ("/a b", "/a%20b/v1/models", "/v1/models"),
            ("/api", "/api", "/v1"),
        ],
    )
    async def test_the_mount_point_is_taken_off(self, root: str, path: str, wanted: str):
        with FakeServer(Say(b"ok")) as upstream:
            async with forwarder(upstream.url) as app:
                await self.get(app, path, root=root)
        assert [seen.path for seen in upstream.seen] == [wanted]

    @pytest.mark.parametrize(
        ("path", "wanted"),
        [
            ("/v1/models/a%2Fb", "/v1/models/a/b"),  # the decoded path is all that there is
            ("/v1/models/a%20b%3Fc%23d", "/v1/models/a%20b%3Fc%23d"),
            ("/v1/models/caf%C3%A9", "/v1/models/caf%C3%A9"),
        ],
    )
    async def test_without_a_raw_path_the_decoded_one_is_written_again(self, path: str, wanted: str):
        with FakeServer(Say(b"ok")) as upstream:
            async with forwarder(upstream.url) as app:
                await self.get(app, path, raw=False)
        assert [seen.path for seen in upstream.seen] == [wanted]

    @pytest.mark.parametrize(
        ("path", "wanted"),
        [
            ("/v1/embeddings#x", "/embeddings%23x"),  # a fragment would be cut off: another route
            ("/v1/a b", "/a%20b"),
            ("/v1/\xe9", "/%E9"),
            ("/v1/a?b=#c&d= \x00\xff", "/a?b=%23c&d=%20%00%FF"),
        ],
    )
    async def test_what_no_url_can_hold_is_escaped(self, path: str, wanted: str):
        with FakeServer(Say(b"ok")) as upstream:
            async with forwarder(f"http://127.0.0.1:{upstream.port}") as app:
                await self.get(app, path)
        assert [seen.path for seen in upstream.seen] == [wanted]

    @pytest.mark.parametrize("base", ["", "/v1"])
    @pytest.mark.parametrize(
        "target", ["@{other}/x", "{other}", ".{other}/x", "http://{other}/x", ":1@{other}/"]
    )
    async def test_no_path_leads_to_another_host(self, base: str, target: str):
        with FakeServer(Say(b"ok")) as upstream, FakeServer(Say(b"other")) as other:
            async with forwarder(f"http://127.0.0.1:{upstream.port}{base}") as app:
                await self.get(app, target.format(other=f"127.0.0.1:{other.port}"))
        assert len(upstream.seen) == 1
        assert other.seen == []

    async def test_headers_go_on_without_those_of_this_hop(self):
        sent = [
            (b"X-One", b"1"),
            (b"X-One", b"2"),
            (b"Content-Type", b"application/json; charset=utf-8"),
            (b"Cookie", b"a=b; c=d"),
            (b"Accept", b"text/event-stream"),
            (b"X-Title", "caf\u00e9".encode()),
            (b"X-Latin", b"caf\xe9"),
            (b"Host", b"guard.example"),
            (b"Content-Length", b"7"),
            (b"Connection", b"keep-alive, X-Hop"),
            (b"X-Hop", b"gone"),
            (b"Keep-Alive", b"timeout=5"),
            (b"Proxy-Authorization", b"Basic x"),
            (b"Proxy-Connection", b"keep-alive"),
            (b"TE", b"trailers"),
            (b"Trailer", b"x"),
            (b"Transfer-Encoding", b"chunked"),
            (b"Upgrade", b"h2c"),
            (b"Expect", b"100-continue"),
        ]
        lines: list[bytes] = []

        async def serve(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                head = b""
                while not head.endswith(b"{}"):
                    head += await stream.receive()
                lines.extend(head.split(b"\r\n\r\n")[0].split(b"\r\n"))
                await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

        async with raw_server(serve) as url, forwarder(url) as app:
            await drive_asgi(app, "/v1/x", b"{}", headers=sent)
        host = re.fullmatch(r"http://(.*)/v1", url)
        assert host is not None
        assert sorted(lines[1:]) == sorted(
            [
                b"Host: " + host[1].encode(),
                b"X-One: 1",
                b"X-One: 2",
                b"Content-Type: application/json; charset=utf-8",
                b"Cookie: a=b; c=d",
                b"Accept: text/event-stream",
                b"X-Title: caf\xc3\xa9",
                b"X-Latin: caf\xe9",
                b"Content-Length: 2",
            ]
        )

    async def test_nothing_is_added_to_a_bare_request(self):
        with FakeServer(Say(b"ok")) as upstream:
            async with forwarder(upstream.url) as app:
                await drive_asgi(app, "/v1/models", method="GET", headers=())
        assert set(upstream.seen[0].headers) == {"Host"}

    async def test_a_key_of_ours_replaces_the_callers(self):
        with FakeServer(Say(b"ok")) as upstream:
            async with forwarder(upstream.url, KEY) as app:
                for headers in ([(b"Authorization", b"Bearer " + CALLER.encode())], []):
                    await drive_asgi(app, "/v1/x", b"{}", headers=headers)
        assert [seen.headers["Authorization"] for seen in upstream.seen] == [f"Bearer {KEY}"] * 2
        assert CALLER not in str(upstream.seen)

    async def test_without_one_the_callers_is_passed_on(self):
        with FakeServer(Say(b"ok")) as upstream:
            async with forwarder(upstream.url) as app:
                await drive_asgi(
                    app, "/v1/x", b"{}", headers=[(b"authorization", b"Bearer " + CALLER.encode())]
                )
                await drive_asgi(app, "/v1/x", b"{}", headers=[])
        assert [seen.headers.get("Authorization") for seen in upstream.seen] == [f"Bearer {CALLER}", None]

    async def test_a_key_in_anthropics_header_is_replaced_there_and_passed_on_likewise(self):
        bearer, bare = (b"Authorization", b"Bearer " + CALLER.encode()), (b"X-Api-Key", CALLER.encode())
        for key, expected in ((KEY, [(None, KEY), (f"Bearer {KEY}", None)]), ("", [(None, CALLER)])):
            with FakeServer(Say(b"ok")) as upstream:
                async with forwarder(upstream.url, key) as app:
                    await drive_asgi(app, "/v1/messages", b"{}", headers=[bare])
                    if key:
                        await drive_asgi(app, "/v1/messages", b"{}", headers=[bare, bearer])
            seen = [{name.lower(): value for name, value in s.headers.items()} for s in upstream.seen]
            assert [(s.get("authorization"), s.get("x-api-key")) for s in seen] == expected

    @pytest.mark.parametrize("size", [0, 1, 5_000_000])
    async def test_a_body_that_comes_at_once_keeps_its_length(self, size: int):
        body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        with FakeServer(Say(b"ok")) as upstream:
            async with forwarder(upstream.url) as app:
                await drive_asgi(app, "/v1/x", body)
        (seen,) = upstream.seen
        assert seen.body == body
        assert seen.headers["Content-Length"] == str(size)

    async def test_a_body_in_pieces_is_passed_on_as_it_comes(self):
        pieces = [b"one ", b"", b"two ", b"three"]
        with FakeServer(Say(b"ok")) as upstream:
            async with forwarder(upstream.url) as app:
                await drive_asgi(app, "/v1/x", pieces)
        assert upstream.seen[0].body == b"one two three"

    async def test_a_compressed_body_stays_as_it_is(self):
        body = gzip.compress(b'{"a": 1}')
        got: list[bytes] = []

        async def serve(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                while not b"".join(got).endswith(body):
                    got.append(await stream.receive())
                await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

        async with raw_server(serve) as url, forwarder(url) as app:
            await drive_asgi(app, "/v1/x", body, headers=[JSON, (b"content-encoding", b"gzip")])
        head = b"".join(got)[: -len(body)].lower()
        assert b"\r\ncontent-encoding: gzip\r\n" in head
        assert b"accept-encoding" not in head

    @given(st.binary(max_size=40), st.binary(max_size=40))
    async def test_no_bytes_of_a_path_break_the_request_line(self, path: bytes, query: bytes):
        app = HttpForwarder("http://127.0.0.1:9/v1")
        scope = {"raw_path": b"/v1/" + path, "path": "/", "query_string": query}
        assert re.fullmatch(rb"/v1/[!-~]*", app._target(scope))
        decoded = {"path": "/v1/" + path.decode("latin-1"), "query_string": query}
        assert re.fullmatch(rb"/v1/[!-~]*", app._target(decoded))


class TestClientGone:
    async def test_a_client_that_hangs_up_before_its_body_came_causes_no_request(self):
        async def gone() -> Any:
            return {"type": "http.disconnect"}

        with FakeServer(Say(b"ok")) as upstream:
            async with forwarder(upstream.url) as app:
                with pytest.raises(UpstreamLost, match="hung up"):
                    await app(self.scope(), gone, self.nobody)
        assert upstream.seen == []

    async def test_one_that_hangs_up_in_its_body_leaves_the_request_without_an_end(self):
        pieces = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
        got: list[bytes] = []
        over = anyio.Event()

        async def receive() -> Any:
            return pieces.pop(0)

        async def serve(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                try:
                    while True:
                        got.append(await stream.receive())
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    over.set()

        async with raw_server(serve) as url, forwarder(url) as app:
            with pytest.raises(UpstreamLost):
                await app(self.scope(), receive, self.nobody)
            await over.wait()
        assert b"0\r\n\r\n" not in b"".join(got)

    @staticmethod
    def scope() -> dict[str, Any]:
        return {"type": "http", "method": "POST", "path": "/v1/x", "raw_path": b"/v1/x", "headers": [JSON]}

    @staticmethod
    async def nobody(message: Any) -> None:
        raise AssertionError(f"nobody listens to {message['type']}")

    async def test_a_request_that_is_cancelled_is_cancelled_upstream(self):
        with FakeServer(Say(b"late", delay_s=60)) as upstream:
            async with forwarder(upstream.url) as app, anyio.create_task_group() as group:
                group.start_soon(lambda: drive_asgi(app, "/v1/x", b"{}"))
                while not upstream.seen:  # noqa: ASYNC110 - the server runs in another thread
                    await anyio.sleep(0.01)
                group.cancel_scope.cancel()
            with anyio.fail_after(BOUND_S):
                while not upstream.seen[0].cancelled:  # noqa: ASYNC110
                    await anyio.sleep(0.01)


class TestResponse:
    @pytest.mark.parametrize("status", [200, 201, 301, 302, 304, 400, 401, 404, 418, 429, 500, 503])
    async def test_any_status_is_passed_on_and_no_redirect_is_followed(self, status: int):
        body = b"" if status == 304 else b'{"error": {"message": "verbatim"}}'
        headers = {"content-type": "application/json", "location": "/v1/elsewhere", "retry-after": "7"}
        with FakeServer(Say(body, status, headers)) as upstream:
            async with forwarder(upstream.url) as app:
                messages = await drive_asgi(app, "/v1/x", b"{}")
        assert messages[0]["status"] == status
        assert dict(messages[0]["headers"])[b"retry-after"] == b"7"
        assert bodies(messages) == body
        assert len(upstream.seen) == 1

    async def test_headers_come_back_without_those_of_this_hop(self):
        answer = (
            b"HTTP/1.1 200 Fine\r\n"
            b"Content-Type: application/json\r\n"
            b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
            b"X-Latin: caf\xe9\r\n"
            b"Connection: close, X-Hop\r\nX-Hop: gone\r\n"
            b"Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nTrailer: x\r\nUpgrade: h2c\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
            b"2\r\n{}\r\n0\r\n\r\n"
        )
        async with raw_server(saying(answer)) as url, forwarder(url) as app:
            messages = await drive_asgi(app, "/v1/x", b"{}")
        assert messages[0]["headers"] == [
            (b"content-type", b"application/json"),
            (b"set-cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
            (b"x-latin", b"caf\xe9"),
        ]
        assert bodies(messages) == b"{}"

    async def test_cookies_are_not_kept(self):
        with FakeServer(Say(b"ok", headers={"set-cookie": "session=1; Path=/"})) as upstream:
            async with forwarder(upstream.url) as app:
                for _ in range(2):
                    await drive_asgi(app, "/v1/x", b"{}")
        assert [seen.headers.get("Cookie") for seen in upstream.seen] == [None, None]

    @pytest.mark.parametrize("encoding", ["gzip", "br", "identity"])
    async def test_bytes_are_passed_on_compressed_or_not(self, encoding: str):
        body = gzip.compress(b"x" * 100_000) if encoding == "gzip" else bytes(range(256)) * 50
        headers = {"content-type": "application/json", "content-encoding": encoding}
        with FakeServer(Say(body, headers=headers)) as upstream:
            async with forwarder(upstream.url) as app:
                messages = await drive_asgi(app, "/v1/x", b"{}")
        assert bodies(messages) == body
        assert (b"content-encoding", encoding.encode()) in messages[0]["headers"]
        assert (b"content-length", str(len(body)).encode()) in messages[0]["headers"]

    async def test_each_chunk_leaves_before_the_next_one_comes(self):
        """The upstream says the next word only after the client has got the one before."""
        words = [b"data: one\n\n", b"data: two\n\n", b"data: [DONE]\n\n"]
        got: list[bytes] = []
        heard = [anyio.Event() for _ in words]

        async def serve(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                await stream.receive()
                await stream.send(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                    b"transfer-encoding: chunked\r\n\r\n"
                )
                for word, event in zip(words, heard, strict=True):
                    await stream.send(b"%x\r\n%s\r\n" % (len(word), word))
                    await event.wait()
                await stream.send(b"0\r\n\r\n")

        async def send(message: Any) -> None:
            if message.get("body"):
                got.append(message["body"])
                heard[len(got) - 1].set()

        async def receive() -> Any:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async with raw_server(serve) as url, forwarder(url) as app:
            await app(TestClientGone.scope(), receive, send)
        assert got == words

    async def test_an_answer_ends_with_one_last_message(self):
        with FakeUpstream() as upstream:
            async with forwarder(upstream.url) as app:
                messages = await drive_asgi(app, body=b'{"stream": true}')
        assert [m["type"] for m in messages] == ["http.response.start"] + ["http.response.body"] * (
            len(messages) - 1
        )
        assert [m["more_body"] for m in messages[1:]] == [True] * (len(messages) - 2) + [False]
        assert bodies(messages).endswith(b"data: [DONE]\n\n")

    async def test_connections_are_used_again(self):
        connections = 0

        async def serve(stream: anyio.abc.SocketStream) -> None:
            nonlocal connections
            connections += 1
            async with stream:
                while True:
                    try:
                        await stream.receive()
                    except (anyio.EndOfStream, anyio.BrokenResourceError):
                        return
                    await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

        async with raw_server(serve) as url, forwarder(url) as app:
            for _ in range(5):
                assert bodies(await drive_asgi(app, "/v1/x", b"{}")) == b"{}"
        assert connections == 1


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
BREAKS = {
    "before the head": (),
    "in the head": (b"HTTP/1.1 200 OK\r\ncontent-",),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n",),
    "in a body with a length": (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",),
    "in a chunked body": (CHUNKED,),
    "in a chunk": (CHUNKED + b"5\r\nhe",),
    "with a chunk that is none": (CHUNKED, b"zz\r\n"),
    "with a chunk of another size": (CHUNKED, b"5\r\nhelloXX0\r\n\r\n"),
}


class TestLost:
    @pytest.mark.parametrize("how", BREAKS)
    async def test_an_upstream_that_breaks_off_is_lost_and_its_answer_has_no_end(self, how: str):
        messages: list[Any] = []

        async def keeping(message: Any) -> None:
            messages.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async with raw_server(saying(*BREAKS[how])) as url, forwarder(url) as app:
            with pytest.raises(UpstreamLost) as caught:
                await app(TestClientGone.scope(), receive, keeping)
        assert "upstream" in str(caught.value)
        assert "hello" not in str(caught.value)
        assert all(message.get("more_body", True) for message in messages)
        assert bodies(messages) in (b"", b"hello", b"hellohe", b"hellohello")

    async def test_an_upstream_that_is_not_there(self):
        async with raw_server(saying()) as url:
            pass
        async with forwarder(url, KEY) as app:
            with pytest.raises(UpstreamLost, match="ConnectFailed") as caught:
                await drive_asgi(app, "/v1/x", b"{}")
        assert caught.value.__suppress_context__
        assert url not in str(caught.value)
        assert KEY not in str(caught.value)

    async def test_one_that_falls_silent(self):
        with FakeServer(Say(b"late", delay_s=60)) as upstream:
            async with forwarder(upstream.url, read_timeout_s=0.1) as app:
                with pytest.raises(UpstreamLost, match="Silent"):
                    await drive_asgi(app, "/v1/x", b"{}")

    async def test_one_that_falls_silent_in_mid_body(self):
        release = anyio.Event()

        async def serve(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                await stream.receive()
                await stream.send(CHUNKED)
                await release.wait()

        async with raw_server(serve) as url, forwarder(url, read_timeout_s=0.1) as app:
            with pytest.raises(UpstreamLost, match="Silent"):
                await drive_asgi(app, "/v1/x", b"{}")
            release.set()

    async def test_slow_but_steady_is_not_silent(self):
        say = Say(chunks=[b"x"] * 8, pause_s=0.05, headers={"content-type": "text/plain"})
        with FakeServer(say) as upstream:
            async with forwarder(upstream.url, read_timeout_s=0.2) as app:
                assert bodies(await drive_asgi(app, "/v1/x", b"{}")) == b"x" * 8

    async def test_a_slow_client_is_not_the_upstreams_silence(self):
        with FakeServer(Say(chunks=[b"one", b"two"])) as upstream:
            async with forwarder(upstream.url, read_timeout_s=0.1) as app:
                got: list[bytes] = []

                async def slow_send(message: Any) -> None:
                    await anyio.sleep(0.15)
                    got.append(message.get("body", b""))

                async def receive() -> Any:
                    return {"type": "http.request", "body": b"{}", "more_body": False}

                await app(TestClientGone.scope(), receive, slow_send)
        assert b"".join(got) == b"onetwo"


@dataclass
class Broken:
    """An Outbound whose every request raises."""

    error: Exception
    closed: list[bool] = field(default_factory=list)

    def ask(self, *request: Any) -> Any:
        raise self.error

    async def aclose(self) -> None:
        self.closed.append(True)


class TestErrors:
    @pytest.mark.parametrize("cls", [NetworkError, *NetworkError.__subclasses__()])
    async def test_every_exception_of_the_client_is_upstream_lost(self, cls: type[Exception]):
        app = HttpForwarder("http://127.0.0.1:9/v1", outbound=Broken(cls("x")))  # type: ignore[arg-type]
        with pytest.raises(UpstreamLost, match=cls.__name__):
            await drive_asgi(app, "/v1/x", b"{}")

    async def test_a_bug_is_not_hidden_as_a_lost_upstream(self):
        app = HttpForwarder("http://127.0.0.1:9/v1", outbound=Broken(KeyError("x")))  # type: ignore[arg-type]
        with pytest.raises(KeyError):
            await drive_asgi(app, "/v1/x", b"{}")

    async def test_closing_closes_the_connections(self):
        outbound = Broken(OSError())
        await HttpForwarder("http://127.0.0.1:9/v1", outbound=outbound).aclose()  # type: ignore[arg-type]
        assert outbound.closed == [True]

    @pytest.mark.parametrize("end", ["\n", "\r", "\x00"])
    def test_a_key_that_no_header_can_carry_is_found_at_start_up(self, end: str):
        with pytest.raises(ConfigError, match=r"upstream\.api_key") as caught:
            HttpForwarder("http://127.0.0.1:9/v1", KEY + end)
        assert KEY not in str(caught.value)

    def test_the_key_is_in_no_repr(self):
        assert KEY not in repr(HttpForwarder("http://127.0.0.1:9/v1", KEY))
