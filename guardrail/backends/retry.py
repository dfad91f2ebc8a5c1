"""Asking again, inside the deadline of the caller's cancel scope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from guardrail.core.policy import AnswerForm
from guardrail.core.verdict import Verdict
from guardrail.errors import ClassifierError, FailureCode, MalformedVerdict

__all__ = ["AGAIN", "MAX_TRIES", "Transient", "until_sound"]

MAX_TRIES: Final = 4  # calls for one verdict, the second reading of a malformed answer included
FIRST_PAUSE_S: Final = 0.1

AGAIN: Final = {
    AnswerForm.JSON: " The final answer must be that object alone, on one line: no prose, no code fence.",
    AnswerForm.BINARY: " The final answer must be that label alone, on one line: no prose, no markup.",
}
"""Ends the user message of a second reading: at temperature 0 the same words get the same answer."""


class Transient(Exception):
    """One call failed in a way that another may not; ``error`` is raised when no time is left.

    ``lost``: the request was sent and the connection broke before the answer came.
    """

    def __init__(
        self, error: ClassifierError, retry_after_s: float | None = None, *, lost: bool = False
    ) -> None:
        self.error = error
        self.retry_after_s = retry_after_s
        self.lost = lost


async def until_sound(
    ask: Callable[[int, FailureCode | None], Awaitable[Verdict]], budget: int, most: int = MAX_TRIES
) -> Verdict:
    """Call ``ask`` until there is one sound verdict, at most ``most`` times and inside the deadline.

    ``ask`` is given its budget of tokens and, at the second reading of a malformed answer, what was
    wrong with the first; an answer that was cut gets twice the budget. What raised ``Transient`` is tried
    again after a pause; a connection that was lost may just have been an old one, so that is tried at once,
    but a text that loses two may be what kills the server, and is not sent a third time.

    Raises ``ClassifierError``.
    """
    wrong: FailureCode | None = None
    lost = False
    pause = FIRST_PAUSE_S
    for attempt in range(1, most + 1):
        try:
            return await ask(budget, wrong)
        except MalformedVerdict as error:
            if wrong is not None or attempt == most:
                raise
            wrong = error.code
            if wrong is FailureCode.TRUNCATED:
                budget *= 2
        except Transient as failed:
            wait = 0.0 if failed.lost else pause
            if failed.retry_after_s is not None:
                wait = failed.retry_after_s
            if attempt == most or (lost and failed.lost) or not time_left_for(wait):
                failed.error.retry_after_s = failed.retry_after_s
                raise failed.error from None
            if failed.lost:
                lost = True
            else:
                pause *= 2
            await anyio.sleep(wait)
    raise AssertionError("unreachable: the last try raises")


def time_left_for(wait_s: float) -> bool:
    """Whether a pause of ``wait_s`` seconds leaves time before the deadline."""
    return anyio.current_effective_deadline() - anyio.current_time() > wait_s
