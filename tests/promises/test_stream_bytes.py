"""What leaves a stream does not depend on where the network cut the upstream's bytes.

Cut inside an event, inside the bytes of a code point, inside an escape of JSON, and for tool arguments
inside an escape of the JSON within the JSON.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guardrail import GuardrailEngine, GuardrailMiddleware
from guardrail.core.policy import Policy, Stage
from guardrail.core.release import ReleaseMode, StreamRules
from guardrail.core.verdict import Verdict
from guardrail.frontends.asgi import Message, Receive, Scope, Send
from guardrail.frontends.middleware import Settings
from guardrail.testing import ScriptedClassifier, drive_asgi
from tests.fakes import DONE
from tests.promises.play import EXAMPLES, POLICY, PUT
from tests.promises.test_stream_promises import texts

NEEDLE = 'Grüße"\\🚀"4711'  # two, three and four bytes, and what JSON must escape
WRITTEN = [NEEDLE, *(json.dumps(NEEDLE, ensure_ascii=escaped)[1:-1] for escaped in (True, False))]
PLANTED = texts([NEEDLE, NEEDLE[:7], NEEDLE[7:], "a ", "é", '"', "\n", "🚀", "well. "], 12)
CUTS = st.lists(st.integers(0, 5000), max_size=30) | st.just(range(5000))  # the last: into single ones
RULES = st.builds(
    StreamRules,
    st.sampled_from([ReleaseMode.WINDOW, ReleaseMode.WINDOW, ReleaseMode.WHOLE]),
    window=st.integers(1, 40),
    overlap=st.integers(len(NEEDLE), len(NEEDLE) + 10),
    first=st.none() | st.integers(1, 10),
    final_check=st.booleans(),
)


def cut(whole: Any, places: Sequence[int]) -> list[Any]:
    edges = [0, *sorted({place % len(whole) for place in places if whole} - {0}), len(whole)]
    return [whole[start:end] for start, end in itertools.pairwise(edges)]


def event(delta: dict[str, Any], *, ascii_only: bool, finish_reason: str | None = None) -> bytes:
    body = {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }
    return b"data: " + json.dumps(body, ensure_ascii=ascii_only).encode() + b"\n\n"


def spoken(piece: str) -> dict[str, Any]:
    return {"content": piece}


def called(piece: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def answer(pieces: Sequence[dict[str, Any]], ascii_only: bool) -> bytes:
    said = [event(piece, ascii_only=ascii_only) for piece in pieces]
    return b"".join([*said, event({}, ascii_only=ascii_only, finish_reason="stop"), DONE])


def passed(parts: Sequence[bytes], rules: StreamRules) -> bytes:
    """What leaves when an upstream's answer comes in these parts."""
    seen = Verdict(POLICY, "P2", violation=True, excerpts=(NEEDLE,))

    async def upstream(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await anyio.lowlevel.checkpoint()
        await send({"type": "http.response.body", "body": b""})

    async def run() -> list[Message]:
        policies: dict[Stage, list[Policy]] = {Stage.INPUT: [], Stage.OUTPUT: [POLICY]}
        engine = GuardrailEngine(policies, ScriptedClassifier([(written, seen) for written in WRITTEN]))
        ask = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
        with anyio.fail_after(60):
            guarded = GuardrailMiddleware(upstream, engine, Settings(streaming=rules))
            return await drive_asgi(guarded, body=json.dumps(ask).encode())

    return b"".join(message.get("body", b"") for message in anyio.run(run))


def deltas(raw: bytes) -> list[dict[str, Any]]:
    """Every delta of the stream."""
    found = [part.removeprefix(b"data: ") for part in raw.split(b"\n\n")[:-1]]
    assert found.pop() == b"[DONE]"
    return [json.loads(data)["choices"][0]["delta"] for data in found]


@EXAMPLES
@given(PLANTED, CUTS, CUTS, RULES, st.booleans())
@example(f"a {NEEDLE} b {NEEDLE}", [3, 9], range(5000), StreamRules(overlap=30), True)
@example(f"a {NEEDLE} b {NEEDLE}", range(99), range(5000), StreamRules(overlap=30, window=1), False)
def test_the_text_is_the_same_wherever_the_bytes_are_cut(
    text: str, pieces: Sequence[int], network: Sequence[int], rules: StreamRules, ascii_only: bool
) -> None:
    raw = answer([spoken(piece) for piece in cut(text, pieces)], ascii_only)
    left = passed(cut(raw, network), rules)
    assert "".join(delta.get("content") or "" for delta in deltas(left)) == text.replace(NEEDLE, PUT)
    if NEEDLE not in text:
        assert left == raw


@pytest.mark.parametrize("escaped", [True, False])
@EXAMPLES
@given(PLANTED, CUTS, CUTS, RULES, st.booleans())
@example(f"a {NEEDLE} b {NEEDLE}", range(999), range(5000), StreamRules(overlap=30), True)
def test_so_are_tool_arguments_and_they_stay_json(
    escaped: bool,
    text: str,
    pieces: Sequence[int],
    network: Sequence[int],
    rules: StreamRules,
    ascii_only: bool,
) -> None:
    arguments = json.dumps({"to": text, "n": [1, None]}, ensure_ascii=escaped)
    raw = answer([called(piece) for piece in cut(arguments, pieces)], ascii_only)
    left = passed(cut(raw, network), rules)
    calls = [call for delta in deltas(left) for call in delta.get("tool_calls", [])]
    said = "".join(call["function"]["arguments"] for call in calls)
    assert json.loads(said) == {"to": text.replace(NEEDLE, PUT), "n": [1, None]}
