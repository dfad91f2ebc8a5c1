"""The twin of guardrail/backends/pool.py: turns, kept connections, ways out, on both event loops."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from guardrail.backends import pool as pool_module
from guardrail.backends.network_errors import ConnectFailed, Lost, Malformed, Silent
from guardrail.backends.outbound import Outbound, origin_of
from guardrail.backends.pool import Origin, request_head
from tests.raw_http import LENGTH, OK, calls

pytestmark = pytest.mark.anyio
CLOSES = [LENGTH], "close"
KEEPS = [LENGTH], "keep"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return ("asyncio", {"use_uvloop": request.param})


class TestConnecting:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "no-such-host.invalid", "[::1]"])
    async def test_a_server_that_is_not_there(self, host: str):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # never listens
            origin, _ = origin_of(f"http://{host}:{taken.getsockname()[1]}", "x")
            outbound = Outbound()
            with pytest.raises(ConnectFailed):
                await outbound.ask(origin, b"GET", b"/", []).__aenter__()
            assert outbound.pool().in_use == 0
            await outbound.aclose()

    async def test_one_that_does_not_accept_in_time(self):
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            origin, _ = origin_of(f"http://127.0.0.1:{full.getsockname()[1]}", "x")
            outbound = Outbound(connect_timeout_s=0.1)
            with pytest.raises(ConnectFailed, match="TimeoutError"):
                await outbound.ask(origin, b"GET", b"/", []).__aenter__()
            for filler in fillers:
                filler.close()
            await outbound.aclose()


class TestTurns:
    async def test_many_requests_share_few_connections_and_all_are_answered_in_turn(self):
        async with calls(KEEPS, most=10) as http:
            order: list[int] = []
            most = 0

            async def get(n: int) -> None:
                nonlocal most
                async with http.ask() as answer:
                    most = max(most, http.outbound.pool().in_use)
                    order.append(n)
                    assert await answer.read_all(100) == b"hello"

            async with anyio.create_task_group() as group:
                for n in range(200):
                    group.start_soon(get, n)
            assert sorted(order) == list(range(200))
            assert most == 10
            assert http.server.connections <= 10

    async def test_who_came_first_is_served_first(self):
        async with calls(KEEPS, most=1) as http:
            order: list[int] = []

            async def get(n: int) -> None:
                await http.get()
                order.append(n)

            async with anyio.create_task_group() as group:
                for n in range(20):
                    group.start_soon(get, n)
            assert order == list(range(20))

    async def test_one_that_stops_waiting_for_its_turn_takes_nobodys(self):
        async with calls(KEEPS, most=1) as http:
            async with http.ask() as answer:
                with anyio.move_on_after(0.02) as waited:
                    await http.get()
                assert waited.cancelled_caught
                await answer.read_all(100)
            assert await http.get() == (200, b"hello")

    async def test_leaving_before_the_end_of_an_answer_cuts_the_connection(self):
        async with calls(([OK + b"Content-Length: 9\r\n\r\nhello"], "hold"), KEEPS) as http:
            async with http.ask() as answer:
                assert await answer.read() == b"hello"
            assert await http.get() == (200, b"hello")
            assert (http.server.connections, http.server.ended) == (2, 1)


class TestStale:
    async def test_a_connection_that_the_server_closed_meanwhile_is_replaced(self):
        async with calls(CLOSES) as http:
            for _ in range(3):
                assert await http.get() == (200, b"hello")
                await anyio.sleep(0.01)
            assert len(http.server.seen) == 3

    async def test_a_request_that_crosses_the_close_is_sent_once_more(self):
        async with calls(KEEPS, ([], "close"), KEEPS) as http:
            assert await http.get() == (200, b"hello")
            assert await http.get() == (200, b"hello")
            assert (len(http.server.seen), http.server.connections) == (3, 2)

    async def test_but_not_twice(self):
        async with calls(KEEPS, ([], "close")) as http:
            await http.get()
            with pytest.raises(Lost):
                await http.get()
            assert len(http.server.seen) == 3

    async def test_nor_when_a_byte_of_the_answer_came(self):
        async with calls(KEEPS, ([b"H"], "close"), KEEPS) as http:
            await http.get()
            with pytest.raises(Lost):
                await http.get()
            assert len(http.server.seen) == 2

    async def test_nor_when_the_server_had_it_for_long(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(pool_module, "STALE_S", -1.0)
        async with calls(KEEPS, ([], "close"), KEEPS) as http:
            await http.get()
            with pytest.raises(Lost):
                await http.get()
            assert len(http.server.seen) == 2

    async def test_a_server_that_is_gone_then_is_lost_for_it_was_sent(self):
        """Whoever asks must not take it for a request that never left."""
        async with calls(KEEPS, ([], "close")) as http:
            await http.get()

            async def refused(origin: Origin) -> Any:
                raise ConnectFailed("refused")

            http.outbound.pool().connect = refused  # type: ignore[method-assign]
            with pytest.raises(Lost):
                await http.get()

    async def test_what_is_not_used_for_long_is_closed(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(pool_module, "KEEP_S", 0.02)
        async with calls(KEEPS) as http:
            await http.get()
            while not http.server.ended:  # noqa: ASYNC110 - the pool's own timer is what is tested
                await anyio.sleep(0.01)
            assert http.outbound.pool().kept(http.origin) is None


class TestCancelling:
    @pytest.mark.parametrize("steps", range(14))
    @pytest.mark.parametrize("streamed", [False, True])
    async def test_at_every_point_nothing_stays_in_use(self, steps: int, streamed: bool):
        parts = [OK, b"Content-Length: 5\r\n\r\n", b"he", b"llo"]
        async with calls((parts, "keep"), most=1) as http:

            async def pieces() -> Any:
                for _ in range(3):
                    await anyio.lowlevel.checkpoint()
                    yield b"x"

            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:

                    async def cancel() -> None:
                        for _ in range(steps):
                            await asyncio.sleep(0)
                        scope.cancel()

                    group.start_soon(cancel)
                    await http.get(body=pieces() if streamed else b"{}")
                    group.cancel_scope.cancel()
            assert http.outbound.pool().in_use == 0
            assert await http.get() == (200, b"hello")  # the one turn is free again

    async def test_by_a_plain_task_too(self):
        async with calls(([], "hold"), KEEPS, most=1) as http:

            async def endless() -> Any:
                while True:
                    await asyncio.sleep(0.001)
                    yield b"x"

            for body in (b"{}", endless()):
                http.server.scripts.insert(0, ([], "hold"))
                task = asyncio.get_running_loop().create_task(http.get(body=body))
                await asyncio.sleep(0.02)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert http.outbound.pool().in_use == 0


class TestUpload:
    @staticmethod
    async def endless(parts: list[int]) -> Any:
        while True:
            parts.append(1)
            yield b"x" * 65_536

    async def test_an_early_answer_is_read_and_the_upload_ends(self):
        answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge"
        async with calls(([answer], "hold"), KEEPS) as http:
            assert await http.get(body=self.endless([])) == (413, b"large")
            assert await http.get() == (200, b"hello")
            assert http.server.connections == 2

    async def test_a_server_that_does_not_read_stops_the_upload_and_is_silent_in_the_end(self):
        parts: list[int] = []
        outbound = Outbound(read_timeout_s=0.1)
        with socket.socket() as deaf:  # the kernel takes what fits into its buffers
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(1)
            origin, _ = origin_of(f"http://127.0.0.1:{deaf.getsockname()[1]}", "x")
            with anyio.fail_after(10), pytest.raises(Silent):
                await outbound.ask(origin, b"POST", b"/", [], self.endless(parts)).__aenter__()
        assert len(parts) < 1000
        assert outbound.pool().in_use == 0

    async def test_its_own_failure_is_the_callers(self):
        async def failing() -> Any:
            yield b"x"
            while not http.server.seen:
                await anyio.lowlevel.checkpoint()
            raise KeyError("gone")

        async with calls(([], "hold")) as http:
            with pytest.raises(KeyError, match="gone"):
                await http.get(body=failing())
            assert not http.server.seen[0].endswith(b"0\r\n\r\n")

    async def test_a_caller_that_is_slow_is_not_the_servers_silence(self):
        async def slow() -> Any:
            for _ in range(3):
                await anyio.sleep(0.08)
                yield b"x"

        raw = b"POST / HTTP/1.1"
        async with calls(KEEPS, read_timeout_s=0.1) as http:
            http.server.until = b"0\r\n\r\n"
            assert await http.get(body=slow()) == (200, b"hello")
            assert http.server.seen[0].startswith(raw)
            assert http.server.seen[0].endswith(b"\r\n\r\n" + b"1\r\nx\r\n" * 3 + b"0\r\n\r\n")


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_tls_asks_for_a_known_certificate_of_that_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool, host: str
):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)]
    await anyio.run_process(["openssl", *made.split(), *names])
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(cert, key)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    pool_module._tls.cache_clear()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(LENGTH)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=ours)
    origin, _ = origin_of(f"https://{host}:{server.sockets[0].getsockname()[1]}", "x")
    outbound = Outbound()
    asked = outbound.ask(origin, b"POST", b"/", [], b"{}")
    if trusted and host == "localhost":
        async with asked as answer:
            assert await answer.read_all(100) == b"hello"
    else:
        with pytest.raises(ConnectFailed, match="SSLCertVerificationError"):
            await asked.__aenter__()
    await outbound.aclose()
    server.close()
    pool_module._tls.cache_clear()


ORIGIN = Origin("h", 80, False, b"h")


class TestHead:
    @pytest.mark.parametrize(
        ("method", "body", "last"),
        [
            (b"GET", b"", b"Host: h"),
            (b"POST", b"", b"Content-Length: 0"),
            (b"DELETE", b"xx", b"Content-Length: 2"),
        ],
    )
    def test_a_length_stands_where_a_body_is_expected(self, method: bytes, body: bytes, last: bytes):
        head = request_head(ORIGIN, method, b"/", [], body)
        assert head.startswith(method + b" / HTTP/1.1\r\nHost: h\r\n")
        assert head.endswith(b"\r\n" + last + b"\r\n\r\n")

    @pytest.mark.parametrize("bad", [b"\r\n", b"\n", b"\r", b"\0"])
    def test_nothing_breaks_a_line(self, bad: bytes):
        for method, target, header in (
            (b"GE" + bad, b"/", (b"a", b"b")),
            (b"GET", b"/" + bad, (b"a", b"b")),
            (b"GET", b"/", (b"a" + bad, b"b")),
            (b"GET", b"/", (b"a", bad + b"b")),
        ):
            with pytest.raises(Malformed):
                request_head(ORIGIN, method, target, [header], b"")

    @pytest.mark.parametrize(("method", "target"), [(b"GET /x", b"/"), (b"GET", b"/a b")])
    def test_nor_the_request_line(self, method: bytes, target: bytes):
        with pytest.raises(Malformed):
            request_head(ORIGIN, method, target, [], b"")
