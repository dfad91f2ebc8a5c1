"""What ``guardrail doctor`` asks one judge, and what it makes of the answers.

Every probe is real calls through the very client that judges. A call that fails is a finding, never a
crash; what a server does not tell is "unknown", never 0.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import median
from typing import Final

import anyio

from guardrail.backends.judge import JudgeClassifier
from guardrail.backends.judge_replies import Answer
from guardrail.backends.retry import Transient
from guardrail.core.answer import read_answer
from guardrail.core.chunks import tokens
from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.policy import Action, Effort, LabelRule, Policy, Stage
from guardrail.core.prompt import user_message
from guardrail.core.verdict import Verdict
from guardrail.errors import ClassifierError, FailureCode, MalformedVerdict

__all__ = ["Grade", "Probes", "Seen"]

BUDGET: Final = 2048
READINGS: Final = 6  # answers of which none may be malformed
AT_ONCE: Final = 4
LARGEST_PROBED: Final = 40_000  # tokens of a window that is filled; more is costly
_WORD: Final = "harmless "  # two tokens or so, by any tokenizer
_BAD: Final = "zebra-attack"


class Grade(StrEnum):
    """How bad it is. Only ``unsafe`` lets violations through."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARN = "warn"
    UNSAFE = "unsafe"


@dataclass(frozen=True, slots=True)
class Seen:
    """One finding: what was asked, what was seen, and what to do about it."""

    probe: str
    grade: Grade
    seen: str
    remedy: str = ""


def _policy() -> Policy:
    """A policy that anybody can apply, long enough for the coarsest prefix cache."""
    examples = "\n".join(f'- "Sentence number {n} about the weather." -> T0' for n in range(60))
    body = (
        "# Test of a judge\n\n## Instructions\nClassify the content between the markers. Answer with one "
        'JSON object and nothing else: {"violation": 0 or 1, "label": "T0|T1"}\n\n'
        f"## Violates\n- T1: the content holds the words {_BAD}.\n\n## Safe\n- T0: everything else.\n\n"
        'Answer with one JSON object and nothing else: {"violation": 0 or 1, "label": "T0|T1"}\n\n'
        f"## Examples\n{examples}\n"
    )
    labels = {"T0": LabelRule("T0", False), "T1": LabelRule("T1", True, Action.BLOCK)}
    return Policy("doctor", body, labels)


_POLICY: Final = _policy()


def _subject(text: str) -> Subject:
    return Subject(Stage.INPUT, (), (Turn("user", (Segment(text, ()),)),))


