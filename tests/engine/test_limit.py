"""The twin of guardrail/engine/limit.py."""

from __future__ import annotations

import asyncio
from collections import deque

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from guardrail.engine.limit import ConcurrencyLimit
from guardrail.errors import ClassifierError, FailureCode

SECOND = 1.0
OVERLOAD = (FailureCode.TIMEOUT, FailureCode.RATE_LIMITED, FailureCode.OVERLOADED)


async def settled() -> None:
    for _ in range(5):
        await checkpoint()


@pytest.mark.anyio
class TestSize:
    async def test_it_begins_small_and_doubles_each_round_up_to_the_ceiling(self):
        limit = ConcurrencyLimit(20, start=4)
        places: deque[float] = deque()
        sizes = [4]
        for _ in range(4):
            for _ in range(sizes[-1]):
                while not limit.saturated:
                    places.append(await limit.enter())
                limit.leave(places.popleft() - SECOND)
            sizes.append(limit.limit)
        assert sizes == [4, 8, 16, 20, 20]

    async def test_it_never_passes_the_ceiling(self):
        limit = ConcurrencyLimit(3, start=8)
        assert limit.limit == 3
        for _ in range(10):
            places = [await limit.enter() for _ in range(3)]
            assert limit.saturated
            for place in places:
                limit.leave(place - SECOND)
        assert limit.limit == 3

    async def test_it_does_not_grow_while_it_holds_nobody_back(self):
        limit = ConcurrencyLimit(64, start=4)
        for _ in range(50):
            limit.leave((await limit.enter()) - SECOND)
        assert limit.limit == 4

    async def test_it_shrinks_while_calls_take_more_than_three_times_as_long_as_at_best(self):
        limit = ConcurrencyLimit(64, start=1)
        for _ in range(4):
            limit.leave((await limit.enter()) - SECOND)
        assert limit.limit == 2  # one more, then nothing held it back
        sizes = []
        for length in (2.9, 4.0, 4.0, 4.0, 1.0, 1.0):
            for _ in range(30):
                limit._usual_s = length  # as after many such calls
                places = [await limit.enter() for _ in range(limit.limit)]
                limit.leave(places.pop() - length * SECOND)
                for place in places:
                    limit.leave(place, FailureCode.MALFORMED)
            sizes.append(limit.limit)
        assert sizes == [32, 31, 30, 29, 59, 64]

    async def test_it_does_not_shrink_below_one(self):
        limit = ConcurrencyLimit(64, start=1)
        for length in (1.0, 100.0, 100.0):
            limit._limit = 1.0
            limit.leave((await limit.enter()) - length * SECOND)
        assert limit._usual_s > 3 * limit._best_s
        assert limit.limit == 1

    @pytest.mark.parametrize("code", OVERLOAD)
    async def test_a_sign_of_overload_cuts_it_once_a_round(self, code: FailureCode):
        limit = ConcurrencyLimit(64, start=10)
        places = [await limit.enter() for _ in range(10)]
        for place in places:
            limit.leave(place, code)
        assert limit.limit == 7
        limit.leave(await limit.enter(), code)
        assert limit.limit == 4  # 4.9

    @pytest.mark.parametrize("code", [c for c in FailureCode if c not in OVERLOAD])
    async def test_other_failures_neither_cut_nor_grow_it(self, code: FailureCode):
        limit = ConcurrencyLimit(64, start=2)
        for _ in range(20):
            places = [await limit.enter(), await limit.enter()]
            for place in places:
                limit.leave(place, code)
        assert limit.limit == 2

    async def test_it_never_falls_below_one_and_after_a_cut_grows_by_one_a_round(self):
        limit = ConcurrencyLimit(64, start=2)
        for _ in range(30):
            limit.leave(await limit.enter(), FailureCode.TIMEOUT)
        assert limit.limit == 1
        grown = []
        for _ in range(3):
            places = [await limit.enter() for _ in range(limit.limit)]
            limit.leave(places.pop() - SECOND)
            for place in places:
                limit.leave(place, FailureCode.INTERNAL)
            grown.append(limit.limit)
        assert grown == [2, 2, 2]  # 2, 2.5, 2.9

    async def test_a_cut_below_what_runs_lets_nobody_in_until_it_fits(self):
        limit = ConcurrencyLimit(4, start=4)
        places = [await limit.enter() for _ in range(4)]
        limit.leave(places.pop(), FailureCode.TIMEOUT)
        assert (limit.limit, limit.running, limit.saturated) == (2, 3, True)
        limit.leave(places.pop(), FailureCode.INTERNAL)
        assert limit.saturated
        limit.leave(places.pop(), FailureCode.INTERNAL)
        assert not limit.saturated


