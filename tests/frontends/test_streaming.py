"""The twin of guardrail/frontends/streaming.py: an answer that comes as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail import GuardrailEngine, GuardrailMiddleware
from guardrail.backends.forward import HttpForwarder
from guardrail.core.conversation import Subject
from guardrail.core.policy import Action, FailMode, LabelRule, Policy, Stage
from guardrail.core.release import ReleaseMode, StreamRules
from guardrail.core.verdict import Verdict
from guardrail.engine.fail_rules import FailRules
from guardrail.errors import ClassifierUnavailable, UpstreamLost
from guardrail.frontends.asgi import ASGIApp, Message, Receive, Scope, Send
from guardrail.frontends.middleware import Settings
from guardrail.testing import MemorySink, ScriptedClassifier, drive_asgi
from guardrail.wire.refusals import Refusals
from guardrail.wire.replies import Refusal
from guardrail.wire.sse import SseDecoder
from tests.fakes import DONE, FakeUpstream, chunk, stream

MAIL = "kim@example.com"
HOUSE = Policy(
    id="house-rules",
    body="Judge by the house rules.",
    labels={
        "OK": LabelRule("OK", violation=False),
        "NOTE": LabelRule("NOTE", violation=True, action=Action.FLAG),
        "HIDE": LabelRule("HIDE", violation=True, action=Action.REDACT),
        "STOP": LabelRule("STOP", violation=True, action=Action.BLOCK),
    },
)
RULES = (
    ("forbidden", "STOP"),
    ("noteworthy", "NOTE"),
    (MAIL, Verdict(HOUSE, "HIDE", violation=True, excerpts=(MAIL,))),
    ("outage", ClassifierUnavailable("the judge is down")),
)


def rules(window: int | None, overlap: int, **more: Any) -> StreamRules:
    if window is None:
        return StreamRules(ReleaseMode.WHOLE, overlap=overlap, **more)
    return StreamRules(first=None, window=window, overlap=overlap, **more)


SMALL = StreamRules(first=None, window=20, overlap=10, max_held=200)
EVENTS = (b"content-type", b"text/event-stream")
FIRST = chunk({"role": "assistant", "content": ""})
LAST = chunk({}, finish_reason="stop")
ERRORS = Refusals({stage: Refusal(style="error", message="No.") for stage in Stage})
Then = Callable[[], Awaitable[None]]


def engine(*sinks: MemorySink, classifier: Any = None, **options: Any) -> GuardrailEngine:
    policies = {Stage.INPUT: [], Stage.OUTPUT: [HOUSE]}
    return GuardrailEngine(policies, classifier or ScriptedClassifier(RULES), sinks=sinks, **options)


def streaming(
    *parts: bytes,
    then: Then | None = None,
    end: bool = True,
    headers: Iterable[tuple[bytes, bytes]] = (EVENTS,),
) -> ASGIApp:
    """An inner app that sends ``parts``, does ``then``, and ends properly if it gets there."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await anyio.lowlevel.checkpoint()
        if then is not None:
            await then()
        if end:
            await send({"type": "http.response.body", "body": b""})

    return app


def said(text: str, size: int = 5, index: int = 0) -> list[bytes]:
    return [chunk({"content": text[i : i + size]}, index=index) for i in range(0, len(text), size)]


async def lose() -> None:
    raise UpstreamLost("the upstream is gone")


async def drive(
    app: ASGIApp,
    judging: GuardrailEngine | None = None,
    *,
    rules: StreamRules = SMALL,
    fields: dict[str, Any] | None = None,
    **settings: Any,
) -> list[Message]:
    messages = [{"role": "user", "content": "Hello"}]
    raw = json.dumps({"model": "m", "messages": messages, "stream": True, **(fields or {})}).encode()
    guarded = GuardrailMiddleware(app, judging or engine(), Settings(streaming=rules, **settings))
    with anyio.fail_after(20):
        return await drive_asgi(guarded, body=raw)


def headers_of(sent: list[Message]) -> dict[bytes, bytes]:
    return dict(sent[0]["headers"])


def whole(sent: list[Message]) -> bytes:
    """All bytes of an answer that begins and ends once."""
    assert [m["type"] for m in sent] == ["http.response.start"] + ["http.response.body"] * (len(sent) - 1)
    assert [m.get("more_body", False) for m in sent[1:]] == [True] * (len(sent) - 2) + [False]
    return b"".join(m["body"] for m in sent[1:])


def events_of(raw: bytes) -> list[Any]:
    found = [part.removeprefix(b"data: ") for part in raw.split(b"\n\n")[:-1]]
    return ["[DONE]" if data == b"[DONE]" else json.loads(data) for data in found]


def text_of(raw: bytes, index: int = 0) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for event in events_of(raw)
        if isinstance(event, dict)
        for choice in event.get("choices", ())
        if choice["index"] == index
    )


def ends_of(raw: bytes, index: int = 0) -> list[str]:
    return [
        choice["finish_reason"]
        for event in events_of(raw)
        if isinstance(event, dict)
        for choice in event.get("choices", ())
        if choice["index"] == index and choice["finish_reason"]
    ]