class Probes:
    """All probes of one judge. ``timeout_s`` is its deadline, ``policies`` are the configured ones."""

    def __init__(self, judge: JudgeClassifier, policies: Sequence[Policy], timeout_s: float) -> None:
        self._judge = judge
        self._policies = policies
        self._timeout_s = timeout_s
        self._took: list[float] = []

    async def run(self, on_probe: Callable[[str], None] = lambda probe: None) -> list[Seen]:
        """Every finding in order. Stops at the first where nobody answers."""
        if not await self._judge.reachable():
            return [
                Seen("reachable", Grade.UNSAFE, "nobody answers", "check classifier.base_url, start it")
            ]
        found = [Seen("reachable", Grade.OK, self._judge.name)]
        probes: list[Callable[[], Awaitable[list[Seen]]]] = [
            self.verdicts, self.forms, self.effort, self.prefix, self.window, self.overflow,
            self.json_mode, self.parallel, self.latency, self.costs,
        ]  # fmt: skip
        for probe in probes:
            on_probe(probe.__name__.replace("_", " "))
            try:
                found += await probe()
            except (ClassifierError, Transient) as error:
                failed = error.error if isinstance(error, Transient) else error
                grade = Grade.UNSAFE if probe == self.verdicts else Grade.WARN
                remedy = "see docs/failures.md for this class of failure"
                found.append(Seen(probe.__name__.replace("_", " "), grade, f"failed: {failed}", remedy))
                if probe == self.verdicts:
                    break
        return found

    async def verdicts(self) -> list[Seen]:
        """A clear violation and a clear pass."""
        verdicts = [await self._verdict(f"Please {word} now.") for word in (_BAD, "rest")]
        seen = ", ".join("violation" if v.violation else "pass" for v in verdicts)
        right = [v.violation for v in verdicts] == [True, False]
        remedy = "" if right else "it does not read the policy: check model and context"
        return [
            Seen(
                "verdicts",
                Grade.OK if right else Grade.UNSAFE,
                f"bad: {seen.replace(', ', ', good: ')}",
                remedy,
            )
        ]

    async def forms(self) -> list[Seen]:
        """How many answers are no verdict."""
        malformed = 0
        for number in range(READINGS):
            answer = await self._ask(f"Sentence number {number} of a test.")
            try:
                read_answer(_POLICY, answer.content, finish_reason=answer.finish_reason)
            except MalformedVerdict:
                malformed += 1
        grade = Grade.OK if not malformed else Grade.UNSAFE if malformed * 2 >= READINGS else Grade.WARN
        remedy = "raise classifier.max_tokens, or set json_mode where the server can" if malformed else ""
        return [Seen("forms", grade, f"{malformed} of {READINGS} answers malformed", remedy)]

    async def effort(self) -> list[Seen]:
        """Whether more effort makes longer answers."""
        means = []
        for effort in (Effort.LOW, Effort.HIGH):
            answers = [await self._ask(f"Is sentence {n} about cats?", effort) for n in range(5)]
            counts = [answer.usage.completion for answer in answers if answer.usage]
            means.append(sum(counts) / len(counts) if counts else 0.0)
        low, high = means
        if not low or not high:
            return [Seen("effort", Grade.UNKNOWN, "the server reports no tokens")]
        seen = f"{low:.0f} tokens at low, {high:.0f} at high"
        if high < 1.3 * low:
            return [Seen("effort", Grade.WARN, seen, "it may ignore the effort: check classifier.preset")]
        return [Seen("effort", Grade.OK, seen)]

    async def prefix(self) -> list[Seen]:
        """Whether the policy is computed once."""
        own = secrets.token_hex(8)  # a prefix that nobody asked about before
        policy = replace(_POLICY, body=f"{_POLICY.body}\n<!-- {own} -->\n")
        texts = ("The first sentence.", "Another sentence, not the same.")
        answers = [await self._ask(text, policy=policy) for text in texts]
        usage = answers[1].usage
        if usage is None or usage.cached is None:
            first, second = self._took[-2:]
            hint = f"not told; first call {first * 1e3:.0f} ms, second {second * 1e3:.0f} ms"
            return [Seen("prefix cache", Grade.UNKNOWN, hint, "see docs/judge-servers.md for the flag")]
        seen = f"{usage.cached} of {usage.prompt} prompt tokens came from the cache"
        if usage.cached * 2 < len(policy.body) / 5:
            return [Seen("prefix cache", Grade.WARN, seen, "switch prefix caching on in the server")]
        return [Seen("prefix cache", Grade.OK, seen)]

    async def window(self) -> list[Seen]:
        """Whether the window is as large as configured: a violation on top of a prompt that fills it."""
        window = self._judge.context_tokens
        if window > LARGEST_PROBED:
            return [Seen("window", Grade.UNKNOWN, f"{window} tokens configured, not filled: too costly")]
        room = window - BUDGET - tokens(_POLICY.body) - 200
        text = f"Please {_BAD} now. " + _WORD * max(0, int(room / tokens(_WORD)))
        return [_graded("window", await self._outcome(text), f"{window} tokens", expected=True)]

    async def overflow(self) -> list[Seen]:
        """Whether a prompt that is too long is refused rather than cut."""
        window = self._judge.context_tokens
        if window > LARGEST_PROBED:
            return [Seen("overflow", Grade.UNKNOWN, "not tried: too costly for this window")]
        text = f"Please {_BAD} now. " + _WORD * window * 2
        return [_graded("overflow", await self._outcome(text), "a prompt twice as long", expected=False)]

    async def json_mode(self) -> list[Seen]:
        """Whether the server can enforce JSON; only told."""
        try:
            answer = await self._judge.ask(_POLICY, _user("A sentence."), BUDGET, json_mode=True)
            read_answer(_POLICY, answer.content, finish_reason=answer.finish_reason)
        except (ClassifierError, Transient):
            return [Seen("json mode", Grade.UNKNOWN, "not usable", "leave classifier.json_mode off")]
        return [Seen("json mode", Grade.OK, "usable, or not sent to this kind of server")]

    async def parallel(self) -> list[Seen]:
        """Whether several calls run at once."""
        alone = median(self._took[-READINGS:])
        started = time.perf_counter()
        async with anyio.create_task_group() as group:
            for number in range(AT_ONCE):
                group.start_soon(self._ask, f"Sentence {number}, beside others.")
        return [graded_parallel(alone, time.perf_counter() - started)]

    async def latency(self) -> list[Seen]:
        """The usual time of a call against the deadline."""
        usual = median(self._took)
        seen = f"{usual * 1e3:.0f} ms in the middle, deadline {self._timeout_s:g} s"
        if usual > self._timeout_s / 2:
            return [Seen("latency", Grade.WARN, seen, "raise classifier.timeout_s or lower the effort")]
        return [Seen("latency", Grade.OK, seen)]

    async def costs(self) -> list[Seen]:
        """What a check costs, and how much of each configured policy is cached."""
        found = []
        for policy in self._policies:
            for text in ("Good morning.", "What is the capital of France?"):
                verdict = await self._judge.classify(policy, _subject(text))
            usage = verdict.usage
            if usage is None:
                found.append(Seen(f"policy {policy.id}", Grade.UNKNOWN, "no tokens reported"))
                continue
            share = "unknown" if usage.cached is None else f"{usage.cached / max(1, usage.prompt):.0%}"
            cost = "unknown" if usage.cost_usd is None else f"${usage.cost_usd * 1000:.3f}"
            seen = f"{usage.prompt} + {usage.completion} tokens, cached {share}, 1,000 checks cost {cost}"
            found.append(Seen(f"policy {policy.id}", Grade.OK, seen))
        return found

    async def _verdict(self, text: str) -> Verdict:
        return await self._judge.classify(_POLICY, _subject(text))

    async def _ask(self, text: str, effort: Effort = Effort.LOW, policy: Policy | None = None) -> Answer:
        started = time.perf_counter()
        answer = await self._judge.ask(
            policy or replace(_POLICY, reasoning_effort=effort), _user(text), BUDGET
        )
        self._took.append(time.perf_counter() - started)
        return answer

    async def _outcome(self, text: str) -> FailureCode | bool:
        """The class of failure, or whether the verdict was a violation."""
        try:
            return (await self._verdict(text)).violation
        except ClassifierError as error:
            return error.code


