"""The vault: what one request's redactions put in place of a text, and the way back.

                     replace      [REDACTED:PII2]
    bob@x.example    mask         ***@*.***mple
                     hash         [HASH:PII2:XKCDQWRTBNMPLKJH]
                     placeholder  [EMAIL_XKCDQWRT]  ──answer──▶  bob@x.example

A placeholder's code is an HMAC of the text under a key, so the same text has the same placeholder in every
turn and every request, and whoever lacks the key can neither guess it nor recognise a text by it. Only the
vault of the request in which a text was redacted can turn a placeholder back: it is made for one request
and forgotten with it. A code that stands in the request already, in any spelling, is never given out: what
a user typed is not turned into a text, and the model cannot mean by it what the vault does not.

Placeholders are for what goes to the model. In an answer nothing would turn one back, so there such text is
replaced for good.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from guardrail.core.conversation import Kind, Segment
from guardrail.core.placeholders import Found, code, codes, kind_of, spelling
from guardrail.core.policy import Strategy
from guardrail.core.redaction import Edit, Span, edits, merge
from guardrail.core.views import json_view, plain, unescaped
from guardrail.core.words import Words

__all__ = ["RedactionRules", "Vault", "mask"]

_HASH_LETTERS: Final = 16
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_LETTER: Final = re.compile(r"[^\s!-/:-@\[-`{-~]")
_SHORT: Final = 4  # below it, the same letters in another word are chance
_LOOK_BACK: Final = 3  # characters that decide whether a placeholder stands inside a word


@dataclass(frozen=True, slots=True)
class RedactionRules:
    """What is put in the place of a redacted text.

    ``strategy`` is that of labels without their own. ``keep_last``: how many letters and digits a mask
    leaves. ``key`` makes placeholders and hashes; by default it is random, and then they are others in
    every process.
    """

    strategy: Strategy = Strategy.REPLACE
    keep_last: int = 4
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A text that was redacted, with what it was redacted under."""

    value: str = field(repr=False)
    label: str
    kind: str


class _Values:
    """Finds many texts in another in one pass."""

    __slots__ = ("_kept", "_long", "_short")

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._long = Words()
        self._short: set[str] = set()  # the first characters of the short ones

    def add(self, kept: _Kept) -> None:
        """Look for this text too; of equal ones the first counts."""
        if self._kept.setdefault(kept.value, kept) is not kept:
            return
        if len(kept.value) < _SHORT:
            self._short.add(kept.value[0])
        else:
            self._long.add(kept.value)

    def find(self, text: str) -> Iterator[tuple[int, int, _Kept]]:
        """Every place where a short one stands, and of the others that begin at a place the longest."""
        for start, end in self._long.find(text):
            yield start, end, self._kept[text[start:end]]
        if not self._short:
            return
        for first in re.finditer(f"[{re.escape(''.join(sorted(self._short)))}]", text):
            start = first.start()
            for end in range(start + 1, min(start + _SHORT, len(text) + 1)):
                kept = self._kept.get(text[start:end])
                if kept and _alone(text, start, end):
                    yield start, end, kept


