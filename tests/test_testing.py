"""The twin of guardrail/testing.py: our public test doubles do what their users rely on."""

from __future__ import annotations

import anyio
import pytest

from guardrail import GuardrailEngine
from guardrail.core.conversation import Conversation, Segment, Subject, Turn
from guardrail.core.decision import Decision
from guardrail.core.policy import Action, LabelRule, Policy, Stage
from guardrail.core.record import DecisionRecord
from guardrail.core.verdict import Verdict
from guardrail.errors import ClassifierTimeout
from guardrail.frontends.asgi import Message, Receive, Scope, Send
from guardrail.testing import MemorySink, ScriptedClassifier, drive_asgi

pytestmark = pytest.mark.anyio

HOUSE = Policy(
    id="house-rules",
    body="Judge by the house rules.",
    labels={
        "OK": LabelRule("OK", violation=False),
        "STOP": LabelRule("STOP", violation=True, action=Action.BLOCK),
    },
)


def subject(*texts: str) -> Subject:
    return Subject(Stage.INPUT, (), tuple(Turn("user", (Segment(text, ()),)) for text in texts))


class TestScriptedClassifier:
    async def test_the_first_rule_that_matches_gives_the_label(self):
        classifier = ScriptedClassifier([("bad", "STOP"), ("bad but fine", "OK")])
        verdict = await classifier.classify(HOUSE, subject("so bad but fine"))
        assert (verdict.policy, verdict.label, verdict.violation) == (HOUSE, "STOP", True)
        assert verdict.action is Action.BLOCK

    async def test_without_a_match_it_is_the_safe_label(self):
        verdict = await ScriptedClassifier([("bad", "STOP")]).classify(HOUSE, subject("good"))
        assert (verdict.label, verdict.violation) == ("OK", False)

    async def test_all_judged_segments_are_searched(self):
        verdict = await ScriptedClassifier([("bad", "STOP")]).classify(HOUSE, subject("good", "bad"))
        assert verdict.violation

    async def test_a_scripted_error_is_raised_and_a_scripted_verdict_given_as_it_is(self):
        error, verdict = ClassifierTimeout("slow"), Verdict(HOUSE, "STOP", violation=True, excerpts=("x",))
        classifier = ScriptedClassifier([("slow", error), ("x", verdict)])
        with pytest.raises(ClassifierTimeout) as caught:
            await classifier.classify(HOUSE, subject("slow"))
        assert caught.value is error
        assert await classifier.classify(HOUSE, subject("x")) is verdict

    async def test_it_remembers_every_call_in_order_even_those_that_fail(self):
        classifier = ScriptedClassifier([("slow", ClassifierTimeout("slow"))])
        await classifier.classify(HOUSE, subject("one"))
        with pytest.raises(ClassifierTimeout):
            await classifier.classify(HOUSE, subject("slow"))
        assert classifier.asked == [(HOUSE, subject("one")), (HOUSE, subject("slow"))]
        assert ScriptedClassifier().asked == []

    async def test_the_delay_may_depend_on_the_subject(self):
        order: list[str] = []
        classifier = ScriptedClassifier(delay_s=lambda s: 0.05 if s.text == "first" else 0)

        async def ask(text: str) -> None:
            await classifier.classify(HOUSE, subject(text))
            order.append(text)

        async with anyio.create_task_group() as group:
            group.start_soon(ask, "first")
            group.start_soon(ask, "second")
        assert order == ["second", "first"]

    async def test_a_constant_delay_is_waited(self):
        with anyio.move_on_after(0.05) as scope:
            await ScriptedClassifier(delay_s=600).classify(HOUSE, subject("x"))
        assert scope.cancelled_caught

    async def test_rules_may_come_from_a_generator_and_still_hold_for_every_call(self):
        classifier = ScriptedClassifier((word, "STOP") for word in ("bad", "worse"))
        for text in ("bad", "worse", "bad"):
            assert (await classifier.classify(HOUSE, subject(text))).violation

    async def test_an_engine_takes_it_and_its_identity_never_changes(self):
        classifier, sink = ScriptedClassifier([("bad", "STOP")]), MemorySink()
        engine = GuardrailEngine({Stage.INPUT: [HOUSE]}, classifier, sinks=[sink])
        decision = await engine.check_input(Conversation((Turn("user", (Segment("bad", ()),)),)))
        assert decision.action is Action.BLOCK
        assert [record.decision for record in sink.records] == [decision]
        assert classifier.identity(HOUSE) == ScriptedClassifier().identity(HOUSE)


def test_a_sink_keeps_its_records_in_order():
    sink = MemorySink()
    records = [DecisionRecord(Decision(Stage.INPUT, Action.PASS, id=str(i)), 0.0, "", "") for i in range(3)]
    for record in records:
        sink.record(record)
    assert sink.records == records
    assert MemorySink().records == []


class TestDriveAsgi:
    async def echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        got = [await receive()]
        while got[-1].get("more_body"):
            got.append(await receive())
        self.scope, self.got = scope, got
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    async def test_it_gives_the_messages_in_order_and_a_plain_post_by_default(self):
        sent = await drive_asgi(self.echo, body=b"{}")
        assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
        assert self.got == [{"type": "http.request", "body": b"{}", "more_body": False}]
        scope = self.scope
        assert (scope["type"], scope["method"], scope["path"]) == ("http", "POST", "/v1/chat/completions")
        assert scope["headers"] == [(b"content-type", b"application/json")]
        assert (scope["root_path"], scope["query_string"]) == ("", b"")

    async def test_the_body_may_come_in_pieces(self):
        pieces = [b"a", b"", b"b"]
        await drive_asgi(self.echo, "/x", pieces, method="PUT", headers=[(b"a", b"1")])
        assert [(m["body"], m["more_body"]) for m in self.got] == [(b"a", True), (b"", True), (b"b", False)]
        assert (self.scope["method"], self.scope["path"], self.scope["headers"]) == (
            "PUT",
            "/x",
            [(b"a", b"1")],
        )
        assert pieces == [b"a", b"", b"b"]

    async def test_no_pieces_are_an_empty_body(self):
        with anyio.fail_after(5):
            await drive_asgi(self.echo, body=[])
        assert self.got == [{"type": "http.request", "body": b"", "more_body": False}]

    @pytest.mark.parametrize("after", [0, 1, 2, 3])
    async def test_the_client_hangs_up_after_so_many_messages(self, after: int):
        sent_when_gone: list[int] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert (await receive())["type"] == "http.request"
            sent = 0

            async def watch() -> None:
                assert await receive() == {"type": "http.disconnect"}
                sent_when_gone.append(sent)

            async with anyio.create_task_group() as group:
                group.start_soon(watch)
                for kind in ("start", "body", "body", "body"):
                    await anyio.wait_all_tasks_blocked()
                    if sent_when_gone:
                        return
                    sent += 1
                    await send({"type": f"http.response.{kind}", "more_body": True})

        with anyio.fail_after(5):
            await drive_asgi(app, hang_up_after=after)
        assert sent_when_gone == [after]

    async def test_without_that_the_client_stays(self):
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            with anyio.move_on_after(0.02) as waited:
                await receive()
            assert waited.cancelled_caught

        assert await drive_asgi(app) == []

    async def test_an_error_of_the_app_is_raised(self):
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            message: Message = {"type": "http.response.start", "status": 200}
            await send(message)
            raise LookupError("as it is")

        with pytest.raises(LookupError, match="as it is"):
            await drive_asgi(app)
