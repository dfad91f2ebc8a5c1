"""The twin of guardrail/frontends/langchain_round.py: one call of a model, without the model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage

from guardrail import PolicyViolation
from guardrail.backends.memory_cache import MemoryHistory
from guardrail.core.policy import Action, Stage, Strategy
from guardrail.core.release import StreamRules
from guardrail.core.vault import RedactionRules
from guardrail.frontends.langchain_round import Part, Round, aheld, held
from guardrail.frontends.loop_thread import LoopThread
from guardrail.testing import MemorySink, ScriptedClassifier
from tests.frontends.test_filters import MAIL, RULES, engine

pytestmark = pytest.mark.anyio

SHORT = StreamRules(window=10, overlap=5, first=5)
CALL = {"name": "mail", "args": {"to": "x"}, "id": "c", "type": "tool_call"}
CHAT = [SystemMessage("Be brief."), HumanMessage("Hi"), AIMessage("", tool_calls=[CALL])]


def parts(*named: Part) -> frozenset[Part]:
    return frozenset(named)


class TestParts:
    def judged(self, judge: ScriptedClassifier, stage: Stage) -> list[str]:
        return [text for _, s in judge.asked if s.stage is stage for text in s.text.split("\n") if text]

    @pytest.mark.parametrize(
        ("named", "inputs", "outputs"),
        [
            (parts("input", "tool_results", "output"), ["Hi", '{"to": "x"}', "It is sent"], ["Done"]),
            (parts("input"), ["Hi", '{"to": "x"}'], []),
            (parts("tool_results"), ["It is sent"], []),
            (parts("output"), [], ["Done"]),
            (parts(), [], []),
        ],
    )
    async def test_only_what_is_named_is_judged(
        self, named: frozenset[Part], inputs: list[str], outputs: list[str]
    ):
        judge = ScriptedClassifier()
        call = Round(
            engine(classifier=judge), [*CHAT, ToolMessage("It is sent", tool_call_id="c")], parts=named
        )
        assert len(await call.before()) == 4
        answer = AIMessage("Done")
        assert await call.after(answer) is answer
        assert self.judged(judge, Stage.INPUT) == inputs
        assert self.judged(judge, Stage.OUTPUT) == outputs
        for _, subject in judge.asked:
            if subject.stage is Stage.OUTPUT:
                texts = [segment.text for turn in subject.context for segment in turn.segments]
                assert texts == ["Be brief.", "Hi", '{"to": "x"}', "It is sent"]

    @pytest.mark.parametrize(
        ("named", "paths"),
        [
            (
                parts("input", "tool_results"),
                ("$[0].content[0]", "$[1].content[1]", "$[11].content[0]", "$.tools"),
            ),
            (parts("input"), ("$[0].content[0]", "$[1].content[1]", "$.tools")),
            (parts("tool_results"), ("$[0].content[0]", "$[11].content[0]")),
        ],
    )
    async def test_what_cannot_be_read_is_named_where_it_would_be_judged(
        self, named: frozenset[Part], paths: tuple[str, ...]
    ):
        image: Any = {"type": "image", "url": "u"}
        messages = [SystemMessage([image]), HumanMessage(["look", image]), *[AIMessage("a")] * 9]
        messages.append(ToolMessage([image], tool_call_id="c"))
        sink = MemorySink()
        await Round(engine(sink), messages, parts=named, unread=("$.tools",)).before()
        assert [record.decision.unjudged for record in sink.records] == [paths]
        with pytest.raises(PolicyViolation):
            await Round(engine(on_unreadable=Action.BLOCK), messages, parts=named).before()


class TestStrategy:
    @pytest.mark.parametrize(
        ("strategy", "shown", "answered"),
        [
            (None, "I am [REDACTED:HIDE]", "You are [REDACTED:HIDE]"),
            (Strategy.MASK, "I am ***@*******.com", "You are ***@*******.com"),
        ],
    )
    async def test_it_stands_in_the_place_of_the_policies(self, strategy: Any, shown: str, answered: str):
        call = Round(
            engine(redaction=RedactionRules(keep_last=3)), [HumanMessage(f"I am {MAIL}")], strategy=strategy
        )
        assert [m.content for m in await call.before()] == [shown]
        assert (await call.after(AIMessage(f"You are {MAIL}"))).content == answered

    async def test_a_placeholder_comes_back(self):
        call = Round(engine(), [HumanMessage(f"I am {MAIL}")], strategy=Strategy.PLACEHOLDER)
        (sent,) = await call.before()
        placeholder = str(sent.content).removeprefix("I am ")
        assert MAIL not in placeholder
        answer = AIMessage(placeholder, tool_calls=[{**CALL, "args": {"to": placeholder}}])
        got = await call.after(answer)
        assert (got.content, got.tool_calls[0]["args"]) == (MAIL, {"to": MAIL})


class TestHistory:
    def round(self, judging: Any, *messages: Any) -> Round:
        return Round(judging, messages)

    async def test_only_new_messages_are_judged(self):
        judge = ScriptedClassifier()
        judging = engine(classifier=judge, history=MemoryHistory(100, 600))
        first = self.round(judging, *CHAT[:2])
        await first.before()
        await first.after(AIMessage("Well."))
        judge.asked.clear()
        await self.round(judging, *CHAT[:2], AIMessage("Well."), HumanMessage("And?")).before()
        assert [s.text for _, s in judge.asked] == ["And?"]

    async def test_a_blocked_message_is_left_out_later(self):
        judging = engine(history=MemoryHistory(100, 600))
        first = self.round(judging, HumanMessage("a forbidden thing"))
        with pytest.raises(PolicyViolation):
            await first.before()
        await first.refused("No.")
        later = [HumanMessage("a forbidden thing"), AIMessage("No."), HumanMessage("Hi")]
        call = self.round(judging, *later)
        assert await call.before() == later[2:]
        assert list(call.context.texts) == ["Hi"]

    async def test_a_streamed_answer_is_known_too(self):
        judge = ScriptedClassifier()
        judging = engine(classifier=judge, history=MemoryHistory(100, 600))
        first = self.round(judging, HumanMessage("Hi"))
        await first.before()
        chunks = [AIMessageChunk(content="Good "), AIMessageChunk(content="day.")]
        stream = first.stream(SHORT)
        assert [c.content async for c in aheld(stream, _later(chunks), first)] == ["Good ", "day."]
        judge.asked.clear()
        await self.round(judging, HumanMessage("Hi"), AIMessage("Good day."), HumanMessage("And?")).before()
        assert [s.text for _, s in judge.asked] == ["And?"]


async def _later(chunks: list[Any]) -> Any:
    for chunk in chunks:
        yield chunk


class TestHeld:
    WORDS = "One calm word after another and so on. "

    def test_the_source_is_closed_when_a_block_ends_it(self):
        told: list[str] = []

        def source() -> Iterator[Any]:
            try:
                for word in (self.WORDS * 3 + "forbidden " + self.WORDS * 9).split():
                    yield AIMessageChunk(content=word + " ")
                told.append("to its end")
            finally:
                told.append("closed")

        sink, loop, out = MemorySink(), LoopThread(), list[str]()
        judging = engine(sink, classifier=ScriptedClassifier(RULES))
        with pytest.raises(PolicyViolation):
            out.extend(c.content for c in held(loop, Round(judging, CHAT).stream(SHORT), source()))
        loop.close()
        assert told == ["closed"]
        assert out[:2] == ["One ", "calm "]
        assert "forbidden " not in out
        assert [record.cancelled for record in sink.records] == [False]

    @given(
        places=st.lists(st.sampled_from(["str", 0, 1, 2]), min_size=3, max_size=8),
        cuts=st.sets(st.integers(1, len(f"Ask {MAIL} now") - 1), min_size=2, max_size=7),
    )
    def test_a_text_split_over_blocks_is_judged_as_one(self, places: list[Any], cuts: set[int]):
        text = f"Ask {MAIL} now"
        ends = [0, *sorted(cuts), len(text)]
        words = [text[a:b] for a, b in itertools.pairwise(ends)]
        chunks = [
            AIMessageChunk(content=word if at == "str" else [{"type": "text", "text": word, "index": at}])
            for word, at in zip(words, itertools.cycle(places), strict=False)
        ]

        async def shown() -> str:
            stream = Round(engine(), [HumanMessage("Hi")]).stream(StreamRules(window=60, overlap=30))
            return "".join([one.text async for one in aheld(stream, _later(chunks))])

        assert anyio.run(shown) == "Ask [REDACTED:HIDE] now"

    async def test_leaving_early_closes_both_ends(self):
        told: list[str] = []

        async def source() -> Any:
            try:
                while True:
                    yield AIMessageChunk(content=self.WORDS)
            finally:
                told.append("closed")

        sink = MemorySink()
        stream = Round(engine(sink), [HumanMessage("Hi")]).stream(SHORT)
        chunks = aheld(stream, source())
        assert (await anext(chunks)).content == self.WORDS
        await chunks.aclose()  # type: ignore[attr-defined]
        assert told == ["closed"]
        assert [record.cancelled for record in sink.records] == [True]

    async def test_an_error_of_the_model_is_raised_as_it_is(self):
        async def source() -> Any:
            yield AIMessageChunk(content=self.WORDS)
            raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            async for _ in aheld(Round(engine(), [HumanMessage("Hi")]).stream(SHORT), source()):
                pass
