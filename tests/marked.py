"""Texts with marks where spans were: what tests compare with."""

from __future__ import annotations

from collections.abc import Iterable

from guardrail.core.redaction import Edit, Span, apply

__all__ = ["marked"]


def marked(text: str, spans: Iterable[Span]) -> str:
    """The text with ``[REDACTED:<label>]`` in the place of each span."""
    return apply(text, [Edit(s.start, s.end, f"[REDACTED:{s.label}]") for s in spans])