class Gate:
    """A classifier that answers when it is let, and writes down when it was asked and answered."""

    def __init__(
        self, log: list[tuple[str, str]], answer: Callable[[Subject], str] = lambda s: "OK"
    ) -> None:
        self.log = log
        self.answer = answer
        self.open = anyio.Event()
        self.asked = anyio.Event()

    def identity(self, policy: Policy) -> str:
        return "gate"

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        self.log.append(("asked", subject.text))
        self.asked.set()
        await self.open.wait()
        self.log.append(("judged", subject.text))
        label = self.answer(subject)
        return Verdict(policy, label, violation=label != "OK")


def logged(app: ASGIApp, log: list[tuple[str, str]]) -> ASGIApp:
    """The outer side: what leaves, written into the same log."""

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                log.append(("start", ""))
            else:
                log.append(("left", text_of(message["body"])))
            await send(message)

        await app(scope, receive, sending)

    return outer


@pytest.mark.anyio
class TestPass:
    async def test_an_answer_leaves_byte_for_byte_however_it_was_cut(self):
        raw = (
            b": comment\n\n"
            + FIRST
            + b'data: {"choices":[{"index":0,"delta":{"content":"Gr\\u00fc\xc3\x9fe"}}]}\r\n\r\n'
            b'event: x\nid: 7\ndata: {"choices": [], "usage": {"a": 1.50}}\n\n' + LAST + DONE
        )
        for size in (1, 7, 50, len(raw)):
            parts = [raw[i : i + size] for i in range(0, len(raw), size)]
            told = [
                (b"X-Request-Id", b"r-1"),
                EVENTS,
                (b"cache-control", b"no-cache"),
                (b"set-cookie", b"a=1"),
            ]
            sent = await drive(streaming(*parts, headers=told))
            assert whole(sent) == raw
            assert sent[0]["headers"][:4] == told
            names = [name for name, _ in sent[0]["headers"][4:]]
            assert names == [b"x-guardrail-decision", b"x-guardrail-id", b"x-guardrail-coverage"]

    async def test_a_stale_length_is_not_passed_on(self):
        told = [EVENTS, (b"Content-Length", b"1")]
        sent = await drive(streaming(*said("All is fine here."), LAST, DONE, headers=told))
        assert b"Content-Length" not in headers_of(sent)

    async def test_an_empty_stream_is_an_empty_stream(self):
        for parts in ([], [b""], [FIRST, LAST, DONE], [b": ping\n\n"]):
            assert whole(await drive(streaming(*parts))) == b"".join(parts)

    async def test_an_end_without_a_blank_line_is_passed_on(self):
        raw = chunk({"content": "fine"}) + b"data: [DONE]"
        assert whole(await drive(streaming(raw))) == raw

    async def test_an_unguarded_end_is_not_invented(self):
        raw = b"".join(said("All is fine here, and it just ends."))
        assert whole(await drive(streaming(raw))) == raw

    async def test_the_whole_stream_is_one_record_with_its_checks(self):
        sink = MemorySink()
        text = "All is fine here. " * 20
        sent = await drive(streaming(*said(text), LAST, DONE), engine(sink))
        record = sink.records[-1]
        assert (record.decision.stage, record.decision.action) == (Stage.OUTPUT, Action.PASS)
        assert (record.text.replace("\n", ""), record.cancelled) == (text, False)
        assert record.checks > 1
        assert record.decision.id.encode() == headers_of(sent)[b"x-guardrail-id"]
        assert [r.decision.stage for r in sink.records] == [Stage.INPUT, Stage.OUTPUT]

    async def test_a_flag_passes_and_is_recorded(self):
        sink = MemorySink()
        raw = b"".join([FIRST, *said("something noteworthy"), LAST, DONE])
        sent = await drive(streaming(raw), engine(sink))
        assert whole(sent) == raw
        assert sink.records[-1].decision.action is Action.FLAG
        assert headers_of(sent)[b"x-guardrail-decision"] == b"flag"


