"""The twin of guardrail/frontends/litellm_stream.py: chunks held until judged."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from guardrail.core.decision import Decision
from guardrail.engine.check import new_decision_id
from guardrail.frontends.litellm_stream import HeldAnswer, held_chunks
from guardrail.wire.chat import ChatDialect
from tests.frontends.guards import Guards
from tests.frontends.litellms import SHORT, chunks, piece, told

pytestmark = [
    pytest.mark.anyio,
    # Pydantic about a type of LiteLLM's own, whenever LiteLLM first builds it.
    pytest.mark.filterwarnings("ignore:.*ReadOnly.*:UserWarning"),
]

CALM = "One calm word after another. " * 4
ROLE: Any = {"role": "user", "content": "hello"}


class Stop(Exception):
    pass


def stop(decision: Decision) -> None:
    raise Stop(decision)


def hold(guards: Guards, n: int = 1, **fields: Any) -> HeldAnswer:
    dialect, engine = ChatDialect(), guards.engine
    body = {"model": "m", "messages": [ROLE], "stream": True, "n": n, **fields}
    request = dialect.read_request(orjson.dumps(body))
    return HeldAnswer(
        engine,
        engine.chat(request.conversation),
        SHORT,
        dialect.stream(request),
        structured=request.structured,
        decision_id=new_decision_id(),
        dialect="chat",
    )


async def left(held: HeldAnswer, *items: Any) -> list[Any]:
    return [item async for item in held_chunks(held, chunks(*items), stop)]


def words(text: str, index: int = 0) -> list[Any]:
    return [*(piece(word + " ", index) for word in text.split()), piece(None, index, "stop")]


async def test_chunks_that_pass_are_the_very_same_and_in_order():
    guards, items = Guards(), words(CALM)
    got = await left(hold(guards), *items)
    assert [id(one) for one in got] == [id(one) for one in items]
    assert guards.recorded == [("chat", "output", "pass")]


async def test_a_redaction_is_made_in_the_chunks():
    items = words("calm my secret here " + CALM)
    items[0] = piece("my secret here, ")
    got = await left(hold(Guards()), *items)
    assert "secret" not in told(got)
    assert "[REDACTED:HIDE]" in told(got)


async def test_nothing_leaves_before_a_block_at_the_beginning():
    reading = held_chunks(hold(Guards()), chunks(piece(""), *words("forbidden")), stop)
    with pytest.raises(Stop) as caught:
        await anext(reading)
    assert caught.value.args[0].blocking == ("house",)


async def test_a_block_later_ends_it_without_an_end():
    guards, got = Guards(), list[Any]()

    async def read() -> None:
        async for item in held_chunks(hold(guards), chunks(*words(CALM + "forbidden")), stop):
            got.append(item)

    with pytest.raises(Stop):
        await read()
    assert "forbidden" not in told(got)
    assert told(got)
    assert not [choice for item in got for choice in item.choices if choice.finish_reason]
    assert guards.recorded == [("chat", "output", "block")]


async def test_a_choice_that_is_blocked_ends_the_others_too():
    mixed = [piece("forbidden", 1), *words(CALM, 0)]
    got: list[Any] = []

    async def read() -> None:
        async for item in held_chunks(hold(Guards(), n=2), chunks(*mixed), stop):
            got.append(item)

    with pytest.raises(Stop):
        await read()
    assert "forbidden" not in told(got)


async def test_a_check_that_fails_is_told_before_a_block():
    held = hold(Guards(), n=2)
    with pytest.raises(Stop) as caught:
        await left(held, piece("slow", 0), piece("forbidden", 1))
    assert caught.value.args[0].unavailable


async def test_bytes_are_cut_into_events_wherever_they_were_cut():
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    deltas = [({"content": word + " "}, None) for word in CALM.split()] + [({}, "stop")]
    raw = b"".join(
        b"data: "
        + orjson.dumps({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]})
        + b"\n\n"
        for delta, end in deltas
    )
    for size in (1, 7, len(raw)):
        parts = [raw[at : at + size] for at in range(0, len(raw), size)]
        assert b"".join(await left(hold(Guards()), *parts)) == raw
    assert b"".join(await left(hold(Guards()), raw.decode())) == raw
    assert b"".join(await left(hold(Guards()), raw.removesuffix(b"\n\n"))) == raw.removesuffix(b"\n\n")


async def test_who_stops_reading_is_recorded_as_such():
    guards = Guards()
    reading = held_chunks(hold(guards), chunks(*words(CALM)), stop)
    await anext(reading)
    await reading.aclose()
    [record] = guards.sink.records
    assert record.cancelled
