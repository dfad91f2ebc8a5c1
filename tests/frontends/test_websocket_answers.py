"""The twin of guardrail/frontends/websocket_answers.py: what the app says on a WebSocket."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from guardrail.core.conversation import Segment, Turn
from guardrail.core.decision import Decision
from guardrail.core.policy import Action, Stage
from guardrail.core.prompt import MAX_CONTEXT_CHARS
from guardrail.core.release import ReleaseMode, StreamRules
from guardrail.frontends.asgi import Message, Receive, Scope, Send
from guardrail.frontends.exchange import Settings
from guardrail.frontends.websocket_answers import Earlier, refused
from guardrail.testing import MemorySink, ScriptedClassifier
from guardrail.wire.replies import Refusal
from guardrail.wire.route import Route, RouteText
from tests.frontends.test_exchange import MAIL, OPEN, RULES, Stuck, engine
from tests.frontends.test_websocket import CHAT, MARK, REFUSAL, Chat, connected

pytestmark = pytest.mark.anyio

TOKENS = Route("/ws", input="$.message", output="$.token", end="$.done", websocket=True)
SMALL = Settings(streaming=StreamRules(window=20, overlap=10, first=5))
GO = {"message": "Go on."}


def says(*messages: Any) -> Chat:
    """An app that answers every message with these."""

    async def answer(text: str, send: Send) -> None:
        for said in messages:
            text = said if isinstance(said, str) else json.dumps(said)
            await send({"type": "websocket.send", "text": text})

    return Chat(answer)


def tokens(text: str, *, done: bool = True) -> list[Any]:
    words = [{"token": word} for word in text.replace(" ", " \0").split("\0")]
    return [*words, {"done": True}] if done else words


class TestWholeAnswers:
    async def test_what_passes_is_the_same_message(self):
        said = '{ "reply": "\\u00fc",\t"n": 1.50 }'
        async with connected(says(said)) as peer:
            await peer.say(GO)
            assert (await peer.got())["text"] == said

    async def test_each_is_judged_before_it_leaves(self):
        sink = MemorySink()
        app = says({"reply": "Hello"}, {"reply": "a forbidden thing"}, {"reply": f"Mail {MAIL}", "n": 1})
        async with connected(app, guard=engine(sink)) as peer:
            await peer.say(GO)
            assert [await peer.hear() for _ in range(3)] == [
                {"reply": "Hello"},
                {"reply": REFUSAL},
                {"reply": f"Mail {MARK}", "n": 1},
            ]
        actions = [r.decision.action for r in sink.records]
        assert actions == [Action.PASS, Action.PASS, Action.BLOCK, Action.REDACT]
        assert len({r.decision.id for r in sink.records}) == 4

    async def test_live_does_not_make_it_leave_earlier(self):
        settings = Settings(streaming=StreamRules(release=ReleaseMode.LIVE))
        async with connected(says({"reply": "a forbidden thing"}), settings=settings) as peer:
            await peer.say(GO)
            assert await peer.hear() == {"reply": REFUSAL}

    async def test_a_message_without_text_passes_and_asks_nobody(self):
        judge = ScriptedClassifier(RULES)
        async with connected(says({"status": "forbidden"}), guard=engine(classifier=judge)) as peer:
            await peer.say(GO)
            assert await peer.hear() == {"status": "forbidden"}
        assert [subject.stage for _, subject in judge.asked] == [Stage.INPUT]

    async def test_a_closed_outage(self):
        sink = MemorySink()
        async with connected(says({"reply": "an outage"}), guard=engine(sink)) as peer:
            await peer.say(GO)
            said = await peer.hear()
        assert said["error"]["code"] == "guardrail_unavailable"
        assert said["error"]["id"] == sink.records[1].decision.id
        assert said["reply"].startswith("the answer could not be checked")

    async def test_an_open_outage_passes_and_is_counted(self):
        sink = MemorySink()
        async with connected(says({"reply": "an outage"}), guard=engine(sink, on_error=OPEN)) as peer:
            await peer.say(GO)
            assert await peer.hear() == {"reply": "an outage"}
        assert sink.records[1].decision.degraded == ("house-rules=unavailable",)

    @pytest.mark.parametrize("said", ["forbidden", '{"reply": "forbidden", "score": NaN}'])
    async def test_what_is_not_what_the_route_says_does_not_leave(self, said: str):
        async with connected(says(said, {"reply": "Hello"})) as peer:
            await peer.say(GO)
            assert (await peer.hear())["error"]["code"] == "upstream_unreadable"
            assert await peer.hear() == {"reply": "Hello"}

    async def test_a_binary_message_follows_the_rule_for_what_cannot_be_read(self):
        said: Message = {"bytes": b"forbidden"}

        async def answer(text: str, send: Send) -> None:
            await send({"type": "websocket.send", **said})

        sink = MemorySink()
        async with connected(Chat(answer), guard=engine(sink)) as peer:
            await peer.say(GO)
            assert await peer.got() == {"type": "websocket.send", **said}
        assert sink.records[1].decision.unjudged == ("$",)
        async with connected(Chat(answer), guard=engine(strict=True)) as peer:
            await peer.say(GO)
            assert await peer.hear() == {"reply": REFUSAL}

    @pytest.mark.parametrize("data", [b"forbidden", b""])
    @pytest.mark.parametrize("route", [CHAT, Route("/ws", "text", "text", websocket=True)])
    async def test_bytes_beside_a_text_are_binary_and_the_text_is_judged_too(
        self, route: Route, data: bytes
    ):
        """A server sends the bytes of such a message, or both."""
        said: Message = {"type": "websocket.send", "text": '{"reply": "Hello"}', "bytes": data}

        async def answer(text: str, send: Send) -> None:
            await send(said)
            await send({**said, "text": '{"reply": "forbidden"}'})

        sink = MemorySink()
        async with connected(Chat(answer), route, guard=engine(sink)) as peer:
            await peer.say(GO)
            assert await peer.got() == said
            assert REFUSAL in (await peer.got())["text"]
        assert sink.records[1].decision.unjudged == ("$",)
        assert sink.records[2].decision.action is Action.BLOCK
        async with connected(Chat(answer), route, guard=engine(strict=True)) as peer:
            await peer.say(GO)
            assert [set(await peer.got()) for _ in range(2)] == [{"type", "text"}] * 2

    async def test_of_a_text_beside_bytes_that_are_none_nothing_is_unjudged(self):
        said: Message = {"type": "websocket.send", "text": '{"reply": "Hello"}', "bytes": None}

        async def answer(text: str, send: Send) -> None:
            await send(said)

        sink = MemorySink()
        async with connected(Chat(answer), guard=engine(sink, strict=True)) as peer:
            await peer.say(GO)
            assert await peer.got() == said
        assert sink.records[1].decision.unjudged == ()

    async def test_an_app_whose_answers_are_not_judged(self):
        async with connected(says("forbidden"), Route("/ws", "$.message", websocket=True)) as peer:
            await peer.say(GO)
            assert (await peer.got())["text"] == "forbidden"

    async def test_neither_are_its_bytes(self):
        said: Message = {"type": "websocket.send", "text": "forbidden", "bytes": b"forbidden"}

        async def answer(text: str, send: Send) -> None:
            await send(said)

        route = Route("/ws", "$.message", websocket=True)
        async with connected(Chat(answer), route, guard=engine(strict=True)) as peer:
            await peer.say(GO)
            assert await peer.got() == said


class TestTokens:
    async def test_an_answer_in_pieces_is_read_as_one(self):
        sent = tokens("Nothing but calm words stand here. And a for bidden thing.")
        judge = ScriptedClassifier([("for bidden", "STOP")])
        app = says(*sent)
        async with connected(app, TOKENS, engine(classifier=judge), SMALL) as peer:
            await peer.say(GO)
            heard = []
            while not heard or "done" not in heard[-1]:
                heard.append(await peer.hear())
        text = "".join(piece.get("token", "") for piece in heard)
        assert text.startswith("Nothing ")
        assert text.endswith("\n\n" + REFUSAL)
        assert "for" not in text

    async def test_what_passes_leaves_message_by_message(self):
        sent = [{"status": "busy"}, *tokens("One calm sentence after the other, and one more of them.")]
        sink = MemorySink()
        async with connected(says(*sent), TOKENS, engine(sink), SMALL) as peer:
            for _ in range(2):
                await peer.say(GO)
                assert [await peer.hear() for _ in sent] == sent
        outputs = [r for r in sink.records if r.decision.stage is Stage.OUTPUT]
        assert [(r.text[:8], r.cancelled) for r in outputs] == [("One calm", False)] * 2
        assert all(r.checks > 1 for r in outputs)

    async def test_a_redaction_over_several_messages(self):
        app = says({"token": "Mail kim@exa"}, {"token": "mple.com now."}, {"token": " Bye.", "done": 1})
        async with connected(app, TOKENS) as peer:
            await peer.say(GO)
            assert [await peer.hear() for _ in range(3)] == [
                {"token": f"Mail {MARK}"},
                {"token": " now."},
                {"token": " Bye.", "done": 1},
            ]

    async def test_a_halt_ends_the_answer_and_not_the_connection(self):
        sent = [
            {"token": "A forbidden thing."},
            {"status": "busy"},
            {"token": "More"},
            {"token": "x", "done": 1},
        ]
        sink = MemorySink()
        async with connected(says(*sent), TOKENS, engine(sink)) as peer:
            for _ in range(2):
                await peer.say(GO)
                assert [await peer.hear() for _ in range(3)] == [
                    {"token": REFUSAL},
                    {"status": "busy"},
                    {"token": "", "done": 1},
                ]
        assert [r.decision.action for r in sink.records if r.decision.stage is Stage.OUTPUT] == [
            Action.BLOCK
        ] * 2

    async def test_words_behind_text_that_has_left_stand_apart(self):
        calm = "Nothing but calm words stand here at the beginning. "
        async with connected(says(*tokens(calm + "A forbidden thing.")), TOKENS, settings=SMALL) as peer:
            await peer.say(GO)
            heard = []
            while not heard or "done" not in heard[-1]:
                heard.append(await peer.hear())
        text = "".join(piece.get("token", "") for piece in heard)
        assert text.endswith("\n\n" + REFUSAL)
        assert calm.startswith(text.removesuffix("\n\n" + REFUSAL))

    async def test_a_client_that_speaks_in_between_does_not_cut_the_answer(self):
        """Else it could make each piece an answer of its own."""
        pieces = iter([{"token": "A for"}, {"token": "bidden "}, {"token": "thing.", "done": True}])

        async def answer(text: str, send: Send) -> None:
            await send({"type": "websocket.send", "text": json.dumps(next(pieces))})

        async with connected(Chat(answer), TOKENS) as peer:
            for _ in range(3):
                await peer.say(GO)
            assert [await peer.hear() for _ in range(2)] == [
                {"token": REFUSAL},
                {"token": "", "done": True},
            ]

    @pytest.mark.parametrize("closes", [True, False])
    async def test_what_is_held_at_the_end_is_judged_and_leaves(self, closes: bool):
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": '{"token": "Hello"}'})
            if closes:
                await send({"type": "websocket.close"})

        async with connected(app, TOKENS) as peer:
            assert await peer.hear() == {"token": "Hello"}
            if closes:
                assert (await peer.got())["type"] == "websocket.close"

    async def test_a_client_that_hangs_up_cancels_the_check_which_is_recorded(self):
        judge, sink = Stuck(), MemorySink()
        failed: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            try:
                await send({"type": "websocket.send", "text": '{"token": "Hello", "done": true}'})
            except OSError as error:
                failed.append(str(error))

        async with connected(app, TOKENS, engine(sink, classifier=judge)):
            await judge.started.wait()
        assert (judge.cancelled, failed) == (1, ["the client has hung up"])
        assert [(r.decision.stage, r.cancelled) for r in sink.records] == [(Stage.OUTPUT, True)]

    async def test_reading_waits_while_too_much_is_held(self):
        settings = Settings(streaming=StreamRules(window=20, overlap=10, first=5, max_held=40))
        sent = tokens("Calm words and no others, one after the other. " * 10)
        judge = ScriptedClassifier(delay_s=0.01)
        longest = 0

        async def answer(text: str, send: Send) -> None:
            nonlocal longest
            for count, said in enumerate(sent):
                await send({"type": "websocket.send", "text": json.dumps(said)})
                longest = max(longest, count - len(heard))

        heard: list[Any] = []
        async with connected(Chat(answer), TOKENS, engine(classifier=judge), settings) as peer:
            await peer.say(GO)
            while len(heard) < len(sent):
                heard.append(await peer.hear())
        assert heard == sent
        assert 0 < longest < len(sent) // 2

    async def test_several_tasks_of_an_app(self):
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            async with anyio.create_task_group() as group:
                for number in range(5):
                    said = {"type": "websocket.send", "text": json.dumps({"reply": f"number {number}"})}
                    group.start_soon(send, said)

        async with connected(app, CHAT) as peer:
            heard = [(await peer.hear())["reply"] for _ in range(5)]
        assert sorted(heard) == [f"number {number}" for number in range(5)]


class TestEarlier:
    def test_the_oldest_are_forgotten(self):
        earlier = Earlier()
        for letter in "abc":
            earlier.add(Turn("user", (Segment(letter * (MAX_CONTEXT_CHARS // 2), ()),)))
        assert [turn.segments[0].text[0] for turn in earlier.turns] == ["b", "c"]
        earlier.add(Turn("user", (Segment("d" * (MAX_CONTEXT_CHARS + 1), ()),)))
        assert earlier.turns == ()

    def test_turns_without_text_are_not_endless_either(self):
        earlier = Earlier()
        for _ in range(MAX_CONTEXT_CHARS + 5):
            earlier.add(Turn("user", ()))
        assert len(earlier.turns) == MAX_CONTEXT_CHARS


class TestRefused:
    BLOCK = Decision(Stage.OUTPUT, Action.BLOCK, id="gr-1")

    @pytest.mark.parametrize(
        ("output", "style", "spoke", "said"),
        [
            ("$.reply", "completion", False, '{"reply":"No."}'),
            ("$.reply", "completion", True, '{"reply":"\\n\\nNo."}'),
            ("text", "completion", True, "\n\nNo."),
            ("text", "error", False, "No."),
        ],
    )
    def test_in_the_shape_of_an_answer(self, output: str, style: Any, spoke: bool, said: str):
        text = RouteText(Route("/ws", "$.message", output, websocket=True))
        assert refused(text, self.BLOCK, Refusal(style=style, message="No."), "answer", spoke=spoke) == said
