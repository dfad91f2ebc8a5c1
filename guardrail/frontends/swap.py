"""One ASGI app in the place of another, while requests run.

Who wins each race:

========================================  ==============================================================
a request that begins before the swap     the old app answers it whole, however long its stream runs
a request that begins after the swap      the new app
the old app's end                         comes after its last answer, or with the server's own end
a new app that does not start             the old one stays; ``swap`` raises
a new app that is slow to warm up         the old one answers meanwhile
the server's end during a swap            ends both
========================================  ==============================================================
"""

from __future__ import annotations

import logging
from typing import Protocol

import anyio
from anyio.abc import TaskGroup, TaskStatus

from guardrail.frontends.asgi import Message, Receive, Scope, Send

__all__ = ["Swappable", "WarmingApp"]

_log = logging.getLogger("guardrail.serve")


class WarmingApp(Protocol):
    """An ASGI app that begins to warm up in its lifespan; see ``guardrail.frontends.proxy.ProxyApp``."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        ...

    async def warmed(self) -> None:
        """Return when the warm-up is over."""
        ...


class _Tenant:
    """One app: how many requests it answers, and whether it is to go after them."""

    def __init__(self, app: WarmingApp) -> None:
        self.app = app
        self.requests = 0
        self.leaving = False
        self.gone = anyio.Event()

    def go_when_idle(self) -> None:
        if self.leaving and not self.requests:
            self.gone.set()


class Swappable:
    """An ASGI app that holds another. Runs the lifespan of each, so it must be given one itself."""

    def __init__(self, first: WarmingApp) -> None:
        self._current = _Tenant(first)
        self._tenants = [self._current]
        self._group: TaskGroup | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        tenant = self._current
        tenant.requests += 1
        try:
            await tenant.app(scope, receive, send)
        finally:
            tenant.requests -= 1
            tenant.go_when_idle()

    async def swap(self, new: WarmingApp) -> None:
        """Start ``new``, wait until it is warm, and give it every request from then on.

        Raises what ``new`` raises when it starts; ``RuntimeError`` outside of the lifespan.
        """
        if self._group is None:
            raise RuntimeError("an app is swapped between start and end of the server only")
        tenant = _Tenant(new)
        self._tenants.append(tenant)
        try:
            await self._group.start(self._stay, tenant)
        except BaseException:
            self._tenants.remove(tenant)
            raise
        try:
            await new.warmed()
        except BaseException:
            tenant.gone.set()
            raise
        old, self._current = self._current, tenant
        old.leaving = True
        old.go_when_idle()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()  # the start
        async with anyio.create_task_group() as self._group:
            try:
                await self._group.start(self._stay, self._current)
            except Exception as error:
                self._group = None
                await send({"type": "lifespan.startup.failed", "message": repr(error)})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()  # the end: by now the server has ended its requests
            self._group = None
            for tenant in self._tenants:
                tenant.gone.set()
        await send({"type": "lifespan.shutdown.complete"})

    async def _stay(self, tenant: _Tenant, *, task_status: TaskStatus[None]) -> None:
        """One app's lifespan, whole in one task, as its context managers want it."""
        incoming = ["lifespan.shutdown", "lifespan.startup"]
        started = False

        async def receive() -> Message:
            if len(incoming) == 1:
                await tenant.gone.wait()
            return {"type": incoming.pop()}

        async def send(message: Message) -> None:
            nonlocal started
            if message["type"] == "lifespan.startup.complete":
                started = True
                task_status.started()

        try:
            await tenant.app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        except Exception as error:
            if not started:
                raise
            _log.error("an app that was replaced did not end in order: %s", type(error).__name__)
        if started:
            self._tenants.remove(tenant)