def graded_parallel(alone_s: float, together_s: float) -> Seen:
    """``AT_ONCE`` calls together against one alone, in seconds."""
    seen = f"{AT_ONCE} at once took {together_s * 1e3:.0f} ms, one alone {alone_s * 1e3:.0f} ms"
    if alone_s > 0.02 and together_s > 0.75 * AT_ONCE * alone_s:
        return Seen(
            "parallel", Grade.WARN, seen, "calls queue: give it more slots (OLLAMA_NUM_PARALLEL, -np)"
        )
    return Seen("parallel", Grade.OK, seen)


def _graded(probe: str, outcome: FailureCode | bool, what: str, *, expected: bool) -> Seen:
    """A violation must be found, or the call refused; ``expected``: being refused is not."""
    smaller = "set classifier.context_tokens to what the server really has"
    if outcome is True:
        return Seen(probe, Grade.OK, f"{what}: the violation at its start was found")
    if outcome is False:
        return Seen(
            probe,
            Grade.UNSAFE,
            f"{what}: answered, and the violation at its start was not seen",
            "the server cuts prompts silently: use its native API or a larger context, and " + smaller,
        )
    if outcome is FailureCode.TRUNCATED:
        return Seen(probe, Grade.UNSAFE, f"{what}: cut silently (noticed by its token count)", smaller)
    if expected:
        return Seen(probe, Grade.WARN, f"{what}: refused ({outcome.value})", smaller)
    return Seen(probe, Grade.OK, f"{what}: refused ({outcome.value})")


def _user(text: str) -> str:
    return user_message(_POLICY, _subject(text), secrets.token_hex(12))
