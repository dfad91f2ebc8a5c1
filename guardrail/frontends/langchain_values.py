"""What LangChain passes between Runnables, as messages and back in the kind in which it came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    convert_to_messages,
)
from langchain_core.prompt_values import ChatPromptValue, PromptValue, StringPromptValue
from langchain_core.runnables import Runnable, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase

from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire.openai_body import GENERATING_FIELDS, unknown_texts

__all__ = ["answer_of", "answered", "beside", "bound", "like", "messages_of"]

# Settings of a call that hold no text for the model. All others that may are named.
_SILENT: Final = GENERATING_FIELDS | {
    "betas",
    "function_call",
    "ls_structured_output_format",  # LangSmith's, the schema once more
    "max_completion_tokens",
    "modalities",
    "parallel_tool_calls",
    "reasoning",
    "reasoning_effort",
    "thinking",
    "tool_choice",
    "top_logprobs",
    "verbosity",
}


def messages_of(prompt: Any) -> list[BaseMessage]:
    """What a chat model takes. Raises ``UnreadableRequest``, without the text of anything else."""
    if isinstance(prompt, str):
        return [HumanMessage(prompt)]
    if isinstance(prompt, BaseMessage):
        return [prompt]
    if isinstance(prompt, PromptValue):
        return prompt.to_messages()
    if isinstance(prompt, Sequence) and prompt:
        return _converted(prompt, UnreadableRequest)
    raise UnreadableRequest("a prompt is text, a prompt value, or a list of at least one message")


def answered(messages: list[Any]) -> list[BaseMessage]:
    """A list that ends with an answer. Raises ``UnreadableResponse``, without the text of anything else."""
    if not messages:
        raise UnreadableResponse("a list of messages must hold at least the answer")
    return _converted(messages, UnreadableResponse)


def bound(model: Any) -> dict[str, Any]:
    """The settings that are bound to a model, tools among them, under whatever it is wrapped in."""
    if isinstance(model, RunnableWithFallbacks):
        inner: list[Runnable[Any, Any]] = [*model.fallbacks, model.runnable]
        return {key: value for one in inner for key, value in bound(one).items() if value}
    if isinstance(model, RunnableBindingBase):
        return {**bound(model.bound), **model.kwargs}
    return {}


def beside(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The paths of those settings of a call that may hold text for the model, such as ``$.tools``."""
    plain = {
        key: [value] if value and isinstance(value, tuple | type) else value
        for key, value in settings.items()
    }
    return tuple(unknown_texts(plain, _SILENT))


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


def _converted(messages: Sequence[Any], error: type[UnreadableRequest | UnreadableResponse]) -> list[Any]:
    try:
        return convert_to_messages(messages)
    except Exception:  # LangChain's own and pydantic's name the text that they did not understand
        raise error("a list holds something that is no message") from None
