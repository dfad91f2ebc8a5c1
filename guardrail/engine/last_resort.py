"""Rules that are asked where a check could not be made."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from guardrail.core.conversation import Subject
from guardrail.core.decision import Failure, Finding
from guardrail.core.verdict import Verdict
from guardrail.errors import ClassifierError
from guardrail.ports import Classifier

__all__ = ["condemned"]

_log = logging.getLogger("guardrail.engine")


async def condemned(rules: Classifier, findings: Sequence[Finding], subject: Subject) -> list[Verdict]:
    """What ``rules`` find under the policies whose check failed, to stand beside the failures.

    Rules condemn and never acquit: that they find nothing, or break, says nothing.
    """
    found = []
    for policy in [finding.policy for finding in findings if isinstance(finding, Failure)]:
        try:
            verdict = await rules.classify(policy, subject)
        except ClassifierError as error:
            _log.warning("policy %s: last resort failed (%s)", policy.id, error.code.value)
        except Exception as error:
            _log.error("policy %s: last resort failed: %s", policy.id, type(error).__name__)
        else:
            if verdict.violation:
                found.append(replace(verdict, policy=policy, reduced=True))
    return found
