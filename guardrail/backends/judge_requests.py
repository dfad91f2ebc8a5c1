"""What a judge's server is sent: one question, written in OpenAI's chat form.

Everything before the user's content is the same bytes call after call, and so is all that follows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from guardrail.backends.judge_replies import Answer, chat_answer
from guardrail.backends.presets import Preset
from guardrail.core.policy import AnswerForm, Policy
from guardrail.core.prompt import prefix

__all__ = [
    "CHAT",
    "EFFORT_FIELDS",
    "Form",
    "Question",
    "can_enforce",
    "json_schema",
    "schema",
    "system_text",
    "without_fields",
]

EFFORT_FIELDS: Final = frozenset({"reasoning_effort", "reasoning", "chat_template_kwargs", "think"})


@dataclass(frozen=True, slots=True)
class Question:
    """One call, whatever the form it is written in.

    ``enforce``: let the server enforce JSON, where preset and policy have a use for it. ``without``: the
    fields that this server has refused.
    """

    preset: Preset
    model: str
    policy: Policy
    user: str = field(repr=False)
    budget: int
    context_tokens: int
    enforce: bool = False
    without: frozenset[str] = frozenset()

    @property
    def enforces(self) -> bool:
        """Whether JSON is enforced."""
        return self.enforce and can_enforce(self.preset, self.policy)


@dataclass(frozen=True, slots=True)
class Form:
    """One API: where it is below ``base_url``, how a question is written, how its answer is read.

    ``probe`` is a path that any healthy server of this kind answers.
    """

    path: str
    probe: str
    write: Callable[[Question], dict[str, Any]]
    read: Callable[[Any], Answer]


def can_enforce(preset: Preset, policy: Policy) -> bool:
    """Whether JSON can be enforced. For a policy that asks for a bare label it never is."""
    return preset.json != "none" and policy.answer is AnswerForm.JSON


def system_text(preset: Preset, policy: Policy) -> str:
    """The system message: the policy, byte for byte.

    Where the chat API has no field for it, the effort stands in a line before the policy: where harmony
    has it too, and so that the policy's own end, which repeats the form of the answer, stays last.
    """
    if preset.effort != "line":
        return prefix(policy)
    return f"Reasoning: {policy.reasoning_effort.value}\n\n{prefix(policy)}"


def schema(policy: Policy) -> dict[str, Any]:
    """The JSON Schema of a verdict under ``policy``; the same bytes call after call."""
    return {
        "type": "object",
        "properties": {
            "violation": {"type": "integer", "enum": [0, 1]},
            "label": {"type": "string", "enum": list(policy.labels)},
            "rationale": {"type": "string"},
            "excerpts": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["violation", "label", "rationale", "excerpts"],
        "additionalProperties": False,
    }


def _write(question: Question) -> dict[str, Any]:
    preset, policy, without = question.preset, question.policy, question.without
    body: dict[str, Any] = {
        "model": question.model,
        "messages": [
            {"role": "system", "content": system_text(preset, policy)},
            {"role": "user", "content": question.user},
        ],
        "temperature": 0,
    }
    for tokens in (preset.tokens, "max_tokens", "max_completion_tokens"):
        if tokens not in without:
            body[tokens] = question.budget
            break
    body["stream"] = False
    effort = policy.reasoning_effort.value
    if preset.effort == "reasoning.effort":
        body["reasoning"] = {"effort": effort}
    elif preset.effort == "chat_template_kwargs":
        body["chat_template_kwargs"] = {"reasoning_effort": effort}
    elif preset.effort == "reasoning_effort":
        body["reasoning_effort"] = effort
    if question.enforces:
        body["response_format"] = _response_format(preset, policy)
    if preset.cache_key:
        body[preset.cache_key] = f"{policy.id}-{policy.revision[:16]}"
    body.update(preset.extra)
    return without_fields(body, without)


def without_fields(body: dict[str, Any], refused: frozenset[str]) -> dict[str, Any]:
    """``body`` without the fields that the server has refused."""
    return {name: value for name, value in body.items() if name not in refused} if refused else body


def _response_format(preset: Preset, policy: Policy) -> dict[str, Any]:
    return {"type": "json_object"} if preset.json == "json_object" else json_schema(policy)


def json_schema(policy: Policy) -> dict[str, Any]:
    """``schema`` as a ``response_format``."""
    form = {"name": "verdict", "strict": True, "schema": schema(policy)}
    return {"type": "json_schema", "json_schema": form}


CHAT: Final = Form("/chat/completions", "/models", _write, chat_answer)
"""OpenAI's chat completions, which every server but Ollama's own API speaks."""
