"""Asking again, inside the deadline of the caller's cancel scope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from guardrail.core.verdict import Verdict
from guardrail.errors import ClassifierError, FailureCode, MalformedVerdict

__all__ = ["Transient", "until_sound"]

MAX_TRIES: Final = 4  # calls for one verdict, the second reading of a malformed answer included
FIRST_PAUSE_S: Final = 0.1


class Transient(Exception):
    """One call failed in a way that another may not; ``error`` is raised when no time is left."""

    def __init__(self, error: ClassifierError, retry_after_s: float | None = None) -> None:
        self.error = error
        self.retry_after_s = retry_after_s


async def until_sound(ask: Callable[[int], Awaitable[Verdict]], budget: int) -> Verdict:
    """Call ``ask`` with a budget of tokens until there is one sound verdict, inside the deadline.

    A malformed answer is asked for once more, with twice the budget if it was cut by it; what raised
    ``Transient`` is tried again after a pause. Raises ``ClassifierError``.
    """
    read_again = True
    pause = FIRST_PAUSE_S
    for attempt in range(1, MAX_TRIES + 1):
        try:
            return await ask(budget)
        except MalformedVerdict as error:
            if not read_again or attempt == MAX_TRIES:
                raise
            read_again = False
            if error.code is FailureCode.TRUNCATED:
                budget *= 2
        except Transient as failed:
            wait = failed.retry_after_s if failed.retry_after_s is not None else pause
            if attempt == MAX_TRIES or not time_left_for(wait):
                raise failed.error from None
            pause *= 2
            await anyio.sleep(wait)
    raise AssertionError("unreachable: the last try raises")


def time_left_for(wait_s: float) -> bool:
    """Whether a pause of ``wait_s`` seconds leaves time before the deadline."""
    return anyio.current_effective_deadline() - anyio.current_time() > wait_s
