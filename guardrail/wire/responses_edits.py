"""What must change around a text that changes: what spells it once more, and what points into it."""

from __future__ import annotations

from typing import Any

from guardrail.core.conversation import Address
from guardrail.wire.json_edit import REMOVE

__all__ = ["agreed", "misplaced", "respelled", "without_removed"]


def agreed(old: str, new: str) -> int:
    """How many characters at the start of two texts are the same."""
    if new.startswith(old):
        return len(old)
    return next(
        (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
    )


def misplaced(annotation: Any, same: int) -> bool:
    """Whether an annotation points behind the first ``same`` characters of its text.

    Those are all that is sure to stand where it stood. A citation in a wrong place makes clients cut the
    text where they must not, so it goes; one that names no place in the text stays.
    """
    ends = (
        [annotation.get(key) for key in ("start_index", "end_index")]
        if isinstance(annotation, dict)
        else []
    )
    return any(isinstance(end, int) and end > same for end in ends)


def respelled(part: dict[str, Any], at: Address, same: int) -> dict[Address, object]:
    """The changes to an ``output_text`` whose text stays as it was up to ``same`` alone.

    Log probabilities spell the old text, so they go, and so do the annotations that are misplaced.
    """
    changes: dict[Address, object] = {}
    if part.get("logprobs"):
        changes[*at, "logprobs"] = []
    annotations = part.get("annotations")
    for index, annotation in enumerate(annotations if isinstance(annotations, list) else ()):
        if misplaced(annotation, same):
            changes[*at, "annotations", index] = REMOVE
    return changes


def without_removed(changes: dict[Address, object]) -> dict[Address, object]:
    """The changes but for those that lie in what is taken out."""
    removed = {address for address, new in changes.items() if new is REMOVE}
    return {
        address: new
        for address, new in changes.items()
        if new is REMOVE or not any(address[:steps] in removed for steps in range(len(address) + 1))
    }
