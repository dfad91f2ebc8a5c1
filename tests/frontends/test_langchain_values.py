"""The twin of guardrail/frontends/langchain_values.py: what Runnables pass, as messages and back."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.prompt_values import ChatPromptValue, StringPromptValue

from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.frontends.langchain_values import answer_of, answered, beside, bound, like, messages_of

TWO = [SystemMessage("a"), HumanMessage("b")]
PROMPTS: list[tuple[Any, list[Any]]] = [
    ("zebra", [HumanMessage("zebra")]),
    (HumanMessage("zebra"), [HumanMessage("zebra")]),
    (StringPromptValue(text="zebra"), [HumanMessage("zebra")]),
    (ChatPromptValue(messages=TWO), TWO),
    ([("system", "a"), "b", {"role": "assistant", "content": "c"}], [*TWO, AIMessage("c")]),
    ((HumanMessage("a"),), [HumanMessage("a")]),
]
NO_MESSAGES: list[Any] = [
    [7],
    [{"content": "zebra"}],
    [("zebra",)],
    [None],
    [{"role": "tool", "content": "zebra"}],
    [{"role": "zebra", "content": "zebra"}],
    [{"role": "user", "content": {"a": "zebra"}}],
    [{"role": "remove", "content": "zebra"}],
    [{"role": "function", "content": "zebra"}],
    [{"role": "assistant", "content": "", "tool_calls": ["zebra"]}],
    [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}],
    [{"role": "assistant", "content": "", "tool_calls": [{"name": "f", "args": "zebra", "id": "1"}]}],
]
NEITHER = [None, 7, [], (), {"zebra": 1}, *NO_MESSAGES]


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


def test_a_list_ends_with_an_answer():
    assert answered([("human", "a"), AIMessage("b")]) == [HumanMessage("a"), AIMessage("b")]


@pytest.mark.parametrize("messages", [[], *NO_MESSAGES])
def test_a_list_of_anything_else_is_refused_without_its_text(messages: Any):
    with pytest.raises(UnreadableResponse) as caught:
        answered(messages)
    assert "zebra" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_what_is_bound_is_found_under_every_wrapper():
    def model() -> GenericFakeChatModel:
        return GenericFakeChatModel(messages=iter([]))

    tools = model().bind(tools=[{"name": "f"}])
    assert bound(model()) == bound(None) == {}
    for wrapped in (
        tools,
        tools.with_config(tags=["x"]),
        tools.with_retry(),
        tools.with_fallbacks([model()]),
        model().with_fallbacks([tools]).with_config(tags=["x"]),
        model().bind(tools=[]).with_fallbacks([tools]),
    ):
        assert bound(wrapped) == {"tools": [{"name": "f"}]}
    assert bound(tools.bind(stop=["a"])) == {"tools": [{"name": "f"}], "stop": ["a"]}


@pytest.mark.parametrize(
    ("settings", "paths"),
    [
        ({}, ()),
        ({"temperature": 1, "stop": ["a"], "tool_choice": "auto", "odd": 7, "tools": []}, ()),
        ({"response_format": {"type": "json_object"}}, ()),
        ({"tools": [{"name": "f"}], "odd": "text"}, ("$.tools", "$.odd")),
        ({"tools": ({"name": "f"},), "response_format": int}, ("$.tools", "$.response_format")),
    ],
)
def test_settings_that_may_hold_text_are_named(settings: Any, paths: tuple[str, ...]):
    assert beside(settings) == paths