class TestNothingUnjudgedLeaves:
    @pytest.mark.anyio
    async def test_a_slow_judge_holds_start_and_text_until_its_verdict(self):
        log: list[tuple[str, str]] = []
        gate = Gate(log)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            async def more() -> None:
                await gate.asked.wait()
                log.append(("app has sent", ""))
                gate.open.set()

            await streaming(FIRST, *said("0123456789" * 4), LAST, DONE, then=more)(scope, receive, send)

        judging = engine(classifier=gate, timeout_s=600)
        guarded = GuardrailMiddleware(app, judging, Settings(streaming=SMALL))
        raw = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "stream": True}).encode()
        with anyio.fail_after(20):
            await drive_asgi(logged(guarded, log), body=raw)
        assert log == [
            ("asked", "01234567890123456789"),
            ("asked", "012345678901234567890123456789"),
            ("app has sent", ""),
            ("judged", "01234567890123456789"),
            ("judged", "012345678901234567890123456789"),
            ("start", ""),
            ("left", "0123456789012345678901234567890123456789"),
            ("left", ""),
        ]

    @given(
        length=st.integers(1, 120),
        cuts=st.lists(st.integers(1, 30), max_size=30),
        window=st.one_of(st.none(), st.integers(1, 40)),
        overlap=st.integers(0, 20),
        slow=st.lists(st.integers(0, 4), min_size=1, max_size=5),
        data=st.data(),
    )
    def test_what_has_left_was_judged_before_and_in_the_end_all_of_it_left(
        self,
        length: int,
        cuts: list[int],
        window: int | None,
        overlap: int,
        slow: list[int],
        data: st.DataObject,
    ):
        first = 0x4E00  # no character stands twice, so that each tells its place
        text = "".join(chr(first + i) for i in range(length))
        pieces, at = [], 0
        for cut in [*cuts, length]:
            pieces.append(text[at : at + cut])
            at += cut
        raw = b"".join([FIRST, *(chunk({"content": piece}) for piece in pieces), LAST, DONE])
        size = data.draw(st.integers(1, len(raw)))
        parts = [raw[i : i + size] for i in range(0, len(raw), size)]
        judged, left, wrong = 0, 0, []

        class Slow(ScriptedClassifier):
            async def classify(self, policy: Policy, subject: Subject) -> Verdict:
                nonlocal judged
                for _ in range(slow[len(self.asked) % len(slow)]):
                    await anyio.lowlevel.checkpoint()
                verdict = await super().classify(policy, subject)
                begins, ends = (ord(subject.text[i]) - first for i in (0, -1))
                if begins > judged or subject.text != text[begins : ends + 1]:
                    wrong.append(f"asked about {begins}-{ends} when {judged} were judged")
                judged = max(judged, ends + 1)
                return verdict

        async def outer(scope: Scope, receive: Receive, send: Send) -> None:
            async def sending(message: Message) -> None:
                nonlocal left
                left += len(text_of(message.get("body", b"")))
                if left > judged:
                    wrong.append(f"{left} left when {judged} were judged")
                await send(message)

            judging = engine(classifier=Slow(), timeout_s=600)
            settings = Settings(streaming=rules(window, overlap, max_held=40))
            await GuardrailMiddleware(streaming(*parts), judging, settings)(scope, receive, sending)

        ask = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "stream": True}).encode()

        async def run() -> list[Message]:
            with anyio.fail_after(20):
                return await drive_asgi(outer, body=ask)

        assert whole(anyio.run(run)) == raw
        assert wrong == []
        assert (left, judged) == (length, length)

    @pytest.mark.anyio
    @pytest.mark.parametrize("where", range(0, 100, 9))
    @pytest.mark.parametrize("size", [1, 4, 60])
    async def test_a_violation_no_longer_than_the_overlap_never_leaves_not_even_in_part(
        self, where: int, size: int
    ):
        text = "." * where + "forbidden" + "," * 60
        sent = await drive(streaming(FIRST, *said(text, size), LAST, DONE))
        left = text_of(whole(sent)).replace("I can't help with that.", "")
        assert set(left) <= {"."}
        assert ends_of(whole(sent)) == ["content_filter"]

    @pytest.mark.anyio
    async def test_release_whole_lets_nothing_leave_before_the_end(self):
        log: list[tuple[str, str]] = []
        gate = Gate(log)
        gate.open.set()

        async def ended() -> None:
            log.append(("app has sent", ""))

        app = streaming(FIRST, *said("fine " * 50), LAST, DONE, then=ended)
        settings = Settings(streaming=StreamRules(ReleaseMode.WHOLE, max_held=50))
        raw = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "stream": True}).encode()
        guarded = GuardrailMiddleware(app, engine(classifier=gate), settings)
        with anyio.fail_after(20):
            await drive_asgi(logged(guarded, log), body=raw)
        names = [name for name, _ in log]
        # The choice ends with LAST; what is asked then may be answered before the app's own end.
        assert names.index("judged") < names.index("start")
        assert ("judged", "fine " * 50) in log
        assert names.count("asked") == 1

    @pytest.mark.anyio
    async def test_reading_waits_when_too_much_is_held(self):
        log: list[tuple[str, str]] = []
        gate = Gate(log)

        async def ended() -> None:
            log.append(("app has sent", ""))

        app = streaming(*said("0123456789" * 5, 10), then=ended)
        rules = StreamRules(first=None, window=10, overlap=0, max_held=30)
        guarded = GuardrailMiddleware(
            app, engine(classifier=gate, timeout_s=600), Settings(streaming=rules)
        )
        raw = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "stream": True}).encode()
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:

                async def client() -> None:
                    await drive_asgi(logged(guarded, log), body=raw)

                group.start_soon(client)
                await gate.asked.wait()
                for _ in range(50):
                    await anyio.lowlevel.checkpoint()
                assert log == [("asked", "0123456789")]
                gate.open.set()
        assert "".join(text for name, text in log if name == "left") == "0123456789" * 5


