"""The twin of guardrail/frontends/client.py: the client's side of one request."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.errors import UnreadableRequest
from guardrail.frontends.asgi import Message
from guardrail.frontends.client import Client

END: Message = {"type": "http.response.body", "body": b""}
START: Message = {"type": "http.response.start", "status": 200, "headers": []}
GONE: Message = {"type": "http.disconnect"}


class Server:
    """The server's ``receive`` and ``send``: gives ``incoming``, then waits until it is told of the end."""

    def __init__(self, *incoming: Message) -> None:
        self.incoming = list(incoming)
        self.sent: list[Message] = []
        self.hang_up = anyio.Event()

    async def receive(self) -> Message:
        await anyio.lowlevel.checkpoint()
        if self.incoming:
            return self.incoming.pop(0)
        await self.hang_up.wait()
        return GONE

    async def send(self, message: Message) -> None:
        self.sent.append(message)


def client_of(server: Server, *headers: tuple[bytes, bytes]) -> Client:
    return Client({"headers": list(headers)}, server.receive, server.send)


def pieces(*parts: bytes) -> list[Message]:
    last = len(parts) - 1
    return [{"type": "http.request", "body": part, "more_body": i < last} for i, part in enumerate(parts)]


class TestBody:
    @given(st.lists(st.binary(max_size=20), min_size=1, max_size=8), st.integers(0, 120))
    def test_it_is_whole_however_it_came_or_too_large(self, parts: list[bytes], limit: int):
        async def read() -> bytes | None:
            return await client_of(Server(*pieces(*parts))).body(limit)

        whole = b"".join(parts)
        if len(whole) <= limit:
            assert anyio.run(read) == whole
        else:
            with pytest.raises(UnreadableRequest) as caught:
                anyio.run(read)
            assert caught.value.status == 413

    @pytest.mark.anyio
    async def test_messages_may_leave_their_keys_out(self):
        assert await client_of(Server({"type": "http.request"})).body(10) == b""

    @pytest.mark.anyio
    async def test_a_client_that_hangs_up_in_the_middle_has_no_body(self):
        assert await client_of(Server(GONE)).body(10) is None
        assert await client_of(Server(pieces(b"a", b"b")[0], GONE)).body(10) is None

    @pytest.mark.anyio
    async def test_one_that_does_not_arrive_in_time_is_408(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("guardrail.frontends.client.BODY_DEADLINE_S", 0.02)
        for incoming in ([], pieces(b"a", b"b")[:1]):
            with pytest.raises(UnreadableRequest) as caught, anyio.fail_after(10):
                await client_of(Server(*incoming)).body(10)
            assert caught.value.status == 408

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        ("header", "status"),
        [
            ((b"content-encoding", b"gzip"), 415),
            ((b"Content-Type", b"application/json; charset=UTF-7"), 415),
            ((b"Content-Length", b"11"), 413),
            ((b"content-length", b"9" * 5000), 413),
        ],
    )
    async def test_what_the_headers_tell_is_refused_unread(self, header: tuple[bytes, bytes], status: int):
        server = Server(*pieces(b"unread"))
        with pytest.raises(UnreadableRequest) as caught:
            await client_of(server, header).body(10)
        assert caught.value.status == status
        assert len(server.incoming) == 1

    @pytest.mark.anyio
    async def test_without_a_body_an_upgrade_is_named_as_the_reason(self):
        with pytest.raises(UnreadableRequest, match="upgrade header"):
            await client_of(Server(*pieces(b"")), (b"upgrade", b"h2c")).body(10)
        assert await client_of(Server(*pieces(b"", b"x")), (b"upgrade", b"h2c")).body(10) == b"x"
        assert await client_of(Server(*pieces(b""))).body(10) == b""

    @pytest.mark.anyio
    @pytest.mark.parametrize("length", [b"10", b"0000000000000000000000010", b"-5", b"ten", b""])
    async def test_a_length_that_is_small_or_no_number_is_no_reason(self, length: bytes):
        assert (
            await client_of(Server(*pieces(b"0123456789")), (b"content-length", length)).body(10)
            == b"0123456789"
        )


@pytest.mark.anyio
class TestWaitFor:
    async def heard(self, server: Server) -> Client:
        client = client_of(server)
        assert await client.body(10) == b"x"
        return client

    async def test_work_is_done_to_its_end(self):
        server, done = Server(*pieces(b"x")), []
        client = await self.heard(server)

        async def work() -> None:
            await client.send(START)
            await client.send(END)
            done.append(True)

        before = asyncio.all_tasks()
        await client.wait_for(work())
        assert (done, server.sent, client.gone.is_set()) == ([True], [START, END], False)
        await anyio.lowlevel.checkpoint()
        assert asyncio.all_tasks() == before

    async def test_work_is_cancelled_when_the_client_hangs_up(self):
        server = Server(*pieces(b"x"))
        client = await self.heard(server)
        reached: list[str] = []

        async def work() -> None:
            await client.send(START)
            server.hang_up.set()
            try:
                await anyio.sleep_forever()
            finally:
                reached.append("cancelled")

        with anyio.fail_after(10):
            await client.wait_for(work())
        assert (reached, client.gone.is_set()) == (["cancelled"], True)

    async def test_work_goes_on_once_the_client_has_its_answer(self):
        server = Server(*pieces(b"x"))
        client = await self.heard(server)
        done: list[str] = []

        async def work() -> None:
            await client.send(START)
            await client.send(END)
            server.hang_up.set()
            await client.gone.wait()
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            done.append("its own work")

        with anyio.fail_after(10):
            await client.wait_for(work())
        assert done == ["its own work"]

    async def test_a_body_that_is_still_being_read_is_left_to_its_reader(self):
        """Two readers of one ``receive`` would take each other's pieces."""
        server = Server(*pieces(b"a", b"b", b"c"))
        client = client_of(server)
        got: list[bytes] = []

        async def work() -> None:
            for _ in range(3):
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
                got.append((await client.receive())["body"])
            server.hang_up.set()
            await anyio.sleep_forever()

        with anyio.fail_after(10):
            await client.wait_for(work())
        assert (got, client.gone.is_set()) == ([b"a", b"b", b"c"], True)

    @pytest.mark.parametrize("error", [LookupError("as it is"), OSError("gone")])
    async def test_an_error_of_the_work_stays_what_it_was(self, error: Exception):
        client = await self.heard(Server(*pieces(b"x")))

        async def work() -> None:
            await anyio.lowlevel.checkpoint()
            raise error

        with pytest.raises(type(error)) as caught:
            await client.wait_for(work())
        assert caught.value is error

    async def test_a_cancellation_from_outside_reaches_the_work(self):
        client = await self.heard(Server(*pieces(b"x")))
        before = asyncio.all_tasks()
        reached: list[Any] = []

        async def work() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                reached.append("cancelled")

        with anyio.move_on_after(0.01) as scope:
            await client.wait_for(work())
        assert (reached, scope.cancelled_caught) == (["cancelled"], True)
        await anyio.lowlevel.checkpoint()
        assert asyncio.all_tasks() == before
