"""The twin of guardrail/frontends/held_stream.py: a held stream, pushed and pulled by hand."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail import GuardrailEngine, PolicyViolation
from guardrail.core.conversation import Conversation, Subject
from guardrail.core.policy import Action
from guardrail.core.release import ReleaseMode, StreamRules
from guardrail.frontends.held_stream import HeldStream
from guardrail.frontends.langchain import CompletionFilter
from guardrail.testing import MemorySink, ScriptedClassifier
from tests.engine.pieces import Bit as Text
from tests.frontends.test_filters import MAIL, engine
from tests.processes import run_code
from tests.threads import threads

pytestmark = pytest.mark.anyio

SHORT = StreamRules(window=10, overlap=5, first=5)
CALM = "One calm word after another. " * 4


Stream = HeldStream[str, Text]


def hold(judging: GuardrailEngine, rules: StreamRules = SHORT) -> Stream:
    nothing = Conversation(())
    return HeldStream(judging, nothing, rules, judging.vault(nothing), decision_id="d", dialect="here")


async def push(stream: Stream, text: str, **options: Any) -> str:
    return left(await stream.push(text, [Text(text)], **options))


def left(ready: Any) -> str:
    return "".join(one.texts[0][1] if one.texts else one.event for one in ready)


async def test_all_of_it_leaves_in_order_and_is_recorded_once():
    sink = MemorySink()
    stream = hold(engine(sink))
    out = "".join([await push(stream, word + " ") for word in CALM.split()])
    out += left(await stream.finish())
    stream.halted()
    await stream.aclose()
    await stream.aclose()
    assert out.split() == CALM.split()
    (record,) = sink.records
    assert (record.decision.action, record.cancelled, record.dialect) == (Action.PASS, False, "here")
    assert record.text == out


async def test_text_is_held_until_judged_and_leaves_with_the_next_call():
    gate = asyncio.Event()

    class Waiting(ScriptedClassifier):
        async def classify(self, policy: Any, subject: Subject) -> Any:
            await gate.wait()
            return await super().classify(policy, subject)

    judge = Waiting()
    stream = hold(engine(classifier=judge))
    held = [await push(stream, word + " ") for word in CALM.split()]
    assert set(held) == {""}
    gate.set()
    later = [await push(stream, word + " ") for word in (CALM * 3).split()]
    assert "".join(later).startswith("One calm word ")
    await stream.aclose()


@given(st.lists(st.integers(0, 120), max_size=12))
def test_however_it_is_cut_the_same_text_leaves(cuts: list[int]):
    text = f"{CALM}Write to {MAIL} and wait. {CALM}"
    ends = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]

    async def run() -> str:
        stream = hold(engine())
        try:
            out = [await stream.push(text[a:b], [Text(text[a:b])]) for a, b in pairwise(ends)]
            return "".join(map(left, [*out, await stream.finish()]))
        finally:
            await stream.aclose()

    assert anyio.run(run) == text.replace(MAIL, "[REDACTED:HIDE]")


async def test_a_redaction():
    stream = hold(engine())
    out = await push(stream, f"Write to {MAIL} and ") + await push(stream, "wait.")
    out += left(await stream.finish())
    assert stream.decision.action is Action.REDACT
    await stream.aclose()
    assert out == "Write to [REDACTED:HIDE] and wait."


async def test_a_block_comes_after_what_was_sound():
    sink = MemorySink()
    stream = hold(engine(sink))
    out = ""
    for word in (CALM + "then forbidden words and others").split():
        out += await push(stream, word + " ")
        try:
            stream.halted()
        except PolicyViolation:
            break
    out += left(await stream.finish())
    with pytest.raises(PolicyViolation):
        stream.halted()
    await stream.aclose()
    assert "One calm" in out
    assert "forbidden" not in out
    assert (sink.records[0].decision.action, sink.records[0].cancelled) == (Action.BLOCK, False)


async def test_what_cannot_be_read_is_told_or_blocks():
    stream = hold(engine())
    assert await push(stream, "see ", unreadable=["$.content[0]"]) == ""
    await stream.finish()
    assert stream.decision.unjudged == ("$.content[0]",)
    await stream.aclose()
    strict = hold(engine(strict=True))
    await push(strict, "see ", unreadable=["$.content[0]"])
    with pytest.raises(PolicyViolation):
        strict.halted()
    await strict.aclose()


async def test_what_cannot_be_read_and_belongs_to_no_choice_blocks_too():
    strict = hold(engine(strict=True))
    await strict.push("see ", [], choices=(), unreadable=["$.x"])
    with pytest.raises(PolicyViolation):
        strict.halted()
    await strict.aclose()


async def test_live_text_leaves_at_once_and_its_end_does_not():
    live = StreamRules(release=ReleaseMode.LIVE, window=10, overlap=5, first=5)
    stream = hold(engine(classifier=ScriptedClassifier(delay_s=0.1)), live)
    assert await push(stream, "One calm word. ") == "One calm word. "
    assert await push(stream, "The end.", finished=(0,)) == ""
    assert left(await stream.finish()) == "The end."
    await stream.aclose()


async def test_more_than_may_be_held_waits_for_the_judge():
    small = StreamRules(window=10, overlap=5, first=5, max_held=40)
    stream = hold(engine(classifier=ScriptedClassifier(delay_s=0.01)), small)
    held = [0]
    for word in (CALM * 9).split():
        held.append(held[-1] + len(word) - len(await push(stream, word)))
    await stream.aclose()
    assert 0 < max(held) <= 40 + len("another")


async def test_one_that_is_left_early_is_recorded_as_cancelled():
    sink = MemorySink()
    stream = hold(engine(sink, classifier=ScriptedClassifier(delay_s=60)))
    await push(stream, CALM)
    await stream.aclose()
    assert [record.cancelled for record in sink.records] == [True]


async def test_one_that_never_began_leaves_nothing():
    sink = MemorySink()
    stream = hold(engine(sink))
    stream.halted()
    await stream.aclose()
    assert sink.records == []


async def test_each_call_may_be_in_a_task_of_its_own():
    stream = hold(engine())
    out = ""
    for call in (push(stream, CALM), push(stream, "more. ")):
        out += await asyncio.get_running_loop().create_task(call)
    out += left(await asyncio.get_running_loop().create_task(stream.finish()))
    await asyncio.get_running_loop().create_task(stream.aclose())
    assert out == CALM + "more. "


def test_one_whose_loop_has_ended_says_so_and_is_still_recorded():
    sink = MemorySink()

    async def begin() -> Stream:
        stream = hold(engine(sink))
        await push(stream, CALM)
        return stream

    async def go_on(stream: Stream) -> None:
        with pytest.raises(RuntimeError, match="closed with its guard"):
            await push(stream, CALM)
        await stream.aclose()

    asyncio.run(go_on(asyncio.run(begin())))
    assert [record.cancelled for record in sink.records] == [True]


def test_a_process_ends_with_a_filtered_stream_that_was_begun():
    code = (
        "from guardrail.frontends.langchain import CompletionFilter\n"
        "from tests.frontends.test_held_stream import *\n"
        "held = CompletionFilter(engine(), streaming=SHORT).transform(iter([CALM] * 20))\n"
        "next(held)\n"
        "print('begun')"
    )
    done = run_code(code)
    assert (done.stdout, done.stderr, done.returncode) == ("begun\n", "", 0)


def test_a_filtered_stream_that_outlives_its_filter_starts_no_thread():
    before = threads()
    with CompletionFilter(engine(), streaming=SHORT) as guard:
        parts = guard.transform(iter([CALM] * 20))
        next(parts)
    with pytest.raises(RuntimeError, match="closed"):
        list(parts)
    assert threads() <= before