@pytest.mark.anyio
class TestBlock:
    @pytest.mark.parametrize("rules", [SMALL, StreamRules(), StreamRules(ReleaseMode.WHOLE)])
    async def test_before_any_text_left_it_is_a_whole_refusal(self, rules: StreamRules):
        sink = MemorySink()
        parts = [FIRST, *said("forbidden from the start, and so on and so on"), LAST, DONE]
        sent = await drive(streaming(*parts), engine(sink), rules=rules)
        assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
        assert (sent[0]["status"], text_of(whole(sent))) == (200, "I can't help with that.")
        assert ends_of(whole(sent)) == ["content_filter"]
        assert whole(sent).endswith(DONE)
        assert headers_of(sent)[b"x-guardrail-decision"] == b"block"
        assert headers_of(sent)[b"x-guardrail-policies"] == b"house-rules"
        assert sink.records[-1].decision.action is Action.BLOCK
        assert sink.records[-1].cancelled is False
        assert "forbidden" in sink.records[-1].text

    async def test_before_any_text_left_the_error_style_is_an_http_error(self):
        sent = await drive(streaming(FIRST, *said("forbidden from the start")), refusals=ERRORS)
        assert sent[0]["status"] == 400
        assert json.loads(whole(sent))["error"]["code"] == "content_filter"

    async def test_after_text_left_the_choice_ends_and_the_upstream_is_cancelled(self):
        cancelled = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await streaming(FIRST, *said(text), then=anyio.sleep_forever)(scope, receive, send)
            except anyio.get_cancelled_exc_class():
                cancelled.append(True)
                raise

        sink = MemorySink()
        text = "All is fine here. " * 5 + "A forbidden thing. " + "And on it goes. " * 5
        sent = await drive(app, engine(sink))
        assert cancelled == [True]
        left = text_of(whole(sent))
        assert text.startswith(left)
        assert "fine" in left
        assert "forb" not in left
        events = events_of(whole(sent))
        assert events[-1] == "[DONE]"
        assert events[-2]["choices"] == [
            {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "content_filter"}
        ]
        assert (events[-2]["id"], events[-2]["model"]) == ("chatcmpl-fake", "fake-model")
        assert ends_of(whole(sent)) == ["content_filter"]
        record = sink.records[-1]
        assert (record.decision.action, record.cancelled) == (Action.BLOCK, False)

    async def test_after_text_left_the_error_style_is_an_error_event_and_no_end(self):
        text = "All is fine here. " * 5 + "A forbidden thing. "
        sent = await drive(streaming(FIRST, *said(text), LAST, DONE), refusals=ERRORS)
        events = events_of(whole(sent))
        assert events[-1]["error"]["code"] == "content_filter"
        assert "[DONE]" not in events
        assert ends_of(whole(sent)) == []

    async def test_the_finish_reason_can_be_stop(self):
        refusals = Refusals(dict.fromkeys(Stage, Refusal(finish_reason="stop")))
        text = "All is fine here. " * 5 + "A forbidden thing. "
        sent = await drive(streaming(FIRST, *said(text), LAST, DONE), refusals=refusals)
        assert ends_of(whole(sent)) == ["stop"]

    async def test_of_several_choices_the_others_go_on(self):
        good, bad = "All is fine here. " * 8, "Well, well, well. A forbidden thing. "
        parts = [
            p for pair in zip(said(good, 9, 0), said(bad.ljust(len(good)), 9, 1), strict=True) for p in pair
        ]
        ends = [chunk({}, index=i, finish_reason="stop") for i in (0, 1)]
        sent = await drive(streaming(*parts, *ends, DONE), fields={"n": 2})
        raw = whole(sent)
        assert (text_of(raw, 0), ends_of(raw, 0)) == (good, ["stop"])
        assert "forb" not in text_of(raw, 1)
        assert ends_of(raw, 1) == ["content_filter"]
        assert raw.endswith(DONE)
        assert raw.count(DONE) == 1

    async def test_a_choice_that_never_spoke_gets_the_refusal_as_its_text(self):
        good, bad = "All is fine here. " * 8, "forbidden from the start. "
        parts = [*said(good, 9, 0), *said(bad, 9, 1)]
        ends = [chunk({}, index=i, finish_reason="stop") for i in (0, 1)]
        raw = whole(await drive(streaming(*parts, *ends, DONE), fields={"n": 2}))
        assert text_of(raw, 1) == "I can't help with that."
        assert text_of(raw, 0) == good

    @pytest.mark.parametrize("style", ["completion", "error"])
    async def test_when_all_choices_are_blocked_nothing_of_them_leaves(self, style: str):
        parts = [*said("forbidden one", 20, 0), *said("forbidden two", 20, 1)]
        ends = [chunk({}, index=i, finish_reason="stop") for i in (0, 1)]
        refusals = Refusals(dict.fromkeys(Stage, Refusal(style=style)))  # type: ignore[arg-type]
        raw = whole(await drive(streaming(*parts, *ends, DONE), fields={"n": 2}, refusals=refusals))
        assert b"forbidden" not in raw
        if style == "completion":
            assert [text_of(raw, i) for i in (0, 1)] == ["I can't help with that."] * 2
            assert [ends_of(raw, i) for i in (0, 1)] == [["content_filter"]] * 2
            assert raw.count(DONE) == 1
        else:
            assert DONE not in raw

    @pytest.mark.parametrize(
        "deltas",
        [
            [{"reasoning_content": "a forbidden thought"}],
            [{"reasoning": "a forbidden thought"}],
            [{"reasoning_details": [{"type": "reasoning.text", "text": "a forbidden thought"}]}],
            [{"refusal": "a forbidden thing"}],
            [
                {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": '["forb'}}]},
                {"tool_calls": [{"index": 0, "function": {"arguments": 'idden"]'}}]},
            ],
            [
                {"function_call": {"name": "f", "arguments": '["forb'}},
                {"function_call": {"arguments": 'idden"]'}},
            ],
        ],
    )
    async def test_whatever_channel_holds_the_violation(self, deltas: Sequence[dict[str, Any]]):
        parts = [FIRST, *(chunk(delta) for delta in deltas), *said("All is fine here."), LAST, DONE]
        raw = whole(await drive(streaming(*parts)))
        assert b"forb" not in raw
        assert b"idden" not in raw
        assert ends_of(raw) == ["content_filter"]


@pytest.mark.anyio
class TestRedaction:
    @pytest.mark.parametrize("size", [1, 3, 7, 100])
    async def test_the_match_is_replaced_once_across_chunks(self, size: int):
        text = f"You can write to {MAIL} at any time, or just ring the bell."
        rules = StreamRules(first=None, window=40, overlap=20, max_held=200)
        sent = await drive(streaming(FIRST, *said(text, size), LAST, DONE), rules=rules)
        raw = whole(sent)
        assert text_of(raw) == text.replace(MAIL, "[REDACTED:HIDE]")
        assert (ends_of(raw), raw.endswith(DONE)) == (["stop"], True)

    async def test_chunks_without_a_match_stay_byte_for_byte(self):
        parts = [
            FIRST,
            *said("All is fine here. "),
            chunk({"content": MAIL}, x=1.5),
            *said(" And so on."),
            LAST,
            DONE,
        ]
        for reads in (parts, [b"".join(parts)]):  # one by one, and all in one read
            sent = await drive(streaming(*reads), rules=StreamRules())
            assert whole(sent) == b"".join(parts).replace(MAIL.encode(), b"[REDACTED:HIDE]")

    async def test_the_log_probabilities_of_a_redacted_chunk_go(self):
        part = json.loads(chunk({"content": MAIL}).removeprefix(b"data: "))
        part["choices"][0]["logprobs"] = {"content": [{"token": MAIL}]}
        raw = whole(await drive(streaming(b"data: " + json.dumps(part).encode() + b"\n\n", LAST, DONE)))
        assert MAIL.encode() not in raw

    async def test_tool_arguments_leave_as_valid_json(self):
        arguments = json.dumps({"to": MAIL, "n": 1})
        calls = [
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments[i : i + 4]}}]})
            for i in range(0, len(arguments), 4)
        ]
        raw = whole(await drive(streaming(*calls, chunk({}, finish_reason="tool_calls"), DONE)))
        pieces = [
            call["function"]["arguments"]
            for event in events_of(raw)[:-1]
            for call in event["choices"][0]["delta"].get("tool_calls", ())
        ]
        assert json.loads("".join(pieces)) == {"to": "[REDACTED:HIDE]", "n": 1}


