"""The judge's answer read strictly: exactly one sound verdict, or MalformedVerdict.

Where the verdict may stand, and why (counts are from about 22,000 recorded answers):

* JSON policies: one object that holds ``violation``, as the whole answer, in a fence, or after a line
  of commentary (vLLM joins a preamble into the content). Nothing may follow it.
* Binary policies: the label alone, or behind a leading echo such as ``Answer:``. After an echo of the
  judged content only the last line counts; where the first line is a label too, both must agree.
* Never: a label word inside prose, the reasoning channel, raw harmony markup, an empty answer.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from guardrail.core.policy import JUDGE_REFUSAL, Action, AnswerForm, Mode, Policy
from guardrail.core.redaction import Span
from guardrail.errors import FailureCode, MalformedVerdict

__all__ = ["Usage", "Verdict", "read_answer"]

MAX_EXCERPTS: Final = 64
_MAX_REFUSAL_CHARS: Final = 400  # recorded refusals are one sentence

_REFUSAL: Final = re.compile(
    r"\W*(?:<refusal>\s*)?(?:I['’]?\s?a?m (?:really |very |so )?sorry|sorry\b|"  # noqa: RUF001
    r"I can(?:['’]?t|not) (?:help|comply|assist|provide|fulfil)|"  # noqa: RUF001
    r"I(?:['’]m| am) (?:unable|not able) to)",  # noqa: RUF001
    re.IGNORECASE,
)
_HARMONY: Final = re.compile(
    r"<\|(?:start|end|channel|message|return|call|constrain)\|>|\A\s*analysis.*assistantfinal",
    re.DOTALL,
)
_FENCE: Final = re.compile(r"\A\s*```[\w-]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_KEY: Final = r"(?:answer|classification|label|verdict|decision|output)"
_LINE: Final = re.compile(
    rf"(?:{_KEY}\s*)?(?:\((?P<choices>[^()]*)\)\s*)?:?\s*(?P<rest>.*)", re.IGNORECASE | re.DOTALL
)
_TAG: Final = re.compile(r"<(\w+)>\s*(.*?)\s*</\1>", re.DOTALL)
_TAIL: Final = re.compile(r"(?P<label>[A-Za-z0-9._-]+?)(?:\s*\((?P<note>[^()]{1,60})\))?\.?")
_REASONING_LINE: Final = re.compile(r"\W*(?:reason|rationale|explanation|because)", re.IGNORECASE)
_TRUTH: Final = {
    "0": False, "1": True, "false": False, "true": True, "no": False, "yes": True,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the judge reported them; ``cached`` is None where it does not say."""

    prompt: int = 0
    completion: int = 0
    cached: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One classifier's verdict under one policy.

    ``excerpts`` are pieces the judge quoted, ``spans`` exact places a detector found, by index of the
    judged segment. ``reduced`` marks a verdict of rules alone, where nobody read the text.
    """

    policy: Policy
    label: str | None
    violation: bool
    excerpts: tuple[str, ...] = ()
    spans: tuple[tuple[int, Span], ...] = ()
    rationale: str = field(default="", repr=False)
    judge: str = ""
    usage: Usage | None = None
    reduced: bool = False
    cached: bool = False
    latency_ms: float = 0.0

    @property
    def action(self) -> Action:
        """What the policy's front matter does about this label, whatever the policy's mode."""
        return self.policy.action_of(self.label) if self.violation else Action.PASS

    @property
    def acts(self) -> bool:
        """False for a policy in shadow mode."""
        return self.policy.mode is Mode.ENFORCE


def read_answer(
    policy: Policy, answer: str | None, *, finish_reason: str | None = None, judged: str = ""
) -> Verdict:
    """Read the final channel of one answer.

    ``judged`` is the judged text: a verdict that the answer merely copies out of it does not count.
    Raises ``MalformedVerdict`` with code ``truncated`` after ``finish_reason: length``, else
    ``malformed``.
    """
    if finish_reason == "length":
        raise MalformedVerdict("the answer was cut by its token limit", code=FailureCode.TRUNCATED)
    if finish_reason == "content_filter":
        return Verdict(policy, JUDGE_REFUSAL, violation=True)
    text = (answer or "").strip()
    if not text:
        raise MalformedVerdict("the answer is empty")
    if _HARMONY.search(text):
        raise MalformedVerdict("the answer holds raw harmony markup")
    if text in policy.labels:
        return Verdict(policy, text, violation=policy.labels[text].violation)
    if len(text) <= _MAX_REFUSAL_CHARS and _REFUSAL.match(text):
        return Verdict(policy, JUDGE_REFUSAL, violation=True)
    if policy.answer is AnswerForm.JSON:
        return _read_json(policy, text, judged)
    return _read_binary(policy, text, judged)


def _read_json(policy: Policy, text: str, judged: str) -> Verdict:
    fence = _FENCE.match(text)
    found = _objects(fence[1] if fence else text)
    verdicts = [_from_object(policy, value) for value, _, _ in found if _violation_key(value)]
    if not verdicts:
        raise MalformedVerdict("the answer holds no JSON object with the key violation")
    if any((v.label, v.violation) != (verdicts[0].label, verdicts[0].violation) for v in verdicts):
        raise MalformedVerdict("the answer holds two different verdicts")
    inner = (fence[1] if fence else text).strip()
    value, start, end = found[-1]
    if not _violation_key(value) or inner[end:].strip(" \t\r\n`"):
        raise MalformedVerdict("text follows the verdict")
    if start and inner[start:end] in judged:
        raise MalformedVerdict("the verdict is a copy out of the judged text")
    return verdicts[-1]


def _objects(text: str) -> list[tuple[dict[str, Any], int, int]]:
    """Every outermost JSON object in ``text`` with its place; a repeated key is a contradiction."""
    text = text.strip()
    decoder = json.JSONDecoder(object_pairs_hook=_no_repeated_key)
    found: list[tuple[dict[str, Any], int, int]] = []
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except MalformedVerdict:
            raise
        except (ValueError, RecursionError):
            at = text.find("{", at + 1)
            continue
        found.append((value, at, end))
        at = text.find("{", end)
    return found


def _no_repeated_key(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value and value[key] != item:
            raise MalformedVerdict("the verdict names one key twice with different values")
        value[key] = item
    return value


def _violation_key(value: dict[str, Any]) -> str | None:
    return next((key for key in ("violation", "violates_policy") if key in value), None)


def _from_object(policy: Policy, value: dict[str, Any]) -> Verdict:
    violation = _truth(value[_violation_key(value) or ""])
    label = _label(policy, value, violation)
    excerpts = value.get("excerpts") or ()
    if not isinstance(excerpts, list | tuple):
        excerpts = (excerpts,)
    rationale = value.get("rationale")
    return Verdict(
        policy,
        label,
        violation,
        excerpts=tuple(e for e in excerpts if isinstance(e, str) and e.strip())[:MAX_EXCERPTS],
        rationale=rationale if isinstance(rationale, str) else "",
    )


def _truth(value: object) -> bool:
    if isinstance(value, bool | int | str):
        truth = _TRUTH.get(str(value).strip().lower())
        if truth is not None:
            return truth
    raise MalformedVerdict("violation is neither 0, 1, true nor false")


def _label(policy: Policy, value: dict[str, Any], violation: bool) -> str | None:
    named = [value[key] for key in ("label", "policy_category", "category") if value.get(key)]
    if not named:
        if violation:
            raise MalformedVerdict("the violation has no label", violation=True)
        return None
    if any(name != named[0] for name in named):
        raise MalformedVerdict("the verdict names two labels", violation=violation)
    label = _declared(policy, named[0])
    if label is None:
        raise MalformedVerdict("the label is not declared by the policy", violation=violation)
    if policy.labels[label].violation is not violation:
        raise MalformedVerdict("violation and label contradict each other", violation=violation)
    return label


def _declared(policy: Policy, label: object) -> str | None:
    if not isinstance(label, str | int):
        return None
    wanted = str(label).strip().casefold()
    return next((known for known in policy.labels if known.casefold() == wanted), None)


def _read_binary(policy: Policy, text: str, judged: str) -> Verdict:
    fence = _FENCE.match(text)
    text = fence[1].strip() if fence else text
    whole = _line_label(policy, text)
    if whole is not None:
        return Verdict(policy, whole, policy.labels[whole].violation)
    if text.startswith("{") and "violation" in text:
        return _read_json(policy, text, judged)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first, last = _line_label(policy, lines[0]), _line_label(policy, lines[-1])
    if last is not None and lines[-1] not in {line.strip() for line in judged.splitlines()}:
        if first is not None and first != last:
            raise MalformedVerdict("the first and the last line name different labels")
        return Verdict(policy, last, policy.labels[last].violation)
    if first is not None and last is None and _REASONING_LINE.match(lines[1]):
        return Verdict(policy, first, policy.labels[first].violation)
    raise MalformedVerdict("the answer is not a label")


def _line_label(policy: Policy, line: str) -> str | None:
    """The label that a whole line stands for: ``VALID``, ``**Answer: VALID (PX3)**`` and the like."""
    bare = line.replace("*", "").replace("`", "").strip()
    tag = _TAG.fullmatch(bare)
    bare = tag[2] if tag else bare
    if not bare:
        return None
    match = _LINE.fullmatch(bare)
    assert match is not None  # every part of the pattern is optional  # noqa: S101
    rest, choices = match["rest"].strip(), match["choices"]
    tail = _TAIL.fullmatch(rest or choices or "")
    return _declared(policy, tail["label"]) if tail else None
