"""What a request asks of the guard itself, which is not forwarded. It may add and tighten, never weaken.

In the body of every dialect: ``guardrails``, a list of policy ids and of objects
``{"name": id, "mode": "enforce" | "shadow", "on_unavailable": "closed" | "open"}``, of which only the name
must be there; so too in moderations, and as ``policies`` in a check of our own API. In headers, for clients
that cannot add a field: ``x-guardrail-add: id, id``, and
``x-guardrail-annotations: azure`` (``guardrail.wire.azure``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from guardrail.core.addition import Addition
from guardrail.core.policy import FailMode, Mode
from guardrail.errors import UnreadableRequest
from guardrail.wire.replies import Header

__all__ = ["ADD", "ANNOTATIONS", "OURS", "Asked", "read_guardrails", "read_headers"]

OURS: Final = b"x-guardrail-"
"""What the names of all headers of ours begin with."""
ADD: Final = "x-guardrail-add"
ANNOTATIONS: Final = "x-guardrail-annotations"
_KEYS: Final = frozenset({"name", "mode", "on_unavailable"})
_MODES: Final = {mode.value: mode for mode in Mode}
_FAIL_MODES: Final = {mode.value: mode for mode in FailMode}


class Asked(NamedTuple):
    """What the headers of a request ask for: ids of policies, and Azure's annotations."""

    added: tuple[str, ...] = ()
    annotated: bool = False


_NOTHING: Final = Asked()


def read_guardrails(value: Any, field: str = "guardrails") -> tuple[str | Addition, ...]:
    """The value of this field of a body. Raises ``UnreadableRequest`` with the field that is wrong."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise UnreadableRequest(f"{field} is not a list", param=field)
    return tuple([one if isinstance(one, str) else _addition(one, field, i) for i, one in enumerate(value)])


def _addition(value: Any, field: str, place: int) -> Addition:
    at = f"{field}[{place}]"
    if not isinstance(value, dict):
        raise UnreadableRequest(f"{at} is neither a policy id nor an object", param=field)
    if not value.keys() <= _KEYS:  # the key is the caller's own
        raise UnreadableRequest(f"{at} has a key that is none of name, mode, on_unavailable", param=at)
    name = value.get("name")
    if not isinstance(name, str):
        raise UnreadableRequest(f"{at}.name is no policy id", param=f"{at}.name")
    mode = _word(value, "mode", _MODES, at)
    return Addition(name, mode, _word(value, "on_unavailable", _FAIL_MODES, at))


def _word(value: dict[str, Any], key: str, words: dict[str, Any], at: str) -> Any:
    word = value.get(key)
    if word is None:
        return None
    if not isinstance(word, str) or word not in words:
        raise UnreadableRequest(f"{at}.{key} is none of {', '.join(words)}", param=f"{at}.{key}")
    return words[word]


def read_headers(headers: Iterable[Header]) -> Asked:
    """What the headers ask for. Raises ``UnreadableRequest`` with the header that is wrong."""
    ours = [(name.lower(), value) for name, value in headers if name[:12].lower() == OURS]
    if not ours:
        return _NOTHING
    listed = [value.decode("latin-1") for name, value in ours if name == ADD.encode()]
    added = [one.strip() for one in ",".join(listed).split(",")]  # RFC 9110, section 5.6.1
    wanted = [value.strip() for name, value in ours if name == ANNOTATIONS.encode()]
    if any(value.lower() != b"azure" for value in wanted):
        raise UnreadableRequest(f"{ANNOTATIONS} is not azure", param=ANNOTATIONS)
    return Asked(tuple([one for one in added if one]), bool(wanted))
