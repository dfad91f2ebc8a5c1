"""The twin of guardrail/frontends/proxy.py: what is guarded, what is passed, what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Route

from guardrail import GuardrailEngine, GuardrailMiddleware
from guardrail.backends.forward import HttpForwarder
from guardrail.core.policy import Action, LabelRule, Policy, Stage
from guardrail.errors import UpstreamLost
from guardrail.frontends.asgi import Message, Receive, Scope, Send
from guardrail.frontends.proxy import ProxyApp
from guardrail.testing import ScriptedClassifier, drive_asgi
from tests.fakes import FakeUpstream
from tests.frontends.guards import by_dialect
from tests.lifespan import served

HOUSE = Policy(
    id="house-rules",
    body="Judge by the house rules.",
    labels={
        "OK": LabelRule("OK", violation=False),
        "STOP": LabelRule("STOP", violation=True, action=Action.BLOCK),
    },
)
CHAT = "/v1/chat/completions"
FORBIDDEN = b'{"messages": [{"role": "user", "content": "forbidden"}]}'


@dataclass
class Named:
    """An ASGI app that only says its name and remembers what came."""

    name: bytes
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    lost: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append((scope["method"], scope["path"]))
        if self.lost == "at once":
            raise UpstreamLost("the upstream is gone")
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.name, "more_body": bool(self.lost)})
        if self.lost:
            raise UpstreamLost("the upstream is gone")


async def ask(
    proxy: ProxyApp, target: str, method: str = "POST", *, raw_path: bool = True
) -> list[Message]:
    """Send one request as a server does: ``path`` is unquoted, ``raw_path`` is not."""
    sent: list[Message] = []
    path, _, query = target.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "query_string": query.encode(),
        "headers": [(b"content-type", b"application/json")],
    }
    if raw_path:
        scope["raw_path"] = path.encode()

    messages: list[Message] = [{"type": "http.request", "body": FORBIDDEN, "more_body": False}]

    async def receive() -> Message:
        if not messages:
            await anyio.sleep_forever()
        return messages.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    with anyio.fail_after(20):
        await proxy(scope, receive, send)
    return sent


def proxy_of(allow: Iterable[str] = (), **options: Any) -> tuple[ProxyApp, Named, Named]:
    guarded, upstream = Named(b"guarded"), Named(b"upstream")
    return ProxyApp(guarded, upstream, guards=by_dialect, allow=list(allow), **options), guarded, upstream


def code_of(sent: list[Message]) -> str:
    return json.loads(sent[1]["body"])["error"]["code"]


@pytest.mark.anyio
class TestThreeKindsOfPath:
    @pytest.mark.parametrize(
        "path", [CHAT, CHAT + "/", "/chat/completions", "/x/y/chat/completions", CHAT + "?a=//"]
    )
    async def test_chat_routes_are_guarded(self, path: str):
        proxy, guarded, upstream = proxy_of()
        sent = await ask(proxy, path)
        assert sent[1]["body"] == b"guarded"
        assert (len(guarded.seen), upstream.seen) == (1, [])

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("path", ["/v1/models", "/v1/models/", "/v1/models/a-b", "/v1/models/org/name"])
    async def test_the_model_list_is_passed(self, path: str, method: str):
        proxy, guarded, upstream = proxy_of()
        sent = await ask(proxy, path, method)
        assert sent[1]["body"] == b"upstream"
        assert (guarded.seen, upstream.seen) == ([], [(method, path)])

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/v1/responses/compact"),
            ("POST", "/v1/responses/r-1/cancel"),
            ("POST", "/v1/messages/batches"),
            ("POST", "/v1/images/generations"),
            ("POST", "/v1/rerank"),
            ("POST", "/v1/new/route"),
            ("POST", "/v1/models"),
            ("DELETE", "/v1/models/a"),
            ("GET", "/v1/modelsx"),
            ("GET", "/v2/models"),
            ("GET", "/v1/files"),
            ("GET", CHAT),
            ("PUT", CHAT),
            ("post", CHAT),
            ("POST", "/v1/Chat/Completions"),
            ("POST", "/V1/CHAT/COMPLETIONS"),
            ("POST", CHAT + "x"),
            ("POST", CHAT + "/x"),
            ("POST", CHAT + ";a=b"),
            ("POST", CHAT + "%20"),
            ("POST", CHAT + "%00"),
            ("POST", "/v1/chat%252fcompletions"),
            ("POST", "/"),
            ("POST", ""),
            ("POST", "*"),
        ],
    )
    async def test_everything_else_is_refused_and_says_what_to_do(self, method: str, path: str):
        proxy, guarded, upstream = proxy_of()
        sent = await ask(proxy, path, method)
        assert (sent[0]["status"], code_of(sent)) == (403, "unguarded_path")
        ours = dict(sent[0]["headers"])
        assert ours[b"x-guardrail-decision"] == b"block"
        assert ours[b"x-guardrail-id"].startswith(b"gr-")
        assert "paths.allow" in json.loads(sent[1]["body"])["error"]["message"]
        assert (guarded.seen, upstream.seen) == ([], [])

    async def test_what_allow_names_is_passed_and_nothing_beside_it(self):
        proxy, guarded, upstream = proxy_of(["/v1/images/generations", "/v1/files/*"])
        for method, path in (
            ("POST", "/v1/images/generations"),
            ("DELETE", "/v1/files/a"),
            ("GET", "/v1/files/"),
        ):
            assert (await ask(proxy, path, method))[1]["body"] == b"upstream"
        passed = list(upstream.seen)
        images = ("/v1/images/generations/", "/v1/images/generationsx", "/v1/Images/generations")
        for path in (*images, "/v1/files", "/x/v1/files/a"):
            assert (await ask(proxy, path))[0]["status"] == 403
        assert (guarded.seen, upstream.seen) == ([], passed)

    @pytest.mark.parametrize("allow", [CHAT, "/v1/*", "/*"])
    async def test_allow_cannot_open_a_guarded_route(self, allow: str):
        proxy, _, upstream = proxy_of([allow])
        assert (await ask(proxy, CHAT))[1]["body"] == b"guarded"
        assert upstream.seen == []


TRICKY = (
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/v1/chat//completions",
    "/v1/chat/completions//",
    "/v1/./chat/completions",
    "/v1/chat/../chat/completions",
    "/v1/x/../chat/completions",
    "/v1/models/../chat/completions",
    "/v1/models/..%2fchat/completions",
    "/v1/models/%2e%2e/chat/completions",
    "/v1/models/%2E./chat/completions",
    "/v1/models/.%2e/chat/completions",
    "/v1/models/..",
    "/v1/models/../",
    "/v1/models/.",
    "/v1/models/%2e%2E",
    "/v1/chat%2Fcompletions",
    "/v1/chat%2fcompletions",
    "/v1%2Fchat%2Fcompletions",
    "/v1/chat%5Ccompletions",
    "/v1/chat\\completions",
    "/v1\\chat\\completions",
    "/v1/models/..\\chat\\completions",
    "/v1/models/..%5cchat%5ccompletions",
    "/v1/models/..;/chat/completions",
    "/v1/models/..;a=b/chat/completions",
    "/v1/models/%2e%2e;/chat/completions",
    "/v1/models/..%3b/chat/completions",
    "/healthz/../v1/chat/completions",
    "/..",
)


@pytest.mark.anyio
class TestTrickyPaths:
    @pytest.mark.parametrize("allow", [(), ("/v1/*", "/*")], ids=["closed", "all allowed"])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize("path", TRICKY)
    async def test_they_reach_nothing(self, path: str, method: str, allow: tuple[str, ...]):
        proxy, guarded, upstream = proxy_of(allow)
        sent = await ask(proxy, path, method)
        assert sent[0]["status"] in (400, 403)
        assert (guarded.seen, upstream.seen) == ([], [])

    @pytest.mark.parametrize("path", [p for p in TRICKY if "%2f" not in p.lower()])
    async def test_nor_where_the_server_gives_no_raw_path(self, path: str):
        proxy, guarded, upstream = proxy_of()
        sent = await ask(proxy, path, "GET", raw_path=False)
        assert sent[0]["status"] in (400, 403)
        assert (guarded.seen, upstream.seen) == ([], [])

    @pytest.mark.parametrize(
        "path", ["/v1/files/a..b", "/v1/files/.hidden", "/v1/files/a.", "/v1/files/...", "/v1/files/a%20b"]
    )
    async def test_plain_dots_and_spaces_are_no_trick(self, path: str):
        proxy, _, upstream = proxy_of(["/v1/files/*"])
        assert (await ask(proxy, path))[1]["body"] == b"upstream"
        assert upstream.seen == [("POST", unquote(path))]


PIECES = (
    r"/ // \ %2f %2F %5c %2e . .. ; %3B /v1/models /.. /chat/completions v1 chat Chat completions %63hat"
)


@given(
    st.lists(st.sampled_from(PIECES.split()), min_size=1, max_size=9),
    st.sampled_from(["GET", "POST", "HEAD"]),
)
def test_whatever_a_lenient_upstream_reads_as_a_chat_route_is_never_unguarded(
    parts: list[str], method: str
):
    path = "/" + "".join(parts)
    proxy, _, upstream = proxy_of()
    anyio.run(ask, proxy, path, method)
    if upstream.seen:
        assert not _leniently(path).lower().rstrip("/").endswith("chat/completions") or method != "POST"
        assert _leniently(path).startswith("/v1/models")


def _leniently(path: str) -> str:
    """As the most obliging server reads a path: decoded, backslashes turned, parameters dropped."""
    out: list[str] = []
    for segment in unquote(path).replace("\\", "/").split("/"):
        plain = segment.partition(";")[0]
        if plain == "..":
            del out[-1:]
        elif plain not in ("", "."):
            out.append(plain)
    return "/" + "/".join(out)


@pytest.mark.anyio
class TestPassing:
    async def test_an_upstream_that_is_lost_is_502(self):
        proxy, _, upstream = proxy_of()
        upstream.lost = "at once"
        sent = await ask(proxy, "/v1/models", "GET")
        assert (sent[0]["status"], code_of(sent)) == (502, "upstream_unavailable")

    async def test_one_that_breaks_off_is_not_ended_properly(self):
        proxy, _, upstream = proxy_of()
        upstream.lost = "later"
        sent = await ask(proxy, "/v1/models", "GET")
        assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
        assert sent[1]["more_body"] is True

    async def test_a_client_that_hangs_up_cancels_the_upstream(self):
        cancelled = []

        async def stuck(scope: Scope, receive: Receive, send: Send) -> None:
            assert (await receive())["body"] == b"{}"
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.append(True)

        proxy = ProxyApp(Named(b"guarded"), stuck, guards=by_dialect, allow=["/v1/images/generations"])
        with anyio.fail_after(20):
            assert await drive_asgi(proxy, "/v1/images/generations", b"{}", hang_up_after=0) == []
        assert cancelled == [True]

    async def test_an_answer_passes_as_it_is_but_cannot_forge_our_headers(self):
        proxy, _, upstream = proxy_of(["/v1/images/generations"])
        plain = [(b"X-One", b"1"), (b"content-length", b"8"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]
        upstream.headers = [
            *plain[:2],
            (b"X-Guardrail-Decision", b"pass"),
            (b"x-guardrail-id", b"gr-1"),
            *plain[2:],
        ]
        sent = await ask(proxy, "/v1/images/generations")
        assert sent[0]["headers"] == plain
        assert sent[1]["body"] == b"upstream"

    @pytest.mark.parametrize(
        ("method", "path"), [("POST", "/v1/images/generations"), ("GET", "/v1/models")]
    )
    async def test_a_request_passes_as_it_is_but_for_our_headers(self, method: str, path: str):
        plain = [(b"X-One", b"1"), (b"x-guard", b"2"), (b"x-guardrails-of-mine", b"3")]
        ours = [(b"x-guardrail-add", b"house"), (b"X-Guardrail-Id", b"gr-1")]
        seen: list[Scope] = []

        async def upstream(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope)
            await Named(b"upstream")(scope, receive, send)

        proxy = ProxyApp(Named(b"guarded"), upstream, guards=by_dialect, allow=["/v1/images/generations"])
        headers = [ours[0], *plain, ours[1]]
        await drive_asgi(proxy, path, b"{}", method=method, headers=headers)
        assert [header for header in seen[0]["headers"] if header in plain + ours] == plain

    async def test_a_real_upstream_gets_the_guarded_and_the_passed_requests_only(self):
        with FakeUpstream() as real:
            forwarder = HttpForwarder(real.url)
            judging = GuardrailEngine({Stage.INPUT: [HOUSE]}, ScriptedClassifier([("forbidden", "STOP")]))
            guarded = GuardrailMiddleware(forwarder, judging)
            proxy = ProxyApp(guarded, forwarder, guards=guarded.guards, closers=[forwarder.aclose])
            try:
                models = await ask(proxy, "/v1/models?limit=2", "GET")
                blocked = await ask(proxy, CHAT)
                for path in TRICKY:
                    await ask(proxy, path, "POST")
            finally:
                await forwarder.aclose()
        assert json.loads(models[1]["body"])["data"][0]["id"] == "fake-model"
        assert dict(blocked[0]["headers"])[b"x-guardrail-decision"] == b"block"
        assert [(seen.method, seen.path) for seen in real.seen] == [("GET", "/v1/models?limit=2")]


@pytest.mark.anyio
class TestOwnRoutes:
    async def test_health_says_ok_without_asking_anyone(self):
        async def probe() -> bool:
            raise AssertionError("asked")

        proxy, guarded, upstream = proxy_of(probe=probe)
        sent = await ask(proxy, "/healthz", "GET")
        assert (sent[0]["status"], sent[1]["body"]) == (200, b"ok")
        assert (guarded.seen, upstream.seen) == ([], [])

    @pytest.mark.parametrize(("reachable", "status"), [(True, 200), (False, 503), (None, 200)])
    async def test_ready_says_whether_checks_can_be_made(self, reachable: bool | None, status: int):
        async def probe() -> bool:
            assert reachable is not None
            return reachable

        proxy, _, _ = proxy_of(probe=None if reachable is None else probe)
        assert (await ask(proxy, "/readyz", "GET"))[0]["status"] == status

    async def test_ready_waits_for_the_warm_up_however_it_ends(self):
        for error in (None, RuntimeError("the judge is down")):
            going, asked = anyio.Event(), []

            async def warm(going: anyio.Event = going, error: Exception | None = error) -> None:
                await going.wait()
                if error is not None:
                    raise error

            async def probe(asked: list[bool] = asked) -> bool:
                asked.append(True)
                return False

            proxy, _, _ = proxy_of(warm=warm, probe=probe)
            async with served(proxy):
                waiting = await ask(proxy, "/readyz", "GET")
                assert (waiting[0]["status"], waiting[1]["body"], asked) == (503, b"warming up", [])
                assert (await ask(proxy, "/healthz", "GET"))[0]["status"] == 200
                assert (await ask(proxy, CHAT))[1]["body"] == b"guarded"
                going.set()
                await proxy.warmed()
                after = await ask(proxy, "/readyz", "GET")
                assert (after[1]["body"], asked) == (b"the judge cannot be reached", [True])

    async def test_the_end_does_not_wait_for_the_warm_up(self):
        closed = []

        async def close() -> None:
            closed.append(True)

        proxy, _, _ = proxy_of(warm=anyio.sleep_forever, closers=[close])
        async with served(proxy):
            assert (await ask(proxy, "/readyz", "GET"))[0]["status"] == 503
        await proxy.warmed()
        assert closed == [True]

    async def test_metrics_are_shown_as_they_are(self):
        proxy, guarded, upstream = proxy_of(metrics=lambda: (b"calls 1\n", "text/plain; version=1.0.0"))
        sent = await ask(proxy, "/metrics", "GET")
        assert (sent[0]["status"], sent[1]["body"]) == (200, b"calls 1\n")
        assert dict(sent[0]["headers"])[b"content-type"] == b"text/plain; version=1.0.0"
        assert (guarded.seen, upstream.seen) == ([], [])

    async def test_without_metrics_their_path_is_like_any_other(self):
        proxy, _, upstream = proxy_of()
        sent = await ask(proxy, "/metrics", "GET")
        assert (sent[0]["status"], code_of(sent), upstream.seen) == (403, "unguarded_path", [])

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
    async def test_they_cannot_be_posted_to_nor_be_forwarded(self, path: str):
        proxy, guarded, upstream = proxy_of(["/*"], metrics=lambda: (b"", "text/plain"))
        sent = await ask(proxy, path)
        assert (sent[0]["status"], code_of(sent)) == (405, "method_not_allowed")
        assert json.loads(sent[1]["body"])["error"] == {
            "message": "this path is there for GET, HEAD alone",
            "type": "invalid_request_error",
            "param": None,
            "code": "method_not_allowed",
        }
        headers = dict(sent[0]["headers"])
        assert (headers[b"allow"], headers[b"content-type"]) == (b"GET, HEAD", b"application/json")
        assert headers[b"x-guardrail-decision"] == b"block"
        assert headers[b"x-guardrail-id"].startswith(b"gr-")
        assert (guarded.seen, upstream.seen) == ([], [])

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
    async def test_a_slash_at_their_end_changes_nothing(self, path: str):
        proxy, guarded, upstream = proxy_of(["/*"], metrics=lambda: (b"ok", "text/plain"))
        assert (await ask(proxy, path + "/", "GET"))[1]["body"] == b"ok"
        assert (await ask(proxy, path + "//", "GET"))[0]["status"] == 400
        assert (await ask(proxy, path + "/", "PUT"))[0]["status"] == 405
        assert (guarded.seen, upstream.seen) == ([], [])

    async def test_more_routes_are_served_and_never_forwarded(self):
        route = Route("/v1/moderations", Named(b"own"), methods=["POST"])
        proxy, guarded, upstream = proxy_of(["/v1/*", "/v1/moderation*"], routes=[route])
        assert (await ask(proxy, "/v1/moderations"))[1]["body"] == b"own"
        assert (await ask(proxy, "/v1/moderations", "GET"))[0]["status"] == 405
        assert (guarded.seen, upstream.seen) == ([], [])

    async def test_one_that_allow_names_as_it_is_goes_to_the_upstream(self):
        routes = [Route(path, Named(b"own")) for path in ("/v1/moderations", "/other")]
        proxy, _, upstream = proxy_of(["/v1/moderations", "/healthz"], routes=routes)
        assert (await ask(proxy, "/v1/moderations"))[1]["body"] == b"upstream"
        assert (await ask(proxy, "/other"))[1]["body"] == b"own"
        assert (await ask(proxy, "/healthz", "GET"))[1]["body"] == b"ok"
        assert upstream.seen == [("POST", "/v1/moderations")]
        assert (await ask(proxy, "/v1/moderations/"))[0]["status"] == 403
        slashed, _, upstream = proxy_of(["/v1/moderations/"], routes=routes)
        assert (await ask(slashed, "/v1/moderations/"))[1]["body"] == b"upstream"
        assert (await ask(slashed, "/v1/moderations"))[1]["body"] == b"own"
        assert upstream.seen == [("POST", "/v1/moderations/")]

    @pytest.mark.parametrize("path", [CHAT, "/v1/realtime", "/v1/files/x"])
    async def test_a_websocket_is_refused_before_it_is_accepted(self, path: str):
        proxy, guarded, upstream = proxy_of(["/v1/*"])
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await proxy({"type": "websocket", "path": path, "headers": []}, receive, send)
        assert [(m["type"], m["code"]) for m in sent] == [("websocket.close", 1008)]
        assert (guarded.seen, upstream.seen) == ([], [])

    async def test_the_lifespan_starts_and_closes_everything_in_order(self):
        order: list[str] = []

        async def first() -> None:
            order.append("first")

        async def second() -> None:
            order.append("second")

        proxy, guarded, upstream = proxy_of(closers=[first, second])
        incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive() -> Message:
            return incoming.pop(0)

        async def send(message: Message) -> None:
            order.append(message["type"])

        await proxy({"type": "lifespan"}, receive, send)
        assert order == ["lifespan.startup.complete", "first", "second", "lifespan.shutdown.complete"]
        assert (guarded.seen, upstream.seen) == ([], [])
