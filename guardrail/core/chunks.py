"""Content that is longer than the judge's window: cut into overlapping chunks, and their verdicts into one.

The judged segments are laid end to end and cut into stretches that fit. Each stretch begins ``overlap``
characters before the end of the one before it, also across segments and turns. So whatever is no longer
than the overlap stands whole in some chunk, and a violation there decides.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.policy import Action
from guardrail.core.prompt import MAX_CONTEXT_CHARS, MAX_JUDGED_CHARS
from guardrail.core.redaction import Span
from guardrail.core.verdict import Verdict, spent, total
from guardrail.errors import ClassifierError, ClassifierRejected, FailureCode

__all__ = ["Chunk", "fits", "halves", "merged", "size", "split", "tokens"]

ENVELOPE_TOKENS: Final = 160  # opening and trailer of the user message: 110 to 120 in o200k
MARKER_TOKENS: Final = 40  # one marker line: 25 to 35, most of them for the boundary id
SEGMENT_TOKENS: Final = 9  # "[tool_arguments] " and a line end
_BLOCK: Final = 128  # characters that are counted together
_MAX_STEPS: Final = 32  # back from a cut that would part a letter from its marks

# One match a token, about as o200k_base parts text, but with pieces of words of at most three letters.
_PIECE: Final = re.compile(
    r" ?[A-Za-z][a-z]{0,2}|[0-9]{1,2}| {1,16}|[^\S ]{1,4}|[!-/:-@\[-`{-~]{1,2}|.", re.DOTALL
)
_ASTRAL: Final = re.compile("[\U00010000-\U0010ffff]")
_SENTENCE: Final = re.compile(r"[.!?]['\")\]]*\s|[。！？]")  # noqa: RUF001


def tokens(text: str) -> int:
    """About how many tokens of o200k ``text`` makes, rather too many than too few.

    Measured against o200k_base: 1.6 times the true number for English prose and JSON, 1.8 for code, 1.4
    for German, 1.3 for Chinese and Japanese, 3.4 for Russian, 1.0 for base64 and random ASCII signs. It
    falls short for random lower-case letters (0.65) and for signs strung together at random from scripts
    outside ASCII (down to 0.35), which no writing does.
    """
    count = len(_PIECE.findall(text))
    return count if text.isascii() else count + 3 * len(_ASTRAL.findall(text))


def size(subject: Subject) -> int:
    """About how many tokens the user message about ``subject`` makes; see ``tokens``."""
    return ENVELOPE_TOKENS + _context_tokens(subject.context) + sum(_costs(subject)[0])


def fits(subject: Subject, max_tokens: int) -> bool:
    """``size(subject) <= max_tokens``, without counting where that is plain to see."""
    most = ENVELOPE_TOKENS + MARKER_TOKENS * len(subject.turns)
    for turn in subject.turns:
        for segment in turn.segments:
            most += _most(segment.text) + 2 * SEGMENT_TOKENS
            if segment.preceding:
                most += _most(segment.preceding) + MARKER_TOKENS
    left = MAX_CONTEXT_CHARS
    for turn in reversed(subject.context):
        if left <= 0 or most > max_tokens:
            break
        most += MARKER_TOKENS
        left -= 2 * MARKER_TOKENS
        for segment in turn.segments:
            most += _most(segment.text) + SEGMENT_TOKENS
            left -= len(segment.text)
    return most <= max_tokens or size(subject) <= max_tokens


def _most(text: str) -> int:
    """No token is less than a byte of UTF-8."""
    return len(text) if text.isascii() else 4 * len(text)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a subject. ``places``: for each of its segments the index of the segment that it was cut
    from, and at which character of that it begins.
    """

    subject: Subject
    places: tuple[tuple[int, int], ...]

    def back(self, verdict: Verdict) -> Verdict:
        """The verdict with its spans in the segments of the whole subject.

        Where a violation names no place at all, that is all of this chunk and nothing beyond it.
        """
        spans = verdict.spans
        if verdict.violation and not (spans or verdict.excerpts):
            label = verdict.label or verdict.policy.strictest.label
            segments = enumerate(self.subject.segments)
            spans = tuple((at, Span(0, len(segment.text), label)) for at, segment in segments)
        moved = []
        for at, span in spans:
            index, offset = self.places[at]
            moved.append((index, replace(span, start=span.start + offset, end=span.end + offset)))
        return replace(verdict, spans=tuple(moved))


