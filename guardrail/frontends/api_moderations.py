"""OpenAI's moderation endpoint: every text of a request judged by the input policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio

from guardrail.core.addition import Addition
from guardrail.core.conversation import Conversation
from guardrail.core.decision import Decision
from guardrail.core.policy import Mode, Policy, Stage
from guardrail.engine.check import GuardrailEngine
from guardrail.frontends.endpoint import Answer, Asking
from guardrail.wire import moderations
from guardrail.wire.policies import Catalogue
from guardrail.wire.replies import UNAVAILABLE, openai_error

__all__ = ["moderate"]

AT_ONCE: Final = 8
"""Texts of one request that are judged at once: no request shall fill the judge's queue alone."""
_FAILED: Final = "a text could not be checked, and that is not said to be harmless"


async def moderate(catalogue: Catalogue, asking: Asking) -> Answer:
    """One result for each text, or an error where one could not be judged. Raises ``UnreadableRequest``."""
    asked = moderations.read(asking.raw)
    engine = asking.engine.adding(asked.added)
    decisions = await _decide(engine, asked.conversations, asking.decision_id)
    headers = moderations.headers(decisions)
    if any(moderations.unjudged(decision) for decision in decisions):
        return Answer(openai_error(UNAVAILABLE, "guardrail_unavailable", _FAILED), headers)
    policies = _acting(catalogue, (*asking.added, *asked.added))
    return Answer(moderations.answer(asking.decision_id, asked, decisions, policies), headers)


def _acting(catalogue: Catalogue, added: Sequence[str | Addition]) -> list[Policy]:
    """The policies that judged and act, with those that were added; the engine has taken all of these."""
    judged = catalogue.judging(Stage.INPUT)
    for one in added:
        asked = Addition(one) if isinstance(one, str) else one
        found = catalogue.resolve(Stage.INPUT, [asked.policy_id], asked.mode)
        judged += [policy for policy, reason in found if reason.applies]
    return list({policy.id: policy for policy in judged if policy.mode is Mode.ENFORCE}.values())


async def _decide(
    engine: GuardrailEngine, conversations: Sequence[Conversation], decision_id: str
) -> list[Decision]:
    found: dict[int, Decision] = {}
    waiting = iter(enumerate(conversations))

    async def work() -> None:
        for index, conversation in waiting:
            found[index] = await engine.check_input(
                conversation, decision_id=decision_id, dialect="moderations"
            )

    if len(conversations) == 1:
        await work()
    else:
        async with anyio.create_task_group() as group:
            for _ in range(min(AT_ONCE, len(conversations))):
                group.start_soon(work)
    return [found[index] for index in range(len(conversations))]
