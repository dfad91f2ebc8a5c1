"""The twin of guardrail/backends/outbound.py."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from guardrail.backends.outbound import Outbound, bearer, origin_of
from guardrail.backends.pool import Pool
from guardrail.errors import ConfigError
from tests.fakes import FakeServer, Say


class TestLimit:
    @pytest.mark.anyio
    @pytest.mark.parametrize(("most", "requests", "at_once"), [(0, 120, 120), (3, 9, 3)])
    async def test_more_requests_wait_for_their_turn(self, most: int, requests: int, at_once: int):
        with FakeServer(Say(b"ok", delay_s=0.3 if most == 0 else 0.05)) as server:
            outbound = Outbound(most=most)
            origin, _ = origin_of(server.url, "x")

            async def get() -> None:
                async with outbound.ask(origin, b"GET", b"/v1", []) as answer:
                    assert await answer.read_all(10) == b"ok"

            async with anyio.create_task_group() as group:
                for _ in range(requests):
                    group.start_soon(get)
            await outbound.aclose()
        assert len(server.seen) == requests
        assert at_once * 0.8 < server.open_most <= at_once


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
