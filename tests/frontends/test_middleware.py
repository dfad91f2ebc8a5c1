"""The twin of guardrail/frontends/middleware.py: what is guarded, how much at once, the lifespan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from guardrail import GuardrailMiddleware
from guardrail.frontends.asgi import ASGIApp, Message, Receive, Scope, Send
from guardrail.frontends.middleware import Route as OwnRoute
from guardrail.frontends.middleware import Settings, dialect_of
from tests.frontends.test_exchange import (
    ANSWER,
    App,
    ask,
    body,
    drive,
    engine,
    error_of,
    headers_of,
    start,
    until,
    whole,
)

pytestmark = pytest.mark.anyio


class TestConcurrency:
    def guarded(self, app: ASGIApp, **options: Any) -> GuardrailMiddleware:
        return GuardrailMiddleware(app, engine(**options), Settings(max_concurrent_requests=1))

    async def test_one_too_many_is_503_and_the_slot_comes_back_with_the_answer(self):
        go_on = anyio.Event()
        app = App(then=go_on.wait)
        guarded = self.guarded(app)
        first: list[Message] = []
        async with anyio.create_task_group() as group:

            async def client() -> None:
                first.extend(await drive(guarded, ask("Hello")))

            group.start_soon(client)
            await until(lambda: bool(app.bodies))
            refused = await drive(guarded, ask("Hello"))
            go_on.set()
        assert refused[0]["status"] == 503
        assert error_of(refused)["code"] == "guardrail_overloaded"
        assert headers_of(refused)[b"x-should-retry"] == b"false"
        assert headers_of(refused)[b"x-guardrail-decision"] == b"block"
        assert headers_of(refused)[b"x-guardrail-id"] != headers_of(first)[b"x-guardrail-id"]
        assert b"retry-after" in headers_of(refused)
        assert len(app.bodies) == 1
        assert whole(first) == ANSWER
        assert (await drive(guarded, ask("Hello")))[0]["status"] == 200

    @pytest.mark.parametrize(
        "raw", [b"zebra", ask("forbidden"), ask("an outage")], ids=["400", "block", "503"]
    )
    async def test_the_slot_comes_back_after_a_refusal(self, raw: bytes):
        guarded = self.guarded(App())
        await drive(guarded, raw)
        assert (await drive(guarded, ask("Hello")))[0]["status"] == 200

    async def test_the_slot_comes_back_after_an_app_that_raises(self):
        def crash() -> None:
            raise RuntimeError("crash")

        guarded = self.guarded(App([], then=crash))
        for _ in range(2):
            with pytest.raises(RuntimeError, match="crash"):
                await drive(guarded, ask("Hello"))

    async def test_the_slot_comes_back_after_a_hang_up_and_a_cancellation(self):
        app = App([start()], then=anyio.sleep_forever)
        guarded = self.guarded(app)
        await drive(guarded, ask("Hello"), hang_up_after=0)
        with anyio.move_on_after(0.05) as scope:
            await drive(guarded, ask("Hello"))
        assert scope.cancelled_caught
        app.answer, app.then = App().answer, None
        assert (await drive(guarded, ask("Hello")))[0]["status"] == 200

    async def test_a_client_that_never_ends_its_body_takes_no_ones_place(self):
        guarded = self.guarded(App())
        async with anyio.create_task_group() as group:
            waiting = anyio.Event()

            async def slow_client(scope: Scope, receive: Receive, send: Send) -> None:
                async def never() -> Message:
                    waiting.set()
                    await anyio.sleep_forever()
                    raise AssertionError

                await guarded(scope, never, send)

            group.start_soon(drive, slow_client)
            await waiting.wait()
            assert (await drive(guarded, ask("Hello")))[0]["status"] == 200
            group.cancel_scope.cancel()

    async def test_other_routes_need_no_slot(self):
        app = App(then=anyio.sleep_forever)
        guarded = self.guarded(app)
        async with anyio.create_task_group() as group:
            group.start_soon(drive, guarded, ask("Hello"))
            await until(lambda: bool(app.bodies))
            with anyio.move_on_after(0.05):
                await drive(guarded, b"", path="/v1/models", method="GET")
            assert [scope["path"] for scope in app.scopes] == ["/v1/chat/completions", "/v1/models"]
            group.cancel_scope.cancel()


class Rooted(Starlette):
    """An app that knows where it is mounted, as ``FastAPI(root_path=...)`` does; its server does not."""

    def __init__(self, root_path: str, *routes: Route) -> None:
        super().__init__(routes=routes)
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.root_path:
            scope["root_path"] = self.root_path
        await super().__call__(scope, receive, send)


class TestPaths:
    @pytest.mark.parametrize(
        "path",
        [
            "/v1/chat/completions",
            "/v1/chat/completions/",
            "/v1/chat/completions//",
            "/chat/completions",
            "/openai/deployments/gpt/chat/completions",
            "/api/v2/chat/completions",
        ],
    )
    async def test_chat_routes_are_guarded_wherever_they_are(self, path: str):
        app = App()
        sent = await drive(GuardrailMiddleware(app, engine()), ask("forbidden"), path=path)
        assert app.scopes == []
        assert headers_of(sent)[b"x-guardrail-decision"] == b"block"

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v1/chat/completions"),
            ("POST", "/v1/images/generations"),
            ("POST", "/v1/chat/completions/extra"),
            ("POST", "/v1/chat/completionsx"),
            ("POST", "/v1/xchat/completion"),
            ("OPTIONS", "/v1/chat/completions"),
            ("POST", "/"),
        ],
    )
    async def test_everything_else_is_left_alone(self, method: str, path: str):
        answer = [start(200, [(b"x-guardrail-x", b"1")]), body(b"forbidden")]
        app = App(answer)
        sent = await drive(GuardrailMiddleware(app, engine()), b"forbidden", method=method, path=path)
        assert (app.bodies, sent) == ([b"forbidden"], answer)

    @pytest.mark.parametrize(
        ("path", "left"),
        [
            ("/rooms/7/messages", True),
            ("/rooms/7/messages/", True),
            ("/api/responses", True),
            ("/rooms/7/8/messages", False),
            ("/rooms//messages", False),
            ("/a/rooms/7/messages", False),
            ("/v1/messages", False),
            ("/Rooms/7/messages", False),
            ("/api/responses/messages", False),
        ],
    )
    async def test_what_only_ends_like_a_model_s_is_left_alone_where_it_is_exempt(
        self, path: str, left: bool
    ):
        app = App([start(200), body(b"{}")])
        settings = Settings(exempt=["/rooms/*/messages", "/api/responses"])
        guarded = GuardrailMiddleware(app, engine(), settings)
        sent = await drive(guarded, b'{"text": "hi"}', path=path)
        assert (len(app.scopes), sent[0]["status"]) == ((1, 200) if left else (0, 400))

    @pytest.mark.parametrize("at", ["/api", "/v1", "/v1/chat"])
    async def test_a_mounted_middleware_guards_wherever_it_is_mounted(self, at: str):
        calls: list[str] = []

        async def route(request: Request) -> JSONResponse:
            calls.append(request.url.path)
            return JSONResponse(json.loads(ANSWER))

        path = "/v1/chat/completions" if at != "/api" else "/api/v1/chat/completions"
        inner = Starlette(routes=[Route(path.removeprefix(at), route, methods=["POST"])])
        outer = Starlette(routes=[Mount(at, app=GuardrailMiddleware(inner, engine()))])
        sent = await drive(outer, ask("forbidden"), path=path)
        assert calls == []
        assert headers_of(sent)[b"x-guardrail-decision"] == b"block"
        sent = await drive(outer, ask("Hello"), path=path)
        assert (calls, sent[0]["status"]) == ([path], 200)

    @pytest.mark.parametrize(
        ("path", "root_path"),
        [
            ("/api/v1/chat/completions", "/api"),
            ("/v1/chat/completions", "/api"),
            ("/completions", "/v1/chat"),
        ],
    )
    async def test_a_root_path_of_the_server_hides_no_route(self, path: str, root_path: str):
        app = App()
        guarded = GuardrailMiddleware(app, engine())

        async def behind(scope: Scope, receive: Receive, send: Send) -> None:
            await guarded({**scope, "root_path": root_path}, receive, send)

        await drive(behind, ask("forbidden"), path=path)
        assert app.scopes == []

    @pytest.mark.parametrize(
        ("path", "method"),
        [
            ("/v1/chat/completions\n", "POST"),
            ("/v1/chat/completions/\n", "POST"),
            ("/v1/chat/completions\0", "POST"),
            ("/v1/chat/completions", "post"),  # Django writes it in capitals, the server need not
            ("/chat\n", "POST"),
            ("/chat//", "POST"),
            ("//chat", "POST"),
            ("/chat", "Post"),
        ],
    )
    async def test_no_spelling_that_an_app_may_take_for_a_guarded_path_leads_past(
        self, path: str, method: str
    ):
        app = App()
        own = OwnRoute("/chat", input=("$.messages[0].content",), output=("$.reply",))
        guarded = GuardrailMiddleware(app, engine(), Settings(routes=[own]))
        sent = await drive(guarded, ask("forbidden"), path=path, method=method)
        assert app.scopes == []
        assert headers_of(sent)[b"x-guardrail-decision"] == b"block"

    async def test_starlette_serves_a_path_that_ends_in_a_line_break(self):
        """Which is why such a one is guarded."""
        calls: list[str] = []

        async def route(request: Request) -> JSONResponse:
            calls.append(request.url.path)
            return JSONResponse({})

        path = "/v1/chat/completions"
        inner = Starlette(routes=[Route(path, route, methods=["POST"])])
        await drive(inner, ask("forbidden"), path=path + "\n")
        assert len(calls) == 1
        sent = await drive(GuardrailMiddleware(inner, engine()), ask("forbidden"), path=path + "\n")
        assert (len(calls), headers_of(sent)[b"x-guardrail-decision"]) == (1, b"block")

    @pytest.mark.parametrize(
        ("root", "written"),
        [
            ("", "/chat"),
            ("/api", "/chat"),
            ("/api", "/api/chat"),
            ("/api/", "/chat"),
            ("/api/", "/api/chat"),
        ],
    )
    @pytest.mark.parametrize("path", ["/chat", "/api/chat", "/api//chat"])
    async def test_a_route_is_guarded_wherever_fastapi_serves_it(self, root: str, path: str, written: str):
        calls: list[str] = []

        async def chat(request: Request) -> JSONResponse:
            calls.append(request.url.path)
            return JSONResponse({"reply": "fine"})

        app = Rooted(root, Route("/chat", chat, methods=["POST"]))
        own = OwnRoute(written, input=("$.messages[0].content",), output=("$.reply",))
        guarded = GuardrailMiddleware(app, engine(), Settings(routes=[own]))
        await drive(guarded, ask("forbidden"), path=path)
        assert calls == []

    def test_the_dialect_is_found_by_the_end_of_the_path(self):
        dialect = dialect_of("/v1/chat/completions/")
        assert dialect is not None
        assert dialect.name == "chat.completions"
        assert dialect_of("/v1/Chat/Completions") is None

    async def test_a_websocket_goes_to_the_app(self):
        seen: list[Scope] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope)

        scope = {"type": "websocket", "path": "/v1/chat/completions", "headers": []}
        await GuardrailMiddleware(app, engine())(scope, _nothing, _ignore)
        assert seen == [scope]


async def _nothing() -> Message:
    raise AssertionError("nothing to receive")


async def _ignore(message: Message) -> None:
    raise AssertionError("nothing to send")


class TestLifespan:
    async def events(self, app: ASGIApp) -> list[str]:
        incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        sent: list[str] = []

        async def receive() -> Message:
            return incoming.pop(0)

        async def send(message: Message) -> None:
            sent.append(message["type"])

        await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
        return sent

    async def test_it_passes_through(self):
        order: list[str] = []

        async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
            for _ in range(2):
                kind = (await receive())["type"]
                order.append(kind)
                await send({"type": f"{kind}.complete"})

        sent = await self.events(GuardrailMiddleware(lifespan, engine()))
        assert order == ["lifespan.startup", "lifespan.shutdown"]
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    @pytest.mark.parametrize("outcome", ["complete", "failed"])
    async def test_what_was_built_is_closed_once_after_the_app_and_before_the_server_ends(
        self, outcome: str
    ):
        order: list[str] = []

        async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            order.append("app ended")
            await send({"type": f"lifespan.shutdown.{outcome}"})
            order.append("server told")

        async def close() -> None:
            order.append("closed")

        await self.events(GuardrailMiddleware(lifespan, engine(), on_shutdown=close))
        assert order == ["app ended", "closed", "server told"]

    async def test_an_app_without_a_lifespan_is_heard_as_it_is(self):
        async def no_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
            raise TypeError(scope["type"])

        with pytest.raises(TypeError, match="lifespan"):
            await self.events(GuardrailMiddleware(no_lifespan, engine(), on_shutdown=_unused))


async def _unused() -> None:
    raise AssertionError("nothing was shut down")


class TestFromConfig:
    async def test_it_builds_engine_settings_and_what_must_be_closed(self, tmp_path: Path):
        folder = tmp_path / "policies" / "house"
        folder.mkdir(parents=True)
        matter = "id: house\nlabels:\n  OK: {violation: false}\n  STOP: {violation: true, action: block}\n"
        phrases = "phrases:\n  STOP: ['forbidden']\n"
        (folder / "policy.md").write_text(f"---\n{matter}{phrases}---\nJudge by the house rules.\n")
        config = tmp_path / "guardrail.yaml"
        config.write_text(
            "version: 1\nclassifier: {kind: embedded}\npolicies: {input: [house]}\n"
            "limits: {max_body_bytes: 200}\naudit: {sinks: [{kind: jsonl, path: audit.jsonl}]}\n"
            "refusal: {message: Not here.}\n"
        )
        app = App()
        guarded = GuardrailMiddleware.from_config(app, config)
        sent = await drive(guarded, ask("a forbidden thing"))
        assert json.loads(whole(sent))["choices"][0]["message"]["content"] == "Not here."
        assert (await drive(guarded, ask("x" * 300)))[0]["status"] == 413
        assert app.scopes == []

        async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "lifespan.shutdown.complete"})

        guarded.app = lifespan
        await TestLifespan().events(guarded)
        record = json.loads((tmp_path / "audit.jsonl").read_text())
        assert (record["action"], record["id"].encode()) == ("block", headers_of(sent)[b"x-guardrail-id"])
