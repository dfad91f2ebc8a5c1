"""The twin of guardrail/frontends/exchange.py: one request from its first byte to its last."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from guardrail import GuardrailEngine, GuardrailMiddleware
from guardrail.backends.forward import HttpForwarder
from guardrail.core.conversation import Subject
from guardrail.core.policy import Action, FailMode, LabelRule, Mode, Policy, Stage
from guardrail.core.verdict import Verdict
from guardrail.engine.fail_rules import FailRules
from guardrail.errors import (
    ClassifierRejected,
    ClassifierTimeout,
    ClassifierUnavailable,
    FailureCode,
    UpstreamLost,
)
from guardrail.frontends.asgi import ASGIApp, Message, Receive, Scope, Send
from guardrail.frontends.exchange import Settings
from guardrail.testing import MemorySink, ScriptedClassifier, drive_asgi
from guardrail.wire.refusals import Refusals
from guardrail.wire.replies import Refusal
from tests.fakes import FakeUpstream, Say, chunk, completion

pytestmark = pytest.mark.anyio

MAIL = "kim@example.com"
LABELS = {
    "OK": LabelRule("OK", violation=False),
    "NOTE": LabelRule("NOTE", violation=True, action=Action.FLAG),
    "HIDE": LabelRule("HIDE", violation=True, action=Action.REDACT),
    "STOP": LabelRule("STOP", violation=True, action=Action.BLOCK),
}
HOUSE = Policy(id="house-rules", body="Judge by the house rules.", labels=LABELS)
EXTRA = Policy(id="extra-rules", body="Judge by the extra rules.", labels=LABELS)
RULES = (
    ("forbidden", "STOP"),
    ("noteworthy", "NOTE"),
    (MAIL, Verdict(HOUSE, "HIDE", violation=True, excerpts=(MAIL,))),
    ("outage", ClassifierUnavailable("the judge is down")),
    ("wrong key", ClassifierRejected("the judge says 401")),
    ("slow judge", ClassifierTimeout("too slow")),
)
OPEN = {stage: FailRules(FailMode.OPEN) for stage in Stage}
JSON = (b"content-type", b"application/json")
ANSWER = completion("The weather is fine.")


def start(status: int = 200, headers: Iterable[tuple[bytes, bytes]] = (JSON,)) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


@dataclass
class App:
    """An inner app that reads the whole request and then sends what it was told to."""

    answer: list[Message] = field(default_factory=lambda: [start(), body(ANSWER)])
    then: Callable[[], Any] | None = None
    scopes: list[Scope] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    cancelled: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = []
        while True:
            message = await receive()
            parts.append(message["body"])
            if not message.get("more_body"):
                break
        self.scopes.append(scope)
        self.bodies.append(b"".join(parts))
        try:
            for message in self.answer:
                await send(message)
            if self.then is not None:
                await self.then()
        except anyio.get_cancelled_exc_class():
            self.cancelled = True
            raise


class Stuck:
    """A classifier that never answers, and notices that it was cancelled."""

    def __init__(self) -> None:
        self.asked = 0
        self.cancelled = 0
        self.started = anyio.Event()

    def identity(self, policy: Policy) -> str:
        return "stuck"

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        self.asked += 1
        self.started.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        raise AssertionError


def engine(*sinks: MemorySink, classifier: Any = None, **options: Any) -> GuardrailEngine:
    policies = {Stage.INPUT: [HOUSE], Stage.OUTPUT: [HOUSE]}
    return GuardrailEngine(policies, classifier or ScriptedClassifier(RULES), sinks=sinks, **options)


def ask(text: str, **fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **fields}).encode()


async def drive(app: ASGIApp, raw: bytes | list[bytes] = b"", **options: Any) -> list[Message]:
    with anyio.fail_after(20):
        return await drive_asgi(app, body=raw, **options)


def headers_of(messages: list[Message]) -> dict[bytes, bytes]:
    return dict(messages[0]["headers"])


def whole(messages: list[Message]) -> bytes:
    assert [m["type"] for m in messages] == ["http.response.start"] + ["http.response.body"] * (
        len(messages) - 1
    )
    assert not messages[-1].get("more_body")
    return b"".join(m["body"] for m in messages[1:])


def error_of(messages: list[Message]) -> dict[str, Any]:
    return json.loads(whole(messages))["error"]


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - what is waited for is on another thread
            await anyio.sleep(0.01)


class TestPass:
    async def test_the_request_and_the_answer_are_the_same_bytes(self):
        raw = (
            b'{ "model":"m",\t"x-unknown": 1.50, "messages" : ['
            b' {"role":"user","content":"\\u00fc\xc3\x9fe"} ],\r\n "seed":1e3 }\n'
        )
        asked = [
            (b"X-Trace", b"t-1"),
            (b"Content-Type", b"application/json; charset=utf-8"),
            (b"authorization", b"Bearer caller"),
            (b"cookie", b"a=1"),
            (b"cookie", b"b=2"),
        ]
        told = [
            (b"X-Request-Id", b"r-1"),
            (b"content-type", b"application/json"),
            (b"set-cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
            (b"content-length", str(len(ANSWER)).encode()),
            (b"x-unknown", b"\xe4 b"),
        ]
        app = App([start(200, told), body(ANSWER[:7], more=True), body(ANSWER[7:])])
        sent = await drive(GuardrailMiddleware(app, engine()), [raw[:9], b"", raw[9:]], headers=asked)
        assert app.bodies == [raw]
        assert app.scopes[0]["headers"] == [
            *asked,
            (b"content-length", str(len(raw)).encode()),
            (b"accept-encoding", b"identity"),
        ]
        ours = sent[0]["headers"][len(told) :]
        assert sent[0]["headers"][: len(told)] == told
        names = [b"x-guardrail-decision", b"x-guardrail-id", b"x-guardrail-coverage"]
        assert [name for name, _ in ours] == names
        assert [ours[0][1], ours[2][1]] == [b"pass", b"judged=2, redacted=0, unreadable=0, skipped=0"]
        assert whole(sent) == ANSWER

    async def test_what_the_caller_accepts_and_how_it_frames_its_body_is_not_forwarded(self):
        app = App()
        asked = [
            (b"Accept-Encoding", b"gzip"),
            (b"Transfer-Encoding", b"chunked"),
            (b"Content-Length", b"1"),
            JSON,
        ]
        raw = ask("Hello")
        await drive(GuardrailMiddleware(app, engine()), raw, headers=asked)
        assert app.scopes[0]["headers"] == [
            JSON,
            (b"content-length", str(len(raw)).encode()),
            (b"accept-encoding", b"identity"),
        ]

    async def test_extensions_that_would_go_around_us_are_not_offered(self):
        app = App()

        async def server(scope: Scope, receive: Receive, send: Send) -> None:
            offered = {"http.response.pathsend": {}, "http.response.trailers": {}}
            await GuardrailMiddleware(app, engine())({**scope, "extensions": offered}, receive, send)

        await drive(server, ask("Hello"))
        assert app.scopes[0]["extensions"] == {}

    async def test_a_flag_passes_and_is_named(self):
        app = App()
        raw = ask("something noteworthy")
        sent = await drive(GuardrailMiddleware(app, engine()), raw)
        assert app.bodies == [raw]
        assert headers_of(sent)[b"x-guardrail-decision"] == b"flag"
        assert headers_of(sent)[b"x-guardrail-policies"] == b"house-rules"
        assert whole(sent) == ANSWER

    async def test_an_image_is_named_as_unjudged(self):
        parts = [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "x"}},
        ]
        raw = json.dumps({"messages": [{"role": "user", "content": parts}]}).encode()
        app = App()
        sent = await drive(GuardrailMiddleware(app, engine()), raw)
        assert app.bodies == [raw]
        assert headers_of(sent)[b"x-guardrail-unjudged"] == b"$.messages[0].content[1]"
        assert headers_of(sent)[b"x-guardrail-decision"] == b"flag"

    async def test_both_decisions_are_recorded_under_the_id_of_the_answer(self):
        sink = MemorySink()
        sent = await drive(GuardrailMiddleware(App(), engine(sink)), ask("Hello"))
        stages = [(r.decision.stage, r.dialect, r.cancelled) for r in sink.records]
        assert stages == [
            (Stage.INPUT, "chat.completions", False),
            (Stage.OUTPUT, "chat.completions", False),
        ]
        ids = {r.decision.id.encode() for r in sink.records}
        assert ids == {headers_of(sent)[b"x-guardrail-id"]}


class TestInputBlock:
    async def test_the_app_is_never_called_and_the_refusal_is_a_completion(self):
        app, sink = App(), MemorySink()
        sent = await drive(GuardrailMiddleware(app, engine(sink)), ask("a forbidden thing", n=2))
        assert app.scopes == []
        assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
        assert sent[0]["status"] == 200
        answer = json.loads(whole(sent))
        assert [c["finish_reason"] for c in answer["choices"]] == ["content_filter"] * 2
        assert {c["message"]["content"] for c in answer["choices"]} == {"I can't help with that."}
        assert headers_of(sent)[b"x-guardrail-decision"] == b"block"
        assert headers_of(sent)[b"x-guardrail-policies"] == b"house-rules"
        assert headers_of(sent)[b"content-length"] == str(len(whole(sent))).encode()
        assert [r.decision.action for r in sink.records] == [Action.BLOCK]

    async def test_a_stream_is_refused_as_a_stream(self):
        app = App()
        raw = ask("a forbidden thing", stream=True, stream_options={"include_usage": True})
        sent = await drive(GuardrailMiddleware(app, engine()), raw)
        assert app.scopes == []
        assert headers_of(sent)[b"content-type"].startswith(b"text/event-stream")
        *events, last = whole(sent).split(b"\n\n")[:-1]
        assert last == b"data: [DONE]"
        chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
        assert [c["choices"][0]["delta"].get("content") for c in chunks[:-1]] == [
            "",
            "I can't help with that.",
            None,
        ]
        assert chunks[2]["choices"][0]["finish_reason"] == "content_filter"
        assert chunks[3]["choices"] == []
        assert chunks[3]["usage"]["total_tokens"] == 0

    async def test_the_error_style_has_its_own_status(self):
        refusal = Refusal(style="error", message="No.", status=451)
        settings = Settings(refusals=Refusals({Stage.INPUT: refusal, Stage.OUTPUT: Refusal()}))
        app = App()
        sent = await drive(GuardrailMiddleware(app, engine(), settings), ask("forbidden", stream=True))
        assert (app.scopes, sent[0]["status"]) == ([], 451)
        error = error_of(sent)
        assert (error["code"], error["message"]) == ("content_filter", "No.")
        filtered = error["innererror"]["content_filter_result"]["house-rules"]["filtered"]
        assert filtered is True

    async def test_neither_the_label_nor_the_text_reaches_the_client(self):
        verdict = Verdict(HOUSE, "STOP", violation=True, rationale="asks for zebras", excerpts=("zebra",))
        guarded = GuardrailMiddleware(App(), engine(classifier=ScriptedClassifier([("zebra", verdict)])))
        sent = await drive(guarded, ask("a zebra, please"))
        assert b"zebra" not in repr(sent).encode()


class TestRedaction:
    async def test_only_the_matched_bytes_change(self):
        raw = b'{"messages": [ {"role":"user", "content":"Mail kim@example.com now"} ],  "seed":1.50}'
        app = App()
        sent = await drive(GuardrailMiddleware(app, engine()), raw)
        changed = raw.replace(MAIL.encode(), b"[REDACTED:HIDE]")
        assert app.bodies == [changed]
        assert dict(app.scopes[0]["headers"])[b"content-length"] == str(len(changed)).encode()
        assert headers_of(sent)[b"x-guardrail-decision"] == b"redact"
        assert headers_of(sent)[b"x-guardrail-policies"] == b"house-rules"
        assert whole(sent) == ANSWER


class TestOutage:
    async def test_a_closed_outage_is_503_and_says_so(self):
        app, sink = App(), MemorySink()
        sent = await drive(GuardrailMiddleware(app, engine(sink)), ask("an outage"))
        assert (app.scopes, sent[0]["status"]) == ([], 503)
        headers = headers_of(sent)
        assert int(headers[b"retry-after"]) > 0
        assert headers[b"x-should-retry"] == b"false"
        assert headers[b"x-guardrail-decision"] == b"block"
        assert headers[b"x-guardrail-degraded"] == b"house-rules=unavailable"
        assert error_of(sent)["code"] == "guardrail_unavailable"
        assert sink.records[0].decision.unavailable

    async def test_a_closed_outage_is_503_in_every_refusal_style(self):
        settings = Settings(refusals=Refusals(dict.fromkeys(Stage, Refusal(style="error"))))
        raw = ask("an outage", stream=True)
        sent = await drive(GuardrailMiddleware(App(), engine(), settings), raw)
        assert sent[0]["status"] == 503

    async def test_an_open_outage_passes_and_says_so(self):
        app, raw = App(), ask("an outage")
        sent = await drive(GuardrailMiddleware(app, engine(on_error=OPEN)), raw)
        assert app.bodies == [raw]
        assert headers_of(sent)[b"x-guardrail-decision"] == b"pass"
        assert headers_of(sent)[b"x-guardrail-degraded"] == b"house-rules=unavailable"
        assert whole(sent) == ANSWER

    async def test_a_rejected_key_is_closed_even_where_outages_are_open(self):
        app = App()
        sent = await drive(GuardrailMiddleware(app, engine(on_error=OPEN)), ask("wrong key"))
        assert (app.scopes, sent[0]["status"]) == ([], 503)

    async def test_the_fail_mode_can_differ_by_class_of_failure(self):
        rules = {Stage.INPUT: FailRules(FailMode.CLOSED, {FailureCode.TIMEOUT: FailMode.OPEN})}
        guarded = GuardrailMiddleware(App(), engine(on_error=rules))
        assert (await drive(guarded, ask("slow judge")))[0]["status"] == 200
        assert (await drive(guarded, ask("an outage")))[0]["status"] == 503

    async def test_a_deadline_that_passes_is_an_outage(self):
        guarded = GuardrailMiddleware(App(), engine(classifier=Stuck(), timeout_s=0.01))
        sent = await drive(guarded, ask("Hello"))
        assert sent[0]["status"] == 503
        assert headers_of(sent)[b"x-guardrail-degraded"] == b"house-rules=timeout"


class TestHangUp:
    async def test_while_the_input_is_judged(self):
        stuck, app, sink = Stuck(), App(), MemorySink()
        guarded = GuardrailMiddleware(app, engine(sink, classifier=stuck, timeout_s=600))
        assert await drive(guarded, ask("Hello"), hang_up_after=0) == []
        assert (stuck.asked, stuck.cancelled, app.scopes) == (1, 1, [])
        assert [(r.decision.stage, r.cancelled) for r in sink.records] == [(Stage.INPUT, True)]

    async def test_while_the_upstream_runs(self):
        app, sink = App([start()], then=anyio.sleep_forever), MemorySink()
        guarded = GuardrailMiddleware(app, engine(sink))
        assert await drive(guarded, ask("Hello"), hang_up_after=0) == []
        assert app.cancelled
        assert [(r.decision.stage, r.cancelled) for r in sink.records] == [(Stage.INPUT, False)]

    async def test_while_the_output_is_judged(self):
        class StuckOnOutput(Stuck):
            async def classify(self, policy: Policy, subject: Subject) -> Verdict:
                if subject.stage is Stage.INPUT:
                    return Verdict(policy, "OK", violation=False)
                return await super().classify(policy, subject)

        stuck, app, sink = StuckOnOutput(), App(), MemorySink()
        guarded = GuardrailMiddleware(app, engine(sink, classifier=stuck, timeout_s=600))
        assert await drive(guarded, ask("Hello"), hang_up_after=0) == []
        assert (stuck.cancelled, app.cancelled) == (1, True)
        assert [(r.decision.stage, r.cancelled) for r in sink.records] == [
            (Stage.INPUT, False),
            (Stage.OUTPUT, True),
        ]

    async def test_while_the_answer_streams(self):
        words = [body(chunk({"content": "ten chars."}), more=True) for _ in range(100)]
        head = start(200, [(b"content-type", b"text/event-stream")])
        app, sink = App([head, *words], then=anyio.sleep_forever), MemorySink()
        sent = await drive(
            GuardrailMiddleware(app, engine(sink)), ask("Hello", stream=True), hang_up_after=1
        )
        assert sent[0]["type"] == "http.response.start"
        assert all(m["more_body"] for m in sent[1:])
        assert app.cancelled
        assert [(r.decision.stage, r.cancelled) for r in sink.records] == [
            (Stage.INPUT, False),
            (Stage.OUTPUT, True),
        ]

    async def test_before_the_body_is_whole(self):
        app, sink = App(), MemorySink()
        messages: list[Message] = [
            {"type": "http.request", "body": b"{", "more_body": True},
            {"type": "http.disconnect"},
        ]
        sent: list[Message] = []

        async def receive() -> Message:
            return messages.pop(0)

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
        await GuardrailMiddleware(app, engine(sink))(scope, receive, send)
        assert (app.scopes, sink.records, sent) == ([], [], [])

    async def test_a_real_upstream_is_hung_up_on_too(self):
        with FakeUpstream() as upstream:
            upstream.script.append(Say(ANSWER, delay_s=600))
            forwarder = HttpForwarder(upstream.url)
            guarded = GuardrailMiddleware(forwarder, engine())
            try:
                async with anyio.create_task_group() as group:
                    scope = anyio.CancelScope()

                    async def client() -> None:
                        with scope:
                            await drive(guarded, ask("Hello"))

                    group.start_soon(client)
                    await until(lambda: bool(upstream.seen))
                    scope.cancel()
                await until(lambda: upstream.seen[0].cancelled)
            finally:
                await forwarder.aclose()

    async def test_after_the_answer_the_app_may_still_finish_its_work(self):
        """Servers report a disconnect as soon as the answer is out; background tasks run after that."""
        done: list[str] = []

        async def later(name: str) -> None:
            await anyio.lowlevel.checkpoint()
            done.append(name)

        async def whole_answer(request: Request) -> JSONResponse:
            task = BackgroundTask(later, "whole")
            return JSONResponse(json.loads(ANSWER), background=task)

        async def streamed(request: Request) -> StreamingResponse:
            events = iter([chunk({"content": "Fine."}), b"data: [DONE]\n\n"])
            task = BackgroundTask(later, "streamed")
            return StreamingResponse(events, media_type="text/event-stream", background=task)

        for route, stream in ((whole_answer, False), (streamed, True)):
            inner = Starlette(routes=[Route("/v1/chat/completions", route, methods=["POST"])])
            guarded = GuardrailMiddleware(inner, engine())
            await drive(_server_that_disconnects(guarded), ask("Hello", stream=stream))
        assert done == ["whole", "streamed"]


def _server_that_disconnects(app: ASGIApp) -> ASGIApp:
    """Like uvicorn: ``receive`` says http.disconnect once the answer is complete."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        complete = anyio.Event()
        got_body = False

        async def receiving() -> Message:
            nonlocal got_body
            if not got_body:
                got_body = True
                return await receive()
            await complete.wait()
            return {"type": "http.disconnect"}

        async def sending(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                complete.set()

        await app(scope, receiving, sending)

    return served


class TestBodyLimits:
    LIMIT = 300

    def guarded(self, app: App) -> GuardrailMiddleware:
        return GuardrailMiddleware(app, engine(), Settings(max_body_bytes=self.LIMIT))

    async def test_a_body_of_just_the_limit_is_taken(self):
        app = App()
        raw = ask("x").ljust(self.LIMIT)
        length = (b"content-length", str(len(raw)).encode())
        sent = await drive(self.guarded(app), raw, headers=[JSON, length])
        assert (app.bodies, sent[0]["status"]) == ([raw], 200)

    @pytest.mark.parametrize("pieces", [1, 7])
    async def test_a_larger_one_is_413_without_a_content_length(self, pieces: int):
        app = App()
        raw = ask("x").ljust(self.LIMIT + 1)
        size = len(raw) // pieces + 1
        sent = await drive(self.guarded(app), [raw[i : i + size] for i in range(0, len(raw), size)])
        assert (app.scopes, sent[0]["status"]) == ([], 413)
        assert str(self.LIMIT) in error_of(sent)["message"]

    @pytest.mark.parametrize("length", [b"301", b"9" * 30, b"9" * 5000])
    async def test_a_content_length_over_the_limit_is_413_before_a_byte_is_read(self, length: bytes):
        app = App()
        guarded = self.guarded(app)

        async def unread(scope: Scope, receive: Receive, send: Send) -> None:
            async def refuse() -> Message:
                raise AssertionError("the body was read")

            await guarded(scope, refuse, send)

        sent = await drive(unread, b"", headers=[JSON, (b"Content-Length", length)])
        assert (app.scopes, sent[0]["status"]) == ([], 413)

    async def test_a_content_length_that_lies_does_not_help(self):
        app = App()
        raw = ask("x").ljust(self.LIMIT + 1)
        sent = await drive(self.guarded(app), raw, headers=[JSON, (b"content-length", b"10")])
        assert (app.scopes, sent[0]["status"]) == ([], 413)


class TestUnreadableRequests:
    @pytest.mark.parametrize(
        "encodings",
        [
            [(b"content-encoding", b"gzip")],
            [(b"Content-Encoding", b" BR ")],
            [(b"content-encoding", b"identity, deflate")],
            [(b"content-encoding", b"identity"), (b"content-encoding", b"br")],
        ],
    )
    async def test_a_compressed_body_is_415(self, encodings: list[tuple[bytes, bytes]]):
        app = App()
        sent = await drive(
            GuardrailMiddleware(app, engine()), gzip.compress(ask("x")), headers=[JSON, *encodings]
        )
        assert (app.scopes, sent[0]["status"]) == ([], 415)
        assert "content-encoding" in error_of(sent)["message"]

    async def test_identity_is_no_compression(self):
        app = App()
        asked = [JSON, (b"content-encoding", b"Identity")]
        sent = await drive(GuardrailMiddleware(app, engine()), ask("x"), headers=asked)
        assert (len(app.bodies), sent[0]["status"]) == (1, 200)

    @pytest.mark.parametrize(
        ("raw", "param"),
        [
            (b"", None),
            (b"zebra", None),
            (b"\xff\xfe", None),
            (b"[]", None),
            (b"{}", "messages"),
            (b'{"messages": "zebra"}', "messages"),
            (b'{"messages": [1]}', "messages[0]"),
            (b'{"messages": [{"role": "user", "content": 1}]}', "messages[0].content"),
            (b'{"messages": [], "stream": "zebra"}', "stream"),
            (b'{"messages": [], "n": 0.5}', "n"),
            (b'{"messages": [{"role": "user", "content": "a", "content": "zebra"}]}', None),
        ],
    )
    async def test_they_are_400_with_the_parameter_and_without_their_text(
        self, raw: bytes, param: str | None
    ):
        app, sink = App(), MemorySink()
        sent = await drive(GuardrailMiddleware(app, engine(sink)), raw)
        assert (app.scopes, sink.records, sent[0]["status"]) == ([], [], 400)
        assert headers_of(sent)[b"x-guardrail-id"].startswith(b"gr-")
        error = error_of(sent)
        assert (error["type"], error["param"]) == ("invalid_request_error", param)
        assert "zebra" not in error["message"]

    async def test_a_key_of_the_body_cannot_break_a_header_line(self):
        raw = ask("Hello", **{"x\r\nset-cookie: a=b": "text"})
        sent = await drive(GuardrailMiddleware(App(), engine()), raw)
        named = headers_of(sent)[b"x-guardrail-unjudged"]
        assert not set(named) & set(b"\r\n\0")


class TestAddedPolicies:
    def guarded(
        self, app: App, *rules: tuple[str, str], sink: MemorySink | None = None
    ) -> GuardrailMiddleware:
        classifier = ScriptedClassifier(rules)
        own = {Stage.INPUT: [HOUSE], Stage.OUTPUT: [HOUSE]}
        judging = GuardrailEngine(own, classifier, addable=[HOUSE, EXTRA], sinks=[sink] if sink else [])
        return GuardrailMiddleware(app, judging)

    async def test_one_is_asked_beside_the_configured_ones_and_stripped(self):
        app, sink = App(), MemorySink()
        raw = b'{"guardrails": ["extra-rules"], "messages": [{"role":"user","content":"Hi"}], "seed": 1.0}'
        sent = await drive(self.guarded(app, sink=sink), raw)
        assert app.bodies == [b'{"messages": [{"role":"user","content":"Hi"}], "seed": 1.0}']
        assert dict(app.scopes[0]["headers"])[b"content-length"] == str(len(app.bodies[0])).encode()
        asked = [[f.policy.id for f in r.decision.findings] for r in sink.records]
        assert asked == [["extra-rules", "house-rules"]] * 2
        assert whole(sent) == ANSWER

    async def test_it_holds_for_one_request_only(self):
        sink = MemorySink()
        guarded = self.guarded(App(), sink=sink)
        await drive(guarded, ask("Hi", guardrails=["extra-rules"]))
        await drive(guarded, ask("Hello"))
        assert [f.policy.id for f in sink.records[-1].decision.findings] == ["house-rules"]

    async def test_naming_a_configured_one_changes_nothing(self):
        sink = MemorySink()
        await drive(self.guarded(App(), sink=sink), ask("Hi", guardrails=["house-rules", "house-rules"]))
        assert [f.policy.id for f in sink.records[0].decision.findings] == ["house-rules"]

    async def test_an_empty_list_weakens_nothing(self):
        app = App()
        guarded = self.guarded(app, ("forbidden", "STOP"))
        sent = await drive(guarded, ask("forbidden", guardrails=[]))
        assert headers_of(sent)[b"x-guardrail-decision"] == b"block"
        assert app.scopes == []

    @pytest.mark.parametrize("value", [["nobody"], ["extra-rules", "nobody"], "extra-rules", [1], {"a": 1}])
    async def test_an_unknown_id_or_another_shape_is_400(self, value: Any):
        app = App()
        sent = await drive(self.guarded(app), ask("Hi", guardrails=value))
        assert (app.scopes, sent[0]["status"]) == ([], 400)
        error = error_of(sent)
        assert error["param"] == "guardrails"
        assert "nobody" not in error["message"]

    @pytest.mark.parametrize("value", [None, 0, False, "", {}])
    async def test_an_empty_value_of_any_shape_never_crashes_and_is_never_forwarded(self, value: Any):
        app = App()
        sent = await drive(self.guarded(app), ask("Hi", guardrails=value))
        assert sent[0]["status"] in (200, 400)
        assert all(b"guardrails" not in forwarded for forwarded in app.bodies)


class TestAppsThatMisbehave:
    async def test_one_that_raises_is_heard_by_the_server_as_it_is(self):
        class Odd(Exception):
            pass

        def crash() -> None:
            raise Odd("as it is")

        for answer in ([], [start()], [start(500), body(b"x")]):
            with pytest.raises(Odd, match="as it is"):
                await drive(GuardrailMiddleware(App(answer, then=crash), engine()), ask("Hello"))

    async def test_one_that_never_answers_gets_no_answer_made_up(self):
        assert await drive(GuardrailMiddleware(App([]), engine()), ask("Hello")) == []

    async def test_a_body_without_a_start_is_no_answer(self):
        assert await drive(GuardrailMiddleware(App([body(b"forbidden")]), engine()), ask("Hello")) == []

    async def test_an_unfinished_answer_is_not_sent(self):
        app = App([start(), body(ANSWER, more=True)])
        assert await drive(GuardrailMiddleware(app, engine()), ask("Hello")) == []

    @pytest.mark.parametrize(
        "again",
        [
            [start(), body(completion("again"))],
            [start(500), body(b"forbidden")],
            [body(b"forbidden")],
            [body(b"", more=True)],
        ],
    )
    async def test_one_that_answers_twice_is_told_so_and_the_client_gets_one_answer(
        self, again: list[Message]
    ):
        app, sent = App([start(), body(ANSWER), *again]), []

        async def keep(scope: Scope, receive: Receive, send: Send) -> None:
            async def sending(message: Message) -> None:
                sent.append(message)

            await GuardrailMiddleware(app, engine())(scope, receive, sending)

        with pytest.raises(RuntimeError, match="answer"):
            await drive(keep, ask("Hello"))
        assert whole(sent) == ANSWER

    async def test_a_second_start_cannot_turn_a_stream_into_an_error_that_is_passed_on(self):
        events = start(200, [(b"content-type", b"text/event-stream")])
        text = chunk({"content": "forbidden"})
        app, sent = App([events, body(text, more=True), start(500), body(text)]), []

        async def keep(scope: Scope, receive: Receive, send: Send) -> None:
            async def sending(message: Message) -> None:
                sent.append(message)

            await GuardrailMiddleware(app, engine())(scope, receive, sending)

        with pytest.raises(RuntimeError, match="answer"):
            await drive(keep, ask("Hello", stream=True))
        assert b"forbidden" not in repr(sent).encode()

    async def test_a_start_may_leave_its_headers_out(self):
        """ASGI makes ``headers`` optional, and any iterable will do."""
        app = App([{"type": "http.response.start", "status": 200}, body(ANSWER)])
        sent = await drive(GuardrailMiddleware(app, engine()), ask("Hello"))
        assert (sent[0]["status"], whole(sent)) == (200, ANSWER)

    async def test_headers_may_come_as_an_iterator_of_lists(self):
        told = [[b"content-type", b"text/event-stream"], [b"x-one", b"1"]]
        head = {"type": "http.response.start", "status": 200, "headers": iter(told)}
        text = chunk({"content": "forbidden"})
        sent = await drive(
            GuardrailMiddleware(App([head, body(text)]), engine()), ask("Hello", stream=True)
        )
        assert b"forbidden" not in whole(sent)
        head = {"type": "http.response.start", "status": 200, "headers": iter(told)}
        text = chunk({"content": "fine"})
        sent = await drive(
            GuardrailMiddleware(App([head, body(text)]), engine()), ask("Hello", stream=True)
        )
        assert whole(sent) == text
        assert [tuple(pair) for pair in sent[0]["headers"][:2]] == [tuple(pair) for pair in told]

    @pytest.mark.parametrize("wrapped", [False, True], ids=["swallows it", "wraps it in a group"])
    @pytest.mark.parametrize("kind", [b"application/json", b"text/event-stream"])
    async def test_one_that_hides_our_error_changes_nothing(self, kind: bytes, wrapped: bool):
        """Frameworks send from task groups and catch what they do not know."""
        messages = [
            start(200, [(b"content-type", kind)]),
            body(b"data: {forbidden\n\n", more=True),
            body(chunk({"content": "and on it goes"}) + b"data: [DONE]\n\n"),
        ]

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            for message in messages:
                try:
                    await send(message)
                except Exception as error:
                    if wrapped:
                        raise ExceptionGroup("sending failed", [error]) from None

        sent = await drive(GuardrailMiddleware(app, engine()), ask("Hello", stream=True))
        assert sent[0]["status"] == 502
        assert error_of(sent)["code"] == "upstream_unreadable"

    @pytest.mark.parametrize("stream", [False, True])
    async def test_no_task_outlives_its_request(self, stream: bool):
        before = asyncio.all_tasks()
        await drive(GuardrailMiddleware(App(), engine()), ask("Hello", stream=stream))
        await anyio.lowlevel.checkpoint()
        assert asyncio.all_tasks() == before

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_server_whose_send_fails_is_heard_and_the_slot_comes_back(self, stream: bool):
        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            async def sending(message: Message) -> None:
                raise OSError("the client is gone")

            await guarded(scope, receive, sending)

        kind = b"text/event-stream" if stream else b"application/json"
        words = [body(chunk({"content": "ten chars."}), more=True) for _ in range(100)]
        answer = [*words, body(b"")] if stream else [body(ANSWER)]
        app, sink = App([start(200, [(b"content-type", kind)]), *answer]), MemorySink()
        guarded = GuardrailMiddleware(app, engine(sink), Settings(max_concurrent_requests=1))
        for _ in range(2):
            with pytest.raises((OSError, ExceptionGroup)) as caught:
                await drive(broken, ask("Hello", stream=stream))
            assert isinstance(caught.value, OSError) or caught.group_contains(OSError)
        assert [r.decision.stage for r in sink.records] == [Stage.INPUT, Stage.OUTPUT] * 2

    async def test_other_messages_of_an_app_are_not_taken_for_its_body(self):
        hint: Message = {"type": "http.response.early_hint", "links": [b"</a>"]}
        app = App([hint, start(), hint, body(ANSWER)])
        sent = await drive(GuardrailMiddleware(app, engine()), ask("Hello"))
        assert whole(sent) == ANSWER


class TestUpstreamTrouble:
    @pytest.mark.parametrize(
        ("status", "headers", "data"),
        [
            (400, [JSON], b'{"error": {"message": "forbidden"}}'),
            (401, [JSON, (b"www-authenticate", b"Bearer")], b"{}"),
            (404, [(b"content-type", b"text/html")], b"<h1>forbidden</h1>"),
            (429, [JSON, (b"retry-after", b"7"), (b"x-ratelimit-reset", b"1s")], b'{"error": 1}'),
            (500, [(b"content-type", b"text/html; charset=latin-1")], b"<p>\xe4</p>"),
            (502, [(b"content-encoding", b"gzip"), JSON], gzip.compress(b"{}")),
            (307, [(b"location", b"/elsewhere")], b""),
        ],
    )
    async def test_its_errors_pass_verbatim(
        self, status: int, headers: list[tuple[bytes, bytes]], data: bytes
    ):
        told = [*headers, (b"content-length", str(len(data)).encode())]
        app = App([start(status, told), body(data[:3], more=True), body(data[3:])])
        sent = await drive(GuardrailMiddleware(app, engine()), ask("Hello"))
        assert sent[0]["status"] == status
        assert sent[0]["headers"][: len(told)] == told
        ours = [name for name, _ in sent[0]["headers"][len(told) :]]
        assert ours == [b"x-guardrail-decision", b"x-guardrail-id", b"x-guardrail-coverage"]
        assert sent[1:] == [body(data[:3], more=True), body(data[3:])]

    @pytest.mark.parametrize("status", [200, 403, 500])
    @pytest.mark.parametrize("kind", [b"application/json", b"text/event-stream"])
    async def test_it_cannot_forge_our_headers(self, status: int, kind: bytes):
        forged = [
            (b"X-Guardrail-Decision", b"pass"),
            (b"x-guardrail-unjudged", b"nothing"),
            (b"x-guardrail-anything", b"1"),
            (b"content-type", kind),
        ]
        data = ANSWER if kind == b"application/json" else chunk({"content": "fine"})
        sent = await drive(
            GuardrailMiddleware(App([start(status, forged), body(data)]), engine()), ask("noteworthy")
        )
        ours = [
            (name, value) for name, value in sent[0]["headers"] if name.lower().startswith(b"x-guardrail-")
        ]
        assert [name for name, _ in ours] == [
            b"x-guardrail-decision",
            b"x-guardrail-id",
            b"x-guardrail-coverage",
            b"x-guardrail-policies",
        ]
        assert ours[0][1] == b"flag"

    @pytest.mark.parametrize(
        "encodings",
        [
            [(b"content-encoding", b"gzip")],
            [(b"Content-Encoding", b"BR")],
            [(b"content-encoding", b"identity"), (b"content-encoding", b"gzip")],
        ],
    )
    @pytest.mark.parametrize("kind", [b"application/json", b"text/event-stream", b"text/plain"])
    async def test_a_compressed_answer_is_refused(self, encodings: list[tuple[bytes, bytes]], kind: bytes):
        app = App([start(200, [(b"content-type", kind), *encodings]), body(gzip.compress(ANSWER))])
        sent = await drive(GuardrailMiddleware(app, engine()), ask("Hello"))
        assert sent[0]["status"] == 502
        assert error_of(sent)["code"] == "upstream_unreadable"

    @pytest.mark.parametrize("kind", [b"application/json", b"text/event-stream"])
    @pytest.mark.parametrize("charset", [b"utf-16", b"UTF-7"])
    async def test_an_answer_in_another_charset_is_refused(self, kind: bytes, charset: bytes):
        app = App([start(200, [(b"content-type", kind + b"; charset=" + charset)]), body(ANSWER)])
        sent = await drive(GuardrailMiddleware(app, engine()), ask("Hello"))
        assert (sent[0]["status"], error_of(sent)["code"]) == (502, "upstream_unreadable")

    @pytest.mark.parametrize(
        "answer", [[], [start()], [start(), body(ANSWER[:9], more=True)], [start(500)]]
    )
    async def test_one_that_is_lost_before_anything_left_is_502(self, answer: list[Message]):
        def lose() -> None:
            raise UpstreamLost("the upstream is gone")

        sent = await drive(GuardrailMiddleware(App(answer, then=lose), engine()), ask("Hello"))
        assert sent[0]["status"] == 502
        assert error_of(sent)["code"] == "upstream_unavailable"
        assert headers_of(sent)[b"x-guardrail-decision"] == b"pass"
        assert b"x-guardrail-id" in headers_of(sent)

    async def test_an_error_that_breaks_off_is_not_ended_properly(self):
        def lose() -> None:
            raise UpstreamLost("the upstream is gone")

        app = App([start(500), body(b"half", more=True)], then=lose)
        sent = await drive(GuardrailMiddleware(app, engine()), ask("Hello"))
        assert [m.get("body") for m in sent[1:]] == [b"half"]
        assert sent[-1]["more_body"] is True

    async def test_a_dead_real_upstream_is_502(self):
        with FakeUpstream() as upstream:
            url = upstream.url
        forwarder = HttpForwarder(url)
        try:
            sent = await drive(GuardrailMiddleware(forwarder, engine()), ask("Hello"))
        finally:
            await forwarder.aclose()
        assert (sent[0]["status"], error_of(sent)["code"]) == (502, "upstream_unavailable")


class TestOurHeaders:
    @pytest.mark.parametrize(
        ("raw", "headers", "status", "decision"),
        [
            (b"zebra", [JSON], 400, b"block"),
            (ask("Hello", guardrails=["nobody"]), [JSON], 400, b"block"),
            (ask("Hello"), [JSON, (b"content-encoding", b"gzip")], 415, b"block"),
            (ask("Hello"), [JSON, (b"content-length", b"9999999")], 413, b"block"),
            (ask("an outage"), [JSON], 503, b"block"),
            (ask("forbidden"), [JSON], 200, b"block"),
            (ask("Hello"), [JSON], 200, b"pass"),
        ],
    )
    async def test_every_answer_says_what_was_decided_under_which_id(
        self, raw: bytes, headers: list[tuple[bytes, bytes]], status: int, decision: bytes
    ):
        ids = set()
        for _ in range(2):
            sent = await drive(GuardrailMiddleware(App(), engine()), raw, headers=headers)
            ours = headers_of(sent)
            assert (sent[0]["status"], ours[b"x-guardrail-decision"]) == (status, decision)
            assert ours[b"x-guardrail-id"].startswith(b"gr-")
            ids.add(ours[b"x-guardrail-id"])
        assert len(ids) == 2


class TestModes:
    async def test_a_shadow_policy_is_recorded_and_never_acts(self):
        shadow = Policy(id="shade", body="Judge in the shade.", labels=LABELS, mode=Mode.SHADOW)
        sink, app = MemorySink(), App()
        judging = GuardrailEngine({Stage.INPUT: [shadow]}, ScriptedClassifier(RULES), sinks=[sink])
        sent = await drive(GuardrailMiddleware(app, judging), ask("forbidden"))
        assert headers_of(sent)[b"x-guardrail-decision"] == b"pass"
        assert len(app.bodies) == 1
        assert sink.records[0].decision.findings[0].action is Action.BLOCK


class Late:
    """The scripted judge, which answers about a prompt only once the app was asked."""

    def __init__(self) -> None:
        self.inner = ScriptedClassifier(RULES)
        self.app_was_asked = anyio.Event()

    def identity(self, policy: Policy) -> str:
        return "late"

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        if subject.stage is Stage.INPUT:
            await self.app_was_asked.wait()
            await anyio.lowlevel.checkpoint()
        return await self.inner.classify(policy, subject)


class TestBeside:
    """``input_check: beside``: the app is asked while the prompt is judged; nothing leaves earlier."""

    SETTINGS = Settings(beside=True)

    async def drive(
        self, raw: bytes, inner: App, judge: Late | None = None, **options: Any
    ) -> list[Message]:
        judge = judge or Late()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            judge.app_was_asked.set()
            await inner(scope, receive, send)

        return await drive(
            GuardrailMiddleware(app, engine(classifier=judge, **options), self.SETTINGS), raw
        )

    async def test_the_app_is_asked_before_the_verdict_and_its_answer_passes(self):
        inner = App()
        sent = await self.drive(ask("Hello"), inner)  # a judge that waits for the app would wait for ever
        assert (whole(sent), headers_of(sent)[b"x-guardrail-decision"]) == (ANSWER, b"pass")
        assert inner.bodies == [ask("Hello")]

    async def test_a_stream_too(self):
        parts = [chunk({"content": "The weather is fine."}), chunk({}, finish_reason="stop")]
        inner = App([start(200, [(b"content-type", b"text/event-stream")]), body(b"".join(parts))])
        sent = await self.drive(ask("Hello", stream=True), inner)
        assert whole(sent) == b"".join(parts)

    @pytest.mark.parametrize("stream", [False, True])
    async def test_of_the_answer_to_a_blocked_prompt_nothing_leaves(self, stream: bool):
        inner = App(then=anyio.sleep_forever)
        sent = await self.drive(ask("a forbidden thing", stream=stream), inner)
        assert b"can't help" in whole(sent)
        assert b"weather" not in whole(sent)
        assert headers_of(sent)[b"x-guardrail-decision"] == b"block"
        assert inner.cancelled

    async def test_a_check_that_fails_closed_is_503(self):
        inner = App()
        sent = await self.drive(ask("an outage"), inner)
        assert (sent[0]["status"], error_of(sent)["code"]) == (503, "guardrail_unavailable")
        assert inner.cancelled

    async def test_a_prompt_to_be_redacted_is_asked_about_anew(self):
        inner = App()
        sent = await self.drive(ask(f"Write to {MAIL}"), inner)
        assert whole(sent) == ANSWER
        assert inner.bodies[1:] == [ask("Write to [REDACTED:HIDE]")]

    async def test_the_answer_is_judged_as_ever(self):
        inner = App([start(), body(completion("a forbidden thing"))])
        assert b"can't help" in whole(await self.drive(ask("Hello"), inner))

    async def test_an_app_that_is_lost_is_502_unless_the_prompt_is_blocked(self):
        async def lose() -> None:
            raise UpstreamLost("gone")

        for text, status in (("Hello", 502), ("a forbidden thing", 200)):
            sent = await self.drive(ask(text), App([], then=lose))
            assert sent[0]["status"] == status

    async def test_a_crash_of_the_app_stays_what_it_was(self):
        async def crash() -> None:
            raise KeyError("x")

        with pytest.raises(KeyError):
            await self.drive(ask("Hello"), App([], then=crash))

    async def test_a_request_that_adds_policies_is_judged_before(self):
        inner = App()
        judge = ScriptedClassifier(RULES)
        guarded = GuardrailMiddleware(inner, engine(classifier=judge, addable=[EXTRA]), self.SETTINGS)
        sent = await drive(guarded, ask("a forbidden thing", guardrails=["extra-rules"]))
        assert b"can't help" in whole(sent)
        assert inner.bodies == []


class TestControls:
    ADD = (b"x-guardrail-add", b"extra-rules")
    AZURE = (b"x-guardrail-annotations", b"azure")

    async def test_a_header_adds_policies_and_stays_here(self):
        classifier = ScriptedClassifier(RULES)
        app = App()
        guarded = GuardrailMiddleware(app, engine(classifier=classifier, addable=[EXTRA]))
        await drive(guarded, ask("hello"), headers=[self.ADD, (b"host", b"h")])
        assert {policy.id for policy, _ in classifier.asked} == {"house-rules", "extra-rules"}
        assert [name for name, _ in app.scopes[0]["headers"]] == [
            b"host",
            b"content-length",
            b"accept-encoding",
        ]

    async def test_what_it_adds_is_not_asked_beside(self):
        app = App()
        settings = Settings(beside=True)
        guarded = GuardrailMiddleware(app, engine(addable=[EXTRA]), settings)
        sent = await drive(guarded, ask("forbidden"), headers=[self.ADD])
        assert headers_of(sent)[b"x-guardrail-policies"] == b"extra-rules, house-rules"
        assert app.scopes == []

    async def test_an_unknown_id_is_refused(self):
        app = App()
        sent = await drive(GuardrailMiddleware(app, engine()), ask("hello"), headers=[self.ADD])
        assert (sent[0]["status"], json.loads(whole(sent))["error"]["param"]) == (400, "x-guardrail-add")
        assert app.scopes == []

    async def test_a_refused_prompt_is_annotated_where_that_is_asked_for(self):
        guarded = GuardrailMiddleware(App(), engine())
        told = [
            json.loads(whole(await drive(guarded, ask("forbidden"), headers=headers)))
            for headers in ([], [self.AZURE])
        ]
        assert "prompt_filter_results" not in told[0]
        [prompt] = told[1]["prompt_filter_results"]
        assert prompt["content_filter_results"] == {"house-rules": {"filtered": True, "detected": True}}