async def refused(limit: ConcurrencyLimit) -> FailureCode:
    with pytest.raises(ClassifierError) as caught:
        await limit.enter()
    return caught.value.code


@pytest.mark.anyio
class TestQueue:
    async def test_it_is_first_come_first_served(self):
        limit = ConcurrencyLimit(1)
        order: list[int] = []

        async def caller(number: int) -> None:
            entered = await limit.enter()
            order.append(number)
            limit.leave(entered)

        first = await limit.enter()
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(caller, number)
                await settled()
            assert (limit.load, limit.running) == (6, 1)
            limit.leave(first)
            entered = await limit.enter()  # who comes last does not overtake those who wait
            assert order == [0, 1, 2, 3, 4]
            limit.leave(entered)

    async def test_a_full_queue_sheds_at_once(self):
        limit = ConcurrencyLimit(1, most_waiting=2)
        await limit.enter()
        async with anyio.create_task_group() as group:
            group.start_soon(limit.enter)
            group.start_soon(limit.enter)
            await settled()
            assert await refused(limit) is FailureCode.OVERLOADED
            group.cancel_scope.cancel()
        assert limit.load == 1

    async def test_a_call_that_could_not_end_in_time_is_shed_at_once(self):
        limit = ConcurrencyLimit(1)
        limit._usual_s = 2.0
        place = await limit.enter()
        with anyio.fail_after(5.9):  # one call before us, then room for two like it: six seconds
            assert await refused(limit) is FailureCode.OVERLOADED
        with anyio.fail_after(6.1):
            async with anyio.create_task_group() as group:
                group.start_soon(limit.enter)
                await settled()
                assert limit.load == 2
                limit.leave(place, FailureCode.MALFORMED)
        assert limit.running == 1

    async def test_a_call_whose_turn_comes_late_is_shed_and_passes_it_on(self):
        limit = ConcurrencyLimit(1)
        place = await limit.enter()
        codes = []

        async def late() -> None:
            with anyio.fail_after(10):
                codes.append(await refused(limit))

        async with anyio.create_task_group() as group:
            group.start_soon(late)
            await settled()
            group.start_soon(limit.enter)
            await settled()
            limit._usual_s = 6.0
            limit.leave(place, FailureCode.MALFORMED)
        assert codes == [FailureCode.OVERLOADED]
        assert limit.load == limit.running == 1

    async def test_a_free_place_is_given_whatever_the_deadline(self):
        limit = ConcurrencyLimit(1)
        limit._usual_s = 100.0
        with anyio.fail_after(1):
            limit.leave(await limit.enter(), FailureCode.MALFORMED)
        assert limit.load == 0

    async def test_the_usual_length_is_learnt_from_verdicts_only(self):
        limit = ConcurrencyLimit(1)
        for code in FailureCode:
            limit.leave((await limit.enter()) - 100, code)
        assert limit._usual_s == 0.0
        limit.leave((await limit.enter()) - 30.0)  # the server loads its model
        for _ in range(9):
            limit.leave((await limit.enter()) - SECOND)
        assert limit._usual_s == pytest.approx(3.9, rel=0.01)  # the mean
        for _ in range(60):
            limit.leave((await limit.enter()) - SECOND)
        assert limit._usual_s == pytest.approx(1.0, rel=0.01)

    async def test_each_event_loop_has_a_line_of_its_own(self):
        limit = ConcurrencyLimit(1)
        await limit.enter()

        async def elsewhere() -> int:
            limit.leave(await limit.enter(), FailureCode.MALFORMED)
            await limit.enter()
            return limit.running

        assert await anyio.to_thread.run_sync(anyio.run, elsewhere) == 1
        assert limit.running == 1


