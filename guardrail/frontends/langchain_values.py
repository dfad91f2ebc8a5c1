"""What LangChain passes between Runnables, as messages and back in the kind in which it came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    convert_to_messages,
)
from langchain_core.prompt_values import ChatPromptValue, PromptValue, StringPromptValue

from guardrail.errors import UnreadableRequest, UnreadableResponse

__all__ = ["answer_of", "like", "messages_of"]


def messages_of(prompt: Any) -> list[BaseMessage]:
    """What a chat model takes. Raises ``UnreadableRequest``, without the text of anything else."""
    if isinstance(prompt, str):
        return [HumanMessage(prompt)]
    if isinstance(prompt, BaseMessage):
        return [prompt]
    if isinstance(prompt, PromptValue):
        return prompt.to_messages()
    if isinstance(prompt, Sequence) and prompt:
        try:
            return convert_to_messages(prompt)
        except (ValueError, NotImplementedError):
            raise UnreadableRequest("a list holds something that is no message") from None
    raise UnreadableRequest("a prompt is text, a prompt value, or a list of at least one message")


def like(prompt: Any, messages: list[BaseMessage]) -> Any:
    """These messages, in the kind of the prompt from which they come."""
    if isinstance(prompt, str):
        return messages[0].content
    if isinstance(prompt, BaseMessage):
        return messages[0]
    if isinstance(prompt, StringPromptValue):
        return StringPromptValue(text=str(messages[0].content))
    if isinstance(prompt, PromptValue):
        return ChatPromptValue(messages=messages)
    return messages


def answer_of(said: Any, *, chunk: bool = False) -> AIMessage:
    """What a model said, as a message. Raises ``UnreadableResponse`` for what is no answer of a model."""
    if isinstance(said, str):
        return AIMessageChunk(content=said) if chunk else AIMessage(content=said)
    if isinstance(said, AIMessage):
        return said
    raise UnreadableResponse(
        f"a model's answer is text or an AIMessage, not {type(said).__name__}; put parsers behind the guard"
    )
