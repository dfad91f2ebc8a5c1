"""The twin of guardrail/backends/metrics.py: read as Prometheus reads it."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from guardrail.backends.metrics import Metrics
from guardrail.core.decision import Decision, Failure
from guardrail.core.policy import Action, Effort, FailMode, LabelRule, Policy, Stage
from guardrail.core.record import DecisionRecord, Held
from guardrail.core.verdict import Step, Usage, Verdict
from guardrail.engine.endpoint import EndpointState
from guardrail.errors import FailureCode

LABELS = {"OK": LabelRule("OK", violation=False), "BAD": LabelRule("BAD", True, Action.BLOCK)}
POLICY = Policy("p", "Body.", LABELS)
STATE = EndpointState("judge:8000", "open", 2, 3, 8)


def read(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample that is not zero, by name and label values in order of their names."""
    families = text_string_to_metric_families(metrics.render()[0].decode())
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if sample.value and not sample.name.endswith(("_bucket", "_created", "_sum"))
    }


def seen(*findings: Verdict | Failure) -> dict[tuple[str, ...], float]:
    metrics = Metrics(list)
    for finding in findings:
        metrics.finding(Stage.INPUT, finding)
    return read(metrics)


def test_a_verdict_and_each_of_its_steps_is_paid_once():
    steps = (
        Step("a", Effort.LOW, "BAD", usage=Usage(100, 10, 80, 0.25)),
        Step("b", Effort.LOW, error=FailureCode.TIMEOUT),
        Step("c", Effort.LOW),
    )
    verdict = Verdict(POLICY, "BAD", True, judge="j", usage=Usage(200, 20, None, 0.5), steps=steps)
    assert seen(verdict) == {
        ("guardrail_checks_total", "p", "input", "judged"): 1,
        ("guardrail_violations_total", "block", "p", "input"): 1,
        ("guardrail_check_seconds_count", "p", "input"): 1,
        ("guardrail_judge_tokens_total", "prompt", "p"): 300,
        ("guardrail_judge_tokens_total", "completion", "p"): 30,
        ("guardrail_judge_tokens_total", "cached", "p"): 80,
        ("guardrail_judge_prompt_tokens_cache_known_total", "p"): 100,
        ("guardrail_judge_cost_usd_total", "p"): 0.75,
        ("guardrail_judge_steps_total", "escalated", "p"): 1,
        ("guardrail_judge_steps_total", "timeout", "p"): 1,
        ("guardrail_judge_steps_total", "overtaken", "p"): 1,
    }


def test_cached_verdicts_and_rules_cost_nothing():
    cached = Verdict(POLICY, "OK", False, judge="j", usage=Usage(9, 9, 9, 9.0), cached=True)
    rules = Verdict(POLICY, "OK", False, judge="rules")
    assert seen(cached, rules) == {
        ("guardrail_checks_total", "p", "input", "cached"): 1,
        ("guardrail_checks_total", "p", "input", "rules"): 1,
        ("guardrail_check_seconds_count", "p", "input"): 1,
    }


def test_a_failure_tells_its_class_and_what_was_done():
    assert seen(Failure(POLICY, FailureCode.TIMEOUT, FailMode.OPEN, latency_ms=5.0)) == {
        ("guardrail_checks_total", "p", "input", "unavailable"): 1,
        ("guardrail_failures_total", "timeout", "open", "p", "input"): 1,
        ("guardrail_check_seconds_count", "p", "input"): 1,
    }


def test_a_failure_is_paid_for_as_far_as_anybody_knows():
    found = seen(Failure(POLICY, FailureCode.MALFORMED, FailMode.OPEN, usage=Usage(100, 10, 80, 0.25)))
    assert found["guardrail_judge_tokens_total", "prompt", "p"] == 100
    assert found["guardrail_judge_cost_usd_total", "p"] == 0.25


def test_what_nobody_knows_the_price_of_is_counted():
    assert (
        seen(Verdict(POLICY, "OK", False, judge="j"))[("guardrail_judge_calls_of_unknown_cost_total", "p")]
        == 1
    )


def test_decisions_and_endpoints():
    metrics = Metrics(lambda: [STATE])
    decision = Decision(Stage.OUTPUT, Action.BLOCK, id="gr-1")
    metrics.record(DecisionRecord(decision, 0.0, "chat", "a secret text"))
    metrics.record(DecisionRecord(decision, 0.0, "chat", "a secret text", cancelled=True))
    assert read(metrics) == {
        ("guardrail_decisions_total", "block", "output"): 1,
        ("guardrail_decisions_total", "cancelled", "output"): 1,
        ("guardrail_judge_endpoint_open", "judge:8000"): 1,
        ("guardrail_judge_calls_running", "judge:8000"): 2,
        ("guardrail_judge_calls_waiting", "judge:8000"): 3,
        ("guardrail_judge_calls_limit", "judge:8000"): 8,
    }
    assert b"secret" not in metrics.render()[0]


def test_streams_tell_how_they_were_held():
    metrics = Metrics(list)
    decision = Decision(Stage.OUTPUT, Action.PASS)
    for held in (Held(0.2, 0.4, 7), Held(0.3, 0.0), None):
        metrics.record(DecisionRecord(decision, 0.0, "chat", "", checks=2, held=held))
    assert read(metrics) == {
        ("guardrail_decisions_total", "pass", "output"): 3,
        ("guardrail_stream_held_seconds_count", "first"): 2,
        ("guardrail_stream_held_seconds_count", "last"): 2,
        ("guardrail_stream_checks_count",): 2,
        ("guardrail_stream_unjudged_released_chars_total",): 7,
    }
    page = metrics.render()[0].decode()
    assert 'guardrail_stream_held_seconds_sum{point="first"} 0.5' in page
    assert 'guardrail_stream_held_seconds_sum{point="last"} 0.4' in page
    assert "guardrail_stream_checks_sum 4.0" in page


def test_the_page_about_metrics_names_every_one_of_them():
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    families = list(text_string_to_metric_families(Metrics(lambda: [STATE]).render()[0].decode()))
    told = [f for f in families if not f.name.endswith("_created")]  # the library's own
    names = {f.name + ("_total" if f.type == "counter" else "") for f in told}
    assert len(names) == 17
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []
