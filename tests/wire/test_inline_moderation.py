"""What a request may say in ``moderation``, and where its answer tells of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from guardrail.core.decision import Decision, Failure
from guardrail.core.policy import Action, FailMode, Mode, Stage
from guardrail.core.verdict import Verdict
from guardrail.errors import FailureCode, UnreadableRequest
from guardrail.wire.chat import ChatDialect
from guardrail.wire.chat_stream import ChatStream
from guardrail.wire.dialect import DecisionOf, Dialect, EventStream
from guardrail.wire.inline_moderation import ChatModeration, ResponsesModeration
from guardrail.wire.replies import Refusal
from guardrail.wire.responses import ResponsesDialect
from guardrail.wire.sse import Event
from tests.wire import responses
from tests.wire.chats import BLOCK, POLICY, answer, chunk, delta, event

PASSED = Decision(Stage.OUTPUT, Action.PASS, (Verdict(POLICY, "SAFE", violation=False),))
FAILED = Decision(
    Stage.OUTPUT, Action.PASS, (*PASSED.findings, Failure(POLICY, FailureCode.TIMEOUT, FailMode.OPEN))
)
UNREAD = Decision(Stage.INPUT, Action.FLAG, unjudged=("$.x",), floor=Action.FLAG)
SHADOW = Decision(
    Stage.INPUT, Action.PASS, (Verdict(replace(POLICY, mode=Mode.SHADOW), "BAD", violation=True),)
)
NOBODY = Decision(Stage.INPUT, Action.PASS)
DONE = Event(b"data: [DONE]\n\n", b"[DONE]")
DIALECTS = [ChatDialect(), ResponsesDialect()]


def asking(moderation: Any) -> bytes:
    said = {"messages": [{"role": "user", "content": "x"}], "input": "x"}
    return json.dumps({"model": "m", **said, "moderation": moderation}).encode()


@pytest.mark.parametrize("dialect", DIALECTS)
class TestReading:
    @pytest.mark.parametrize(
        "policy", [None, {}, {"input": {"mode": "score"}, "output": {"mode": "block"}}, {"input": None}]
    )
    def test_it_is_taken_out(self, dialect: Dialect, policy: Any):
        request = dialect.read_request(asking({"model": "omni", "policy": policy}))
        assert "moderation" not in json.loads(request.raw)
        assert "$.moderation" not in request.conversation.unreadable
        assert len(request.annotations) == 1

    def test_null_asks_for_nothing(self, dialect: Dialect):
        request = dialect.read_request(asking(None))
        assert (request.raw, request.annotations) == (asking(None), ())

    @pytest.mark.parametrize(
        ("moderation", "param"),
        [
            (True, "moderation"),
            ({"model": "m", "x": 1}, "moderation"),
            ({}, "moderation.model"),
            ({"model": 1}, "moderation.model"),
            ({"model": "m", "policy": []}, "moderation.policy"),
            ({"model": "m", "policy": {"x": 1}}, "moderation.policy"),
            ({"model": "m", "policy": {"input": "score"}}, "moderation.policy.input"),
            ({"model": "m", "policy": {"output": {}}}, "moderation.policy.output.mode"),
            ({"model": "m", "policy": {"output": {"mode": ["off"]}}}, "moderation.policy.output.mode"),
        ],
    )
    def test_a_wrong_shape_is_named(self, dialect: Dialect, moderation: Any, param: str):
        with pytest.raises(UnreadableRequest) as caught:
            dialect.read_request(asking(moderation))
        assert caught.value.param == param


def flags(side: Any) -> Any:
    """What is flagged in a list of results, or the code of the error."""
    return side["code"] if side["type"] == "error" else [one["flagged"] for one in side["results"]]


def chunks(raw: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in raw.splitlines() if line.startswith(b"data: {")]


class TestDecisions:
    """How a decision is told; ``input`` and ``output`` tell it alike."""

    @pytest.mark.parametrize(
        ("decision", "told"),
        [
            (PASSED, [False]),
            (BLOCK, [True]),
            (UNREAD, [True]),
            (FAILED, "guardrail_unavailable"),
            (SHADOW, "guardrail_not_judged"),
            (NOBODY, "guardrail_not_judged"),
        ],
    )
    def test_each(self, decision: Decision, told: Any):
        raw = ChatModeration().body(answer({"content": "a"}), decision, lambda _: decision)
        moderation = json.loads(raw)["moderation"]
        assert (flags(moderation["input"]), flags(moderation["output"])) == (told, told)

    def test_neither_rationale_nor_excerpt_is_told(self):
        raw = ChatModeration().body(answer({"content": "a"}), BLOCK, lambda _: BLOCK)
        assert "§" not in raw.decode()

    def test_one_choice_that_was_not_judged_is_the_error_of_all(self):
        two = answer({"content": "a"}, {"content": "b"})
        found: list[DecisionOf] = [{0: BLOCK, 1: PASSED}.get, {0: BLOCK}.get, {0: FAILED, 1: BLOCK}.get]
        told = [
            json.loads(ChatModeration().body(two, PASSED, one))["moderation"]["output"] for one in found
        ]
        assert [flags(one) for one in told] == [
            [True, False],
            "guardrail_not_judged",
            "guardrail_unavailable",
        ]

    def test_nothing_else_of_a_body_changes(self):
        raw = answer({"content": "a"}, usage={"x": 1.5})
        told = json.loads(ChatModeration().body(raw, PASSED, lambda _: PASSED))
        assert told.pop("moderation")["input"]["type"] == "moderation_results"
        assert told == json.loads(raw)


def end(index: int) -> Event:
    return chunk({"index": index, "delta": {}, "finish_reason": "stop"}, model="m")


def guarded(choices: int, found: Any = None) -> EventStream:
    decisions = found or {0: PASSED, 1: BLOCK, 2: PASSED}
    return ChatModeration().stream(ChatStream(structured=False), PASSED, decisions.get, choices)


def through(stream: EventStream, *events: Event) -> list[bytes]:
    return [stream.write(read, {}, ()) for read in stream.read(events)]


class TestChatStreams:
    def test_it_is_told_behind_the_end_of_the_last_choice(self):
        usage = chunk(usage={"total_tokens": 3}, choices=[])
        said, first, last, used, done = through(
            guarded(2), chunk(delta(content="[DONE]")), end(1), end(0), usage, DONE
        )
        assert [said, first, used, done] == [
            chunk(delta(content="[DONE]")).raw,
            end(1).raw,
            usage.raw,
            DONE.raw,
        ]
        assert last.startswith(end(0).raw)
        told = chunks(last)[-1]
        assert (told["id"], told["model"], told["choices"]) == ("c-1", "m", [])
        assert flags(told["moderation"]["output"]) == [False, True]

    def test_choices_that_never_ended_were_not_judged(self):
        ended, done = through(guarded(2), end(0), DONE)
        assert ended == end(0).raw
        assert done.endswith(DONE.raw)
        [told] = chunks(done)
        assert (told["id"], told["model"]) == ("c-1", "m")
        assert flags(told["moderation"]["output"]) == "guardrail_not_judged"

    @pytest.mark.parametrize("events", [[DONE], [end(5), DONE], [end(0), end(0), DONE, DONE]])
    def test_it_is_told_once(self, events: list[Event]):
        told = chunks(b"".join(through(guarded(1, {0: PASSED, 5: BLOCK}), *events)))
        assert len([c for c in told if "moderation" in c]) == 1

    def test_a_halted_choice_is_told_of_with_the_others(self):
        stream = guarded(2)
        halted = stream.halt(1, BLOCK, Refusal(message="No."), spoke=False)
        assert all("moderation" not in one for one in chunks(halted))
        [last] = through(stream, end(0))
        assert flags(chunks(last)[-1]["moderation"]["output"]) == [False, True]

    def test_when_all_were_halted_the_last_one_tells(self):
        stream = guarded(1, {0: BLOCK})
        halted = chunks(stream.halt(0, BLOCK, Refusal(message="No."), spoke=True))
        assert flags(halted[-1]["moderation"]["output"]) == [True]
        assert stream.end() == DONE.raw

    def test_an_error_ends_a_stream_untold(self):
        refusal = Refusal(style="error")
        plain = ChatStream(structured=False).halt(0, BLOCK, refusal, spoke=True)
        assert guarded(1).halt(0, BLOCK, refusal, spoke=True) == plain

    def test_a_choice_that_was_dropped_leaves_nothing(self):
        stream = guarded(2)
        stream.halt(0, BLOCK, Refusal(), spoke=True)
        [read] = stream.read([end(0)])
        assert stream.write(read, {}, (0,)) == b""


class TestResponsesStreams:
    def stream(self, found: Decision | None) -> EventStream:
        own = ResponsesDialect().stream(responses.asked(stream=True))
        return ResponsesModeration().stream(own, PASSED, lambda _: found, 1)

    def test_the_last_event_tells_and_no_other_changes(self):
        events = [event(data) for data in responses.told(responses.message("hi"))]
        *before, last = through(self.stream(BLOCK), *events)
        assert before == [event.raw for event in events[:-1]]
        [told] = chunks(last)
        moderation = told["response"].pop("moderation")
        assert (moderation["input"]["flagged"], moderation["output"]["flagged"]) == (False, True)
        assert [told] == chunks(events[-1].raw)

    def test_a_halt_tells(self):
        stream = self.stream(BLOCK)
        events = [event(data) for data in responses.told(responses.message("hi"))]
        through(stream, *events[:4])
        *_, last = chunks(stream.halt(0, BLOCK, Refusal(message="No."), spoke=True))
        assert last["response"]["moderation"]["output"]["flagged"] is True

    def test_an_error_ends_a_stream_untold(self):
        halted = self.stream(BLOCK).halt(0, BLOCK, Refusal(style="error"), spoke=True)
        assert b"moderation" not in halted
        assert b"error" in halted
