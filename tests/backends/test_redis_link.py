"""The twin of guardrail/backends/redis_link.py."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import anyio
import pytest

from guardrail.backends.redis_link import RedisLink, Rest
from guardrail.errors import ConfigError
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio

AMPLE_S = 20.0  # a timeout that only a hang reaches


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Links:
    """Links of one test on one clock, closed at its end."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.clock = Clock()

    def __call__(self, url: str, *, timeout_s: float = AMPLE_S) -> RedisLink:
        link = RedisLink(url, timeout_s=timeout_s, clock=self.clock)
        self._stack.push_async_callback(link.aclose)
        return link


@pytest.fixture
async def links() -> AsyncIterator[Links]:
    async with AsyncExitStack() as stack:
        yield Links(stack)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "guardrail.redis"]


class TestRest:
    def test_it_doubles_with_each_probe_that_fails_and_begins_anew_after_an_answer(self):
        clock = Clock()
        rest = Rest(clock)
        assert rest.over()
        assert rest.begin()
        pauses = []
        for _ in range(7):
            before = clock.now
            while not rest.over():
                clock.now += 1.0
            pauses.append(clock.now - before)
            assert not rest.over(), "one probe, all others rest"
            assert not rest.begin(), "one outage is begun once"
        assert pauses == [1, 2, 4, 8, 16, 30, 30]
        assert rest.end()
        assert not rest.end()
        assert rest.over()
        assert rest.begin()
        clock.now += 1.0
        assert rest.over()


async def test_what_is_written_is_read_in_one_call_and_ends_with_its_time(redis: RedisServer, links: Links):
    link = links(redis.url)
    await link.write("a", b"1", 60.0)
    await link.write("b", b"2", 1e12)
    await link.write("c", b"3", 0.0)
    assert await link.read(["a", "x", "b", "c"]) == [b"1", None, b"2", None]
    assert redis.calls("mget") == 1
    assert 50_000 < redis.admin.pttl("a") <= 60_001
    assert redis.admin.pttl("b") > 0
    assert redis.calls("set") == 2


async def test_more_at_once_than_connections_wait_for_their_turn(redis: RedisServer, links: Links):
    link = links(redis.url)
    found: list[bytes | None] = []

    async def one() -> None:
        found.extend(await link.read(["k"]))

    await link.write("k", b"v", 60)
    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(one)
    assert found == [b"v"] * 100
    assert len(redis.admin.client_list()) <= 16 + 1


async def test_each_event_loop_has_connections_of_its_own(redis: RedisServer):
    link = RedisLink(redis.url, timeout_s=AMPLE_S)

    async def one() -> list[bytes | None]:
        try:
            await link.write("k", b"v", 60)
            return await link.read(["k"])
        finally:
            await link.aclose()
            await link.aclose()  # once more does no harm

    def in_own_loop() -> list[bytes | None]:
        return anyio.run(one)

    assert await one() == [b"v"]
    assert await anyio.to_thread.run_sync(in_own_loop) == [b"v"]
    assert await anyio.to_thread.run_sync(in_own_loop) == [b"v"]
    assert await one() == [b"v"]


async def test_who_is_cancelled_leaves_no_connection_behind(redis: RedisServer, links: Links):
    link = links(redis.url)
    await link.write("k", b"v", 60)
    redis.freeze()
    for _ in range(40):  # more than there are connections
        with anyio.move_on_after(0.001) as scope:
            await link.read(["k"])
        assert scope.cancelled_caught
    redis.thaw()
    assert await link.read(["k"]) == [b"v"]


async def test_killed_it_is_a_miss_said_once_and_back_it_is_used_again(
    redis: RedisServer, links: Links, caplog: pytest.LogCaptureFixture
):
    link = links(redis.url)
    await link.write("k", b"v", 60)
    redis.kill()
    for _ in range(5):
        assert await link.read(["k"]) == [None]
        await link.write("k", b"v", 60)
    links.clock.now += 1.0
    assert await link.read(["k"]) == [None]
    redis.start()
    links.clock.now += 1.9
    assert await link.read(["k"]) == [None]
    assert redis.calls("mget") == 0, "it rests"
    links.clock.now += 0.1
    assert await link.read(["k"]) == [None]
    assert redis.calls("mget") == 1
    await link.write("k", b"v", 60)
    assert await link.read(["k"]) == [b"v"]
    where = f"redis at 127.0.0.1:{redis.port}"
    first, last = said(caplog)
    assert first == f"{where}: ConnectionError (all); done without until it answers"
    assert last == f"{where} answers again"


async def test_a_restart_between_two_calls_costs_nothing(
    redis: RedisServer, links: Links, caplog: pytest.LogCaptureFixture
):
    link = links(redis.url)
    await link.write("k", b"v", 60)
    redis.kill()
    redis.start()
    for _ in range(3):  # the event loop runs, as it does between two requests, and sees the end
        await anyio.lowlevel.checkpoint()
    await link.write("k", b"w", 60)
    assert await link.read(["k"]) == [b"w"]
    assert said(caplog) == []


