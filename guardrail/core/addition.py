"""What one request asks for beyond what is configured: more policies, and stricter ones, never milder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from guardrail.core.policy import FailMode, Mode, Policy

__all__ = ["Addition", "tightened"]

_STRICTNESS: Final = (Mode.OFF, Mode.SHADOW, Mode.ENFORCE)


@dataclass(frozen=True, slots=True)
class Addition:
    """One policy that a request names.

    ``mode``, and ``fail_mode`` for every class of failure, are those that it is to have for this request;
    None: as configured.
    """

    policy_id: str
    mode: Mode | None = None
    fail_mode: FailMode | None = None


def tightened(policy: Policy, mode: Mode | None) -> Policy | None:
    """The policy in this mode, which is its own or a stricter one; None for one that is milder."""
    if mode is None or mode is policy.mode:
        return policy
    if _STRICTNESS.index(mode) < _STRICTNESS.index(policy.mode):
        return None
    return replace(policy, mode=mode)
