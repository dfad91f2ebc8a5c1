"""The embedded classifier: rules only. It needs no server, no download and no key.

A floor, not a judge: it finds what rules can decide (structured personal data with checksums, secrets,
control tokens, hidden characters, classic jailbreak phrasing, and the phrases of a policy) and nothing
else. Each of its verdicts is marked ``reduced``, which clients see in ``x-guardrail-degraded``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator

from guardrail.core.conversation import Kind, Segment, Subject
from guardrail.core.policy import Action, Policy
from guardrail.core.redaction import Span
from guardrail.core.verdict import Verdict
from guardrail.core.views import json_view
from guardrail.detectors import DETECTORS, find_all
from guardrail.detectors.phrases import PhraseRules
from guardrail.errors import PolicyError

__all__ = ["DetectorClassifier", "EmbeddedClassifier", "verdict_of"]


class DetectorClassifier:
    """Runs the detectors a policy names. Raises ``PolicyError`` for a name that does not exist."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        for policy in policies:
            unknown = [name for name in policy.detectors if name not in DETECTORS]
            if unknown:
                raise PolicyError(
                    f"policy {policy.id}: unknown detector {unknown[0]!r}; "
                    f"known are {', '.join(sorted(DETECTORS))}"
                )
            for name in policy.detectors:
                DETECTORS[name].find("\u00e9 0")  # compiled now, not at the first request

    def hits(self, policy: Policy, text: str, only: Collection[str] | None = None) -> Iterator[Span]:
        """Where the policy's detectors hit, under the labels it gives them.

        The kind is the detector's own name: ``email`` of ``pii.email``.
        """
        names = policy.detectors if only is None else only
        if names:
            for name, start, end in find_all(names, text):
                yield Span(start, end, policy.detectors[name], name.partition(".")[2])

    def find(
        self, policy: Policy, subject: Subject, only: Collection[str] | None = None
    ) -> list[tuple[int, Span]]:
        """Every hit in the judged segments, by segment index; of the detectors ``only``, if given."""
        return [
            (index, span)
            for index, segment in enumerate(subject.segments)
            for span in self._in_segment(policy, segment, only)
        ]

    def _in_segment(self, policy: Policy, segment: Segment, only: Collection[str] | None) -> Iterator[Span]:
        view = json_view(segment.text) if segment.kind is Kind.TOOL_ARGUMENTS else None
        before = len(segment.preceding)
        text = segment.preceding + (view.text if view else segment.text)
        for hit in self.hits(policy, text, only):
            start, end = max(hit.start - before, 0), hit.end - before
            if end <= start:
                continue
            if view:
                start, end = view.to_raw(start, end)
            yield Span(start, end, hit.label, hit.kind)


class EmbeddedClassifier(DetectorClassifier):
    """Detectors and phrases as a ``Classifier``. Raises ``PolicyError`` for a bad rule."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        policies = list(policies)
        super().__init__(policies)
        self._phrases = {policy.id: _phrase_rules(policy) for policy in policies}
        self._rules = {policy.id: _rules_digest(policy) for policy in policies}

    def identity(self, policy: Policy) -> str:
        """The rules themselves: unlike a judge's verdict, this one depends on the front matter."""
        return f"embedded:{self._rules[policy.id]}"

    def hits(self, policy: Policy, text: str, only: Collection[str] | None = None) -> Iterator[Span]:
        """Detectors, then phrases."""
        yield from super().hits(policy, text, only)
        if policy.phrases and only is None:
            yield from self._phrases[policy.id].find(text)

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        """The label of the strictest hit, or the policy's safe label."""
        return verdict_of(policy, self.find(policy, subject), reduced=True)


def verdict_of(policy: Policy, found: list[tuple[int, Span]], *, reduced: bool) -> Verdict:
    """The hits as a verdict: the strictest one gives the label, those to be redacted the spans."""
    if not found:
        return Verdict(policy, policy.safe_label, violation=False, judge="rules", reduced=reduced)
    label = max((span.label for _, span in found), key=policy.action_of)
    spans = tuple((index, span) for index, span in found if policy.action_of(span.label) is Action.REDACT)
    return Verdict(policy, label, violation=True, spans=spans, judge="rules", reduced=reduced)


def _phrase_rules(policy: Policy) -> PhraseRules:
    try:
        return PhraseRules(policy.phrases)
    except PolicyError as error:
        raise PolicyError(f"policy {policy.id}: phrases: {error}; correct or remove it") from None


def _rules_digest(policy: Policy) -> str:
    rules = repr((sorted(policy.detectors.items()), sorted(policy.phrases.items())))
    return hashlib.sha256(rules.encode()).hexdigest()[:16]
