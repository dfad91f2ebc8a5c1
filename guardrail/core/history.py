"""Which turns of a conversation are new, which were judged before, which were blocked."""

from __future__ import annotations

from dataclasses import dataclass

from guardrail.core.redaction import Span

__all__ = ["Remembered"]


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is known of a conversation up to one of its turns; holds no text.

    ``blocked``: its last turns were blocked. ``spans``: what was redacted in it, as (turn, segment, span),
    both counted from the conversation's start.
    """

    blocked: bool = False
    spans: tuple[tuple[int, int, Span], ...] = ()
