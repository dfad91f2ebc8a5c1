"""Pieces for the tests of what drives a stream."""

from __future__ import annotations

from typing import NamedTuple

from guardrail.core.conversation import Kind


class Bit(NamedTuple):
    """A piece: what one event adds to one channel."""

    text: str
    choice: int = 0
    channel: str = "content"
    kind: Kind = Kind.TEXT
    whole: bool = False