@pytest.mark.anyio
class TestOutage:
    @pytest.mark.parametrize("refusals", [None, ERRORS])
    async def test_before_any_text_left_it_is_503(self, refusals: Any):
        sink = MemorySink()
        settings = {"refusals": refusals} if refusals else {}
        parts = [FIRST, *said("an outage from the start"), LAST, DONE]
        sent = await drive(streaming(*parts), engine(sink), **settings)
        assert sent[0]["status"] == 503
        headers = headers_of(sent)
        assert int(headers[b"retry-after"]) > 0
        assert headers[b"x-should-retry"] == b"false"
        assert headers[b"x-guardrail-degraded"] == b"house-rules=unavailable"
        assert json.loads(whole(sent))["error"]["code"] == "guardrail_unavailable"
        assert sink.records[-1].decision.unavailable

    @pytest.mark.parametrize("settings", [{}, {"refusals": ERRORS}])
    async def test_after_text_left_it_is_an_error_event_without_any_end(self, settings: dict[str, Any]):
        text = "All is fine here. " * 5 + "Then an outage. "
        sent = await drive(streaming(FIRST, *said(text), LAST, DONE), **settings)
        raw = whole(sent)
        events = events_of(raw)
        assert events[-1]["error"]["code"] == "guardrail_unavailable"
        assert "[DONE]" not in events
        assert ends_of(raw) == []
        left = "".join(c["delta"].get("content", "") for e in events[:-1] for c in e["choices"])
        assert text.startswith(left)
        assert "outage" not in left

    async def test_one_choice_that_could_not_be_judged_ends_the_whole_stream(self):
        good, bad = "All is fine here. " * 8, "Well, well, well. An outage. "
        parts = [
            p for pair in zip(said(good, 9, 0), said(bad.ljust(len(good)), 9, 1), strict=True) for p in pair
        ]
        raw = whole(await drive(streaming(*parts, LAST, DONE), fields={"n": 2}))
        assert events_of(raw)[-1]["error"]["code"] == "guardrail_unavailable"
        assert raw.count(b'"error"') == 1

    async def test_an_open_outage_passes_and_says_so_where_the_headers_are_still_to_come(self):
        sink = MemorySink()
        raw = b"".join([FIRST, *said("an outage from the start"), LAST, DONE])
        open_ = {Stage.OUTPUT: FailRules(FailMode.OPEN)}
        sent = await drive(streaming(raw), engine(sink, on_error=open_))
        assert whole(sent) == raw
        assert headers_of(sent)[b"x-guardrail-degraded"] == b"house-rules=unavailable"
        assert sink.records[-1].decision.degraded == ("house-rules=unavailable",)


