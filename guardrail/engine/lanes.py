"""Lanes: what becomes of the text of one channel of a streamed answer, event by event.

A *piece* is the text that one event adds to one channel. A *lane* is a channel with its guard; it knows how
far its text was released and what replaces which of it. Places are counted from the lane's start.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, Protocol

from guardrail.core.conversation import Kind, Segment
from guardrail.core.redaction import Edit, escaped
from guardrail.core.release import Release, StreamRules
from guardrail.core.stream import StreamGuard
from guardrail.core.vault import Vault
from guardrail.detectors import DETECTORS, LONGEST_ELSEWHERE, REACH

__all__ = ["Lane", "Piece", "sized"]

_LOOKED_BACK: Final = 16  # more than a vault needs to see of what stands before a text


@lru_cache(maxsize=64)
def sized(rules: StreamRules, detectors: frozenset[str]) -> StreamRules:
    """The rules, with as much held back as these detectors need to see a match before any of it leaves."""
    known = [DETECTORS[name] for name in sorted(detectors) if name in DETECTORS]
    elsewhere = LONGEST_ELSEWHERE if len(known) < len(detectors) else 0
    spaced = [d for d in known if not d.unbroken]
    named = REACH if known else 0  # a word before the match may be what names it
    return replace(
        rules,
        overlap=max([rules.overlap, elsewhere, named, *(len(d.opening) or d.held for d in spaced)]),
        unbroken=max([rules.unbroken, *(d.run for d in known)]),
        openings=rules.openings + tuple((d.opening, d.held) for d in spaced if d.opening),
    )


class Piece(Protocol):
    """The text one event adds to one channel; a ``whole`` channel leaves only when it is done."""

    @property
    def choice(self) -> int:
        """Index of the choice it belongs to."""

    @property
    def channel(self) -> str:
        """Name of its channel within the choice."""

    @property
    def kind(self) -> Kind:
        """What its text is."""

    @property
    def text(self) -> str:
        """The text; may be empty."""

    @property
    def whole(self) -> bool:
        """Whether the channel leaves only as a whole."""


@dataclass(slots=True)
class Lane:
    """One channel: its guard and the fate of its text.

    ``whole``: it leaves at once, as a ``call`` does in every release mode. ``quoted``: it is JSON that
    comes in pieces.
    """

    choice: int
    channel: str
    kind: Kind
    whole: bool
    guard: StreamGuard
    call: bool = False
    quoted: bool = False
    pushed: int = 0
    released: int = 0
    last: str = ""  # the end of what was released
    edits: deque[Edit] = field(default_factory=deque)  # of what was released and has not left
    judged: list[str] = field(default_factory=list)

    def release(self, release: Release, vault: Vault) -> None:
        """Let text go, with what is redacted and restored in it."""
        original, at = release.original, self.released
        if release.spans or vault:
            kind = Kind.TOOL_ARGUMENTS if self.quoted and self.whole else self.kind
            for edit in vault.answer(Segment(original, (), kind, self.last), release.spans):
                text = escaped(edit.text) if self.quoted and not self.whole else edit.text
                self.edits.append(Edit(at + edit.start, at + edit.end, text))
            self.last = (self.last + original)[-_LOOKED_BACK:]
        self.judged.append(original)
        self.released += len(original)

    def is_free(self, piece: Piece, start: int) -> bool:
        """Whether all text of the piece that begins at ``start`` was released."""
        if self.whole:
            return self.guard.finished
        return self.released >= start + len(piece.text)

    def leave(self, text: str, start: int) -> str:
        """The text of the piece that begins at ``start``, as it leaves; asked piece by piece, in order.

        A replacement stands where its text begins, be it longer than the piece.
        """
        edits = self.edits
        end = start + len(text)
        out: list[str] = []
        position = start
        while edits and edits[0].start < end:
            edit = edits[0]
            if edit.start >= start:
                out.append(text[position - start : edit.start - start])
                out.append(edit.text)
            position = min(edit.end, end)
            if edit.end > end:
                break
            edits.popleft()
        out.append(text[position - start :])
        return "".join(out)
