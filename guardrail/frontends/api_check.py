"""The check of our own API: a text or messages, judged at one stage."""

from __future__ import annotations

from guardrail.core.decision import Decision
from guardrail.core.policy import Action, Stage
from guardrail.engine.check import GuardrailEngine
from guardrail.errors import UnreadableRequest
from guardrail.frontends.endpoint import Answer, Asking
from guardrail.wire import checks
from guardrail.wire.replies import Reply, decision_headers

__all__ = ["check"]


async def check(trusted_roles: frozenset[str], asking: Asking) -> Answer:
    """The decision, whatever it is. Raises ``UnreadableRequest``."""
    asked = checks.read(asking.raw)
    try:
        engine = asking.engine.adding(asked.added)
    except UnreadableRequest as error:  # which knows the field by its name on guarded routes
        message, param = (
            told.replace("guardrails", checks.ADDED, 1) for told in (str(error), error.param or "")
        )
        raise UnreadableRequest(message, param=param) from None
    decision = await _decide(engine, asked, asking.decision_id)
    content = None
    if decision.action is Action.REDACT:
        chat = engine.chat(asked.conversation)
        if asked.stage is Stage.INPUT:
            texts = chat.redacted(decision.redactions)
        else:
            texts = chat.delivered(asked.answer, decision.redactions)
        content = checks.redacted(asked.content, texts)
    body = checks.answer(decision, asked.subject(trusted_roles), content)
    return Answer(Reply(200, body), decision_headers(decision))


async def _decide(engine: GuardrailEngine, asked: checks.Asked, decision_id: str) -> Decision:
    if asked.stage is Stage.INPUT:
        return await engine.check_input(asked.conversation, decision_id=decision_id, dialect="check")
    return await engine.check_output(
        asked.earlier,
        asked.answer,
        unjudged=asked.conversation.unreadable,
        decision_id=decision_id,
        dialect="check",
    )