@pytest.mark.anyio
class TestUpstreamTrouble:
    async def test_lost_before_any_text_left_it_is_502(self):
        for parts in ([], [FIRST], [FIRST, b": ping\n\n"]):
            sink = MemorySink()
            sent = await drive(streaming(*parts, then=lose), engine(sink))
            assert sent[0]["status"] == 502
            assert [r.decision.stage for r in sink.records] == [Stage.INPUT], "nothing of it was judged"
            assert json.loads(whole(sent))["error"]["code"] == "upstream_unavailable"
            assert headers_of(sent)[b"x-guardrail-decision"] == b"pass"

    async def test_lost_in_mid_stream_what_was_judged_leaves_and_then_an_error_event(self):
        sink = MemorySink()
        text = "All is fine here. " * 5
        sent = await drive(streaming(FIRST, *said(text), then=lose), engine(sink))
        raw = whole(sent)
        events = events_of(raw)
        assert events[-1]["error"]["code"] == "upstream_unavailable"
        assert "[DONE]" not in events
        assert ends_of(raw) == []
        assert "".join(c["delta"].get("content", "") for e in events[:-1] for c in e["choices"]) == text
        assert sink.records[-1].decision.action is Action.PASS

    async def test_lost_inside_a_call_nothing_of_it_leaves(self):
        parts = [FIRST, *said("So I look it up. "), call('{"city": '), call('"Ro')]
        sent = await drive(streaming(*parts, then=lose))
        assert events_of(whole(sent))[-1]["error"]["code"] == "upstream_unavailable"
        assert b"tool_calls" not in whole(sent)
        assert text_of(whole(sent)) == "So I look it up. "
        assert ends_of(whole(sent)) == []

    async def test_lost_while_a_check_runs_the_check_is_awaited(self):
        log: list[tuple[str, str]] = []
        gate = Gate(log, lambda subject: "STOP")

        async def lost() -> None:
            await gate.asked.wait()
            gate.open.set()
            raise UpstreamLost("the upstream is gone")

        sent = await drive(streaming(FIRST, *said("0123456789" * 3), then=lost), engine(classifier=gate))
        assert text_of(whole(sent)) == "I can't help with that."
        assert b"0123" not in whole(sent)

    async def test_lost_in_the_middle_of_an_event_nothing_of_it_leaves(self):
        part = chunk({"content": "All is fine here, and then"})
        raw = whole(await drive(streaming(*said("All is fine here. " * 5), part[:-20], then=lose)))
        assert text_of(raw.partition(b'data: {"error"')[0]) == "All is fine here. " * 5

    @pytest.mark.parametrize(
        "part",
        [
            b"data: {zebra\n\n",
            b"data: [1]\n\n",
            b'data: {"choices": [7]}\n\n',
            b'data: {"choices": [{"index": 0, "delta": {"tool_calls": "zebra"}}]}\n\n',
        ],
    )
    async def test_an_event_that_cannot_be_read_ends_the_stream_with_an_error(self, part: bytes):
        for before in ([], said("All is fine here. " * 5)):
            sent = await drive(streaming(*before, part, *said("zebra zebra zebra"), LAST, DONE))
            raw = whole(sent)
            assert b"zebra" not in raw
            assert b"[DONE]" not in raw
            assert b"upstream_unreadable" in raw
            assert sent[0]["status"] == (200 if before else 502)

    async def test_an_app_that_raises_in_mid_stream_is_heard_and_the_stream_has_no_end(self):
        async def crash() -> None:
            raise RuntimeError("crash")

        sent: list[Message] = []
        sink = MemorySink()
        app = streaming(FIRST, *said("All is fine here. " * 5), then=crash)

        async def outer(scope: Scope, receive: Receive, send: Send) -> None:
            async def sending(message: Message) -> None:
                sent.append(message)

            guarded = GuardrailMiddleware(app, engine(sink), Settings(streaming=SMALL))
            await guarded(scope, receive, sending)

        raw = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "stream": True}).encode()
        with pytest.raises(RuntimeError, match="crash"), anyio.fail_after(20):
            await drive_asgi(outer, body=raw)
        assert all(m["more_body"] for m in sent[1:])
        assert [(r.decision.stage, r.cancelled) for r in sink.records] == [
            (Stage.INPUT, False),
            (Stage.OUTPUT, True),
        ]

    @pytest.mark.parametrize(
        ("last", "cancelled"), [([LAST, DONE], False), ([], True)], ids=["whole", "cut"]
    )
    async def test_who_hangs_up_behind_the_last_word_has_cut_nothing(
        self, last: list[bytes], cancelled: bool
    ):
        """OpenAI's SDK closes a stream at its ``[DONE]``, before the server has ended it."""
        sink = MemorySink()
        app = streaming(FIRST, *said("All is fine here. " * 5), *last, then=anyio.sleep_forever)
        guarded = GuardrailMiddleware(app, engine(sink), Settings(streaming=SMALL))
        raw = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "stream": True}).encode()
        pieces, gone = [raw], anyio.Event()
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}

        async def receive() -> Message:
            if pieces:
                return {"type": "http.request", "body": pieces.pop(), "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if b"[DONE]" in message.get("body", b"") or (cancelled and message.get("body")):
                gone.set()

        with anyio.fail_after(20):
            await guarded(scope, receive, send)
        assert [record.cancelled for record in sink.records] == [False, cancelled]

    async def test_an_app_that_stops_without_an_end_gets_none_from_us(self):
        sink = MemorySink()
        app = streaming(FIRST, *said("All is fine here. " * 5), end=False)
        sent = await drive(app, engine(sink))
        assert all(m["more_body"] for m in sent[1:])
        assert sink.records[-1].cancelled

    async def test_a_stream_that_was_not_asked_for_is_refused(self):
        sent = await drive(streaming(*said("All is fine."), LAST, DONE), fields={"stream": False})
        assert sent[0]["status"] == 502
        assert json.loads(whole(sent))["error"]["code"] == "upstream_unreadable"

    async def test_a_real_upstream_that_breaks_off_is_an_error_event(self):
        with FakeUpstream() as upstream:
            say = stream(["All ", "is ", "fine ", "here. "] * 30, drop=True)
            say.chunks = say.chunks[:-2]
            upstream.script.append(say)
            forwarder = HttpForwarder(upstream.url)
            try:
                raw = whole(await drive(forwarder))
            finally:
                await forwarder.aclose()
        assert b"upstream_unavailable" in raw
        assert b"[DONE]" not in raw


@pytest.mark.anyio
class TestUnreadableParts:
    PART = chunk({"content": "All is fine. ", "audio": {"data": "AA=="}})

    async def test_they_pass_and_are_named_where_the_rule_says_so(self):
        sink = MemorySink()
        raw = self.PART + LAST + DONE
        sent = await drive(streaming(raw), engine(sink))
        assert whole(sent) == raw
        assert sink.records[-1].decision.unjudged == ("$.choices[0].delta.audio",)
        assert sink.records[-1].decision.action is Action.FLAG
        assert headers_of(sent)[b"x-guardrail-unjudged"] == b"$.choices[0].delta.audio"

    @pytest.mark.parametrize("options", [{"strict": True}, {"on_unreadable": Action.BLOCK}])
    async def test_they_block_where_the_rule_says_so(self, options: dict[str, Any]):
        sink = MemorySink()
        sent = await drive(streaming(self.PART, LAST, DONE), engine(sink, **options))
        assert b"AA==" not in whole(sent)
        assert ends_of(whole(sent)) == ["content_filter"]
        assert sink.records[-1].decision.action is Action.BLOCK

    async def test_they_block_in_mid_stream_too(self):
        text = "All is fine here. " * 5
        raw = whole(await drive(streaming(*said(text), self.PART, LAST, DONE), engine(strict=True)))
        assert b"AA==" not in raw
        assert ends_of(raw) == ["content_filter"]

    BESIDE = chunk({}, choices=[], search_results=[{"snippet": "AA=="}])

    @pytest.mark.parametrize("before", [[], said("All is fine here. " * 5)])
    async def test_text_that_belongs_to_no_choice_is_named_and_blocks_all_of_them(
        self, before: list[bytes]
    ):
        sink = MemorySink()
        raw = [*before, self.BESIDE, LAST, DONE]
        sent = whole(await drive(streaming(*raw), engine(sink)))
        assert sent == b"".join(raw)
        assert sink.records[-1].decision.unjudged == ("$.search_results",)
        sent = whole(await drive(streaming(*raw), engine(strict=True)))
        assert b"AA==" not in sent
        assert ends_of(sent) == ["content_filter"]

    async def test_all_choices_are_all(self):
        sent = whole(await drive(streaming(self.BESIDE, LAST, DONE), engine(strict=True), fields={"n": 2}))
        assert b"AA==" not in sent
        assert [ends_of(sent, index) for index in (0, 1)] == [["content_filter"]] * 2


LIVE = StreamRules(ReleaseMode.LIVE, window=20, overlap=20, first=None)


@pytest.mark.anyio
class TestLive:
    async def test_text_leaves_at_once_and_the_end_waits_for_the_last_check(self):
        log: list[tuple[str, str]] = []
        gate = Gate(log)
        text = "0123456789" * 4

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            async def later() -> None:
                await gate.asked.wait()
                log.append(("app has sent", ""))
                gate.open.set()

            await streaming(FIRST, *said(text), LAST, DONE, then=later)(scope, receive, send)

        judging, settings = engine(classifier=gate, timeout_s=600), Settings(streaming=LIVE)
        raw = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "stream": True}).encode()
        with anyio.fail_after(20):
            sent = await drive_asgi(logged(GuardrailMiddleware(app, judging, settings), log), body=raw)
        assert whole(sent) == b"".join([FIRST, *said(text), LAST, DONE])
        first_verdict = next(i for i, (name, _) in enumerate(log) if name == "judged")
        assert "".join(text for name, text in log[:first_verdict] if name == "left") == text
        assert log.index(("app has sent", "")) < first_verdict
        assert log[-1][0] == "left"

    @pytest.mark.parametrize("word", ["forbidden", MAIL])
    async def test_a_finding_ends_the_stream_be_it_a_redaction(self, word: str):
        sink = MemorySink()
        text = f"Well: {word}. " + "And so on. " * 20
        sent = await drive(streaming(FIRST, *said(text), LAST, DONE), engine(sink), rules=LIVE)
        assert ends_of(whole(sent)) == ["content_filter"]
        assert text.startswith(text_of(whole(sent)))
        told = sink.records[-1].held
        assert told is not None
        assert told.unjudged_released_chars > 0

    async def test_a_tool_call_is_held_all_the_same(self):
        pieces = [call(text) for text in ('{"to": "', "forbidden", '"}')]
        sent = await drive(streaming(FIRST, *pieces, LAST, DONE), rules=LIVE)
        assert b"forbidden" not in whole(sent)
        assert ends_of(whole(sent)) == ["content_filter"]


