"""The judge's answer read strictly: exactly one sound verdict, or MalformedVerdict.

Where the verdict may stand, and why (counts are from about 22,000 recorded answers):

* JSON policies: one object that holds ``violation``, as the whole answer, in a fence, or on a line of
  its own after commentary (vLLM joins a preamble into the content). Nothing may follow it.
* Binary policies: the label alone, or behind a leading echo such as ``Answer:``. After an echo of the
  judged content or of the policy's list of labels only the last line counts; where the first line is
  a label too, both must agree. After any other text a last line is no verdict: a judge that carries
  out the request instead of judging it ends on a 0 or 1 by chance.
* Never: a label word inside prose, the reasoning channel, raw harmony markup, an empty answer.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

from guardrail.core.policy import JUDGE_REFUSAL, AnswerForm, Effort, Policy
from guardrail.core.verdict import Usage, Verdict
from guardrail.core.views import folded
from guardrail.errors import FailureCode, MalformedVerdict

__all__ = ["read_answer"]

MAX_EXCERPTS: Final = 64
_MAX_REFUSAL_CHARS: Final = 400  # recorded refusals are one sentence

_REFUSAL: Final = re.compile(
    r"\W*(?:<refusal>\s*)?(?:I['’]?\s?a?m (?:really |very |so )?sorry|sorry\b|"  # noqa: RUF001
    r"I cannot\b|I can['’]?t (?:help|comply|assist|provide|fulfil)|"  # noqa: RUF001
    r"I(?:['’]m| am) (?:unable|not able) to)",  # noqa: RUF001
    re.IGNORECASE,
)
_HARMONY: Final = re.compile(
    r"<\|(?:start|end|channel|message|return|call|constrain)\|>|\A\s*analysis.*assistantfinal",
    re.DOTALL,
)
# What Bedrock and some gateways put before the final channel's text.
_THOUGHT: Final = re.compile(r"<(reasoning|think)>.*?</\1>\s*", re.DOTALL)
_FENCE: Final = re.compile(r"```[\w-]*\s*")
_KEY: Final = r"(?:answer|classification|label|verdict|decision|output)"
_LINE: Final = re.compile(
    rf"(?:{_KEY}\b\s*)?(?:\((?P<choices>[^()]*)\)\s*)?:?\s*(?P<rest>.*)", re.IGNORECASE | re.DOTALL
)
# What may stand before the object on its line.
_LEAD: Final = re.compile(rf"[\s*`]*+(?:{_KEY}\b|json\b)?[\s*`:]*+", re.IGNORECASE)
_TAG: Final = re.compile(r"<(?!(?:think|reason|analysis))(\w+)>(.*)</\1>", re.DOTALL | re.IGNORECASE)
_WORD: Final = re.compile(r"[\w.-]+")
_CONTENT: Final = re.compile(r"\W*content\W*:", re.IGNORECASE)  # what recorded echoes open with
_TAIL: Final = re.compile(r"(?P<label>[A-Za-z0-9._-]+?)(?:\s*\((?P<note>[^()]{1,60})\))?\.?")
_REASONING_LINE: Final = re.compile(r"\W*(?:reason|rationale|explanation|because)", re.IGNORECASE)
_VIOLATION_KEYS: Final = frozenset({"violation", "violates_policy"})
_LABEL_KEYS: Final = ("label", "policy_category", "category")
_NAMED: Final = re.compile(r"[\"'](?:violation|violates_policy)[\"']")
_TRUTH: Final = {
    "0": False, "1": True, "false": False, "true": True, "no": False, "yes": True,
}  # fmt: skip


class _Said(NamedTuple):
    """What the answer says, by whomever."""

    label: str | None
    violation: bool
    excerpts: tuple[str, ...] = ()
    rationale: str = ""


_REFUSED: Final = _Said(JUDGE_REFUSAL, violation=True)


def read_answer(
    policy: Policy,
    answer: str | None,
    *,
    finish_reason: str | None = None,
    judged: str = "",
    judge: str = "",
    effort: Effort | None = None,
    usage: Usage | None = None,
) -> Verdict:
    """Read the final channel of one answer; ``judge``, ``effort`` and ``usage`` are the verdict's.

    ``judged`` is the judged text: a verdict that the answer merely copies out of it does not count.
    Raises ``MalformedVerdict`` with code ``truncated`` after ``finish_reason: length``, else
    ``malformed``.
    """
    label, violation, excerpts, rationale = _read(policy, answer, finish_reason, judged)
    return Verdict(policy, label, violation, excerpts, (), rationale, judge, effort, usage=usage)


def _read(policy: Policy, answer: str | None, finish_reason: str | None, judged: str) -> _Said:
    if finish_reason == "length":
        raise MalformedVerdict("the answer was cut by its token limit", code=FailureCode.TRUNCATED)
    if finish_reason == "content_filter":
        return _REFUSED
    text = (answer or "").strip()
    if thought := _THOUGHT.match(text):
        text = text[thought.end() :]
    if not text:
        raise MalformedVerdict("the answer is empty")
    if text in policy.labels:
        return _Said(text, policy.labels[text].violation)
    refused = len(text) <= _MAX_REFUSAL_CHARS and _REFUSAL.match(text) is not None
    if refused and _copy(text.splitlines()[0]) not in _copies(judged):
        return _REFUSED
    read = _read_json if policy.answer is AnswerForm.JSON else _read_binary
    try:
        return read(policy, _unfenced(text), judged)
    except MalformedVerdict:
        if refused:
            return _REFUSED
        raise


def _unfenced(text: str) -> str:
    """The inside of a code fence that is the whole answer, else the text itself."""
    head, newline, rest = text.partition("\n")
    if newline and rest.endswith("```") and _FENCE.fullmatch(head):
        return rest[:-3].strip()
    return text


def _read_json(policy: Policy, text: str, judged: str) -> _Said:
    found, outside = _objects(text)
    if _HARMONY.search(outside):
        raise MalformedVerdict("the answer holds raw harmony markup")
    verdicts = [_from_object(policy, value) for value, _, _ in found if _is_verdict(value)]
    if not verdicts:
        raise MalformedVerdict("the answer holds no JSON object with the key violation")
    if len({(said.label, said.violation) for said in verdicts}) > 1:
        raise MalformedVerdict("the answer holds two different verdicts")
    value, start, end = found[-1]
    if not _is_verdict(value) or text[end:].strip(" \t\r\n`"):
        raise MalformedVerdict("text follows the verdict")
    if _NAMED.search(outside):
        raise MalformedVerdict("a second verdict stands outside the JSON object")
    if not _LEAD.fullmatch(text[:start].rpartition("\n")[2]):
        raise MalformedVerdict("the verdict stands inside prose")
    if start and "".join(text[start:end].split()) in "".join(judged.split()):
        raise MalformedVerdict("the verdict is a copy out of the judged text")
    return verdicts[-1]


def _objects(text: str) -> tuple[list[tuple[dict[str, Any], int, int]], str]:
    """Every outermost JSON object in ``text`` with its place, and what stands before, between and after
    them. A repeated key is a contradiction.
    """
    found: list[tuple[dict[str, Any], int, int]] = []
    outside: list[str] = []
    end = 0
    at = text.find("{")
    while at >= 0:
        try:
            value, after = _DECODER.raw_decode(text, at)
        except RecursionError:
            raise MalformedVerdict("the answer is nested too deep") from None
        except ValueError:
            at = text.find("{", at + 1)
            continue
        found.append((value, at, after))
        outside.append(text[end:at])
        end = after
        at = text.find("{", end)
    outside.append(text[end:])
    return found, "".join(outside)


def _no_repeated_key(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value and value[key] != item:
            raise MalformedVerdict("the verdict names one key twice with different values")
        value[key] = item
    return value


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_no_repeated_key)


def _is_verdict(value: dict[str, Any]) -> bool:
    return not _VIOLATION_KEYS.isdisjoint(value)


def _from_object(policy: Policy, value: dict[str, Any]) -> _Said:
    truths = {_truth(value[key]) for key in _VIOLATION_KEYS if key in value}
    if len(truths) > 1:
        raise MalformedVerdict("violation and violates_policy contradict each other", violation=True)
    violation = truths.pop()
    label = _label(policy, value, violation)
    excerpts = value.get("excerpts") or []
    rationale = value.get("rationale")
    return _Said(
        label,
        violation,
        _excerpts(excerpts if isinstance(excerpts, list) else [excerpts]),
        rationale if isinstance(rationale, str) else "",
    )


def _excerpts(items: list[Any]) -> tuple[str, ...]:
    """The quoted pieces. What is no text, or one too many, becomes "", which stands nowhere: an
    excerpt that cannot be located redacts all.
    """
    items = [
        item for item in items if item is not None and not (isinstance(item, str) and not item.strip())
    ]
    quoted = [item if isinstance(item, str) else "" for item in items]
    return tuple(quoted if len(quoted) <= MAX_EXCERPTS else [*quoted[:MAX_EXCERPTS], ""])


def _truth(value: object) -> bool:
    if isinstance(value, bool | int | str):
        truth = _TRUTH.get(str(value).strip().lower())
        if truth is not None:
            return truth
    raise MalformedVerdict("violation is neither 0, 1, true nor false")


def _label(policy: Policy, value: dict[str, Any], violation: bool) -> str | None:
    named = {_declared(policy, value[key]) for key in _LABEL_KEYS if value.get(key)}
    if not named:
        if violation:
            raise MalformedVerdict("the violation has no label", violation=True)
        return None
    if len(named) > 1:
        raise MalformedVerdict("the verdict names two labels", violation=violation)
    label = named.pop()
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


def _read_binary(policy: Policy, text: str, judged: str) -> _Said:
    if text.startswith("{") and "violation" in text:
        return _read_json(policy, text, judged)
    if _HARMONY.search(text):
        raise MalformedVerdict("the answer holds raw harmony markup")
    label = _line_label(policy, text)
    if label is None:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        label = _lines_label(policy, lines, judged)
    return _Said(label, policy.labels[label].violation)


def _lines_label(policy: Policy, lines: list[str], judged: str) -> str:
    """The label of an answer of several lines: its last line after an echo, or its first line before
    reasons. Label lines that the answer copies out of the judged text do not count.
    """
    copies = _copies(judged)
    labels = [None if _copy(line) in copies else _line_label(policy, line) for line in lines]
    if len({label for label in labels if label}) > 1:
        raise MalformedVerdict("two lines name different labels")
    first, last = (labels[0], labels[-1]) if lines else (None, None)
    before = lines[1:-1] if first else lines[:-1]
    if last and (not before or _announces(policy, before, lines[-1], copies)):
        return last
    if first and _REASONING_LINE.match(lines[1]):
        return first
    raise MalformedVerdict("the answer is not a label")


def _announces(policy: Policy, before: list[str], last: str, copies: frozenset[str]) -> bool:
    """Whether the last line is where a verdict is looked for: after an echo of the judged text, or at
    an echo of the policy's ``Answer (VALID or INVALID):``. After other text it is there by chance.
    """
    if _lists_labels(policy, last) or _lists_labels(policy, before[-1]):
        return True
    return _CONTENT.match(before[0]) is not None or _copy(before[0]) in copies


def _lists_labels(policy: Policy, line: str) -> bool:
    """Whether the line holds the choice between labels as a policy states it: ``(VALID or INVALID)``."""
    choices, rest = _parts(line.replace("*", ""))
    words = _WORD.findall(choices or rest)
    labels = [word for word in words if _declared(policy, word)]
    return len(labels) > 1 and len(words) == len(labels) + words.count("or") > len(labels)


def _copy(line: str) -> str:
    """The line without what models change when they copy it."""
    return folded(line).text.strip()


def _copies(judged: str) -> frozenset[str]:
    return frozenset(_copy(line) for line in judged.splitlines())


def _line_label(policy: Policy, line: str) -> str | None:
    """The label that a whole line stands for: ``VALID``, ``**Answer: VALID (PX3)**`` and the like.

    None where it names a second label: ``VALID (not INVALID)``, ``Answer (INVALID): VALID``.
    """
    bare = line.replace("*", "").replace("`", "").strip()
    tag = _TAG.fullmatch(bare)
    choices, rest = _parts(tag[2].strip() if tag else bare)
    tail = _TAIL.fullmatch(rest or choices)
    if tail is None:
        return None
    label = _declared(policy, tail["label"])
    others = {_declared(policy, word) for word in (choices, *_WORD.findall(tail["note"] or ""))}
    return label if others <= {None, label} else None


def _parts(line: str) -> tuple[str, str]:
    """What stands in the parenthesis of ``Answer (VALID or INVALID): VALID``, and what after it."""
    match = _LINE.fullmatch(line)
    assert match is not None  # every part of the pattern is optional  # noqa: S101
    return (match["choices"] or "").strip(), match["rest"].strip()