STEPS = st.lists(
    st.one_of(
        st.just(("enter", 0, None)),
        st.tuples(st.just("leave"), st.integers(0, 30), st.sampled_from([None, *OVERLOAD])),
        st.tuples(st.sampled_from(["cancel", "kill"]), st.integers(0, 30), st.none()),
        st.just(("settle", 0, None)),
    ),
    min_size=30,  # shorter ones seldom fill the queue
    max_size=100,
)


class Crowd:
    """Callers that enter, and leave or are cancelled on command."""

    def __init__(self, limit: ConcurrencyLimit) -> None:
        self.limit = limit
        self.scopes: list[anyio.CancelScope] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.ends: dict[int, FailureCode | None] = {}
        self.inside: dict[int, anyio.Event] = {}
        self.shed = 0

    def come(self) -> None:
        self.scopes.append(anyio.CancelScope())
        self.tasks.append(asyncio.create_task(self.call(len(self.tasks))))

    async def call(self, number: int) -> None:
        with self.scopes[number]:
            try:
                entered = await self.limit.enter()
            except ClassifierError:
                self.shed += 1
                return
            self.inside[number] = anyio.Event()
            try:
                await self.inside[number].wait()
            finally:
                del self.inside[number]
                self.limit.leave(entered, self.ends.get(number, FailureCode.INTERNAL))

    def check(self) -> None:
        assert len(self.inside) <= self.limit.running <= 5
        waiting = self.limit.load - self.limit.running
        assert 0 <= waiting <= 6
        assert not waiting or self.limit.running >= self.limit.limit  # nobody waits beside a free place


@given(STEPS)
def test_whatever_is_cancelled_no_place_is_lost_and_none_is_given_twice(steps):
    async def run() -> None:
        crowd = Crowd(ConcurrencyLimit(5, start=2, most_waiting=6))
        limit = crowd.limit
        for what, index, end in steps:
            running = limit.running
            if what == "enter":
                crowd.come()
            elif what == "cancel" and crowd.scopes:
                crowd.scopes[index % len(crowd.scopes)].cancel()
            elif what == "kill" and crowd.tasks:
                crowd.tasks[index % len(crowd.tasks)].cancel()
            elif what == "leave" and crowd.inside:
                chosen = sorted(crowd.inside)[index % len(crowd.inside)]
                crowd.ends[chosen] = end
                crowd.inside[chosen].set()
            else:
                await settled()
                assert len(crowd.inside) == limit.running
            await asyncio.sleep(0)
            crowd.check()
            assert limit.running <= max(running, limit.limit)
        while not all(task.done() for task in crowd.tasks):
            await settled()
            for event in crowd.inside.values():
                event.set()
        await asyncio.gather(*crowd.tasks, return_exceptions=True)
        assert (limit.load, limit.running, crowd.inside) == (0, 0, {})

    anyio.run(run)


@pytest.mark.anyio
async def test_a_task_that_is_killed_with_its_turn_in_hand_passes_it_on():
    limit = ConcurrencyLimit(1)
    first = await limit.enter()
    killed, next_one = asyncio.create_task(limit.enter()), asyncio.create_task(limit.enter())
    await settled()
    limit.leave(first, FailureCode.MALFORMED)
    killed.cancel()
    await asyncio.wait([killed, next_one])
    assert killed.cancelled()
    assert (limit.running, limit.load) == (1, 1)
    limit.leave(await next_one)
    assert limit.load == 0
