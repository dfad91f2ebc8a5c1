"""The twin of guardrail/backends/outbound.py."""

from __future__ import annotations

import asyncio
import io

import aiohttp
import anyio
import pytest

from guardrail.backends.outbound import NETWORK_ERRORS, Outbound, bearer, origin_of, upload
from guardrail.backends.pool import Pool
from guardrail.errors import ConfigError
from tests.fakes import FakeServer, Say


class TestSession:
    @pytest.mark.anyio
    async def test_one_loop_has_one_session(self):
        outbound = Outbound()
        assert outbound.session() is outbound.session()
        await outbound.aclose()

    def test_every_loop_has_its_own_and_closes_only_that(self):
        outbound = Outbound()
        sessions: list[aiohttp.ClientSession] = []

        async def use() -> None:
            sessions.append(outbound.session())

        first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
        try:
            first.run_until_complete(use())
            second.run_until_complete(use())
            assert sessions[0] is not sessions[1]
            second.run_until_complete(outbound.aclose())
            assert [session.closed for session in sessions] == [False, True]
            first.run_until_complete(outbound.aclose())
            assert [session.closed for session in sessions] == [True, True]
        finally:
            first.close()
            second.close()

    @pytest.mark.anyio
    async def test_after_closing_there_is_a_new_one(self):
        outbound = Outbound()
        await outbound.aclose()  # nothing to close yet
        old = outbound.session()
        await outbound.aclose()
        await outbound.aclose()
        assert old.closed
        assert outbound.session() is not old
        await outbound.aclose()

    @pytest.mark.anyio
    async def test_it_keeps_no_cookies_and_leaves_bodies_compressed(self):
        headers = {"set-cookie": "a=b; Path=/", "content-encoding": "gzip"}
        with FakeServer(Say(b"not gzip at all", headers=headers)) as server:
            outbound = Outbound()
            for _ in range(2):
                async with outbound.session().get(server.url) as response:
                    assert await response.read() == b"not gzip at all"
            await outbound.aclose()
        assert "Cookie" not in server.seen[1].headers

    @pytest.mark.anyio
    async def test_many_requests_at_once_do_not_wait_for_each_other(self):
        """More than aiohttp's own limit of 100 connections; judging has limits of its own."""
        with FakeServer(Say(b"ok", delay_s=0.2)) as server:
            outbound = Outbound()

            async def get() -> None:
                async with outbound.session().get(server.url) as response:
                    await response.read()

            async with anyio.create_task_group() as group:
                for _ in range(120):
                    group.start_soon(get)
            await outbound.aclose()
        assert server.open_most > 100

    @pytest.mark.anyio
    async def test_a_limit_makes_more_requests_wait_for_their_turn(self):
        with FakeServer(Say(b"ok", delay_s=0.05)) as server:
            outbound = Outbound(most=3)

            async def get() -> None:
                async with outbound.session().get(server.url) as response:
                    await response.read()

            async with anyio.create_task_group() as group:
                for _ in range(9):
                    group.start_soon(get)
            await outbound.aclose()
        assert (len(server.seen), server.open_most) == (9, 3)

    @pytest.mark.anyio
    async def test_silence_ends_after_its_time_with_an_error_that_is_listed(self):
        with FakeServer(Say(b"late", delay_s=60)) as server:
            outbound = Outbound(read_timeout_s=0.05)
            with anyio.fail_after(5), pytest.raises(NETWORK_ERRORS):
                async with outbound.session().get(server.url):
                    raise AssertionError("the server never answers")
            await outbound.aclose()


class TestPools:
    def test_every_loop_has_its_own_and_closes_only_that(self):
        outbound = Outbound()
        pools: list[Pool] = []

        async def use() -> None:
            origin, _ = origin_of(server.url, "x")
            async with outbound.ask(origin, b"GET", b"/v1", []) as answer:
                assert (answer.status, await answer.read_all(10)) == (200, b"ok")
            pools.append(outbound.pool())

        with FakeServer(Say(b"ok")) as server, asyncio.Runner() as first, asyncio.Runner() as second:
            for runner in (first, second, first):
                runner.run(use())
            assert pools[0] is pools[2] is not pools[1]
            for runner in (first, second):
                runner.run(outbound.aclose())
            first.run(use())
            assert pools[3] is not pools[0]
            first.run(outbound.aclose())


class TestOrigin:
    @pytest.mark.parametrize(
        ("url", "host", "port", "tls", "authority", "path"),
        [
            ("http://h/v1/", "h", 80, False, b"h", "/v1"),
            ("http://h:80", "h", 80, False, b"h", ""),
            ("https://h", "h", 443, True, b"h", ""),
            ("https://h:80/a/b", "h", 80, True, b"h:80", "/a/b"),
            ("http://[::1]:8000/v1", "::1", 8000, False, b"[::1]:8000", "/v1"),
            (
                "http://b\u00fccher.example",
                "xn--bcher-kva.example",
                80,
                False,
                b"xn--bcher-kva.example",
                "",
            ),
        ],
    )
    def test_of_an_address(self, url: str, host: str, port: int, tls: bool, authority: bytes, path: str):
        origin, rest = origin_of(url, "x")
        assert (origin.host, origin.port, origin.tls, origin.authority) == (host, port, tls, authority)
        assert rest == path

    @pytest.mark.parametrize(
        "url",
        ["", "h", "ftp://h", "http://", "http://h:x", "http://h:99999", "http://u:p@h", "http://h?a",
         "http://h#a", "http://h/a b", "http://h/\u00e4", "http://" + "a" * 70 + ".example"],
    )  # fmt: skip
    def test_what_is_none_names_its_place(self, url: str):
        with pytest.raises(ConfigError, match=r"^upstream\.base_url: "):
            origin_of(url, "upstream.base_url")


class TestBearer:
    def test_a_key_and_no_key(self):
        assert (bearer("abc", "x"), bearer("", "x")) == ("Bearer abc", "")

    def test_a_key_that_breaks_the_header_names_its_place_and_the_remedy_but_not_itself(self):
        with pytest.raises(ConfigError, match=r"^upstream\.api_key: .*remove it$") as caught:
            bearer("a" + "-secret\n", "upstream.api_key")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 1 << 20, (1 << 20) + 1, 3_000_000])
def test_a_large_body_goes_as_a_file(size: int):
    body = b"x" * size
    sent = upload(body)
    assert isinstance(sent, io.BytesIO) is (size > 1 << 20)
    assert (sent.getvalue() if isinstance(sent, io.BytesIO) else sent) == body
