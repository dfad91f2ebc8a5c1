"""The embedded classifier: rules only. It needs no server, no download and no key.

A floor, not a judge: it finds what rules can decide (structured personal data with checksums, secrets,
control tokens, hidden characters, classic jailbreak phrasing, and the phrases of a policy) and nothing
else. Each of its verdicts is marked ``reduced``, which clients see in ``x-guardrail-degraded``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from guardrail.core.conversation import Kind, Segment, Subject
from guardrail.core.policy import Action, Policy
from guardrail.core.redaction import Span
from guardrail.core.verdict import Verdict
from guardrail.core.views import json_view
from guardrail.detectors import DETECTORS, find_all
from guardrail.detectors.phrases import PhraseRules
from guardrail.errors import PolicyError

__all__ = ["DetectorClassifier", "EmbeddedClassifier", "QuickClassifier", "SlowDetectors", "verdict_of"]


class SlowDetectors(Protocol):
    """Detectors beside the catalogue's that must not run on the event loop.

    See ``guardrail.backends.presidio``.
    """

    @property
    def names(self) -> Collection[str]:
        """All that there are; none of the catalogue's."""
        ...

    @property
    def identity(self) -> str:
        """What they find depends on it."""
        ...

    async def find_all(self, names: Iterable[str], text: str) -> list[tuple[str, int, int]]:
        """As ``guardrail.detectors.find_all``. Raises ``ClassifierError``."""
        ...


class DetectorClassifier:
    """Runs the detectors a policy names: the catalogue's, and ``slow`` ones where there are any.

    Raises ``PolicyError`` for a name that does not exist.
    """

    def __init__(self, policies: Iterable[Policy], slow: SlowDetectors | None = None) -> None:
        self._slow = slow
        known = [*sorted(DETECTORS), *(sorted(slow.names) if slow else ())]
        for policy in policies:
            for name in policy.detectors:
                if name not in known:
                    raise PolicyError(f"policy {policy.id}: {_unknown(name, known, slow)}")
                if name in DETECTORS:
                    DETECTORS[name].find("\u00e9 0")  # compiled now, not at the first request

    def identity(self, policy: Policy) -> str:
        """The detectors, the labels that the policy gives them, and what the slow ones depend on."""
        slow = self._slow.identity if self._slow and self._slow_ones(policy, None) else ""
        return f"{sorted(policy.detectors.items())}{slow}"

    def hits(self, policy: Policy, text: str, only: Collection[str] | None = None) -> Iterator[Span]:
        """Where the policy's detectors hit, slow ones left out, under the labels it gives them.

        The kind is the detector's own name: ``email`` of ``pii.email``.
        """
        names = policy.detectors if only is None else only
        if self._slow is not None:
            names = [name for name in names if name in DETECTORS]
        if names:
            yield from _spans(policy, find_all(names, text))

    def find(
        self, policy: Policy, subject: Subject, only: Collection[str] | None = None
    ) -> list[tuple[int, Span]]:
        """Every hit in the judged segments, by segment index; of the detectors ``only``, if given.

        Slow detectors are left out.
        """
        found = []
        for index, segment in enumerate(subject.segments):
            read = _Read(segment)
            found += [(index, span) for span in read.placed(self.hits(policy, read.text, only))]
        return found

    async def found(
        self, policy: Policy, subject: Subject, only: Collection[str] | None = None
    ) -> list[tuple[int, Span]]:
        """What ``find`` gives, and behind it the hits of slow detectors. Raises ``ClassifierError``."""
        found = self.find(policy, subject, only)
        if self._slow is not None and (names := self._slow_ones(policy, only)):
            for index, segment in enumerate(subject.segments):
                read = _Read(segment)
                hits = await self._slow.find_all(names, read.text)
                found += [(index, span) for span in read.placed(_spans(policy, hits))]
        return found

    def _slow_ones(self, policy: Policy, only: Collection[str] | None) -> list[str]:
        return [name for name in (policy.detectors if only is None else only) if name not in DETECTORS]


class EmbeddedClassifier(DetectorClassifier):
    """Detectors and phrases as a ``Classifier``. Raises ``PolicyError`` for a bad rule."""

    def __init__(self, policies: Iterable[Policy], slow: SlowDetectors | None = None) -> None:
        policies = list(policies)
        super().__init__(policies, slow)
        self._phrases = {policy.id: _phrase_rules(policy) for policy in policies}
        self._rules = {policy.id: self._digest(policy) for policy in policies}

    def identity(self, policy: Policy) -> str:
        """The rules themselves: unlike a judge's verdict, this one depends on the front matter."""
        return f"embedded:{self._rules[policy.id]}"

    def _digest(self, policy: Policy) -> str:
        rules = repr((super().identity(policy), sorted(policy.phrases.items())))
        return hashlib.sha256(rules.encode()).hexdigest()[:16]

    def hits(self, policy: Policy, text: str, only: Collection[str] | None = None) -> Iterator[Span]:
        """Detectors, then phrases."""
        yield from super().hits(policy, text, only)
        if policy.phrases and only is None:
            yield from self._phrases[policy.id].find(text)

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        """The label of the strictest hit, or the policy's safe label. Raises ``ClassifierError``."""
        return verdict_of(policy, await self.found(policy, subject), reduced=True)


class QuickClassifier(EmbeddedClassifier):
    """The embedded classifier without its slow detectors, for where the time is up already."""

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


class _Read:
    """What is searched of a segment: ``text``, with what has left before it; of JSON what it says."""

    def __init__(self, segment: Segment) -> None:
        self._view = json_view(segment.text) if segment.kind is Kind.TOOL_ARGUMENTS else None
        self._before = len(segment.preceding)
        self.text = segment.preceding + (self._view.text if self._view else segment.text)

    def placed(self, hits: Iterable[Span]) -> Iterator[Span]:
        """Where hits in ``text`` lie in the segment, as far as they do."""
        for hit in hits:
            start, end = max(hit.start - self._before, 0), hit.end - self._before
            if end <= start:
                continue
            if self._view:
                start, end = self._view.to_raw(start, end)
            yield Span(start, end, hit.label, hit.kind)


def _spans(policy: Policy, found: Iterable[tuple[str, int, int]]) -> Iterator[Span]:
    for name, start, end in found:
        yield Span(start, end, policy.detectors[name], name.partition(".")[2])


def _unknown(name: str, known: Iterable[str], slow: SlowDetectors | None) -> str:
    if slow is None and name.startswith("presidio."):
        return f"detector {name!r} needs Presidio; add presidio: {{model: ...}} to the configuration"
    return f"unknown detector {name!r}; known are {', '.join(known)}"
