"""The twin of guardrail/backends/http1.py: answers of every kind, whole and split, from a raw server."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from guardrail.backends.http1 import HEAD_BYTES, HIGH_BYTES
from guardrail.backends.network_errors import Lost, Malformed, NetworkError, Silent
from tests.raw_http import LENGTH, OK, calls

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return ("asyncio", {"use_uvloop": request.param})


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX-Trailer: t\r\n\r\n"

# method, answer, then -> status, body, whether the connection is used again
WHOLE = {
    "length": (b"POST", LENGTH, "keep", 200, b"hello", True),
    "chunked": (b"POST", CHUNKED, "keep", 200, b"hello", True),
    "until close": (b"POST", OK + b"\r\nhello", "close", 200, b"hello", False),
    "empty until the close": (b"POST", OK + b"\r\n", "close", 200, b"", False),
    "http/1.0": (
        b"POST", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "close", 200, b"hello", False,
    ),
    "connection: close": (
        b"POST", OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", "keep", 200, b"hello", False,
    ),
    "no body by its length": (b"POST", OK + b"Content-Length: 0\r\n\r\n", "keep", 200, b"", True),
    "interim ones": (
        b"POST",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + LENGTH,
        "keep", 200, b"hello", True,
    ),
    "head": (b"HEAD", OK + b"Content-Length: 5\r\n\r\n", "keep", 200, b"", True),
    "head, chunked": (b"HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n", "keep", 200, b"", True),
    "204": (b"POST", b"HTTP/1.1 204 No Content\r\n\r\n", "keep", 204, b"", True),
    "304": (b"GET", b"HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n", "keep", 304, b"", True),
    "no reason": (b"POST", b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", "keep", 200, b"hello", True),
    "799": (b"POST", b"HTTP/1.1 799 X\r\nContent-Length: 0\r\n\r\n", "keep", 799, b"", True),
}  # fmt: skip


class TestWhole:
    @pytest.mark.parametrize("split", [False, True], ids=["at once", "byte by byte"])
    @pytest.mark.parametrize("kind", WHOLE)
    async def test_an_answer_is_read_however_it_comes(self, kind: str, split: bool):
        method, raw, then, status, body, again = WHOLE[kind]
        parts = [raw[i : i + 1] for i in range(len(raw))] if split else [raw]
        async with calls((parts, then)) as http:
            wanted = (status, body)
            sent = b"" if method in (b"GET", b"HEAD") else b"{}"
            assert await http.get(method, sent) == wanted
            assert await http.get(method, sent) == wanted
            assert http.server.connections == (1 if again else 2)

    async def test_headers_come_as_they_were_without_interim_ones_and_trailers(self):
        raw = b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK + b"X-A: 1\r\nx-a:  2\r\nX-L: caf\xe9\r\n"
        async with (
            calls(([raw + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-T: t\r\n\r\n"], "keep")) as http,
            http.ask() as answer,
        ):
            assert await answer.read() == b""
            assert answer.headers == [
                (b"X-A", b"1"), (b"x-a", b"2"), (b"X-L", b"caf\xe9"),
                (b"Transfer-Encoding", b"chunked"),
            ]  # fmt: skip

    @pytest.mark.parametrize("behind", [b"X", LENGTH, b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
    @pytest.mark.parametrize("method", [b"HEAD", b"POST"])
    async def test_what_comes_behind_an_answer_is_never_the_next_one(self, method: bytes, behind: bytes):
        raw = OK + b"Content-Length: 5\r\n\r\n" + (b"hello" if method == b"POST" else b"")
        async with calls(([raw + behind], "keep"), ([LENGTH], "keep")) as http:
            assert (await http.get(method))[0] == 200
            assert await http.get() == (200, b"hello")
            assert http.server.connections == 2


BROKEN = {
    "before the head": ([], "close", Lost),
    "in the head": ([OK + b"content-"], "close", Lost),
    "after an interim answer": ([b"HTTP/1.1 100 Continue\r\n\r\n"], "close", Lost),
    "in a length": ([OK + b"Content-Length: 9\r\n\r\nhello"], "close", Lost),
    "in chunks": ([OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"], "close", Lost),
    "in the trailers": ([OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: "], "close", Lost),
    "silent": ([], "hold", Silent),
    "silent in the head": ([OK], "hold", Silent),
    "silent in the body": ([OK + b"Content-Length: 9\r\n\r\nhello"], "hold", Silent),
    "no http": ([b"SSH-2.0-OpenSSH_9.6\r\n\r\n"], "hold", Malformed),
    "http/2": ([b"HTTP/2.0 200 OK\r\n\r\n"], "hold", Malformed),
    "a status that is none": ([b"HTTP/1.1 20x OK\r\n\r\n"], "hold", Malformed),
    "an upgrade": (
        [b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"], "hold", Malformed,
    ),
    "two lengths": ([OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"], "hold", Malformed),
    "a length that is none": ([OK + b"Content-Length: 5, 5\r\n\r\nhello"], "hold", Malformed),
    "a negative length": ([OK + b"Content-Length: -5\r\n\r\nhello"], "hold", Malformed),
    "a length beside chunks": (
        [OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"], "hold", Malformed,
    ),
    "another coding": ([OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"], "hold", Malformed),
    "a chunk that is none": ([OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"], "hold", Malformed),
    "a chunk of another size": (
        [OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n"], "hold", Malformed,
    ),
    "one giant header": ([OK + b"X: " + b"x" * HEAD_BYTES], "hold", Malformed),
    "headers without end": ([OK, *[b"X: " + b"x" * 9000 + b"\r\n"] * 9], "hold", Malformed),
    "endless 1xx": ([b"HTTP/1.1 100 Continue\r\n\r\n" * 3000], "hold", Malformed),
    "trailers without end": (
        [OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", *[b"X: " + b"x" * 9000] * 9],
        "hold", Malformed,
    ),
}  # fmt: skip


class TestBroken:
    @pytest.mark.parametrize("kind", BROKEN)
    async def test_it_is_told_by_its_class_and_the_next_call_gets_another_connection(self, kind: str):
        parts, then, error = BROKEN[kind]
        silence = 0.15 if error is Silent else 5.0
        async with calls((parts, then), ([LENGTH], "keep"), read_timeout_s=silence) as http:
            with pytest.raises(NetworkError) as caught:
                await http.get()
            assert type(caught.value) is error
            assert http.server.connections == len(http.server.seen) == 1
            assert await http.get() == (200, b"hello")

    async def test_what_came_before_the_break_is_read_before_the_error(self):
        half = OK + b"Content-Length: 9\r\n\r\nhello"
        async with calls(([half], "close")) as http, http.ask() as answer:
            assert await answer.read() == b"hello"
            with pytest.raises(Lost):
                await answer.read()

    async def test_a_slow_drip_is_not_silent(self):
        parts = [CHUNKED[i : i + 1] for i in range(len(CHUNKED))]
        async with calls((parts, "keep"), read_timeout_s=0.15) as http:
            assert await http.get() == (200, b"hello")

    async def test_an_answer_above_the_limit_is_refused_and_cut(self):
        async with calls(([LENGTH], "keep")) as http:
            async with http.ask() as answer:
                assert await answer.read_all(5) == b"hello"
            async with http.ask() as answer:
                with pytest.raises(Malformed, match="longer than 4 bytes"):
                    await answer.read_all(4)


class TestPressure:
    async def test_a_reader_that_is_slow_stops_the_sender(self):
        size = 64 * HIGH_BYTES
        async with calls(([OK + b"Content-Length: %d\r\n\r\n" % size + b"x" * size], "keep")) as http:
            async with http.ask() as answer:
                got = len(await answer.read())
                await anyio.sleep(0.05)
                assert answer._size <= 2 * HIGH_BYTES
                while part := await answer.read():
                    got += len(part)
            assert got == size
            assert http.outbound.pool().kept(http.origin) is not None

    async def test_a_large_body_arrives_whole(self):
        body = bytes(range(256)) * 40_000
        async with calls(([LENGTH], "keep")) as http:
            assert await http.get(body=body) == (200, b"hello")
            assert http.server.seen[0].endswith(body)