async def test_frozen_it_is_waited_for_once_in_a_rest(
    redis: RedisServer, links: Links, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    link = links(redis.url)
    await link.write("k", b"v", 60)
    link._timeout_s = 0.05
    waits = 0
    fail_after = anyio.fail_after

    def counted(delay: float):
        nonlocal waits
        waits += 1
        assert delay == 0.05
        return fail_after(delay)

    monkeypatch.setattr(anyio, "fail_after", counted)
    redis.freeze()
    for _ in range(20):
        assert await link.read(["k"]) == [None]
        await link.write("k", b"v", 60)
    assert waits == 1
    for rest_s in (1.0, 2.0, 4.0):
        links.clock.now += rest_s
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(link.read, ["k"])
    assert waits == 4
    redis.thaw()
    links.clock.now += 8.0
    for _ in range(50):  # a loaded machine may be late once more; each try is a probe
        links.clock.now += 30.0
        if await link.read(["k"]) == [b"v"]:
            break
    assert await link.read(["k"]) == [b"v"]
    assert said(caplog)[0].endswith("TimeoutError (all); done without until it answers")


@pytest.mark.parametrize(
    ("sign", "kind"), [(":wrong-pa55@", "AuthenticationError"), ("", "AuthenticationError")]
)
async def test_a_wrong_password_is_a_miss_and_no_password_is_said(
    redis: RedisServer, links: Links, caplog: pytest.LogCaptureFixture, sign: str, kind: str
):
    redis.admin.config_set("requirepass", "right-pa55")
    try:
        link = links(redis.url.replace("//", f"//{sign}"))
        assert await link.read(["k"]) == [None]
        await link.write("k", b"v", 60)
        good = links(redis.url.replace("//", "//:right-pa55@"))
        await good.write("k", b"v", 60)
        assert await good.read(["k"]) == [b"v"]
    finally:
        redis.admin.config_set("requirepass", "")
    (line,) = said(caplog)
    assert kind in line
    assert "pa55" not in caplog.text
    assert "pa55" not in repr(link)


async def test_a_full_or_read_only_one_is_still_read(
    redis: RedisServer, links: Links, caplog: pytest.LogCaptureFixture
):
    link = links(redis.url)
    await link.write("k", b"v", 60)
    redis.admin.config_set("maxmemory", 1)
    redis.admin.config_resetstat()
    for _ in range(5):
        await link.write("k", b"w", 60)
        assert await link.read(["k"]) == [b"v"]
    assert redis.admin.info("errorstats") == {"errorstat_OOM": {"count": 1}}, "asked once, then left alone"
    assert redis.calls("mget") == 5
    redis.admin.config_set("maxmemory", 0)
    links.clock.now += 1.0
    await link.write("k", b"w", 60)
    assert await link.read(["k"]) == [b"w"]
    assert [line.partition(": ")[2] for line in said(caplog)] == [
        "OutOfMemoryError (SET); done without until it answers",
        "",
    ]


@asynccontextmanager
async def speaking(says: bytes) -> AsyncIterator[str]:
    """A server that shakes hands as Redis does and says this to MGET; its URL."""

    async def answer(stream: anyio.abc.ByteStream) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            async with stream:
                while True:
                    asked = await stream.receive()
                    await stream.send(b"+OK\r\n" * asked.count(b"SETINFO"))
                    if b"MGET" in asked:
                        if not says:
                            return
                        await stream.send(says)

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, answer)
        yield f"redis://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        group.cancel_scope.cancel()


@pytest.mark.parametrize(
    "says",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$nonsense\r\n",
        b"\x00\xff\xfe\r\n",
        b"$100000000000\r\nx",
        b"*-1\r\n",
        b"+OK\r\n",
        b":1\r\n",
        b"*1\r\n:7\r\n",
        b"*1\r\n*1\r\n$1\r\nx\r\n",
        b"*2\r\n$1\r\nx\r\n$1\r\nx\r\n",
        b"-WHATEVER dear\r\n",
        b"-MOVED 1 10.0.0.1:1\r\n",
        b"",
    ],
)
async def test_what_answers_garbage_is_done_without(says: bytes, caplog: pytest.LogCaptureFixture):
    async with speaking(says) as url:
        link = RedisLink(url, timeout_s=0.5)
        for _ in range(3):
            assert await link.read(["k"]) == [None]
        await link.aclose()
    assert len(said(caplog)) == 1


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one():
    async with speaking(b"*1\r\n$5\r\nasked\r\n*1\r\n$7\r\nunasked\r\n") as url:
        link = RedisLink(url, timeout_s=AMPLE_S)
        assert [await link.read(["k"]) for _ in range(3)] == [[b"asked"]] * 3
        await link.aclose()


async def test_nobody_listening_is_a_miss(links: Links):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        link = links(f"redis://127.0.0.1:{bound.getsockname()[1]}")
        assert await link.read(["k", "l"]) == [None, None]


@pytest.mark.parametrize(
    "url",
    [
        "http://u:pa55@host",
        "redis://u:pa55@host:port",
        "redis://u:pa55@host?db=x",
        "redis://:pa55@host?unknown=1",
        "redis://[u:pa55",
    ],
)
def test_a_url_that_cannot_be_read_stops_the_start_without_its_password(url: str):
    with pytest.raises(ConfigError, match=r"cache\.redis_url") as caught:
        RedisLink(url)
    assert "pa55" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_without_redis_py_the_remedy_is_said():
    code = (
        "import sys; sys.modules['redis.asyncio'] = None\n"
        "from guardrail.errors import ConfigError\n"
        "try: import guardrail.backends.redis_link\n"
        "except ConfigError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'guardrail[redis]'" in done.stdout
