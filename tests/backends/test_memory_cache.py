"""The twin of guardrail/backends/memory_cache.py."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from cachetools import TLRUCache, TTLCache

from guardrail.backends import memory_cache
from guardrail.backends.memory_cache import MemoryCache, MemoryHistory
from guardrail.core.history import Remembered
from guardrail.core.policy import JUDGE_REFUSAL, Action, Effort, LabelRule, Mode, Policy
from guardrail.core.redaction import Span
from guardrail.core.verdict import Step, Usage, Verdict

pytestmark = pytest.mark.anyio

LABELS = {
    "OK": LabelRule("OK", violation=False),
    "BAD": LabelRule("BAD", True, Action.FLAG),
}
POLICY = Policy("p", "Body.", LABELS)


def ruling(label: str | None = "BAD") -> Verdict:
    return Verdict(POLICY, label, violation=label in ("BAD", JUDGE_REFUSAL), judge="j", usage=Usage(9, 1))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    for cache in (TTLCache, TLRUCache):
        monkeypatch.setattr(memory_cache, cache.__name__, partial(cache, timer=own))
    return own


async def test_a_verdict_comes_back_as_cached_and_without_the_cost_of_its_call():
    cache = MemoryCache()
    verdict = replace(
        ruling(), excerpts=("x",), spans=((0, Span(0, 1, "BAD")),), rationale="r", latency_ms=5.0
    )
    verdict = replace(verdict, steps=(Step("first", Effort.LOW, "BAD", None, Usage(7, 1), 3.0),))
    await cache.put("k", verdict)
    assert (await cache.get_many(["k"], [POLICY]))[0] == replace(
        verdict, cached=True, latency_ms=0.0, usage=None, steps=(Step("first", Effort.LOW, "BAD"),)
    )
    assert (await cache.get_many(["other"], [POLICY]))[0] is None


async def test_an_entry_ends_with_its_time(clock: Clock):
    cache = MemoryCache(ttl_s=60)
    await cache.put("k", ruling())
    clock.now += 59.9
    assert (await cache.get_many(["k"], [POLICY]))[0] is not None
    clock.now += 0.1
    assert (await cache.get_many(["k"], [POLICY]))[0] is None


async def test_the_policy_says_how_long(clock: Clock):
    cache = MemoryCache(ttl_s=60)
    for key, ttl_s in (("short", 5.0), ("never", 0.0), ("long", 900.0)):
        await cache.put(key, replace(ruling(), policy=replace(POLICY, cache_ttl_s=ttl_s)))
    kept = []
    for now in (0.0, 4.9, 0.1, 894.9, 0.1):
        clock.now += now
        found = await cache.get_many(["short", "never", "long"], [POLICY] * 3)
        kept.append([verdict is not None for verdict in found])
    assert kept == [
        [True, False, True],
        [True, False, True],
        [False, False, True],
        [False, False, True],
        [False, False, False],
    ]


async def test_what_comes_late_is_kept_for_the_rest_of_its_time(clock: Clock):
    cache = MemoryCache(ttl_s=60)
    await cache.put("old", ruling(), age_s=59.0)
    await cache.put("over", ruling(), age_s=60.0)
    assert [v is not None for v in await cache.get_many(["old", "over"], [POLICY] * 2)] == [True, False]
    clock.now += 1
    assert await cache.get_many(["old"], [POLICY]) == [None]


async def test_a_verdict_that_must_not_be_kept_any_more_takes_the_old_one_away():
    cache = MemoryCache()
    await cache.put("k", ruling())
    await cache.put("k", replace(ruling(), policy=replace(POLICY, cache_ttl_s=0)))
    assert await cache.get_many(["k"], [POLICY]) == [None]


async def test_history_is_kept_for_its_time(clock: Clock):
    history = MemoryHistory(max_entries=2, ttl_s=60)
    known = Remembered(spans=((0, 0, Span(0, 1, "BAD")),))
    await history.put("a", known)
    await history.put("b", Remembered(blocked=True))
    assert await history.get_many(["a", "x", "b"]) == [known, None, Remembered(blocked=True)]
    await history.get_many(["a"])
    await history.put("c", known)
    assert await history.get_many(["a", "b", "c"]) == [known, None, known]
    clock.now += 60
    assert await history.get_many(["a", "c"]) == [None, None]


async def test_reading_does_not_lengthen_its_time_but_writing_does(clock: Clock):
    cache = MemoryCache(ttl_s=60)
    await cache.put("k", ruling())
    clock.now += 40
    assert (await cache.get_many(["k"], [POLICY]))[0] is not None
    await cache.put("again", ruling())
    clock.now += 40
    assert (await cache.get_many(["k"], [POLICY]))[0] is None
    assert (await cache.get_many(["again"], [POLICY]))[0] is not None


async def test_the_least_recently_used_entry_makes_room():
    cache = MemoryCache(max_entries=2)
    await cache.put("a", ruling())
    await cache.put("b", ruling())
    await cache.get_many(["a"], [POLICY])
    await cache.put("c", ruling())
    kept = {key: (await cache.get_many([key], [POLICY]))[0] is not None for key in "abc"}
    assert kept == {"a": True, "b": False, "c": True}


class TestChangedFrontMatter:
    """The key covers the body only; what a label means is read from today's front matter."""

    async def get(self, label: str | None, labels: dict[str, LabelRule], **more: object) -> Verdict | None:
        cache = MemoryCache()
        await cache.put("k", ruling(label))
        return (await cache.get_many(["k"], [replace(POLICY, labels=labels, **more)]))[0]  # type: ignore[arg-type]

    async def test_another_action_and_mode_act_at_once(self):
        labels = LABELS | {"BAD": LabelRule("BAD", True, Action.BLOCK)}
        found = await self.get("BAD", labels, mode=Mode.SHADOW)
        assert found is not None
        assert (found.action, found.acts, found.label) == (Action.BLOCK, False, "BAD")

    async def test_a_label_that_is_gone_is_a_miss(self):
        labels = {"OK": LABELS["OK"], "WORSE": LabelRule("WORSE", True, Action.BLOCK)}
        assert await self.get("BAD", labels) is None
        assert await self.get("OK", labels) is not None

    async def test_a_label_that_became_a_violation_is_a_miss_not_a_pass(self):
        labels = LABELS | {"OK": LabelRule("OK", True, Action.BLOCK), "NEW": LabelRule("NEW", False)}
        assert await self.get("OK", labels) is None

    async def test_a_policy_that_wants_nothing_remembered_any_more_gets_nothing(self):
        assert await self.get("BAD", LABELS, cache_ttl_s=0) is None

    async def test_a_refusal_that_is_no_violation_is_nobodys_verdict(self):
        cache = MemoryCache()
        await cache.put("k", replace(ruling(JUDGE_REFUSAL), violation=False))
        assert await cache.get_many(["k"], [replace(POLICY, title="t")]) == [None]

    async def test_neither_is_one_that_is_no_violation_any_more_kept(self):
        labels = {
            "OK": LABELS["OK"],
            "BAD": LabelRule("BAD", violation=False),
            "WORSE": LabelRule("WORSE", True, Action.BLOCK),
        }
        assert await self.get("BAD", labels) is None

    @pytest.mark.parametrize(("label", "action"), [(None, Action.PASS), (JUDGE_REFUSAL, Action.BLOCK)])
    async def test_what_names_no_label_of_the_policy_is_kept(self, label: str | None, action: Action):
        found = await self.get(
            label, {"FINE": LabelRule("FINE", False), "X": LabelRule("X", True, Action.BLOCK)}
        )
        assert found is not None
        assert found.action is action