def split(subject: Subject, max_tokens: int, overlap: int, max_chunks: int) -> list[Chunk]:
    """The judged segments of ``subject`` in chunks of at most ``max_tokens`` each, as ``size`` counts.

    ``overlap`` is in characters. Of the context the latest turns go along, in a quarter of a chunk.
    Raises ``ClassifierRejected`` with code ``too_long`` for what takes more than ``max_chunks``.
    """
    if sum(len(segment.text) for segment in subject.segments) > MAX_JUDGED_CHARS:
        raise _too_long()
    context = _latest(subject.context, min(MAX_CONTEXT_CHARS, max_tokens // 4))
    if _context_tokens(context) > max_tokens // 2:  # signs of several tokens each
        context = _latest(context, max_tokens // 16)
    costs, starts = _costs(subject)
    used = [0, *accumulate(costs)]
    room = max_tokens - ENVELOPE_TOKENS - _context_tokens(context) - MARKER_TOKENS
    text = "".join([segment.text for segment in subject.segments])
    chunks: list[Chunk] = []
    start = 0
    while True:
        end = _BLOCK * (bisect_right(used, used[start // _BLOCK] + room) - 1)
        if end >= len(text):
            chunks.append(_cut(subject, context, starts, start, len(text)))
            return chunks
        if end - start <= 2 * overlap or len(chunks) + 1 >= max_chunks:
            raise _too_long()
        end = _border(text, start + max(3 * (end - start) // 4, overlap + 1), end, starts)
        chunks.append(_cut(subject, context, starts, start, end))
        start = _whole(text, end - overlap, start + 1)


def halves(subject: Subject, overlap: int) -> list[Chunk]:
    """A subject that did not fit after all, in about half the size. Raises ``ClassifierRejected``."""
    return split(subject, size(subject) * 5 // 8, overlap, 8)


def _too_long() -> ClassifierRejected:
    return ClassifierRejected("too long for the judge, even in chunks", code=FailureCode.TOO_LONG)


def _costs(subject: Subject) -> tuple[list[int], list[int]]:
    """Tokens of each block of the segments laid end to end, and where each segment begins in them."""
    text = "".join([segment.text for segment in subject.segments])
    costs = [tokens(text[at : at + _BLOCK]) for at in range(0, len(text), _BLOCK)] or [0]
    starts: list[int] = []
    position = 0
    for turn in subject.turns:
        cost = MARKER_TOKENS
        for segment in turn.segments:
            if segment.preceding:
                cost += tokens(segment.preceding[-MAX_CONTEXT_CHARS:]) + MARKER_TOKENS
            block = min(position // _BLOCK, len(costs) - 1)
            costs[block] += cost + SEGMENT_TOKENS
            starts.append(position)
            position += len(segment.text)
            cost = 0
    return costs, starts


def _context_tokens(turns: Sequence[Turn]) -> int:
    count, left = 0, MAX_CONTEXT_CHARS
    for turn in reversed(turns):
        count += MARKER_TOKENS
        left -= 2 * MARKER_TOKENS  # characters; as in the message, so that many empty turns end too
        for segment in turn.segments:
            text = segment.text[: max(left, 0)]
            count += tokens(text) + SEGMENT_TOKENS
            left -= len(text)
        if left <= 0:
            break
    return count


def _latest(turns: Sequence[Turn], chars: int) -> tuple[Turn, ...]:
    """The latest turns that have ``chars`` characters together, the first of them cut at its front."""
    kept: list[Turn] = []
    for turn in reversed(turns):
        if chars <= 0:
            break
        segments: list[Segment] = []
        for segment in reversed(turn.segments):
            text = segment.text[-chars:] if chars > 0 else ""
            if text:
                segments.append(replace(segment, text=text, preceding=""))
            chars -= len(text)
        chars -= 2 * MARKER_TOKENS
        kept.append(Turn(turn.role, tuple(reversed(segments))))
    return tuple(reversed(kept))


def _cut(subject: Subject, context: tuple[Turn, ...], starts: Sequence[int], start: int, end: int) -> Chunk:
    """The characters from ``start`` to ``end`` of the segments laid end to end, as turns again."""
    turns: list[Turn] = []
    places: list[tuple[int, int]] = []
    index = 0
    for turn in subject.turns:
        pieces: list[Segment] = []
        for segment in turn.segments:
            first, last = max(start - starts[index], 0), min(end - starts[index], len(segment.text))
            if first < last:
                before = "" if first else segment.preceding
                pieces.append(replace(segment, text=segment.text[first:last], preceding=before))
                places.append((index, first))
            index += 1
        if pieces:
            turns.append(Turn(turn.role, tuple(pieces)))
    return Chunk(Subject(subject.stage, context, tuple(turns)), tuple(places))


def _border(text: str, low: int, high: int, starts: Sequence[int]) -> int:
    """The best cut in ``low`` to ``high``: between segments, paragraphs, lines, sentences, words."""
    edge = starts[bisect_right(starts, high) - 1]
    if edge >= low:
        return edge
    for mark in ("\n\n", "\n"):
        if (at := text.rfind(mark, low, high)) >= 0:
            return at + len(mark)
    ends = [match.end() for match in _SENTENCE.finditer(text, low, high)]
    if ends:
        return ends[-1]
    if (at := text.rfind(" ", low, high)) >= 0:
        return at + 1
    return _whole(text, high, low)


def _whole(text: str, at: int, least: int) -> int:
    """``at``, or a little before it so that no letter is parted from its marks; never below ``least``."""
    for place in range(at, max(least, at - _MAX_STEPS) - 1, -1):
        if not _joined(text, place):
            return place
    return max(at, least)


def _joined(text: str, at: int) -> bool:
    """Whether a cut at ``at`` would part what is seen as one: marks, joiners, skin tones, surrogates."""
    before, after = text[at - 1], text[at]
    if after < "\u0300":
        return False
    return (
        unicodedata.category(after) in ("Mn", "Me", "Mc", "Cs")
        or "\u200d" in (before, after)
        or "\U0001f3fb" <= after <= "\U0001f3ff"
    )


def merged(found: Sequence[Verdict | ClassifierError]) -> Verdict:
    """What the chunks say together; spans must be those of the whole subject (``Chunk.back``).

    The strictest violation decides; what others of the same action found goes with it. A failed check
    raises, because a part that nobody judged is none that passed: only a violation that blocks stands
    against it. Of several errors one that the fail mode cannot open (``auth``) comes first, and one that
    did say "violation" last, for it asks for no more than the policy's strictest action.
    """
    verdicts = [one for one in found if isinstance(one, Verdict)]
    errors = [one for one in found if isinstance(one, ClassifierError)]
    first = max(verdicts, key=lambda one: (one.violation, one.action), default=None)
    if errors and (first is None or first.action is not Action.BLOCK):
        error = min(errors, key=_milder)
        error.usage = spent([one.usage for one in found])
        raise error
    if first is None:
        raise ValueError("no chunk")
    alike = [one for one in verdicts if one.violation and one.action is first.action] or [first]
    return replace(
        first,
        excerpts=tuple(dict.fromkeys(excerpt for one in alike for excerpt in one.excerpts)),
        spans=tuple(dict.fromkeys(span for one in alike for span in one.spans)),
        steps=tuple(step for one in verdicts for step in one.steps),
        usage=total([one.usage for one in verdicts]),
        reduced=any(one.reduced for one in verdicts),
        cached=all(one.cached for one in verdicts),
    )


def _milder(error: ClassifierError) -> tuple[bool, bool]:
    return error.code is not FailureCode.AUTH, bool(getattr(error, "violation", False))
