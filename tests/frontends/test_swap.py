"""The twin of guardrail/frontends/swap.py: who wins each race."""

from __future__ import annotations

import anyio
import pytest

from guardrail.frontends.asgi import ASGIApp, Message, Receive, Scope, Send
from guardrail.frontends.proxy import ProxyApp
from guardrail.frontends.swap import Swappable
from guardrail.testing import drive_asgi
from tests.frontends.guards import by_dialect
from tests.lifespan import served

pytestmark = pytest.mark.anyio


class Named:
    """An app that says its name, in two pieces: the second once it is let. Notes what happens to it."""

    def __init__(self, name: str, log: list[str], *, fails_at: str = "", warm: bool = True) -> None:
        self.name = name
        self.log = log
        self.fails_at = fails_at
        self.held = anyio.Event()
        self.held.set()
        self.warm = anyio.Event()
        if warm:
            self.warm.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": self.name.encode(), "more_body": True})
            await self.held.wait()
            await send({"type": "http.response.body", "body": b"."})
            return
        for what in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{what}"
            self.log.append(f"{self.name} {what}")
            if self.fails_at == what:
                await send({"type": f"lifespan.{what}.failed", "message": "no"})
                raise OSError("no")
            await send({"type": f"lifespan.{what}.complete"})

    async def warmed(self) -> None:
        await self.warm.wait()


async def ask(app: ASGIApp) -> bytes:
    return b"".join(m.get("body", b"") for m in await drive_asgi(app, method="GET"))


async def test_it_is_the_app_it_holds():
    log: list[str] = []
    sent: list[Message] = []
    app = Swappable(Named("one", log))
    async with served(app, sent):
        assert await ask(app) == b"one."
    assert log == ["one startup", "one shutdown"]
    assert [m["type"] for m in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_requests_after_a_swap_go_to_the_new_app_and_those_before_end_at_the_old_one():
    log: list[str] = []
    one, two = Named("one", log), Named("two", log)
    app = Swappable(one)
    answers: list[bytes] = []

    async def note() -> None:
        answers.append(await ask(app))

    async with served(app):
        one.held = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(note)
            await anyio.wait_all_tasks_blocked()
            await app.swap(two)
            assert await ask(app) == b"two."
            await anyio.wait_all_tasks_blocked()
            assert log == ["one startup", "two startup"]  # the old one is not closed under its request
            one.held.set()
        await anyio.wait_all_tasks_blocked()
        assert log == ["one startup", "two startup", "one shutdown"]
    assert answers == [b"one."]
    assert log[3:] == ["two shutdown"]


async def test_the_old_app_answers_until_the_new_one_is_warm():
    log: list[str] = []
    app, slow = Swappable(Named("one", log)), Named("two", log, warm=False)
    async with served(app), anyio.create_task_group() as group:
        group.start_soon(app.swap, slow)
        await anyio.wait_all_tasks_blocked()
        assert log == ["one startup", "two startup"]
        assert await ask(app) == b"one."
        slow.warm.set()
        await anyio.wait_all_tasks_blocked()
        assert await ask(app) == b"two."


async def test_a_new_app_that_does_not_start_changes_nothing():
    log: list[str] = []
    app = Swappable(Named("one", log))
    async with served(app):
        with pytest.raises(OSError, match="no"):
            await app.swap(Named("two", log, fails_at="startup"))
        assert await ask(app) == b"one."
    assert log == ["one startup", "two startup", "one shutdown"]


async def test_an_old_app_that_does_not_end_in_order_takes_nothing_down():
    log: list[str] = []
    app = Swappable(Named("one", log, fails_at="shutdown"))
    async with served(app):
        await app.swap(Named("two", log))
        await anyio.wait_all_tasks_blocked()
        assert log[-1] == "one shutdown"
        assert await ask(app) == b"two."
    assert log[-1] == "two shutdown"


async def test_a_first_app_that_does_not_start_stops_the_server():
    sent: list[Message] = []
    async with served(Swappable(Named("one", [], fails_at="startup")), sent):
        pass
    assert [m["type"] for m in sent] == ["lifespan.startup.failed"]


async def test_a_swap_that_is_given_up_closes_the_new_app():
    log: list[str] = []
    app = Swappable(Named("one", log))
    async with served(app):
        with anyio.move_on_after(0.01):
            await app.swap(Named("two", log, warm=False))
        await anyio.wait_all_tasks_blocked()
        assert log == ["one startup", "two startup", "two shutdown"]
        assert await ask(app) == b"one."


async def test_the_servers_end_ends_both_even_in_the_middle_of_a_swap():
    log: list[str] = []
    app, slow = Swappable(Named("one", log)), Named("two", log, warm=False)
    async with anyio.create_task_group() as group:
        async with served(app):
            group.start_soon(app.swap, slow)
            await anyio.wait_all_tasks_blocked()
        assert sorted(log[2:]) == ["one shutdown", "two shutdown"]
        slow.warm.set()
    with pytest.raises(RuntimeError):
        await app.swap(Named("three", log))


async def test_proxies_can_be_swapped():
    closed: list[str] = []

    async def close() -> None:
        closed.append("old")

    old, new = Named("old", []), Named("new", [])
    app = Swappable(ProxyApp(old, old, guards=by_dialect, closers=[close]))
    async with served(app):
        assert b"".join(m.get("body", b"") for m in await drive_asgi(app)) == b"old."
        await app.swap(ProxyApp(new, new, guards=by_dialect))
        assert b"".join(m.get("body", b"") for m in await drive_asgi(app)) == b"new."
        await anyio.wait_all_tasks_blocked()
        assert closed == ["old"]
