"""guardrail: input and output guardrails for chat models, by your own written policies."""

from guardrail.core.decision import Decision
from guardrail.engine.check import GuardrailEngine
from guardrail.errors import PolicyViolation
from guardrail.frontends.filters import CompletionFilter, PromptFilter
from guardrail.frontends.middleware import GuardrailMiddleware

__all__ = [
    "CompletionFilter",
    "Decision",
    "GuardrailEngine",
    "GuardrailMiddleware",
    "PolicyViolation",
    "PromptFilter",
]
