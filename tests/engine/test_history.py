"""The twin of guardrail/engine/history.py: chats through the middleware, against an oracle of their own.

``TestAnyChat`` lets a client do to its history whatever clients do, and some things they should not. Its
oracle knows nothing of digests: it compares whole message lists.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from guardrail import GuardrailEngine, GuardrailMiddleware
from guardrail.backends.memory_cache import MemoryHistory
from guardrail.core.conversation import Address, Subject, chain
from guardrail.core.history import Remembered
from guardrail.core.policy import Action, FailMode, LabelRule, Mode, Policy, Stage
from guardrail.core.release import StreamRules
from guardrail.core.verdict import Verdict
from guardrail.engine.fail_rules import FailRules
from guardrail.errors import ClassifierUnavailable
from guardrail.frontends.asgi import Message, Receive, Scope, Send
from guardrail.frontends.middleware import Settings
from guardrail.testing import MemorySink, drive_asgi
from guardrail.wire.refusals import Refusals
from guardrail.wire.replies import Refusal
from tests.fakes import DONE, chunk, completion
from tests.marked import marked

LABELS = {
    "OK": LabelRule("OK", violation=False),
    "HIDE": LabelRule("HIDE", violation=True, action=Action.REDACT),
    "STOP": LabelRule("STOP", violation=True, action=Action.BLOCK),
}
ONE = Policy("one", "Judge by the rules of one.", LABELS)
TWO = Policy("two", "Judge by the rules of two.", LABELS)
OUT = Policy("out", "Judge answers.", LABELS)
REFUSAL = Refusal().message
OPEN = {stage: FailRules(FailMode.OPEN) for stage in Stage}
Said = dict[str, Any]


def user(text: str) -> Said:
    return {"role": "user", "content": text}


def assistant(text: str | None, **more: Any) -> Said:
    return {"role": "assistant", "content": text, **more}


def tool(text: str, call: str = "c1") -> Said:
    return {"role": "tool", "tool_call_id": call, "content": text}


def calling(*ids: str) -> Said:
    calls = [
        {"id": own, "type": "function", "function": {"name": "look", "arguments": '{"q": 1}'}}
        for own in ids
    ]
    return assistant(None, tool_calls=calls)


@dataclass
class Judge:
    """Stops ``bad``, hides ``pii``, fails while ``down``; remembers which messages it was shown as new."""

    down: frozenset[Stage] = frozenset()
    asked: list[tuple[Policy, Subject]] = field(default_factory=list)

    def identity(self, policy: Policy) -> str:
        return "judge"

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        self.asked.append((policy, subject))
        if subject.stage in self.down:
            raise ClassifierUnavailable("down")
        if "bad" in subject.text:
            return Verdict(policy, "STOP", violation=True)
        if "pii" in subject.text:
            return Verdict(policy, "HIDE", violation=True, excerpts=("pii",))
        return Verdict(policy, "OK", violation=False)

    def new(self, stage: Stage = Stage.INPUT) -> list[tuple[str, list[int]]]:
        """Each call since the last look: its policy, and the places of the messages to classify."""
        calls = [
            (policy.id, list(dict.fromkeys(_place(s.address) for s in subject.segments)))
            for policy, subject in self.asked
            if subject.stage is stage
        ]
        self.asked.clear()
        return calls


def _place(address: Address) -> int:
    return int(address[1]) if address[0] == "messages" else -1


@dataclass
class Upstream:
    """Answers with what it is told, whole or by small chunks, and keeps what was forwarded."""

    answer: Said = field(default_factory=lambda: {"content": "fine"})
    got: list[list[Said]] = field(default_factory=list)
    raw: bytes = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.raw = (await receive())["body"]
        body = json.loads(self.raw)
        self.got.append(body["messages"])
        kind = b"text/event-stream" if body.get("stream") else b"application/json"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        if not body.get("stream"):
            data = completion(self.answer.get("content"), **_without(self.answer, "content"))
            await send({"type": "http.response.body", "body": data})
            return
        for data in self._events():
            await send({"type": "http.response.body", "body": data, "more_body": True})
            await anyio.lowlevel.checkpoint()
        await send({"type": "http.response.body", "body": b""})

    def _events(self) -> list[bytes]:
        out = [chunk({"role": "assistant", "content": ""})]
        for key, value in self.answer.items():
            if isinstance(value, str):
                out += [chunk({key: value[i : i + 3]}) for i in range(0, len(value), 3)]
            elif key == "tool_calls":
                for index, call in enumerate(value):
                    head = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
                    out.append(chunk({"tool_calls": [head]}))
                    for piece in call["function"]["arguments"]:
                        out.append(
                            chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
                        )
        return [*out, chunk({}, finish_reason="stop"), DONE]


def _without(value: Said, *keys: str) -> Said:
    return {key: item for key, item in value.items() if key not in keys}


@dataclass
class Store(MemoryHistory):
    """Counts the looks and the writes."""

    looks: int = 0
    puts: list[tuple[str, Remembered]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def get_many(self, keys: Sequence[str]) -> list[Remembered | None]:
        self.looks += 1
        return await super().get_many(keys)

    async def put(self, key: str, known: Remembered) -> None:
        self.puts.append((key, known))
        await super().put(key, known)


class House:
    """A middleware with everything around it."""

    def __init__(self, *, rules: StreamRules | None = None, refusals: Any = None, **options: Any) -> None:
        self.judge = Judge()
        self.upstream = Upstream()
        self.store = Store()
        self.sink = MemorySink()
        self.options = {"history": self.store, "sinks": [self.sink], "on_error": OPEN, **options}
        self.policies = {Stage.INPUT: [ONE, TWO], Stage.OUTPUT: [OUT]}
        self.settings = Settings(streaming=rules or StreamRules(first=None, window=20, overlap=10))
        if refusals:
            self.settings = replace(self.settings, refusals=refusals)

    async def send(self, messages: list[Said], **fields: Any) -> tuple[Said | None, dict[bytes, bytes]]:
        """The answer as a client puts it together (None: an error), and the headers."""
        engine = GuardrailEngine(self.policies, self.judge, **self.options)
        app = GuardrailMiddleware(self.upstream, engine, self.settings)
        raw = json.dumps({"model": "m", "messages": messages, **fields}).encode()
        sent = await drive_asgi(app, body=raw)
        return assembled(sent), dict(sent[0]["headers"])


def assembled(sent: list[Message]) -> Said | None:
    data = b"".join(message.get("body", b"") for message in sent[1:])
    if sent[0]["status"] != 200:
        return None
    if data.startswith(b"{"):
        return {key: value for key, value in json.loads(data)["choices"][0]["message"].items() if value}
    message: Said = {"role": "assistant"}
    calls: dict[int, Said] = {}
    for line in data.split(b"\n\n"):
        if not line or line == b"data: [DONE]":
            continue
        body = json.loads(line.removeprefix(b"data: "))
        if "error" in body:
            return None
        delta = body["choices"][0]["delta"]
        for key in ("content", "reasoning_content", "refusal"):
            if delta.get(key):
                message[key] = message.get(key, "") + delta[key]
        for call in delta.get("tool_calls", ()):
            known = calls.setdefault(call["index"], {"function": {"arguments": ""}})
            known |= {key: call[key] for key in ("id", "type") if key in call}
            arguments = known["function"]["arguments"] + call["function"].get("arguments", "")
            known["function"] |= call["function"] | {"arguments": arguments}
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    return message


EACH = ("one", "two")


def once(*places: int) -> list[tuple[str, list[int]]]:
    return [(policy, list(places)) for policy in EACH]


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
class TestAChat:
    async def test_of_fifty_turns_costs_one_look_and_one_check_a_turn(self, stream: bool):
        house, messages = House(), [{"role": "system", "content": "Be kind."}]
        for turn in range(50):
            messages.append(user(f"question {turn}"))
            house.upstream.answer = {"content": f"answer {turn}"}
            answer, headers = await house.send(messages, stream=stream)
            assert house.judge.new() == once(len(messages) - 1)
            assert house.upstream.got[-1] == messages
            assert house.store.looks == turn + 1
            assert b"x-guardrail-dropped-turns" not in headers
            messages.append(answer or {})
        assert messages[-1]["content"] == "answer 49"
        assert len(house.store.puts) == 100

    async def test_what_was_redacted_stays_redacted_without_a_check(self, stream: bool):
        house = House()
        messages = [user("my pii is pii."), assistant("forged pii")]
        for turn in range(10):
            house.upstream.answer = {"content": f"answer {turn} with pii in it"}
            answer, headers = await house.send([*messages, user("and?")], stream=stream)
            assert house.judge.new() == (once(0, 1, 2) if turn == 0 else once(len(messages)))
            assert "pii" not in json.dumps(house.upstream.got[-1])
            assert house.upstream.got[-1][0]["content"] == "my [REDACTED:HIDE] is [REDACTED:HIDE]."
            assert headers[b"x-guardrail-decision"] == b"redact"
            assert (answer or {})["content"] == f"answer {turn} with [REDACTED:HIDE] in it"
            messages += [user("and?"), answer or {}]

    async def test_goes_on_without_what_was_blocked(self, stream: bool):
        house = House()
        messages = [user("hi"), assistant("forged"), user("bad")]
        answer, _ = await house.send(messages[:1], stream=stream)
        messages[1] = answer or {}
        answer, headers = await house.send(messages, stream=stream)
        assert (answer or {})["content"] == REFUSAL
        assert headers[b"x-guardrail-policies"] == b"one, two"
        house.judge.new()
        assert len(house.upstream.got) == 1

        again, headers = await house.send(messages, stream=stream)  # as it was
        assert (again or {})["content"] == REFUSAL
        assert headers[b"x-guardrail-decision"] == b"block"
        assert house.judge.new() == []
        assert house.sink.records[-1].checks == 0

        messages += [answer or {}, user("better")]
        answer, headers = await house.send(messages, stream=stream)
        assert house.judge.new() == once(4)
        assert house.upstream.got[-1] == [messages[0], messages[1], messages[4]]
        assert headers[b"x-guardrail-dropped-turns"] == b"2"
        messages += [answer or {}, user("bad again")]
        refusal, _ = await house.send(messages, stream=stream)
        messages += [refusal or {}, user("well")]
        house.judge.new()
        _, headers = await house.send(messages, stream=stream)
        assert house.judge.new() == once(8)
        assert house.upstream.got[-1] == [messages[i] for i in (0, 1, 4, 5, 8)]
        assert headers[b"x-guardrail-dropped-turns"] == b"4"

    async def test_what_was_blocked_is_not_shown_to_a_judge_again(self, stream: bool):
        house = House()
        await house.send([user("bad")])
        house.judge.new()
        await house.send([user("bad"), assistant(REFUSAL), user("hi")], stream=stream)
        assert house.judge.asked
        assert not any("bad" in subject.read_text for _, subject in house.judge.asked)
        assert not any(REFUSAL in subject.read_text for _, subject in house.judge.asked)

    async def test_an_answer_after_a_blocked_turn_that_is_not_ours_is_judged(self, stream: bool):
        house = House()
        await house.send([user("bad")])
        house.judge.new()
        messages = [user("bad"), assistant("Sure, first"), user("go on")]
        await house.send(messages, stream=stream)
        assert house.judge.new() == once(1, 2)
        assert house.upstream.got[-1] == messages[1:]

    async def test_a_client_that_leaves_the_refusal_out_goes_on_too(self, stream: bool):
        house = House()
        await house.send([user("bad")])
        house.judge.new()
        await house.send([user("bad"), user("hi")], stream=stream)
        assert house.judge.new() == once(1)
        assert house.upstream.got[-1] == [user("hi")]

    async def test_a_blocked_tool_result_goes_with_its_call(self, stream: bool):
        house = House()
        house.upstream.answer = calling("c1", "c2")
        messages = [user("look it up")]
        answer, _ = await house.send(messages, stream=stream)
        messages += [answer or {}, tool("good", "c1"), tool("bad", "c2")]
        house.judge.new()
        answer, _ = await house.send(messages, stream=stream)
        assert house.judge.new() == once(2, 3)
        messages += [answer or {}, user("never mind")]
        await house.send(messages, stream=stream)
        assert house.judge.new() == once(5)
        assert house.upstream.got[-1] == [messages[0], messages[5]]

    async def test_calls_and_thoughts_come_back_unjudged(self, stream: bool):
        house = House()
        house.upstream.answer = {
            "content": "I look.",
            "reasoning_content": "thinking hard",
            "tool_calls": calling("c1")["tool_calls"],
        }
        messages = [user("look it up")]
        answer, _ = await house.send(messages, stream=stream)
        assert answer == {"role": "assistant", **house.upstream.answer}
        for sent_back in (answer, _without(answer, "reasoning_content")):
            house.judge.new()
            await house.send([*messages, sent_back, tool("found")], stream=stream)
            assert house.judge.new() == once(2)
        await house.send([*messages, {**answer, "reasoning_content": "other"}, tool("found")])
        assert house.judge.new() == once(1, 2)

    async def test_goes_on_after_an_answer_that_was_refused(self, stream: bool):
        house = House()
        house.upstream.answer = {"content": "bad answer"}
        answer, _ = await house.send([user("hi")], stream=stream)
        assert answer == assistant(REFUSAL)
        house.judge.new()
        await house.send([user("hi"), answer, user("well")], stream=stream)
        assert house.judge.new() == once(2)
        assert house.upstream.got[-1] == [user("hi"), answer, user("well")]

    @pytest.mark.parametrize("failing", [Stage.INPUT, Stage.OUTPUT])
    async def test_a_turn_with_a_failed_check_is_judged_with_the_next_one(
        self, stream: bool, failing: Stage
    ):
        house = House()
        messages = [user("one")]
        answer, _ = await house.send(messages, stream=stream)
        messages += [answer or {}, user("two")]
        house.judge.new()
        house.judge.down = frozenset({failing})
        answer, headers = await house.send(messages, stream=stream)
        assert b"unavailable" in headers[b"x-guardrail-degraded"]
        house.judge.down = frozenset()
        house.judge.new()
        messages += [answer or {}, user("three")]
        await house.send(messages, stream=stream)
        assert house.judge.new() == (once(2, 3, 4) if failing is Stage.INPUT else once(3, 4))

    async def test_a_retry_asks_nobody_about_the_prompt(self, stream: bool):
        house = House()
        await house.send([user("my pii")], stream=stream)
        house.judge.new()
        _, headers = await house.send([user("my pii")], stream=stream)
        assert house.judge.new() == []
        assert house.upstream.got[-1] == [user("my [REDACTED:HIDE]")]
        assert headers[b"x-guardrail-decision"] == b"redact"
        redaction = house.sink.records[-2].decision.redactions[0]
        assert marked(redaction.segment.text, redaction.spans) == "my [REDACTED:HIDE]"


def talked() -> list[Said]:
    return [
        {"role": "system", "content": "Be kind."},
        user("one"), assistant("fine"), user("two"), assistant("fine"), user("three"),
    ]  # fmt: skip


async def after_two_turns(house: House) -> None:
    for end in (2, 4):
        await house.send(talked()[:end])
    house.judge.new()


@pytest.mark.anyio
class TestWhatIsJudgedAgain:
    @pytest.mark.parametrize(
        ("place", "message", "judged"),
        [
            (4, assistant("forged"), (4, 5)),
            (4, user("fine"), (4, 5)),
            (4, assistant("fine", reasoning_content="forged"), (4, 5)),
            (4, assistant("fine", tool_calls=calling("c")["tool_calls"]), (4, 5)),
            (4, assistant([{"type": "text", "text": "fi"}, {"type": "text", "text": "ne"}]), (4, 5)),
            (3, user("edited"), (3, 4, 5)),
            (2, assistant("Fine"), (2, 3, 4, 5)),
            (1, user("one "), (1, 2, 3, 4, 5)),
            (0, {"role": "system", "content": "Be rude."}, (1, 2, 3, 4, 5)),
            (0, {"role": "developer", "content": "Be kind."}, (1, 2, 3, 4, 5)),
        ],
    )
    async def test_is_all_from_the_first_change_on(
        self, place: int, message: Said, judged: tuple[int, ...]
    ):
        house = House()
        await after_two_turns(house)
        messages = talked()
        messages[place] = message
        await house.send(messages)
        assert house.judge.new() == once(*judged)
        assert house.upstream.got[-1] == messages

    @pytest.mark.parametrize(
        "message", [assistant([{"type": "text", "text": "fine"}]), assistant("fine", refusal="")]
    )
    async def test_is_nothing_that_a_judge_would_be_shown_as_the_same(self, message: Said):
        house = House()
        await after_two_turns(house)
        messages = talked()
        messages[4] = message
        await house.send(messages)
        assert house.judge.new() == once(5)

    async def test_is_what_stands_in_another_order_or_elsewhere(self):
        house = House()
        await after_two_turns(house)
        system, one, fine, two, *_ = talked()
        for messages in ([one, fine, two], [system, two, fine, one], [system, fine, one], [system, two]):
            await house.send(messages)
            lead = int(messages[0] is system)
            assert house.judge.new() == once(*range(lead, len(messages)))

    async def test_is_a_prefix_that_was_only_judged_with_what_followed_it(self):
        house = House()
        await house.send([user("one"), user("two")])
        house.judge.new()
        await house.send([user("one")])
        assert house.judge.new() == once(0)

    @pytest.mark.parametrize(
        "policies",
        [
            [ONE],
            [ONE, replace(TWO, body="Other rules.")],
            [ONE, replace(TWO, id="renamed")],
            [ONE, replace(TWO, mode=Mode.SHADOW)],
            [ONE, replace(TWO, labels=LABELS | {"STOP": LabelRule("STOP", True, Action.FLAG)})],
            [ONE, replace(TWO, detectors={"email": "HIDE"})],
        ],
    )
    async def test_is_all_under_other_policies(self, policies: list[Policy]):
        house = House()
        await after_two_turns(house)
        house.policies = {Stage.INPUT: policies, Stage.OUTPUT: [OUT]}
        await house.send(talked())
        assert house.judge.new() == [(policy.id, [1, 2, 3, 4, 5]) for policy in policies]

    @pytest.mark.parametrize(
        "option",
        [
            {"trusted_roles": frozenset({"system"})},
            {"on_unreadable": Action.PASS},
            {"blocked_turns": "block"},
        ],
    )
    async def test_is_all_under_other_rules(self, option: dict[str, Any]):
        house = House()
        await after_two_turns(house)
        house.options |= option
        await house.send(talked())
        assert house.judge.new() == once(1, 2, 3, 4, 5)

    async def test_is_all_when_answers_are_judged_otherwise(self):
        house = House()
        await after_two_turns(house)
        house.policies = {Stage.INPUT: [ONE, TWO], Stage.OUTPUT: []}
        await house.send(talked())
        assert house.judge.new() == once(1, 2, 3, 4, 5)

    async def test_is_all_for_a_request_that_adds_a_policy(self):
        house = House(addable=[OUT])
        await after_two_turns(house)
        await house.send(talked(), guardrails=["out"])
        assert house.judge.new() == [(name, [1, 2, 3, 4, 5]) for name in ("one", "two", "out")]

    async def test_is_a_prediction_with_every_request(self):
        house = House()
        await house.send([user("hi")])
        assert house.judge.new() == once(0)
        for text in ("calm", "calm", "bad"):
            answer, _ = await house.send([user("hi")], prediction={"type": "content", "content": text})
            assert house.judge.new() == once(-1)
        assert answer == assistant(REFUSAL)
        assert house.upstream.got == [[user("hi")]] * 3
        await house.send([user("hi"), assistant(REFUSAL), user("so")])  # the turn was not what was blocked
        assert house.judge.new() == once(1, 2)
        _, headers = await house.send([user("hi")], prediction={"type": "content", "content": "my pii"})
        assert headers[b"x-guardrail-decision"] == b"redact"
        assert b"pii" not in house.upstream.raw

    @pytest.mark.parametrize("text", ["calm", "bad"])
    async def test_is_what_was_judged_together_with_a_prediction(self, text: str):
        house = House()
        for _ in range(2):
            await house.send([user("hi")], prediction={"type": "content", "content": text})
            assert house.judge.new() == once(0, -1)
        await house.send([user("hi")])
        assert house.judge.new() == once(0)


@pytest.mark.anyio
async def test_a_system_prompt_alone_is_judged_by_nobody_and_its_answer_is_remembered():
    house = House()
    messages = [{"role": "system", "content": "Greet."}]
    answer, _ = await house.send(messages)
    assert (house.judge.new(), house.store.looks) == ([], 0)
    await house.send([*messages, answer or {}, user("hi")])
    assert house.judge.new() == once(2)


@pytest.mark.anyio
class TestWhatIsNotRemembered:
    async def test_a_blocked_chat_stays_blocked_where_that_is_wanted(self):
        house = House(blocked_turns="block")
        for messages in ([user("bad")], [user("bad"), assistant(REFUSAL), user("hi")]):
            answer, _ = await house.send(messages)
            assert answer == assistant(REFUSAL)
            assert house.judge.new() == once(*range(len(messages)))
        assert house.upstream.got == []
        assert house.store.puts == []

    async def test_a_block_beside_a_failure(self):
        house = House()
        house.judge.down = frozenset(Stage)
        rules = Judge()
        house.options["last_resort"] = rules
        answer, _ = await house.send([user("bad")])
        assert answer == assistant(REFUSAL)
        assert house.store.puts == []

    async def test_a_block_by_what_nobody_can_read(self):
        house = House(on_unreadable=Action.BLOCK)
        image = {"type": "image_url", "image_url": {"url": "data:"}}
        await house.send([user([{"type": "text", "text": "hi"}, image])])  # type: ignore[arg-type]
        assert house.store.puts == []

    async def test_parts_that_nobody_can_read_are_named_with_every_request(self):
        house = House()
        image = {"type": "image_url", "image_url": {"url": "data:"}}
        messages = [user([{"type": "text", "text": "hi"}, image])]  # type: ignore[arg-type]
        for _ in range(2):
            _, headers = await house.send(messages)
            assert headers[b"x-guardrail-unjudged"] == b"$.messages[0].content[1]"
        assert len(house.judge.new()) == 2

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_refusal_in_the_form_of_an_error(self, stream: bool):
        errors = Refusals(dict.fromkeys(Stage, Refusal(style="error")))
        house = House(refusals=errors)
        assert (await house.send([user("bad")], stream=stream))[0] is None
        assert [known.blocked for _, known in house.store.puts] == [True]
        house.upstream.answer = {"content": "bad"}
        assert (await house.send([user("hi")], stream=stream))[0] is None
        assert [known.blocked for _, known in house.store.puts] == [True, False]

    async def test_anything_without_policies_for_the_input(self):
        house = House()
        house.policies = {Stage.INPUT: [], Stage.OUTPUT: [OUT]}
        await house.send(talked())
        assert (house.store.looks, house.store.puts) == (0, [])

    async def test_an_answer_to_a_client_that_got_an_error_of_the_upstream(self):
        house = House()

        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": completion("fine")})

        house.upstream = broken  # type: ignore[assignment]
        await house.send([user("hi")])
        assert len(house.store.puts) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_is_digested_once_for_prompt_and_answer(stream: bool):
    house = House()
    for messages in (talked()[:2], talked()[:4]):
        await house.send(messages, stream=stream)
        for _, subject in house.judge.asked:
            assert subject.context_digest == chain(subject.context)[-1]
        assert {subject.stage for _, subject in house.judge.asked} == set(Stage)
        house.judge.new()


@pytest.mark.anyio
async def test_a_digest_is_that_of_what_the_judge_is_shown_without_what_was_dropped():
    house = House()
    await house.send([user("bad")])
    await house.send([user("bad"), user("hi")])
    subjects = [subject for _, subject in house.judge.asked if subject.text == "hi"]
    assert len(subjects) == len(EACH)
    assert {subject.digest() for subject in subjects} == {
        Subject(Stage.INPUT, (), subjects[0].turns).digest()
    }


@pytest.mark.anyio
async def test_what_was_held_of_a_choice_when_it_was_halted_was_never_delivered():
    house = House()
    two = [
        {"index": 0, "delta": {"content": "bad text"}, "finish_reason": None},
        {"index": 1, "delta": {"content": "fine text"}, "finish_reason": None},
    ]

    async def upstream(scope: Scope, receive: Receive, send: Send) -> None:
        kind = (b"content-type", b"text/event-stream")
        await send({"type": "http.response.start", "status": 200, "headers": [kind]})
        events = [b"data: " + json.dumps({"choices": two}).encode() + b"\n\n", DONE]
        await send({"type": "http.response.body", "body": b"".join(events)})

    own, house.upstream = house.upstream, upstream  # type: ignore[assignment]
    await house.send([user("hi")], n=2, stream=True)
    house.upstream = own
    house.judge.new()
    for text, judged in (
        ("bad text", (1, 2)),
        (f"bad text{REFUSAL}", (1, 2)),
        ("fine text", (2,)),
        (REFUSAL, (2,)),
    ):
        await house.send([user("hi"), assistant(text), user("so")])
        assert house.judge.new() == once(*judged)


@pytest.mark.anyio
async def test_each_choice_is_remembered():
    house = House()

    async def two(scope: Scope, receive: Receive, send: Send) -> None:
        body = json.loads(completion("first"))
        body["choices"] += [{**json.loads(completion("second bad"))["choices"][0], "index": 1}]
        kind = (b"content-type", b"application/json")
        await send({"type": "http.response.start", "status": 200, "headers": [kind]})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    own, house.upstream = house.upstream, two  # type: ignore[assignment]
    await house.send([user("hi")], n=2)
    house.upstream = own
    house.judge.new()
    for text, judged in (("first", (2,)), (REFUSAL, (2,)), ("second bad", (1, 2))):
        await house.send([user("hi"), assistant(text), user("so")])
        assert house.judge.new() == once(*judged)


@pytest.mark.anyio
async def test_a_stream_that_was_halted_is_remembered_as_far_as_it_left():
    house = House()
    calm = "This is calm text and long enough that some leaves. "
    house.upstream.answer = {"content": calm * 3 + "bad " + calm}
    answer, _ = await house.send([user("hi")], stream=True)
    assert answer
    assert answer["content"] != REFUSAL
    assert "bad" not in answer["content"]
    house.judge.new()
    await house.send([user("hi"), answer, user("so")])
    assert house.judge.new() == once(2)


# -- any chat ---------------------------------------------------------------------------------------

TEXTS = ("hi", "so", "bad", "my pii", "x")
STEPS = st.one_of(
    st.tuples(st.just("say"), st.sampled_from(TEXTS)),
    st.tuples(st.just("say"), st.sampled_from(TEXTS)),
    st.tuples(st.just("tool"), st.sampled_from(TEXTS)),
    st.tuples(st.just("forge"), st.sampled_from((*TEXTS, "fine", REFUSAL))),
    st.tuples(st.just("edit"), st.sampled_from((*TEXTS, REFUSAL)), st.integers(0, 9)),
    st.tuples(st.just("role"), st.sampled_from(("user", "assistant", "system")), st.integers(0, 9)),
    st.tuples(st.just("remove"), st.just(""), st.integers(0, 9)),
    st.tuples(st.just("swap"), st.just(""), st.integers(0, 9)),
    st.tuples(st.just("cut"), st.just(""), st.integers(0, 9)),
    st.tuples(st.just("again"), st.just("")),
)


@dataclass
class Sending:
    """One request: what the client does first, what the upstream says, and how."""

    steps: list[tuple[Any, ...]]
    answer: str
    stream: bool
    down: frozenset[Stage]
    forgets: bool


UP: frozenset[Stage] = frozenset()
SENDINGS = st.builds(
    Sending,
    st.lists(STEPS, min_size=1, max_size=3),
    st.sampled_from(("fine", "some pii", "bad answer", "so it is")),
    st.booleans(),
    st.integers(0, 8).map(lambda n: frozenset({6: [Stage.INPUT], 7: [Stage.OUTPUT], 8: Stage}.get(n, ()))),
    st.integers(0, 9).map(lambda n: n == 9),
)


def applied(messages: list[Said], step: tuple[Any, ...]) -> None:
    kind, text, *rest = step
    place = rest[0] % len(messages) if rest and messages else 0
    if kind in ("say", "tool", "forge"):
        messages.append({"say": user, "tool": tool, "forge": assistant}[kind](text))
    elif not messages or kind == "again":
        return
    elif kind == "edit":
        messages[place] = {**messages[place], "content": text}
    elif kind == "role":
        messages[place] = {**messages[place], "role": text}
    elif kind == "remove":
        del messages[place]
    elif kind == "cut":
        del messages[place:]
    else:
        other = (place + 1) % len(messages)
        messages[place], messages[other] = messages[other], messages[place]


def plain(messages: Sequence[Said]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages]


@dataclass
class Oracle:
    """What was judged and delivered, as whole message lists."""

    judged: list[tuple[list[tuple[str, str]], set[int]]] = field(default_factory=list)
    delivered: list[list[tuple[str, str]]] = field(default_factory=list)

    def covered(self, messages: list[tuple[str, str]], place: int) -> bool:
        """Whether this message, after exactly these, was judged by every policy, delivered, or leads."""
        if all(role == "system" for role, _ in messages[: place + 1]):
            return True
        return messages[: place + 1] in self.delivered or any(
            place in places and messages[: len(known)] == known for known, places in self.judged
        )


async def drive(sendings: list[Sending]) -> None:
    house, oracle = House(rules=StreamRules(first=None, window=5, overlap=10)), Oracle()
    messages: list[Said] = []
    for sending in sendings:
        for step in sending.steps:
            applied(messages, step)
        if sending.forgets:
            for key in list(house.store._entries)[::2]:
                del house.store._entries[key]
        house.upstream.answer = {"content": sending.answer}
        house.judge.down = sending.down
        before = len(house.upstream.got)
        now = plain(messages)
        answer, headers = await house.send(messages, stream=sending.stream)
        calls = house.judge.new()
        failing = Stage.INPUT in sending.down
        if calls and not failing:
            assert [policy for policy, _ in calls] == list(EACH)
            assert calls[0][1] == calls[1][1]
            oracle.judged.append((now, set(calls[0][1])))
        failed_open = failing and bool(calls)
        for forwarded in house.upstream.got[before:]:
            places = placed(messages, forwarded)
            assert len(messages) - len(places) == int(headers.get(b"x-guardrail-dropped-turns", 0))
            if failed_open:
                continue
            assert not any("bad" in m["content"] for m in forwarded if m["role"] != "system")
            lead = next((i for i, m in enumerate(messages) if m["role"] != "system"), len(messages))
            assert not any("pii" in m["content"] for m in forwarded[lead:])
            assert all(oracle.covered(now, place) for place in places)
            event("forwarded with turns dropped" if len(places) < len(messages) else "forwarded whole")
        if answer is not None:
            messages.append(assistant(answer.get("content", "")))
            refused = len(house.upstream.got) == before
            if refused or Stage.OUTPUT not in sending.down:
                oracle.delivered.append(plain(messages))


def placed(messages: list[Said], forwarded: list[Said]) -> list[int]:
    """Where in the client's list each forwarded message stands: in order, redacted or as it was."""
    places: list[int] = []
    at = 0
    for message in forwarded:
        while True:
            own = messages[at]
            texts = (own["content"], own["content"].replace("pii", "[REDACTED:HIDE]"))
            at += 1
            if own["role"] == message["role"] and message["content"] in texts:
                places.append(at - 1)
                break
    return places


class TestAnyChat:
    @given(st.lists(SENDINGS, min_size=2, max_size=12))
    @example(
        [
            Sending([("say", "bad")], "fine", False, UP, False),
            Sending([("say", "hi")], "some pii", True, UP, True),
            Sending([("tool", "bad")], "fine", False, UP, False),
            Sending([("say", "so")], "bad answer", True, frozenset(Stage), False),
            Sending([("say", "my pii")], "fine", True, UP, False),
        ]
    )
    def test_nothing_is_forwarded_that_was_not_judged_here_or_delivered_and_nothing_blocked(
        self, sendings: list[Sending]
    ):
        anyio.run(drive, sendings)
