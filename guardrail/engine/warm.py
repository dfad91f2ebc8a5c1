"""Warm-up: one real call per endpoint and policy, so that every server has every prefix in its cache.

Calls that come before a prefix is cached all pay for it in full, so nothing should be served before.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.policy import Policy
from guardrail.engine.endpoint import Endpoint
from guardrail.errors import ClassifierError, FailureCode

__all__ = ["Warmed", "warm"]

_HELLO: Final = Turn("user", (Segment("Hello.", ()),))


@dataclass(frozen=True, slots=True)
class Warmed:
    """One call of a warm-up. ``error`` is why it failed, ``cached`` how many tokens were cached before."""

    endpoint: str
    policy: str
    error: FailureCode | None
    latency_ms: float
    cached: int | None = None


async def warm(endpoints: Sequence[Endpoint], policies: Sequence[Policy], timeout_s: float) -> list[Warmed]:
    """Endpoints side by side, the policies of each in turn. Never raises.

    What is not done after ``timeout_s`` seconds is ``timeout``.
    """
    done: list[Warmed] = []
    until = anyio.current_time() + timeout_s
    async with anyio.create_task_group() as group:
        for endpoint in endpoints:
            group.start_soon(_warm_one, endpoint, policies, until, done)
    return done


async def _warm_one(
    endpoint: Endpoint, policies: Sequence[Policy], until: float, done: list[Warmed]
) -> None:
    for policy in policies:
        started = time.perf_counter()
        error: FailureCode | None = FailureCode.TIMEOUT
        cached = None
        try:
            with anyio.move_on_at(until):
                verdict = await endpoint.classify(policy, Subject(min(policy.stages), (), (_HELLO,)))
                error = None
                cached = verdict.usage.cached if verdict.usage else None
        except ClassifierError as failed:
            error = failed.code
        except Exception:  # a bug must not keep the server from ever being ready
            error = FailureCode.INTERNAL
        elapsed = (time.perf_counter() - started) * 1e3
        done.append(Warmed(endpoint.name, policy.id, error, elapsed, cached))
