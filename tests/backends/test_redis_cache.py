"""The twin of guardrail/backends/redis_cache.py."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import anyio
import pytest

from guardrail.backends.cache_codec import Seal
from guardrail.backends.memory_cache import MemoryCache, MemoryHistory
from guardrail.backends.redis_cache import RedisCache, RedisHistory
from guardrail.backends.redis_link import RedisLink
from guardrail.core.conversation import Conversation, Segment, Turn
from guardrail.core.decision import Failure
from guardrail.core.history import Remembered
from guardrail.core.policy import JUDGE_REFUSAL, Action, Effort, LabelRule, Policy, Stage
from guardrail.core.redaction import Span
from guardrail.core.verdict import Usage, Verdict
from guardrail.engine.check import GuardrailEngine
from guardrail.testing import ScriptedClassifier
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio

AMPLE_S = 20.0  # a timeout that only a hang reaches
LABELS = {"OK": LabelRule("OK", violation=False), "BAD": LabelRule("BAD", True, Action.BLOCK)}
POLICIES = [Policy(f"p{i}", f"Body {i}.", LABELS) for i in range(4)]
POLICY = POLICIES[0]
KEYS = [f"k{i}" for i in range(4)]
VERDICT = Verdict(POLICY, "BAD", True, judge="j", effort=Effort.LOW, usage=Usage(9), latency_ms=3.0)
CACHED = replace(VERDICT, usage=None, latency_ms=0.0, cached=True)


@dataclass
class Tiers:
    """One process's cache, apart from others in all but Redis."""

    link: RedisLink
    verdicts: RedisCache
    history: RedisHistory

    async def get(self, key: str, policy: Policy = POLICY) -> Verdict | None:
        return (await self.verdicts.get_many([key], [policy]))[0]


Make = Callable[..., Tiers]


@pytest.fixture
async def tiers(redis: RedisServer) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def make(
            url: str = redis.url, *, secret: str = "", ttl_s: float = 600, shift_s: float = 0.0
        ) -> Tiers:
            link = RedisLink(url, timeout_s=AMPLE_S)
            stack.push_async_callback(link.aclose)
            now = Seal()._clock
            seal = Seal(secret, clock=lambda: now() + shift_s)
            verdicts = RedisCache(link, front=MemoryCache(ttl_s=ttl_s), seal=seal)
            return Tiers(link, verdicts, RedisHistory(link, front=MemoryHistory(ttl_s=ttl_s), seal=seal))

        yield make


async def test_what_one_process_was_told_the_other_knows(tiers: Make):
    await tiers().verdicts.put("k", VERDICT)
    assert await tiers().get("k") == CACHED


async def test_one_question_for_all_that_is_missing_and_none_for_what_is_here(
    redis: RedisServer, tiers: Make
):
    one, other = tiers(), tiers()
    await other.verdicts.put("k0", VERDICT)
    for key, policy in zip(KEYS[1:3], POLICIES[1:3], strict=True):
        await one.verdicts.put(key, replace(VERDICT, policy=policy))
    found = await other.verdicts.get_many(KEYS, POLICIES)
    assert [verdict and verdict.policy.id for verdict in found] == ["p0", "p1", "p2", None]
    assert redis.calls("mget") == 1
    assert await other.verdicts.get_many(KEYS[:3], POLICIES[:3]) == found[:3]
    assert redis.calls("mget") == 1, "the front was filled"


async def test_the_policy_says_how_long(redis: RedisServer, tiers: Make):
    one = tiers(ttl_s=600)
    ttls = {"usual": None, "short": 7.5, "never": 0.0}
    policies = [replace(POLICY, cache_ttl_s=ttl_s) for ttl_s in ttls.values()]
    for key, policy in zip(ttls, policies, strict=True):
        await one.verdicts.put(key, replace(VERDICT, policy=policy))
    assert redis.keys() == ["guardrail:v:short", "guardrail:v:usual"]
    assert 590_000 < redis.admin.pttl("guardrail:v:usual") <= 600_001
    assert 0 < redis.admin.pttl("guardrail:v:short") <= 7_501
    assert await tiers().get("never", policies[2]) is None
    assert redis.calls("mget") == 0, "nothing is there to ask for"


