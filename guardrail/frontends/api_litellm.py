"""LiteLLM's generic guardrail API: LiteLLM asks, we judge, and LiteLLM blocks or rewrites."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from guardrail.core.conversation import Address, Conversation
from guardrail.core.decision import Decision
from guardrail.core.policy import Action, Stage
from guardrail.engine.check import GuardrailEngine
from guardrail.engine.lanes import sized
from guardrail.frontends.endpoint import Answer, Asking
from guardrail.frontends.exchange import Settings
from guardrail.wire import litellm_api as wire
from guardrail.wire.openapi import LITELLM
from guardrail.wire.replies import UNAVAILABLE, Reply, decision_headers, openai_error

__all__ = ["guard"]

_FAILED: Final = "the texts could not be checked, and unchecked texts are not let through"


async def guard(settings: Settings, asking: Asking) -> Answer:
    """What LiteLLM is to do. Raises ``UnreadableRequest``."""
    asked = wire.read(asking.raw)
    engine = asking.engine.adding(asked.added)
    decision = await _decide(engine, asked, asking.decision_id)
    if decision.unavailable:  # LiteLLM takes a 503 for one who cannot be reached, and has a rule for that
        reply = openai_error(UNAVAILABLE, "guardrail_unavailable", _FAILED)
        return Answer(reply, decision_headers(decision))
    body = None
    if decision.action is not Action.BLOCK:
        body = _let_through(engine, settings, asked, decision)
    if body is None:  # a redaction that LiteLLM has no place for would not be made
        decision = replace(decision, action=Action.BLOCK)
        languages = asked.languages.encode("latin-1", "replace")
        refusing = settings.refusals.for_request(LITELLM, [(b"accept-language", languages)])
        body = wire.blocked(refusing.of(decision).message)
    return Answer(Reply(200, body), decision_headers(decision))


def _let_through(
    engine: GuardrailEngine, settings: Settings, asked: wire.Asked, decision: Decision
) -> bytes | None:
    chat = engine.chat(asked.conversation)
    if asked.stage is Stage.INPUT:
        return wire.let_through(asked, chat.redacted(decision.redactions), None)
    changed: dict[Address, str] = chat.delivered(asked.conversation.turns[-1], decision.redactions)
    rules = sized(settings.streaming, engine.output_detectors)
    return wire.let_through(asked, changed, wire.holdback(asked, decision, rules, chat.vault))


async def _decide(engine: GuardrailEngine, asked: wire.Asked, decision_id: str) -> Decision:
    if asked.stage is Stage.INPUT:
        return await engine.check_input(asked.conversation, decision_id=decision_id, dialect="litellm")
    return await engine.check_output(
        Conversation(()),
        asked.conversation.turns[-1],
        unjudged=asked.conversation.unreadable,
        decision_id=decision_id,
        dialect="litellm",
    )
