"""LiteLLM's values as JSON, and changes of the JSON put back into them."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["as_json", "put"]


_EXTRA: Final = "provider_specific_fields"


def as_json(value: Any) -> Any:
    """A model of LiteLLM's, or a dict, as the JSON that it is on the wire.

    ``provider_specific_fields`` that say nothing are left out: LiteLLM adds them to nearly every answer.
    """
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json", exclude_none=True)
    return _spoken({key: own for key, own in value.items() if key != "_hidden_params"})


def _spoken(value: Any) -> Any:
    """The value without extra fields in which there is nothing."""
    if isinstance(value, list):
        return [_spoken(own) for own in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _spoken(own)
        for key, own in value.items()
        if key != _EXTRA or any(extra is not None for extra in (own or {}).values())
    }


def put(target: Any, old: Any, new: Any) -> None:
    """Change in ``target``, which as JSON is ``old``, what makes it ``new``; all else stays what it is."""
    if isinstance(old, list):
        places: list[Any] = list(range(len(old)))
    else:
        places = [*old, *(key for key in new if key not in old)]
    for place in places:
        before = old[place] if isinstance(old, list) else old.get(place)
        after = new[place] if isinstance(new, list) else new.get(place)
        if before == after and (isinstance(old, list) or (place in old) == (place in new)):
            continue
        if _alike(before, after):
            put(_get(target, place), before, after)
        elif isinstance(target, dict) and place not in new:
            del target[place]
        elif isinstance(target, dict | list):
            target[place] = after
        else:
            setattr(target, place, after)


def _alike(before: Any, after: Any) -> bool:
    """Whether both hold the same places, or some that can be added and taken away."""
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after)
    return isinstance(before, dict) and isinstance(after, dict)


def _get(target: Any, place: Any) -> Any:
    return target[place] if isinstance(target, dict | list) else getattr(target, place)