class Vault:
    """One request's replacements.

    ``key`` makes placeholders and hashes; who knows it can test guesses. ``keep_last``: how many letters
    and digits a mask leaves. ``taken``: every text of the request as its client wrote it.
    """

    __slots__ = (
        "_called", "_given", "_keep_last", "_kept", "_key", "_kinds", "_taken", "_texts", "_values",
    )  # fmt: skip

    def __init__(self, key: bytes, *, keep_last: int = 4, taken: Iterable[str] = ()) -> None:
        self._key = key
        self._keep_last = keep_last
        self._texts = tuple(taken)
        self._taken: set[str] | None = None  # read from the texts when first needed
        self._given: dict[tuple[str, str], str] = {}  # kind and value -> code
        self._kept: dict[tuple[str, str], _Kept] = {}  # kind and code -> value
        self._values = _Values()
        self._kinds: frozenset[str] = frozenset()
        self._called: set[str] = set()  # codes that we put in front of a "("

    def __bool__(self) -> bool:
        """Whether it holds any placeholder."""
        return bool(self._kept)

    def redactions(self, segment: Segment, spans: Sequence[Span]) -> list[Edit]:
        """What goes to the model: every span replaced by its strategy."""
        made = edits(segment, spans, self._put)
        if self._kept:
            self._note_calls(segment.text, made)
        return made

    def answer(self, segment: Segment, spans: Sequence[Span]) -> list[Edit]:
        """What goes to the client: spans replaced, never by a placeholder, and placeholders turned back.

        A placeholder that a span touches goes with it. In tool arguments the text is written as the
        content of a JSON string.
        """
        lasting = merge(_lasting(span) for span in spans)
        view = json_view(segment.text) if self._kept and segment.kind is Kind.TOOL_ARGUMENTS else None
        read = view or plain(segment.text)
        all_spans = list(lasting)
        restored: dict[int, _Kept] = {}
        passed = 0
        for found, kept in self._find(read.text, segment.preceding):
            start, end = read.to_raw(found.start, found.end)
            while passed < len(lasting) and lasting[passed].end <= start:
                passed += 1
            if passed < len(lasting) and lasting[passed].start < end:
                all_spans.append(replace(lasting[passed], start=start, end=end))
            else:
                all_spans.append(Span(start, end, kept.label))
                restored[start] = kept

        def put(span: Span, text: str) -> str:
            kept = restored.get(span.start)
            return self._put(span, text) if kept is None else kept.value

        return edits(segment, all_spans, put)

    def values_in(self, segment: Segment) -> list[Span]:
        """Where texts that have a placeholder stand in a segment, as they were redacted.

        So what is hidden in one place can be hidden in all of them. A short text counts only as a word
        of its own.
        """
        read = unescaped(segment.text) if segment.kind is Kind.TOOL_ARGUMENTS else plain(segment.text)
        found: list[Span] = []
        for start, end, own in self._values.find(read.text):
            start, end = read.to_raw(start, end)
            found.append(Span(start, end, own.label, own.kind, Strategy.PLACEHOLDER))
        return list(merge(found))

    def restorations(self, text: str, preceding: str = "") -> list[Edit]:
        """The placeholders in ``text`` with what they stand for; ``preceding`` stood before it."""
        return [Edit(found.start, found.end, kept.value) for found, kept in self._find(text, preceding)]

    def open_at(self, text: str) -> int:
        """Where a placeholder that is not complete yet may begin at the end of ``text``, else its length.

        A complete one at the very end counts: what follows may belong to it.
        """
        return spelling(self._kinds).open_at(text) if self._kept else len(text)

    def _find(self, text: str, preceding: str) -> Iterator[tuple[Found, _Kept]]:
        if not self._kept:
            return
        before = preceding[-_LOOK_BACK:]
        at = len(before)
        for found in spelling(self._kinds).find(before + text, at, self._called):
            kept = self._kept.get((found.kind, found.code))
            if kept is not None:
                yield found._replace(start=found.start - at, end=found.end - at), kept

    def _put(self, span: Span, text: str) -> str:
        if span.strategy is Strategy.MASK:
            return mask(text, self._keep_last)
        if span.strategy is Strategy.HASH:
            return f"[HASH:{span.label}:{code(self._digest('hash', text), _HASH_LETTERS)}]"
        if span.strategy is Strategy.PLACEHOLDER and not _SURROGATE.search(text):
            return self._placeholder(span, text)
        return f"[REDACTED:{span.label}]"

    def _placeholder(self, span: Span, text: str) -> str:
        kind = kind_of(span.kind, span.label)
        letters = self._given.get((kind, text))
        if letters is None:
            letters = self._given[kind, text] = self._free_code(kind, text)
            kept = self._kept[kind, letters] = _Kept(text, span.label, span.kind)
            self._values.add(kept)
            self._kinds |= {kind}
        return f"[{kind}_{letters}]"

    def _free_code(self, kind: str, text: str) -> str:
        if self._taken is None:
            self._taken = codes(self._texts)
        count = 0
        while True:
            letters = code(self._digest(f"{kind}:{count}", text))
            if letters not in self._taken:
                self._taken.add(letters)
                return letters
            count += 1

    def _digest(self, what: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{what}\n{text}".encode("utf-8", "surrogatepass"), "sha256")

    def _note_calls(self, text: str, made: Sequence[Edit]) -> None:
        """Where we put a placeholder before a "(" of the text, that is no sign of a Markdown link."""
        for index, edit in enumerate(made):
            following = made[index + 1] if index + 1 < len(made) else None
            touching = following is not None and following.start == edit.end
            after = following.text if following and touching else text[edit.end : edit.end + 6]
            if after.startswith(("(", "\\u0028")):
                self._called.update(found.code for found in spelling(self._kinds).find(edit.text))


def mask(text: str, keep_last: int) -> str:
    """Every letter and digit but the last ones becomes ``*``; white space and ASCII punctuation stay.

    Of a text with no more than twice as many letters and digits as would be left, none is left; one of
    punctuation alone is starred as a whole.
    """
    places = [place.start() for place in _LETTER.finditer(text)]
    if not places:
        return "*" * len(text)
    left = keep_last if len(places) > 2 * keep_last else 0
    chars = list(text)
    for place in places[: len(places) - left]:
        chars[place] = "*"
    return "".join(chars)


def _alone(text: str, start: int, end: int) -> bool:
    """Whether neither edge of ``text[start:end]`` stands inside a word."""
    edges = (text[max(start - 1, 0) : start], text[start]), (text[end - 1], text[end : end + 1])
    return not any(left.isalnum() and right.isalnum() for left, right in edges)


def _lasting(span: Span) -> Span:
    """The span as it is redacted where nothing turns a placeholder back."""
    return replace(span, strategy=Strategy.REPLACE) if span.strategy is Strategy.PLACEHOLDER else span
