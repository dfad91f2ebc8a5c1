"""The chain of judges in a real ``guardrail serve`` process: warm-up, metrics, steps, shared verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import Proxies, Proxy, WordJudge, ruling, start_proxy, until
from tests.fakes import FakeUpstream, Say, verdict
from tests.redis_server import RedisServer, redis, redis_process

__all__ = ["redis", "redis_process"]

PRICES = {"prompt": 1.0, "completion": 2.0}


def chat(text: str) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


def samples(proxy: Proxy) -> dict[str, float]:
    """The samples of the policy house and of the endpoints, summed by name."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(proxy.http.get("/metrics").text):
        for sample in family.samples:
            name = sample.name + "".join(f",{sample.labels[k]}" for k in ("kind",) if k in sample.labels)
            found[name] = found.get(name, 0.0) + sample.value
    return found


def test_metrics_tell_what_was_spent(proxies: Proxies, judge: WordJudge):
    proxy = proxies(classifier={"prices": PRICES}, metrics={"enabled": True})
    judge.script.append(Say(verdict(0, None)))
    assert proxy.post(chat("outageword")).status_code == 200
    found = samples(proxy)
    assert found["guardrail_judge_tokens_total,prompt"] == 700
    assert found["guardrail_judge_tokens_total,completion"] == 9
    assert round(found["guardrail_judge_cost_usd_total"] * 1e6) == 700 + 2 * 9
    assert found["guardrail_judge_endpoint_open"] == 0
    assert found["guardrail_judge_calls_limit"] > 0
    proxy.post(chat("outageword"))
    assert samples(proxy)["guardrail_failures_total"] == 1


def test_ready_once_every_server_has_every_prefix(tmp_path: Path, judge: WordJudge, upstream: FakeUpstream):
    with WordJudge() as other:
        urls = [judge.url, other.url]
        judge.script.append(Say(ruling(0, None), delay_s=2))
        proxy = start_proxy(
            tmp_path / "p", judge, upstream, {"classifier": {"base_url": urls, "warm_up": True}}
        )
        try:
            assert proxy.http.get("/readyz").status_code == 503
            until(lambda: proxy.http.get("/readyz").status_code == 200, "ready")
            assert (judge.judged, other.judged) == (["Hello."], ["Hello."])
        finally:
            proxy.stop()


def test_verdicts_are_shared_and_outlive_redis(
    tmp_path: Path, judge: WordJudge, upstream: FakeUpstream, redis: RedisServer
):
    cache = {"cache": {"max_entries": 100, "redis_url": redis.url}}
    one = start_proxy(tmp_path / "one", judge, upstream, cache)
    two = start_proxy(tmp_path / "two", judge, upstream, cache)
    try:
        assert one.post(chat("hello")).status_code == 200
        asked = len(judge.judged)
        until(redis.keys, "the verdicts are in Redis")
        assert two.post(chat("hello")).status_code == 200
        assert len(judge.judged) == asked
        redis.kill()
        assert two.post(chat("hello again")).status_code == 200
        assert len(judge.judged) > asked
    finally:
        one.stop()
        two.stop()
