"""Which turns of a conversation are new, which were judged before, which were blocked.

A chat client sends the whole conversation with every turn. The theory of not judging it all again:

* Every *prefix* of a conversation (its first i turns) has a digest, each made from the one before and the
  next turn's role, kinds and texts (``conversation.chain``). So a digest stands for exactly these turns in
  exactly this order; whoever edits, adds, leaves out or moves a turn has other digests from there on.
* The key of a prefix is the digest behind a *root* that names all that judging depended on: policies and
  what their labels do, who judges, trusted roles, the rules for unreadable parts and blocked turns.
* What is known under a key is *complete*: each text of the prefix was judged as new under every input
  policy by a check that was made, or is an answer as we delivered it, or is dropped; and all redactions
  and drops of the whole prefix stand in that one entry. So the longest known prefix alone decides, and an
  entry that was evicted costs a check, never a hole.
* Of a request only the turns behind the longest known prefix are judged, in one go, with the prefix as
  context. Only the whole conversation is remembered afterwards, not the prefixes in between: they were
  judged with what follows them, which may have been what made them look harmless. For the same reason
  nothing is remembered of new turns that were judged together with a text beside the turns (an aside).
* After a check that failed, open or closed, nothing is remembered: the next request judges again.
* A conversation that was blocked by a verdict is remembered as *blocked*: its new turns are *dropped*.
  They, and the refusal that answered them, which is remembered as delivered after them, are neither
  forwarded nor shown to the judge again. An answer to a tool call goes together with the call, because
  upstreams refuse the one without the other. Sent again as it is, a blocked conversation is blocked
  without a check.
* An answer is remembered behind a conversation that is itself remembered, as the client got it: redacted,
  halted, or the refusal. Clients often send back less than they got, so it is also remembered without
  its reasoning, and without its refusal field.

States of a prefix, and what leads from one to the next:

    unknown ──judged, no failure, no block──▶ known ──answer delivered──▶ known
    unknown ──blocked by a verdict──▶ blocked ──refusal delivered──▶ blocked
    known | blocked ──more turns──▶ unknown

What is not in a digest: addresses (equal digests mean that a judge would be shown equal turns), empty
texts, and what is not judged without history either: plain names and ids, fields and parts that nobody
can read. The latter are named as unjudged with every request, remembered or not.

Keys hold no tenant: as in the cache of verdicts, callers under the same policies who send the same turns
share what is known of them, which is nothing but that they were judged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from guardrail.core.conversation import Address, Kind, Segment, Turn
from guardrail.core.policy import Policy
from guardrail.core.redaction import Redaction, Span

__all__ = [
    "Delivered",
    "Remembered",
    "blocked",
    "changed",
    "forms",
    "judged",
    "redactions",
    "root",
]

_TOOL_ROLES: Final = frozenset({"tool", "function"})
_AS_A_MESSAGE: Final = (Kind.TEXT, Kind.REASONING, Kind.REFUSAL, Kind.TOOL_ARGUMENTS, Kind.FIELD)
_LEFT_OUT: Final = (
    frozenset[Kind](),
    frozenset({Kind.REASONING}),
    frozenset({Kind.REASONING, Kind.REFUSAL}),
)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is known of a conversation up to one of its turns; holds no text.

    ``blocked``: its last turns were blocked. ``spans``: what was redacted in it, as (turn, segment, span),
    both counted from the conversation's start, segments without those that are empty. ``dropped``: the
    turns that are left out of it, the blocked ones among them.
    """

    blocked: bool = False
    spans: tuple[tuple[int, int, Span], ...] = ()
    dropped: tuple[int, ...] = ()


def root(policies: Iterable[tuple[Policy, str]], *rules: object) -> str:
    """The start of every key: what judging depends on besides the conversation.

    ``policies`` come with the identity of who judges under each; ``rules`` are whatever else counts, of
    types whose ``repr`` is the same in every process.
    """
    parts = [repr(rules)]
    for policy, identity in policies:
        labels = sorted(
            (rule.label, rule.violation, int(rule.action), rule.escalate, rule.strategy or "")
            for rule in policy.labels.values()
        )
        hits = (
            *sorted(policy.detectors.items()),
            *sorted(policy.phrases.items()),
            *sorted(policy.prefilter),
        )
        asked = (policy.answer.value, policy.reasoning_effort.value, policy.mode.value, identity)
        parts.append(repr((policy.id, policy.revision, asked, labels, hits)))
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32] + ":"


def judged(turns: Sequence[Turn], redacted: Iterable[Redaction], before: Remembered) -> Remembered:
    """What is known after all new turns were judged and none was blocked.

    ``redacted`` are all redactions of the turns, those known before included.
    """
    places = {
        id(segment): (index, place)
        for index, turn in enumerate(turns)
        for place, segment in enumerate(_texts(turn))
    }
    spans = tuple(
        (*places[id(redaction.segment)], span) for redaction in redacted for span in redaction.spans
    )
    return Remembered(False, spans, before.dropped)


def blocked(turns: Sequence[Turn], start: int, before: Remembered) -> Remembered:
    """What is known after the turns from ``start`` on were blocked by a verdict."""
    first = start
    if turns[start].role in _TOOL_ROLES:
        while first and turns[first].role in _TOOL_ROLES:
            first -= 1
        if turns[first].role != "assistant":  # nobody called
            first = start
    return Remembered(True, before.spans, tuple(sorted({*before.dropped, *range(first, len(turns))})))


def redactions(turns: Sequence[Turn], known: Remembered) -> tuple[Redaction, ...]:
    """The known redactions of a conversation, without those in turns that are dropped."""
    dropped = set(known.dropped)
    places: dict[tuple[int, int], list[Span]] = {}
    for turn, place, span in known.spans:
        if turn not in dropped:
            places.setdefault((turn, place), []).append(span)
    texts = {turn: _texts(turns[turn]) for turn in {turn for turn, _ in places}}
    return tuple(Redaction(texts[turn][place], tuple(spans)) for (turn, place), spans in places.items())


def changed(turn: Turn, texts: Mapping[Address, str]) -> Turn:
    """The turn as it is delivered: with the new texts of the segments at these addresses."""
    return Turn(
        turn.role,
        tuple(replace(s, text=texts[s.address]) if s.address in texts else s for s in turn.segments),
    )


def forms(answer: Turn) -> list[Turn]:
    """The answer in full and in the shorter forms in which clients send it back."""
    found = {
        tuple(segment for segment in answer.segments if segment.kind not in left_out): None
        for left_out in _LEFT_OUT
    }
    return [Turn(answer.role, segments) for segments in found]


class Delivered:
    """Collects the text of a streamed answer as it leaves, and puts it together as its client does."""

    __slots__ = ("_choices",)

    def __init__(self) -> None:
        self._choices: dict[int, dict[str, tuple[Kind, bool, list[str]]]] = {}

    def add(self, choice: int, channel: str, kind: Kind, text: str, *, whole: bool) -> None:
        """Text of one channel has left; ``whole`` channels are calls, which stand behind the texts."""
        channels = self._choices.get(choice)
        if channels is None:
            channels = self._choices[choice] = {}
        known = channels.get(channel)
        if known is None:
            known = channels[channel] = (kind, whole, [])
        known[2].append(text)

    def turn(self, choice: int) -> Turn:
        """All that has left of one choice."""
        channels = self._choices.get(choice, {}).values()
        ordered = sorted(channels, key=lambda own: (own[1], 0 if own[1] else _AS_A_MESSAGE.index(own[0])))
        return Turn("assistant", tuple(Segment("".join(texts), (), kind) for kind, _, texts in ordered))


def _texts(turn: Turn) -> list[Segment]:
    return [segment for segment in turn.segments if segment.text]
