"""The two servers that only a benchmark needs: ``python -m benchmarks.servers KIND PORT UPSTREAM POLICY``.

``bare`` is what every figure is compared with: one plain ASGI route of starlette that forwards with
aiohttp. ``instant`` is guardrail's proxy with a classifier in process that answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path

import aiohttp
from starlette.applications import Starlette
from starlette.routing import Route

from guardrail.backends.forward import HttpForwarder
from guardrail.backends.policy_files import load_policy
from guardrail.cli.serve import server
from guardrail.core.policy import Stage
from guardrail.core.verdict import Verdict
from guardrail.engine.check import GuardrailEngine
from guardrail.frontends.middleware import GuardrailMiddleware
from guardrail.frontends.proxy import ProxyApp

_DROPPED = frozenset({b"host", b"content-length", b"connection", b"transfer-encoding"})
_KEPT_SILENT = ("User-Agent", "Accept", "Content-Type", "Accept-Encoding")


class Bare:
    """The least that forwards a request: no guard, no errors of its own."""

    def __init__(self, upstream: str) -> None:
        self.url = upstream + "/chat/completions"
        self.session: aiohttp.ClientSession | None = None

    async def __call__(self, scope, receive, send) -> None:
        if self.session is None:
            connector = aiohttp.TCPConnector(limit=0)
            self.session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        parts = []
        more = True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        headers = [(k.decode(), v.decode()) for k, v in scope["headers"] if k not in _DROPPED]
        async with self.session.post(
            self.url, data=b"".join(parts), headers=headers, skip_auto_headers=_KEPT_SILENT
        ) as response:
            kept = [(k.lower(), v) for k, v in response.raw_headers]
            kept = [(k, v) for k, v in kept if k not in (b"connection", b"transfer-encoding")]
            await send({"type": "http.response.start", "status": response.status, "headers": kept})
            async for chunk in response.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class Instant:
    """A classifier of zero cost: the policy's safe label, at once."""

    def identity(self, policy) -> str:
        return "instant"

    async def classify(self, policy, subject) -> Verdict:
        return Verdict(policy, policy.safe_label, violation=False)


def bare(upstream: str, policy: Path) -> Starlette:
    return Starlette(routes=[Route("/v1/chat/completions", Bare(upstream), methods=["POST"])])


def instant(upstream: str, policy: Path) -> ProxyApp:
    chosen = load_policy(policy)
    engine = GuardrailEngine(dict.fromkeys(Stage, (chosen,)), Instant())
    forwarder = HttpForwarder(upstream)
    guarded = GuardrailMiddleware(forwarder, engine)
    return ProxyApp(guarded, forwarder, guards=guarded.guards, closers=[forwarder.aclose])


if __name__ == "__main__":
    kind, port, upstream, policy = sys.argv[1:]
    app = {"bare": bare, "instant": instant}[kind](upstream, Path(policy))
    server(app, "127.0.0.1", int(port), "warning").run()