async def test_nobody_makes_a_verdict_older_than_its_policy_allows(redis: RedisServer, tiers: Make):
    await tiers().verdicts.put("k", VERDICT)
    redis.admin.persist("guardrail:v:k")
    assert await tiers(shift_s=599).get("k") is not None
    assert await tiers(shift_s=601).get("k") is None
    assert await tiers(shift_s=10).get("k", replace(POLICY, cache_ttl_s=5)) is None
    late = tiers(shift_s=599)
    front = late.verdicts._front
    assert await late.get("k") is not None
    ((_, left_s),) = front._entries.values()
    assert 0 < left_s <= 1.0, "the rest of its time, not all of it again"


async def test_a_verdict_that_quotes_stays_here(redis: RedisServer, tiers: Make):
    one = tiers()
    await one.verdicts.put("e", replace(VERDICT, excerpts=("secret words",)))
    await one.verdicts.put("s", replace(VERDICT, spans=((0, Span(0, 6, "BAD")),)))
    await one.verdicts.put("r", replace(VERDICT, rationale="it says secret words"))
    found = await one.verdicts.get_many(["e", "s"], [POLICY] * 2)
    assert [verdict and (verdict.excerpts, len(verdict.spans)) for verdict in found] == [
        (("secret words",), 0),
        ((), 1),
    ]
    assert redis.keys() == ["guardrail:v:r"]
    assert b"secret" not in redis.admin.get("guardrail:v:r")
    assert await tiers().get("r") == CACHED


FLIPPED = LABELS | {"BAD": LabelRule("BAD", violation=False), "X": LabelRule("X", True, Action.FLAG)}


@pytest.mark.parametrize(
    ("verdict", "labels"),
    [
        (VERDICT, FLIPPED),
        (VERDICT, {"OK": LABELS["OK"], "X": FLIPPED["X"]}),
        (replace(VERDICT, violation=False), LABELS),
        (replace(VERDICT, label=JUDGE_REFUSAL, violation=False), LABELS),
    ],
)
async def test_what_contradicts_todays_front_matter_is_a_miss(
    tiers: Make, verdict: Verdict, labels: dict[str, LabelRule]
):
    await tiers().verdicts.put("k", verdict)
    assert await tiers().get("k", replace(POLICY, labels=labels)) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x01",
        b"\x01{}",
        b"\x01[]",
        b"\x01[1",
        b"\x80\x04N.",
        Seal("other").pack("guardrail:v:k", ["OK", False, "j", None, []]),
        Seal().pack("guardrail:v:another", ["OK", False, "j", None, []]),
        Seal().pack("guardrail:v:k", ["OK", "no", "j", None, []]),
        b"\x01" + b"[" * 5000,
        b"\xff" * 100_000,
    ],
)
async def test_garbage_is_a_miss(redis: RedisServer, tiers: Make, value: bytes):
    redis.admin.set("guardrail:v:k", value)
    redis.admin.set("guardrail:h:k", value)
    one = tiers()
    assert await one.get("k") is None
    assert await one.history.get_many(["k"]) == [None]
    redis.admin.delete("guardrail:v:k")
    redis.admin.lpush("guardrail:v:k", "a list")
    assert await one.get("k") is None


async def test_with_a_secret_nobody_else_can_say_allow(redis: RedisServer, tiers: Make):
    allow = replace(VERDICT, label="OK", violation=False)
    signed = tiers(secret="s")
    await signed.verdicts.put("k", VERDICT)
    (name,) = redis.keys()
    assert name == Seal("s").name("v", "k")
    await tiers(secret="s").verdicts.put("harmless", allow)
    other = Seal("s").name("v", "harmless")
    honest = redis.admin.get(name)
    forged = [
        Seal().pack(name, ["OK", False, "j", None, []]),
        Seal("guess").pack(name, ["OK", False, "j", None, []]),
        redis.admin.get(other),
        honest.replace(b"BAD", b"OK"),
    ]
    for value in forged:
        redis.admin.set(name, value)
        assert await tiers(secret="s").get("k") is None
    redis.admin.set(name, honest)
    assert await tiers(secret="s").get("k") == CACHED


