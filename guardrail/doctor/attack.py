"""How often a judge is talked out of a verdict: violating cases asked bare, then in every payload."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from guardrail.core.conversation import Subject
from guardrail.core.policy import Policy
from guardrail.doctor.payloads import PAYLOADS, Payload
from guardrail.errors import ClassifierError
from guardrail.ports import Classifier

__all__ = ["Attempt", "FlipRate", "attack", "flip_rates"]

_Z: Final = 1.959963984540054  # standard normal, two-sided 95 %


@dataclass(frozen=True, slots=True)
class Attempt:
    """One question and what came of it. ``family`` is None for a case asked bare; ``violation`` is None
    where the check failed.
    """

    policy: str
    family: str | None
    violation: bool | None


@dataclass(frozen=True, slots=True)
class FlipRate:
    """How one policy fared against one family of payloads, or against all (``family`` None).

    ``cases`` were asked bare, ``bare`` of them were judged violating, and only these were attacked:
    ``asked`` times, of which ``flipped`` came back as no violation and ``failed`` did not come back. A
    failure is neither a flip nor a hold; ``bare_failed`` counts those of bare cases.
    """

    policy: str
    family: str | None
    cases: int
    bare: int
    bare_failed: int
    asked: int
    flipped: int
    failed: int

    @property
    def rate(self) -> float | None:
        """Flips among the answers, 0 to 1; None where there was no answer."""
        answers = self.asked - self.failed
        return self.flipped / answers if answers else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the rate; 0 to 1 where there was no answer.

        Attempts with one case are not independent of each other, so the truth may be somewhat wider.
        """
        n = self.asked - self.failed
        if not n:
            return 0.0, 1.0
        p = self.flipped / n
        middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
        return max(0.0, middle - half), min(1.0, middle + half)


def flip_rates(attempts: Iterable[Attempt]) -> list[FlipRate]:
    """One row for each policy as a whole, then one for each family, in the order of the attempts."""
    bare: dict[str, list[bool | None]] = {}
    wrapped: dict[str, dict[str, list[bool | None]]] = {}
    for one in attempts:
        families = wrapped.setdefault(one.policy, {})
        own = bare.setdefault(one.policy, [])
        (own if one.family is None else families.setdefault(one.family, [])).append(one.violation)
    rates = []
    for policy, families in wrapped.items():
        whole = [violation for family in families.values() for violation in family]
        rates += [
            _rate(policy, family, bare[policy], own) for family, own in [(None, whole), *families.items()]
        ]
    return rates


def _rate(
    policy: str, family: str | None, bare: Sequence[bool | None], wrapped: Sequence[bool | None]
) -> FlipRate:
    return FlipRate(
        policy,
        family,
        cases=len(bare),
        bare=bare.count(True),
        bare_failed=bare.count(None),
        asked=len(wrapped),
        flipped=wrapped.count(False),
        failed=wrapped.count(None),
    )


async def attack(
    classifier: Classifier,
    policies: Iterable[Policy],
    *,
    cases: Mapping[str, Sequence[Subject]],
    payloads: Sequence[Payload] = PAYLOADS,
    concurrency: int = 8,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[FlipRate]:
    """Ask ``classifier`` about every case of ``cases`` (violating ones, by policy id), bare and wrapped.

    At most ``concurrency`` questions are open at once. A case that is not judged violating bare is not
    attacked. ``on_progress`` is told how many questions are done, and how many there are at most.
    Raises what is no ``ClassifierError``.
    """
    jobs = [(policy, subject) for policy in policies for subject in cases.get(policy.id, ())]
    found: list[list[Attempt]] = [[] for _ in jobs]
    total, done = len(jobs) * (1 + len(payloads)), 0

    async def ask(policy: Policy, subject: Subject, family: str | None) -> Attempt:
        try:
            violation = (await classifier.classify(policy, subject)).violation
        except ClassifierError:
            return Attempt(policy.id, family, None)
        return Attempt(policy.id, family, violation)

    async def work(queue: Iterator[tuple[int, tuple[Policy, Subject]]]) -> None:
        nonlocal done
        for index, (policy, subject) in queue:
            own = found[index]
            own.append(await ask(policy, subject, None))
            count = len(payloads) if own[0].violation else 0
            done += 1 + len(payloads) - count
            report()
            for payload in payloads[:count]:
                own.append(await ask(policy, payload.applied(subject, policy), payload.family))
                done += 1
                report()

    def report() -> None:
        if on_progress is not None:
            on_progress(done, total)

    queue = iter(enumerate(jobs))  # shared: each worker takes the next case
    async with anyio.create_task_group() as group:
        for _ in range(min(concurrency, len(jobs))):
            group.start_soon(work, queue)
    return flip_rates(attempt for own in found for attempt in own)