def call(arguments: str) -> bytes:
    return chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]})


@pytest.mark.anyio
class TestKeepAlive:
    """The gate opens when so many comments were sent: no clock decides."""

    async def held(self, answer: str, comments: int, **settings: Any) -> bytes:
        gate = Gate([], lambda subject: answer)
        count = 0

        async def outer(scope: Scope, receive: Receive, send: Send) -> None:
            async def sending(message: Message) -> None:
                nonlocal count
                count += message.get("body", b"").count(b": held\n\n")
                if count >= comments:
                    gate.open.set()
                await send(message)

            judging = engine(classifier=gate, timeout_s=600)
            options = Settings(streaming=StreamRules(ReleaseMode.WHOLE), keep_alive_s=0.01, **settings)
            app = streaming(FIRST, *said("fine"), LAST, DONE)
            await GuardrailMiddleware(app, judging, options)(scope, receive, sending)

        raw = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "stream": True}).encode()
        with anyio.fail_after(20):
            return whole(await drive_asgi(outer, body=raw))

    async def test_a_stream_that_is_held_says_so_and_then_goes_on_as_it_came(self):
        raw = await self.held("OK", 3)
        assert raw.replace(b": held\n\n", b"") == b"".join([FIRST, *said("fine"), LAST, DONE])
        assert raw.startswith(FIRST + b": held\n\n: held\n\n: held\n\n")

    async def test_a_block_after_it_is_a_streamed_refusal(self):
        raw = (await self.held("STOP", 1)).replace(b": held\n\n", b"")
        assert text_of(raw) == "I can't help with that."
        assert ends_of(raw) == ["content_filter"]

    async def test_a_failure_after_it_is_an_error_event(self):
        async def unable(policy: Policy, subject: Subject) -> Verdict:
            await Gate.classify(gate, policy, subject)
            raise ClassifierUnavailable("the judge is down")

        gate = Gate([])
        comments = 0

        async def outer(scope: Scope, receive: Receive, send: Send) -> None:
            async def sending(message: Message) -> None:
                nonlocal comments
                comments += message.get("body", b"").count(b": held\n\n")
                if comments:
                    gate.open.set()
                await send(message)

            gate.classify = unable  # type: ignore[method-assign]
            options = Settings(streaming=StreamRules(ReleaseMode.WHOLE), keep_alive_s=0.01)
            app = streaming(FIRST, *said("fine"), LAST, DONE)
            await GuardrailMiddleware(app, engine(classifier=gate, timeout_s=600), options)(
                scope, receive, sending
            )

        raw = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "stream": True}).encode()
        with anyio.fail_after(20):
            out = whole(await drive_asgi(outer, body=raw))
        last = events_of(out.replace(b": held\n\n", b""))[-1]
        assert last["error"]["code"] == "guardrail_unavailable"
        assert b"fine" not in out

    async def test_what_is_not_held_is_not_commented_on(self):
        async def idle() -> None:
            await anyio.sleep(0.1)

        options = {"rules": StreamRules(ReleaseMode.WINDOW), "keep_alive_s": 0.005}
        sent = await drive(streaming(FIRST, then=idle), **options)
        assert whole(sent) == FIRST


@pytest.mark.anyio
async def test_annotations_of_a_stream_tell_of_each_choice_at_its_end():
    parts = [*said("all is calm"), *said("then what is forbidden", index=1)]
    ends = [chunk({}, finish_reason="stop"), chunk({}, index=1, finish_reason="stop"), DONE]
    guarded = GuardrailMiddleware(streaming(*parts, *ends), engine(), Settings(streaming=SMALL))
    raw = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "stream": True, "n": 2}).encode()
    sent = await drive_asgi(guarded, body=raw, headers=[(b"x-guardrail-annotations", b"azure")])
    events = [json.loads(e.data) for e in SseDecoder().feed(whole(sent)) if e.data not in (None, b"[DONE]")]
    assert events[0]["prompt_filter_results"] == [{"prompt_index": 0, "content_filter_results": {}}]
    told = {
        choice["index"]: choice["content_filter_results"]["house-rules"]["filtered"]
        for event in events
        for choice in event["choices"]
        if choice["finish_reason"]
    }
    assert told == {0: False, 1: True}
