"""What Prometheus may read at ``/metrics``: decisions, checks, failures, tokens, money, endpoints.

Label values are policy ids of the configuration and words of our own; never text, never a caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from guardrail.core.decision import Failure, Finding
from guardrail.core.policy import Stage
from guardrail.core.record import DecisionRecord, Held
from guardrail.core.verdict import Usage, Verdict

__all__ = ["Metrics"]

_SECONDS: Final = (0.005, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)


class EndpointLike(Protocol):
    """What is shown of an endpoint; ``guardrail.engine.endpoint.EndpointState`` is one."""

    @property
    def name(self) -> str:
        """Host and port."""

    @property
    def breaker(self) -> str:
        """closed, open or half-open."""

    @property
    def running(self) -> int:
        """Calls that run."""

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""

    @property
    def limit(self) -> int:
        """Calls that may run at once."""


class Metrics:
    """An ``AuditSink`` for decisions and an ``Observer`` for every single check.

    ``states`` tells what the judge's endpoints are doing at the moment of the scrape.
    """

    def __init__(self, states: Callable[[], Iterable[EndpointLike]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Endpoints(states))
        self._decisions = self._counter("decisions", "Decisions by what was done.", "stage", "action")
        self._checks = self._counter(
            "checks", "Single checks by how they were answered.", "policy", "stage", "status"
        )
        self._violations = self._counter(
            "violations", "Verdicts that are violations, by what they ask for.", "policy", "stage", "action"
        )
        self._failures = self._counter(
            "failures", "Checks that could not be made.", "policy", "stage", "code", "fail_mode"
        )
        seconds = Histogram(
            "guardrail_check_seconds",
            "Time of one check that was not cached.",
            ["policy", "stage"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._seconds = cache(seconds.labels)
        self._tokens = self._counter("judge_tokens", "Tokens as the judge reported them.", "policy", "kind")
        self._known = self._counter(
            "judge_prompt_tokens_cache_known",
            "Prompt tokens of calls that told how many of them were cached.",
            "policy",
        )
        self._cost = self._counter("judge_cost_usd", "US dollars paid for judging.", "policy")
        self._cost_unknown = self._counter(
            "judge_calls_of_unknown_cost", "Calls whose price nobody knows.", "policy"
        )
        self._steps = self._counter(
            "judge_steps", "Who was asked before the verdict, by what came of it.", "policy", "outcome"
        )

        self._streams = _Streams(self._registry)

    def record(self, record: DecisionRecord) -> None:
        """Count one decision."""
        action = "cancelled" if record.cancelled else record.decision.action.word
        self._decisions(record.decision.stage.value, action).inc()
        if record.held is not None:
            self._streams.observe(record.held, record.checks)

    def finding(self, stage: Stage, finding: Finding) -> None:
        """Count one check, and what it cost unless it was cached."""
        policy = finding.policy.id
        if isinstance(finding, Failure):
            self._checks(policy, stage.value, "unavailable").inc()
            self._failures(policy, stage.value, finding.code.value, finding.fail_mode.value).inc()
            self._seconds(policy, stage.value).observe(finding.latency_ms / 1e3)
            if finding.usage is not None:
                self._spent(policy, finding.usage)
            return
        if finding.violation:
            self._violations(policy, stage.value, finding.action.word).inc()
        if finding.cached:
            self._checks(policy, stage.value, "cached").inc()
            return
        status = "rules" if finding.judge == "rules" else "judged"
        self._checks(policy, stage.value, status).inc()
        self._seconds(policy, stage.value).observe(finding.latency_ms / 1e3)
        if status == "judged":
            self._paid(policy, finding)

    def render(self) -> tuple[bytes, str]:
        """The page and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def _paid(self, policy: str, verdict: Verdict) -> None:
        self._spent(policy, verdict.usage)
        for step in verdict.steps:
            outcome = "overtaken" if step.label is None else "escalated"
            self._steps(policy, step.error.value if step.error else outcome).inc()
            if step.usage is not None:
                self._spent(policy, step.usage)

    def _spent(self, policy: str, usage: Usage | None) -> None:
        if usage is None or usage.cost_usd is None:
            self._cost_unknown(policy).inc()
        else:
            self._cost(policy).inc(usage.cost_usd)
        if usage is None:
            return
        self._tokens(policy, "prompt").inc(usage.prompt)
        self._tokens(policy, "completion").inc(usage.completion)
        if usage.cached is not None:
            self._tokens(policy, "cached").inc(usage.cached)
            self._known(policy).inc(usage.prompt)

    def _counter(self, name: str, text: str, *labels: str) -> Callable[..., Counter]:
        # Cached: finding a child by its labels costs more than counting, and there are few of them.
        return cache(Counter(f"guardrail_{name}", text, labels, registry=self._registry).labels)


class _Streams:
    """How streamed answers were held."""

    def __init__(self, registry: CollectorRegistry) -> None:
        held = Histogram(
            "guardrail_stream_held_seconds",
            "How long the first and the last text of a streamed answer were held.",
            ["point"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._first, self._last = held.labels("first"), held.labels("last")
        self._checks = Histogram(
            "guardrail_stream_checks",
            "Checks of one streamed answer.",
            buckets=(0, 1, 2, 3, 5, 8, 13, 21, 34),
            registry=registry,
        )
        self._unjudged = Counter(
            "guardrail_stream_unjudged_released_chars",
            "Characters that left a stream before they were judged; 0 unless the release mode is live.",
            registry=registry,
        )

    def observe(self, held: Held, checks: int) -> None:
        self._first.observe(held.first_s)
        self._last.observe(held.last_s)
        self._checks.observe(checks)
        self._unjudged.inc(held.unjudged_released_chars)


class _Endpoints(Collector):
    """Asked at every scrape."""

    def __init__(self, states: Callable[[], Iterable[EndpointLike]]) -> None:
        self._states = states

    def collect(self) -> Iterator[Metric]:
        named = ["endpoint"]
        breaker = GaugeMetricFamily(
            "guardrail_judge_endpoint_open", "1 while the endpoint is left alone.", labels=named
        )
        running = GaugeMetricFamily("guardrail_judge_calls_running", "Calls that run.", labels=named)
        waiting = GaugeMetricFamily("guardrail_judge_calls_waiting", "Calls that wait.", labels=named)
        limit = GaugeMetricFamily("guardrail_judge_calls_limit", "Calls allowed at once.", labels=named)
        for state in self._states():
            breaker.add_metric([state.name], float(state.breaker != "closed"))
            running.add_metric([state.name], state.running)
            waiting.add_metric([state.name], state.waiting)
            limit.add_metric([state.name], state.limit)
        yield from (breaker, running, waiting, limit)
