"""What becomes of a check that could not be made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from guardrail.core.policy import FailMode
from guardrail.errors import FailureCode

__all__ = ["FailRules"]


@dataclass(frozen=True, slots=True)
class FailRules:
    """The fail mode of one stage, by class of failure, for all policies or for one.

    The rules of a policy (``by_policy``, by id) stand in the place of all others. ``auth`` is always
    closed: a wrong key or a wrong model name is no outage that ends by itself.
    """

    default: FailMode = FailMode.CLOSED
    by_code: Mapping[FailureCode, FailMode] = field(default_factory=dict)
    by_policy: Mapping[str, FailRules] = field(default_factory=dict)

    def mode(self, code: FailureCode, policy_id: str) -> FailMode:
        """Open or closed for this class of failure of this policy."""
        if code is FailureCode.AUTH:
            return FailMode.CLOSED
        rules = self.by_policy.get(policy_id, self)
        return rules.by_code.get(code, rules.default)
