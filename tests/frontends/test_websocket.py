"""The twin of guardrail/frontends/websocket.py: what the client says, and how a connection ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.policy import Action, Stage, Strategy
from guardrail.core.vault import RedactionRules
from guardrail.engine.check import GuardrailEngine
from guardrail.errors import ConfigError
from guardrail.frontends.asgi import ASGIApp, Message, Receive, Scope, Send
from guardrail.frontends.exchange import Settings
from guardrail.frontends.websocket import MAX_WAITING, WebSocketChat, turn_away
from guardrail.testing import MemorySink, ScriptedClassifier
from guardrail.wire.refusals import Refusals
from guardrail.wire.replies import Refusal
from guardrail.wire.route import Route
from tests.frontends.test_exchange import MAIL, OPEN, RULES, Stuck, engine, until

pytestmark = pytest.mark.anyio

REFUSAL = Refusal().message
MARK = "[REDACTED:HIDE]"
CHAT = Route("/ws", input="$.message", output="$.reply", websocket=True)
BYE: Message = {"type": "websocket.disconnect", "code": 1001}


class Peer:
    """The client of one connection, and the server in between."""

    def __init__(self) -> None:
        self._put, self.receive = anyio.create_memory_object_stream[Message](100)
        self.sent, self._got = anyio.create_memory_object_stream[Message](100)
        self.lost = False

    async def send(self, message: Message) -> None:
        if self.lost:
            raise OSError("the peer is gone")
        await self.sent.send(message)

    async def put(self, message: Message) -> None:
        await self._put.send(message)

    async def say(self, said: Any) -> None:
        text = said if isinstance(said, str) else json.dumps(said)
        await self.put({"type": "websocket.receive", "text": text})

    async def got(self) -> Message:
        with anyio.fail_after(20):
            return await self._got.receive()

    async def hear(self) -> Any:
        message = await self.got()
        assert message["type"] == "websocket.send", message
        return json.loads(message["text"])

    async def hang_up(self) -> None:
        await self.put(BYE)

    def close(self) -> None:
        for stream in (self._put, self.receive, self.sent, self._got):
            stream.close()


@asynccontextmanager
async def connected(
    app: ASGIApp,
    route: Route = CHAT,
    guard: GuardrailEngine | None = None,
    settings: Settings | None = None,
    *,
    accepted: bool = True,
) -> AsyncIterator[Peer]:
    """A connection to the guarded app; at the end the client hangs up and the app must come to its end."""
    peer = Peer()
    scope = {"type": "websocket", "path": "/ws", "headers": []}

    async def serve() -> None:
        chat = WebSocketChat(
            app, guard or engine(), settings or Settings(), route, scope, peer.receive.receive, peer.send
        )
        await chat.run()

    try:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(serve)
                await peer.put({"type": "websocket.connect"})
                if accepted:
                    assert (await peer.got())["type"] == "websocket.accept"
                yield peer
                await peer.hang_up()
    finally:
        peer.close()


class Chat:
    """An app that takes each message to ``answer``, and remembers what it was sent."""

    def __init__(self, answer: Callable[[str, Send], Awaitable[None]] | None = None) -> None:
        self._answer = answer
        self.heard: list[str | None] = []
        self.goodbyes: list[Message] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self.goodbyes.append(message)
                return
            text = message.get("text")
            self.heard.append(text)
            if self._answer is not None:
                await self._answer(text or "", send)


async def echo(text: str, send: Send) -> None:
    said = json.loads(text)["message"] if text else "bytes"
    await send({"type": "websocket.send", "text": json.dumps({"reply": said, "n": 1})})


class TestMessages:
    async def test_what_passes_is_the_same_text(self):
        app, sink = Chat(echo), MemorySink()
        said = '{ "message":"Hello \\u00fc",\t"n": 1.50 }'
        async with connected(app, guard=engine(sink)) as peer:
            await peer.say(said)
            assert await peer.hear() == {"reply": "Hello ü", "n": 1}
        assert app.heard == [said]
        assert [(r.decision.stage, r.dialect, r.cancelled) for r in sink.records] == [
            (Stage.INPUT, "websocket /ws", False),
            (Stage.OUTPUT, "websocket /ws", False),
        ]
        assert app.goodbyes == [BYE]

    async def test_a_redaction_changes_its_leaf_alone(self):
        app = Chat()
        async with connected(app) as peer:
            await peer.say('{ "message": "Mail kim@example.com now",  "n": 1.50 }')
            await until(lambda: bool(app.heard))
        assert app.heard[0] == f'{{ "message": "Mail {MARK} now",  "n": 1.50 }}'

    async def test_a_blocked_one_never_reaches_the_app(self):
        app, sink = Chat(echo), MemorySink()
        async with connected(app, guard=engine(sink)) as peer:
            await peer.say({"message": "a forbidden thing"})
            assert await peer.hear() == {"reply": REFUSAL}
            await peer.say({"message": "Hello"})
            assert (await peer.hear())["reply"] == "Hello"
        assert app.heard == ['{"message": "Hello"}']
        assert [r.decision.action for r in sink.records] == [Action.BLOCK, Action.PASS, Action.PASS]

    async def test_the_error_style(self):
        refusals = Refusals({Stage.INPUT: Refusal(style="error", message="No."), Stage.OUTPUT: Refusal()})
        async with connected(Chat(), settings=Settings(refusals=refusals)) as peer:
            await peer.say({"message": "forbidden"})
            error = (await peer.hear())["error"]
        assert (error["code"], error["message"]) == ("content_filter", "No.")
        assert error["id"].startswith("gr-")

    async def test_a_closed_outage_is_said_and_the_connection_goes_on(self):
        app, sink = Chat(echo), MemorySink()
        async with connected(app, guard=engine(sink)) as peer:
            await peer.say({"message": "an outage"})
            said = await peer.hear()
            await peer.say({"message": "Hello"})
            assert (await peer.hear())["reply"] == "Hello"
        assert said["error"]["code"] == "guardrail_unavailable"
        assert said["error"]["id"] == sink.records[0].decision.id
        assert "could not be checked" in said["reply"]
        assert app.heard == ['{"message": "Hello"}']

    async def test_an_open_outage_passes_and_is_counted(self):
        app, sink = Chat(), MemorySink()
        async with connected(app, guard=engine(sink, on_error=OPEN)) as peer:
            await peer.say({"message": "an outage"})
            await until(lambda: bool(app.heard))
        assert app.heard == ['{"message": "an outage"}']
        assert sink.records[0].decision.degraded == ("house-rules=unavailable",)

    @pytest.mark.parametrize("said", ["Hello", '{"message": "a", "message": "b"}', "{"])
    async def test_one_that_cannot_be_read_is_refused(self, said: str):
        app = Chat()
        async with connected(app) as peer:
            await peer.say(said)
            assert (await peer.hear())["error"]["code"] == "invalid_request_error"
        assert app.heard == []

    @pytest.mark.parametrize(
        "message", [{"text": '{"ping": 1}'}, {"bytes": b"\x00forbidden"}, {"text": None, "bytes": b"x"}]
    )
    async def test_one_without_a_prompt_follows_the_rule_for_what_cannot_be_read(self, message: Message):
        message = {"type": "websocket.receive", **message}
        flagged, blocked, sink = Chat(), Chat(), MemorySink()
        async with connected(flagged, guard=engine(sink)) as peer:
            await peer.put(message)
            await until(lambda: bool(flagged.heard))
        assert flagged.heard == [message.get("text")]
        assert (sink.records[0].decision.action, sink.records[0].decision.unjudged) == (Action.FLAG, ("$",))
        async with connected(blocked, guard=engine(strict=True)) as peer:
            await peer.put(message)
            assert await peer.hear() == {"reply": REFUSAL}
        assert blocked.heard == []

    @pytest.mark.parametrize("data", [b"forbidden", b""])
    async def test_bytes_beside_a_text_are_binary_and_the_text_is_judged_too(self, data: bytes):
        """An app may take either for the message."""
        calm: Message = {"type": "websocket.receive", "text": '{"message": "Hello"}', "bytes": data}
        flagged, blocked, sink = Chat(), Chat(), MemorySink()
        async with connected(flagged, guard=engine(sink)) as peer:
            await peer.put({**calm, "text": '{"message": "forbidden"}'})
            assert await peer.hear() == {"reply": REFUSAL}
            await peer.put(calm)
            await until(lambda: bool(flagged.heard))
        assert flagged.heard == [calm["text"]]
        assert [r.decision.unjudged for r in sink.records] == [("$",), ("$",)]
        async with connected(blocked, guard=engine(strict=True)) as peer:
            await peer.put(calm)
            assert await peer.hear() == {"reply": REFUSAL}
            await peer.put({**calm, "bytes": None})
            await until(lambda: bool(blocked.heard))
        assert blocked.heard == [calm["text"]]

    async def test_plain_text(self):
        app = Chat()
        async with connected(app, Route("/ws", input="text", output="text", websocket=True)) as peer:
            await peer.say("Mail kim@example.com")
            await peer.say('{"a forbidden": "thing"}')
            assert (await peer.got())["text"] == REFUSAL
        assert app.heard == [f"Mail {MARK}"]

    async def test_earlier_messages_are_context(self):
        judge = ScriptedClassifier(RULES)
        guard = engine(classifier=judge)
        route = Route("/ws", "$.message", "$.reply", context="$.system", websocket=True)
        async with connected(Chat(echo), route, guard) as peer:
            for said in ("one", "forbidden", MAIL, "three"):
                await peer.say({"message": said, "system": "be nice"})
                await peer.hear()
        last = [s for _, s in judge.asked if s.stage is Stage.INPUT][-1]
        told = [(turn.role, turn.segments[0].text) for turn in last.context]
        assert told == [
            ("user", "one"),
            ("assistant", "one"),
            ("user", MARK),
            ("assistant", MARK),
            ("system", "be nice"),
        ], "what was blocked is none, what was redacted stays so"
        assert last.text == "three"

    async def test_placeholders_are_restored_in_a_later_answer(self):
        async def answer(text: str, send: Send) -> None:
            said = json.loads(app.heard[0] or "")["message"]
            await send({"type": "websocket.send", "text": json.dumps({"reply": f"So {said}!"})})

        app = Chat(answer)
        guard = engine(redaction=RedactionRules(Strategy.PLACEHOLDER))
        async with connected(app, guard=guard) as peer:
            await peer.say({"message": f"Mail {MAIL}"})
            first = await peer.hear()
            await peer.say({"message": "Again"})
            second = await peer.hear()
        assert MAIL not in (app.heard[0] or "")
        assert first == second == {"reply": f"So Mail {MAIL}!"}

    async def test_they_come_in_their_order(self):
        judge = ScriptedClassifier(delay_s=lambda subject: 0.05 if "slow" in subject.text else 0.0)
        app = Chat()
        async with connected(app, guard=engine(classifier=judge)) as peer:
            for said in ("slow", "fast"):
                await peer.say({"message": said})
            await until(lambda: len(app.heard) == 2)
        assert [json.loads(text or "")["message"] for text in app.heard] == ["slow", "fast"]

    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.sampled_from([None, 1]))
    def test_whatever_passes_is_the_same_text(self, text: str, indent: int | None):
        said = json.dumps({"n": 1.0, "message": text}, ensure_ascii=False, indent=indent)
        app = Chat()

        async def talk() -> None:
            async with connected(app, guard=engine(classifier=ScriptedClassifier())) as peer:
                await peer.say(said)
                while not app.heard:
                    await anyio.lowlevel.checkpoint()

        anyio.run(talk)
        assert app.heard == [said]


class TestLimits:
    @pytest.mark.parametrize("message", [{"text": "ü" * 40}, {"bytes": b"x" * 80}])
    async def test_a_message_that_is_too_large_ends_the_connection(self, message: Message):
        app = Chat()
        async with connected(app, settings=Settings(max_body_bytes=70)) as peer:
            await peer.put({"type": "websocket.receive", **message})
            closed = await peer.got()
        assert (closed["type"], closed["code"]) == ("websocket.close", 1009)
        assert (app.heard, [bye["code"] for bye in app.goodbyes]) == ([], [1009])

    async def test_messages_wait_in_the_server_while_the_app_is_busy(self):
        go_on = anyio.Event()

        async def answer(text: str, send: Send) -> None:
            await go_on.wait()

        app = Chat(answer)
        async with connected(app) as peer:
            for _ in range(3 * MAX_WAITING):
                await peer.say({"message": "Hello"})
            await anyio.wait_all_tasks_blocked()
            assert peer.receive.statistics().current_buffer_used > 0
            go_on.set()
            await until(lambda: len(app.heard) == 3 * MAX_WAITING)

    @pytest.mark.parametrize("extensions", [{}, {"websocket.http.response": {}}])
    async def test_one_connection_too_many(self, extensions: dict[str, Any]):
        peer = Peer()
        await peer.put({"type": "websocket.connect"})
        await turn_away({"type": "websocket", "extensions": extensions}, peer.receive.receive, peer.send)
        first = await peer.got()
        if extensions:
            assert (first["type"], first["status"]) == ("websocket.http.response.start", 503)
            body = await peer.got()
            assert body["type"] == "websocket.http.response.body"
            assert json.loads(body["body"])["error"]["code"] == "guardrail_overloaded"
        else:
            assert (first["type"], first["code"]) == ("websocket.close", 1013)
        peer.close()


class TestEnds:
    async def test_a_client_that_hangs_up_cancels_the_check_which_is_recorded(self):
        judge, app, sink = Stuck(), Chat(), MemorySink()
        async with connected(app, guard=engine(sink, classifier=judge)) as peer:
            await peer.say({"message": "Hello"})
            await judge.started.wait()
        assert (judge.cancelled, app.heard, app.goodbyes) == (1, [], [BYE])
        assert [(r.decision.stage, r.cancelled) for r in sink.records] == [(Stage.INPUT, True)]

    async def test_the_app_may_go_on_and_cannot_speak_any_more(self):
        told: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            for _ in range(3):
                told.append((await receive())["type"])
            for said in ({"type": "websocket.send", "text": '{"reply": "a"}'}, {"type": "websocket.close"}):
                try:
                    await send(said)
                except OSError as error:
                    told.append(str(error))

        async with connected(app):
            pass
        assert told == ["websocket.disconnect"] * 3 + ["the client has hung up"] * 2

    async def test_a_server_that_says_so_when_it_sends(self):
        failed: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            assert (await receive())["type"] == "websocket.receive"
            await send({"type": "websocket.send", "text": "{}"})
            try:
                await send({"type": "websocket.send", "text": "{}"})
            except OSError as error:
                failed.append(str(error))

        async with connected(app) as peer:
            peer.lost = True
            await peer.say({"message": "Hello"})
            await until(lambda: bool(failed))
        assert failed == ["the client has hung up"]

    async def test_the_apps_error_is_its_own(self):
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            raise ValueError("crash")

        with pytest.raises(ExceptionGroup) as caught:
            async with connected(app, accepted=False):
                pass
        assert isinstance(caught.value.exceptions[0], ValueError)

    async def test_an_app_that_refuses_the_connection(self):
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b"no"})

        async with connected(app, accepted=False) as peer:
            assert [(await peer.got())["type"] for _ in range(2)] == [
                "websocket.http.response.start",
                "websocket.http.response.body",
            ]

    async def test_what_cannot_be_guarded_stops_the_start(self):
        with pytest.raises(ConfigError):
            Route("/ws", input="$.", websocket=True)