class TestHistory:
    async def test_it_is_shared(self, redis: RedisServer, tiers: Make):
        await tiers(ttl_s=60).history.put("a", Remembered())
        await tiers(ttl_s=60).history.put("b", Remembered(blocked=True))
        one = tiers(ttl_s=60)
        known = [Remembered(), None, Remembered(blocked=True)]
        assert await one.history.get_many(["a", "x", "b"]) == known
        assert redis.calls("mget") == 1
        assert 50_000 < redis.admin.pttl("guardrail:h:a") <= 60_001
        redis.admin.flushall()
        assert await one.history.get_many(["a", "x", "b"]) == known

    async def test_what_was_redacted_stays_here(self, redis: RedisServer, tiers: Make):
        one = tiers()
        known = Remembered(spans=((0, 0, Span(0, 1, "BAD")),))
        await one.history.put("a", known)
        assert await one.history.get_many(["a"]) == [known]
        assert redis.keys() == []

    async def test_a_verdict_is_no_history(self, redis: RedisServer, tiers: Make):
        await tiers().verdicts.put("k", VERDICT)
        value = Seal().pack(
            "guardrail:h:k", Seal().unpack("guardrail:v:k", redis.admin.get("guardrail:v:k"))[1]
        )
        redis.admin.set("guardrail:h:k", value)
        assert await tiers().history.get_many(["k"]) == [None]

    async def test_it_ends_with_its_time(self, redis: RedisServer, tiers: Make):
        await tiers().history.put("a", Remembered())
        redis.admin.persist("guardrail:h:a")
        assert await tiers(shift_s=601).history.get_many(["a"]) == [None]


def conversation(text: str) -> Conversation:
    return Conversation((Turn("user", (Segment(text, ("messages", 0, "content")),)),))


def engine(
    cache: RedisCache, judge: ScriptedClassifier, policies: Sequence[Policy] = POLICIES
) -> GuardrailEngine:
    return GuardrailEngine({Stage.INPUT: policies}, judge, cache=cache, timeout_s=AMPLE_S)


OTHER = """
import json, sys, anyio
from tests.backends.test_redis_cache import *

async def main(url):
    link = RedisLink(url, timeout_s=AMPLE_S)
    judge = ScriptedClassifier([("bad", "BAD")])
    cache = RedisCache(link, front=MemoryCache(), seal=Seal("s"))
    decision = await engine(cache, judge).check_input(conversation("something bad"))
    await link.aclose()
    cached = [finding.cached for finding in decision.findings]
    print(json.dumps([decision.action.word, len(judge.asked), cached]))

anyio.run(main, sys.argv[1])
"""


class TestUnderAnEngine:
    async def test_the_second_process_asks_no_judge(self, redis: RedisServer):
        said = []
        for _ in range(2):
            command = [sys.executable, "-c", OTHER, redis.url]
            done = await anyio.run_process(command, stderr=subprocess.PIPE)
            said.append(json.loads(done.stdout))
        assert said == [["block", 4, [False] * 4], ["block", 0, [True] * 4]]
        assert redis.calls("mget") == 2
        assert redis.calls("set") == 4

    async def test_an_edited_policy_is_judged_anew(self, tiers: Make):
        judge = ScriptedClassifier()
        await engine(tiers().verdicts, judge, [POLICY]).check_input(conversation("hello"))
        edited = replace(POLICY, body="Body 0, edited.")
        await engine(tiers().verdicts, judge, [edited]).check_input(conversation("hello"))
        assert len(judge.asked) == 2

    async def test_killed_frozen_and_restarted_under_traffic_every_request_is_judged(
        self, redis: RedisServer, tiers: Make
    ):
        judge = ScriptedClassifier([("bad", "BAD")])
        one = tiers()
        one.link._timeout_s = 0.05
        guard = engine(one.verdicts, judge, [POLICY])
        actions: list[tuple[int, Action]] = []

        async def ask(number: int) -> None:
            text = f"{number} {'bad' if number % 2 else 'good'}"
            decision = await guard.check_input(conversation(text))
            assert not any(isinstance(finding, Failure) for finding in decision.findings)
            actions.append((number, decision.action))

        numbers = iter(range(1000))
        for disturb in (
            lambda: None,
            redis.freeze,
            redis.thaw,
            redis.kill,
            redis.start,
            redis.admin.flushall,
        ):
            disturb()
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(ask, next(numbers))
        assert len(actions) == len(judge.asked) == 60
        assert all(action is (Action.BLOCK if number % 2 else Action.PASS) for number, action in actions)
