"""The twin of guardrail/build/caches.py: on a real Redis where one is configured."""

from __future__ import annotations

import pytest

from guardrail.backends.memory_cache import MemoryCache, MemoryHistory
from guardrail.backends.redis_cache import RedisCache, RedisHistory
from guardrail.build.caches import Caches
from guardrail.config import CacheConfig, HistoryConfig
from guardrail.core.policy import Action, LabelRule, Policy
from guardrail.core.verdict import Verdict
from guardrail.errors import ConfigError
from tests.redis_server import RedisServer, redis, redis_process

__all__ = ["redis", "redis_process"]

pytestmark = pytest.mark.anyio

LABELS = {"OK": LabelRule("OK", violation=False), "BAD": LabelRule("BAD", True, Action.BLOCK)}
POLICY = Policy("p", "Body.", LABELS)
KEY = "a" * 64


def test_without_redis_they_are_this_process_s_own():
    caches = Caches(CacheConfig(), HistoryConfig())
    assert isinstance(caches.verdicts, MemoryCache)
    assert isinstance(caches.history, MemoryHistory)


@pytest.mark.parametrize("url", ["", "redis://127.0.0.1:1/0"])
def test_what_is_turned_off_is_none_with_redis_and_without(url: str):
    caches = Caches(CacheConfig(max_entries=0, redis_url=url), HistoryConfig(max_entries=0))
    assert (caches.verdicts, caches.history) == (None, None)


async def test_two_processes_share_verdicts_and_go_on_without_redis(redis: RedisServer):
    config = CacheConfig(redis_url=redis.url)
    one, two = Caches(config, HistoryConfig()), Caches(config, HistoryConfig())
    assert isinstance(one.history, RedisHistory)
    assert isinstance(one.verdicts, RedisCache)
    assert isinstance(two.verdicts, RedisCache)
    await one.verdicts.put(KEY, Verdict(POLICY, "BAD", True, judge="j"))
    (found,) = await two.verdicts.get_many([KEY], [POLICY])
    assert found is not None
    assert (found.label, found.violation) == ("BAD", True)
    redis.kill()
    assert await two.verdicts.get_many(["b" * 64], [POLICY]) == [None]
    await one.aclose()
    await two.aclose()


def test_an_address_that_cannot_be_one_stops_the_start():
    with pytest.raises(ConfigError):
        Caches(CacheConfig(redis_url="redis://127.0.0.1:port/0"), HistoryConfig())
