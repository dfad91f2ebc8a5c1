"""The twin of guardrail/backends/outbound.py."""

from __future__ import annotations

import asyncio
import io

import aiohttp
import anyio
import pytest

from guardrail.backends.outbound import NETWORK_ERRORS, Outbound, bearer, upload
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
