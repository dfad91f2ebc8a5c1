"""The twin of guardrail/frontends/unary.py: an answer that comes as one body."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import anyio
import pytest

from guardrail import GuardrailEngine, GuardrailMiddleware
from guardrail.core.conversation import Subject
from guardrail.core.policy import Action, FailMode, LabelRule, Policy, Stage
from guardrail.core.verdict import Verdict
from guardrail.engine.fail_rules import FailRules
from guardrail.errors import ClassifierUnavailable, MalformedVerdict
from guardrail.frontends import unary
from guardrail.frontends.asgi import ASGIApp, Message, Receive, Scope, Send
from guardrail.frontends.middleware import Route, Settings
from guardrail.testing import MemorySink, ScriptedClassifier, drive_asgi
from guardrail.wire.refusals import Refusals
from guardrail.wire.replies import Refusal
from tests.fakes import DONE, chunk, completion

pytestmark = pytest.mark.anyio

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
    ("unheard-of", MalformedVerdict("unknown label", violation=True)),
)
ASK = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hello"}]}).encode()
JSON = b"application/json"
OWN = Route("/v1/chat/completions", input=("$.messages[0].content",), output=("$.reply",))


def engine(*sinks: MemorySink, classifier: Any = None, **options: Any) -> GuardrailEngine:
    policies = {Stage.INPUT: [], Stage.OUTPUT: [HOUSE]}
    return GuardrailEngine(policies, classifier or ScriptedClassifier(RULES), sinks=sinks, **options)


def answering(
    *parts: bytes, kind: bytes | None = JSON, status: int = 200, more: Iterable[tuple[bytes, bytes]] = ()
) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", kind)] if kind is not None else []
        length = (b"Content-Length", str(sum(map(len, parts))).encode())
        head = {"type": "http.response.start", "status": status, "headers": [*headers, length, *more]}
        await send(head)
        for part in parts[:-1]:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": parts[-1]})

    return app


def choices(*messages: dict[str, Any], **fields: Any) -> bytes:
    found = [
        {
            "index": i,
            "message": {"role": "assistant", **m},
            "finish_reason": "stop",
            "logprobs": {"content": []},
        }
        for i, m in enumerate(messages)
    ]
    return json.dumps(
        {"id": "c-1", "x-unknown": 1.50, "choices": found, "usage": {"a": 1}, **fields}
    ).encode()


async def drive(app: ASGIApp, judging: GuardrailEngine, raw: bytes = ASK, **settings: Any) -> list[Message]:
    with anyio.fail_after(20):
        return await drive_asgi(GuardrailMiddleware(app, judging, Settings(**settings)), body=raw)


def headers_of(sent: list[Message]) -> dict[bytes, bytes]:
    return dict(sent[0]["headers"])


def whole(sent: list[Message]) -> bytes:
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
    assert not sent[1].get("more_body")
    length = {name.lower(): value for name, value in sent[0]["headers"]}[b"content-length"]
    assert int(length) == len(sent[1]["body"])
    return sent[1]["body"]


async def test_a_pass_is_the_same_bytes_and_headers_however_it_was_cut():
    raw = b' {"choices" :[ {"message": {"content":"Gr\xc3\xbc\\u00dfe", "x": 1.0}, "index":0}], "y":[]}\r\n'
    more = [(b"X-Request-Id", b"r-1"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    for parts in ([raw], [raw[:1], raw[1:40], b"", raw[40:], b""]):
        sent = await drive(answering(*parts, more=more), engine())
        assert whole(sent) == raw
        length = (b"Content-Length", str(len(raw)).encode())
        assert sent[0]["headers"][:5] == [(b"content-type", JSON), length, *more]
        told = dict(sent[0]["headers"][5:])
        assert [*told] == [b"x-guardrail-decision", b"x-guardrail-id", b"x-guardrail-coverage"]
        assert told[b"x-guardrail-coverage"] == b"judged=1, redacted=0, unreadable=0, skipped=1"


async def test_nothing_is_sent_before_every_choice_was_judged():
    order: list[str] = []

    class Slow(ScriptedClassifier):
        async def classify(self, policy: Policy, subject: Subject) -> Verdict:
            verdict = await super().classify(policy, subject)
            order.append(f"judged {subject.text}")
            return verdict

    raw = choices({"content": "first"}, {"content": "second"})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering(raw[:9], raw[9:])(scope, receive, send)
        order.append("app done")

    async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            order.append(message["type"])
            await send(message)

        judging = engine(classifier=Slow(delay_s=lambda s: 0.05 if s.text == "first" else 0.01))
        await GuardrailMiddleware(app, judging)(scope, receive, sending)

    with anyio.fail_after(20):
        await drive_asgi(recorded, body=ASK)
    assert order == [
        "judged second",
        "judged first",
        "http.response.start",
        "http.response.body",
        "app done",
    ]


async def test_a_flag_passes_and_is_named():
    raw = completion("something noteworthy")
    sent = await drive(answering(raw), engine())
    assert whole(sent) == raw
    assert headers_of(sent)[b"x-guardrail-decision"] == b"flag"
    assert headers_of(sent)[b"x-guardrail-policies"] == b"house-rules"


class TestBlock:
    async def test_the_choice_becomes_the_refusal_and_the_rest_stays(self):
        sent = await drive(answering(choices({"content": "a forbidden thing"})), engine())
        assert sent[0]["status"] == 200
        answer = json.loads(whole(sent))
        assert answer["choices"] == [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "I can't help with that.", "refusal": None},
                "logprobs": None,
                "finish_reason": "content_filter",
            }
        ]
        assert (answer["id"], answer["usage"], answer["x-unknown"]) == ("c-1", {"a": 1}, 1.5)
        assert headers_of(sent)[b"x-guardrail-decision"] == b"block"
        assert headers_of(sent)[b"x-guardrail-policies"] == b"house-rules"

    @pytest.mark.parametrize(
        "message",
        [
            {"content": [{"type": "text", "text": "a forbidden thing"}]},
            {"content": None, "refusal": "a forbidden thing"},
            {"content": "fine", "reasoning_content": "a forbidden thing"},
            {"content": "fine", "reasoning": "a forbidden thing"},
            {
                "content": None,
                "tool_calls": [{"id": "t", "function": {"name": "f", "arguments": '["forbidden"]'}}],
            },
            {"content": None, "function_call": {"name": "f", "arguments": '["forbidden"]'}},
        ],
    )
    async def test_whatever_part_of_the_choice_holds_the_violation(self, message: dict[str, Any]):
        sent = await drive(answering(choices(message)), engine())
        assert b"forbidden" not in whole(sent)
        assert json.loads(whole(sent))["choices"][0]["finish_reason"] == "content_filter"

    async def test_of_several_choices_only_the_violating_ones_are_replaced(self):
        raw = choices(
            {"content": "all fine"},
            {"content": "a forbidden thing"},
            {"content": f"write to {MAIL}"},
            {"content": "noteworthy"},
        )
        sink = MemorySink()
        sent = await drive(answering(raw), engine(sink), json.dumps({**json.loads(ASK), "n": 4}).encode())
        before, after = json.loads(raw)["choices"], json.loads(whole(sent))["choices"]
        assert (after[0], after[3]) == (before[0], before[3])
        assert after[1]["message"]["content"] == "I can't help with that."
        assert after[1]["index"] == 1
        assert after[2]["message"]["content"] == "write to [REDACTED:HIDE]"
        assert after[2]["logprobs"] is None
        assert headers_of(sent)[b"x-guardrail-decision"] == b"block"
        assert sorted(r.decision.action for r in sink.records[1:]) == list(Action)
        assert {r.decision.id.encode() for r in sink.records} == {headers_of(sent)[b"x-guardrail-id"]}

    async def test_the_bytes_between_the_choices_stay(self):
        raw = b'{"a":1.50,"choices":[ {"message":{"content":"forbidden"}} ,{"message":{}} ],"z": []}'
        sent = await drive(answering(raw), engine())
        head, tail = raw.split(b'{"message":{"content":"forbidden"}}')
        assert whole(sent).startswith(head)
        assert whole(sent).endswith(tail)

    async def test_the_error_style_is_an_error_for_the_whole_answer(self):
        refusals = Refusals(
            {Stage.INPUT: Refusal(), Stage.OUTPUT: Refusal(style="error", message="No.", status=422)}
        )
        raw = choices({"content": "all fine"}, {"content": "a forbidden thing"})
        sent = await drive(answering(raw), engine(), refusals=refusals)
        assert sent[0]["status"] == 422
        error = json.loads(whole(sent))["error"]
        assert (error["code"], error["message"], error["param"]) == ("content_filter", "No.", None)
        assert b"fine" not in whole(sent)

    async def test_the_finish_reason_can_be_stop(self):
        refusals = Refusals(dict.fromkeys(Stage, Refusal(finish_reason="stop", message="No.")))
        sent = await drive(answering(completion("forbidden")), engine(), refusals=refusals)
        choice = json.loads(whole(sent))["choices"][0]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", "No.")

    async def test_a_violation_under_an_unknown_label_is_refused_not_unavailable(self):
        sent = await drive(answering(completion("an unheard-of thing")), engine())
        assert sent[0]["status"] == 200
        assert json.loads(whole(sent))["choices"][0]["finish_reason"] == "content_filter"


class TestRedaction:
    async def test_only_the_matched_bytes_change(self):
        raw = b'{"choices":[{"message": {"content":"Mail kim@example.com now"},"x":1.0}],  "y":1e3}'
        sent = await drive(answering(raw), engine())
        assert whole(sent) == raw.replace(MAIL.encode(), b"[REDACTED:HIDE]")
        assert headers_of(sent)[b"x-guardrail-decision"] == b"redact"

    async def test_tool_arguments_stay_valid_json(self):
        arguments = json.dumps({"to": MAIL, "n": 1})
        calls = [{"id": "t", "type": "function", "function": {"name": "send", "arguments": arguments}}]
        sent = await drive(answering(choices({"content": None, "tool_calls": calls})), engine())
        call = json.loads(whole(sent))["choices"][0]["message"]["tool_calls"][0]
        assert json.loads(call["function"]["arguments"]) == {"to": "[REDACTED:HIDE]", "n": 1}


class TestOutage:
    async def test_a_closed_outage_is_503_even_where_only_one_choice_was_not_judged(self):
        raw = choices({"content": "all fine"}, {"content": "an outage"})
        sink = MemorySink()
        sent = await drive(answering(raw), engine(sink))
        assert sent[0]["status"] == 503
        headers = headers_of(sent)
        assert int(headers[b"retry-after"]) > 0
        assert headers[b"x-should-retry"] == b"false"
        assert headers[b"x-guardrail-degraded"] == b"house-rules=unavailable"
        assert json.loads(whole(sent))["error"]["code"] == "guardrail_unavailable"
        assert b"fine" not in whole(sent)
        assert len(sink.records) == 3

    async def test_an_open_outage_passes_and_says_so(self):
        raw = completion("an outage")
        sent = await drive(answering(raw), engine(on_error={Stage.OUTPUT: FailRules(FailMode.OPEN)}))
        assert whole(sent) == raw
        assert headers_of(sent)[b"x-guardrail-decision"] == b"pass"
        assert headers_of(sent)[b"x-guardrail-degraded"] == b"house-rules=unavailable"

    async def test_a_crash_of_the_classifier_is_closed_too(self):
        class Crash(ScriptedClassifier):
            async def classify(self, policy: Policy, subject: Subject) -> Verdict:
                raise ZeroDivisionError

        sent = await drive(answering(completion("fine")), engine(classifier=Crash()))
        assert sent[0]["status"] == 503
        assert headers_of(sent)[b"x-guardrail-degraded"] == b"house-rules=internal"


class TestUnreadable:
    @pytest.mark.parametrize("action", [Action.FLAG, Action.PASS, Action.BLOCK])
    @pytest.mark.parametrize(
        ("kind", "raw"),
        [
            (JSON, b"{zebra"),
            (JSON, b""),
            (JSON, b'{"zebra": []}'),
            (JSON, b'{"choices": null}'),
            (JSON, b'{"choices": [{"text": "zebra"}]}'),
            (JSON, b'{"choices": ["zebra"]}'),
            (JSON, b'{"choices": [{"message": {"content": 7}}]}'),
            (JSON, b'{"choices": [{"message": {"content": NaN}}]}'),
            (JSON, b"\xef\xbb\xbf" + completion("zebra")),
            (b"Application/JSON; charset=utf-8", b"{zebra"),
            (b"application/problem+json", b"{zebra"),
            (b"text/plain", b"zebra"),
            (b"audio/mpeg", b"zebra"),
            (b"", b"zebra"),
            (None, b"zebra"),
        ],
    )
    async def test_what_is_no_completion_is_refused_under_every_rule(
        self, kind: bytes | None, raw: bytes, action: Action
    ):
        sent = await drive(answering(raw, kind=kind), engine(on_unreadable=action))
        assert sent[0]["status"] == 502
        assert json.loads(whole(sent))["error"]["code"] == "upstream_unreadable"
        assert b"zebra" not in whole(sent)

    @pytest.mark.parametrize("kind", [b"text/plain", b"application/octet-stream", b"", None])
    @pytest.mark.parametrize("asked", [ASK, ASK[:-1] + b', "stream": true}'])
    async def test_a_stream_that_does_not_say_so_is_refused(self, kind: bytes | None, asked: bytes):
        events = b"".join([chunk({"content": "zebra"}), DONE])
        sent = await drive(answering(events, kind=kind), engine(on_unreadable=Action.PASS), asked)
        error = json.loads(whole(sent))["error"]
        assert (sent[0]["status"], error["code"]) == (502, "upstream_unreadable")
        assert "text/event-stream" in error["message"]
        assert b"zebra" not in whole(sent)

    @pytest.mark.parametrize(("action", "word"), [(Action.FLAG, b"flag"), (Action.PASS, b"pass")])
    @pytest.mark.parametrize("kind", [b"text/plain", b"audio/mpeg", b"", None])
    async def test_the_files_of_a_route_follow_the_rule_and_are_named(
        self, kind: bytes | None, action: Action, word: bytes
    ):
        sink = MemorySink()
        judging = engine(sink, on_unreadable=action)
        sent = await drive(answering(b"some ", b"words", kind=kind), judging, routes=(OWN,))
        assert (sent[0]["status"], whole(sent)) == (200, b"some words")
        assert headers_of(sent)[b"x-guardrail-unjudged"] == b"$"
        assert headers_of(sent)[b"x-guardrail-decision"] == word
        record = sink.records[-1]
        assert (record.decision.stage, record.decision.unjudged, record.text) == (Stage.OUTPUT, ("$",), "")
        assert record.decision.id.encode() == headers_of(sent)[b"x-guardrail-id"]

    @pytest.mark.parametrize("options", [{"on_unreadable": Action.BLOCK}, {"strict": True}])
    async def test_the_files_of_a_route_are_refused_where_the_rule_says_block(
        self, options: dict[str, Any]
    ):
        sent = await drive(answering(b"some words", kind=b"text/plain"), engine(**options), routes=(OWN,))
        assert sent[0]["status"] == 502
        assert b"words" not in whole(sent)

    async def test_a_completion_is_judged_whatever_its_type_says(self):
        sent = await drive(answering(completion("forbidden"), kind=b"text/plain"), engine())
        assert b"forbidden" not in whole(sent)

    async def test_an_unreadable_part_is_named_and_the_rest_judged(self):
        parts = [{"type": "text", "text": "fine"}, {"type": "image_url", "image_url": {"url": "x"}}]
        raw = choices({"content": parts, "audio": {"data": "AA=="}})
        sent = await drive(answering(raw), engine())
        assert whole(sent) == raw
        named = headers_of(sent)[b"x-guardrail-unjudged"].decode().split(", ")
        assert sorted(named) == ["$.choices[0].message.audio", "$.choices[0].message.content[1]"]
        sent = await drive(answering(raw), engine(strict=True))
        assert json.loads(whole(sent))["choices"][0]["finish_reason"] == "content_filter"

    async def test_an_answer_without_choices_passes(self):
        raw = b'{"choices": []}'
        assert whole(await drive(answering(raw), engine())) == raw

    @pytest.mark.parametrize("more", [[], [(b"content-encoding", b"identity")]])
    async def test_an_answer_that_is_too_large_to_be_judged_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, more: list[tuple[bytes, bytes]]
    ):
        raw = completion("zebra")
        monkeypatch.setattr(unary, "MAX_RESPONSE_BYTES", len(raw))
        assert whole(await drive(answering(raw[:9], raw[9:], more=more), engine())) == raw
        monkeypatch.setattr(unary, "MAX_RESPONSE_BYTES", len(raw) - 1)
        sent = await drive(answering(raw[:9], raw[9:], more=more), engine())
        assert (sent[0]["status"], b"zebra" in whole(sent)) == (502, False)


async def test_annotations_are_of_each_choice_and_their_body_has_its_own_length():
    raw = choices({"content": "forbidden"}, {"content": "noteworthy"}, {"content": "fine"})
    guarded = GuardrailMiddleware(answering(raw), engine())
    sent = await drive_asgi(guarded, body=ASK, headers=[(b"x-guardrail-annotations", b"azure")])
    body = json.loads(whole(sent))
    told = [choice["content_filter_results"]["house-rules"] for choice in body["choices"]]
    assert [(one["filtered"], one["detected"]) for one in told] == [
        (True, True),
        (False, True),
        (False, False),
    ]
    assert body["prompt_filter_results"] == [{"prompt_index": 0, "content_filter_results": {}}]
