"""The twin of guardrail/backends/demo.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guardrail.backends.demo import MODEL, DemoModel, answer_to
from guardrail.testing import drive_asgi
from guardrail.wire.chat import ChatDialect
from guardrail.wire.chat_stream import ChatStream
from guardrail.wire.sse import SseDecoder

pytestmark = pytest.mark.anyio


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


async def ask(text: str, **more: Any) -> list[Any]:
    body = json.dumps({"model": "any", "messages": user(text), **more}).encode()
    return await drive_asgi(DemoModel(), body=body)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("Hello!", "scripted model"),
        ("HI there", "scripted model"),
        ("How do I contact the office?", "dana.whitfield@example.com"),
        ("how can i reach\tmy landlord", "dana.whitfield@example.com"),
        ("Write a scene with a villain.", "pipe bomb"),
        ("My mail is [REDACTED:PII2], my card [REDACTED:PII3].", "[REDACTED:PII2], [REDACTED:PII3]"),
        ("Which of them?", "This is the demo model."),
        ("this and that", "This is the demo model."),
        ("", "This is the demo model."),
    ],
)
def test_the_script(text: str, part: str):
    assert part in answer_to(user(text))


def test_the_last_text_counts():
    messages = [*user("hello"), {"role": "assistant", "content": "x"}, *user("a villain"), {"role": "tool"}]
    assert "villain" in answer_to(messages)
    assert "demo model" in answer_to([{"role": "user", "content": [{"type": "text", "text": "hello"}]}])
    assert "demo model" in answer_to([])


async def test_a_whole_answer_is_a_chat_completion():
    start, body = await ask("Hello!")
    assert (start["status"], dict(start["headers"])[b"content-type"]) == (200, b"application/json")
    answer = json.loads(body["body"])
    (choice,) = answer["choices"]
    assert (answer["object"], answer["model"]) == ("chat.completion", MODEL)
    assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", answer_to(user("Hello!")))
    (read,) = ChatDialect().read_response(body["body"])
    assert read.unreadable == ()


async def test_a_stream_says_the_same_word_by_word_and_ends_properly(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("guardrail.backends.demo.CHUNK_PAUSE_S", 0)
    start, *rest = await ask("Hello!", stream=True)
    assert dict(start["headers"])[b"content-type"].startswith(b"text/event-stream")
    assert [message["more_body"] for message in rest[:-1]] == [True] * (len(rest) - 1)
    assert not rest[-1].get("more_body", False)
    decoder, stream = SseDecoder(), ChatStream(structured=False)
    events = [event for message in rest for event in decoder.feed(message["body"])]
    assert events[-1].data == b"[DONE]"
    read = list(stream.read(events))
    assert "".join(d.text for event in read for d in event.deltas) == answer_to(user("Hello!"))
    assert [list(event.finished) for event in read if event.finished] == [[0]]
    assert json.loads(events[0].data or b"")["choices"][0]["delta"]["role"] == "assistant"


async def test_other_routes_are_not_there():
    start, body = await drive_asgi(DemoModel(), "/v1/responses", b'{"input": "Hello"}')
    assert start["status"] == 404
    assert json.loads(body["body"])["error"]["message"] == "the demo model answers chat completions only"


async def test_it_lists_itself():
    start, body = await drive_asgi(DemoModel(), "/v1/models", method="GET")
    assert start["status"] == 200
    assert [model["id"] for model in json.loads(body["body"])["data"]] == [MODEL]
