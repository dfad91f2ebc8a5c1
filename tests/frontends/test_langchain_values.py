"""The twin of guardrail/frontends/langchain_values.py: what Runnables pass, as messages and back."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.prompt_values import ChatPromptValue, StringPromptValue

from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.frontends.langchain_values import answer_of, like, messages_of

TWO = [SystemMessage("a"), HumanMessage("b")]
PROMPTS: list[tuple[Any, list[Any]]] = [
    ("zebra", [HumanMessage("zebra")]),
    (HumanMessage("zebra"), [HumanMessage("zebra")]),
    (StringPromptValue(text="zebra"), [HumanMessage("zebra")]),
    (ChatPromptValue(messages=TWO), TWO),
    ([("system", "a"), "b", {"role": "assistant", "content": "c"}], [*TWO, AIMessage("c")]),
    ((HumanMessage("a"),), [HumanMessage("a")]),
]
NEITHER = [None, 7, [], (), {"zebra": 1}, [7], [{"content": "zebra"}], [("zebra",)], [None]]


@pytest.mark.parametrize(("prompt", "messages"), PROMPTS)
def test_a_prompt_of_every_kind(prompt: Any, messages: list[Any]):
    assert messages_of(prompt) == messages
    again = like(prompt, messages)
    assert type(again) is (list if isinstance(prompt, tuple) else type(prompt))
    assert messages_of(again) == messages


@pytest.mark.parametrize("prompt", NEITHER)
def test_anything_else_is_refused_without_its_text(prompt: Any):
    with pytest.raises(UnreadableRequest) as caught:
        messages_of(prompt)
    assert "zebra" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_answer_is_text_or_a_message():
    message = AIMessage("a")
    assert answer_of(message) is answer_of(message, chunk=True) is message
    assert answer_of("a") == AIMessage("a")
    assert answer_of("a", chunk=True) == AIMessageChunk(content="a")
    for other in (None, {"zebra": 1}, HumanMessage("zebra"), ["zebra"]):
        with pytest.raises(UnreadableResponse, match="behind the guard") as caught:
            answer_of(other)
        assert "zebra" not in str(caught.value)
