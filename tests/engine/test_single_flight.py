"""The twin of guardrail/engine/single_flight.py."""

from __future__ import annotations

import asyncio

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.engine.single_flight import SingleFlight

pytestmark = pytest.mark.anyio

BOUND_S = 5.0


class Calls:
    """Calls that wait for their gate; each answers with its number, or raises."""

    def __init__(self, *fails: int) -> None:
        self.gates: list[anyio.Event] = []
        self.fails = fails
        self.running = 0

    async def __call__(self) -> int:
        number = len(self.gates)
        gate = anyio.Event()
        self.gates.append(gate)
        self.running += 1
        try:
            await gate.wait()
        finally:
            self.running -= 1
        if number in self.fails:
            raise ValueError(number)
        return number


class Callers:
    """Runs callers and keeps what each got."""

    def __init__(self, flights: SingleFlight[int], call: Calls) -> None:
        self.flights = flights
        self.call = call
        self.got: dict[str, tuple[int, bool] | str] = {}

    async def run(self, name: str, key: str = "k") -> None:
        try:
            self.got[name] = await self.flights.run(key, self.call)
        except ValueError as error:
            self.got[name] = f"failed {error}"


async def test_callers_of_one_key_share_one_call_and_only_the_leader_calls_it_its_own():
    callers = Callers(SingleFlight(), Calls())
    async with anyio.create_task_group() as group:
        for name in ("a", "b", "c"):
            group.start_soon(callers.run, name)
            await anyio.wait_all_tasks_blocked()
        assert len(callers.call.gates) == 1
        callers.call.gates[0].set()
    assert callers.got == {"a": (0, False), "b": (0, True), "c": (0, True)}


async def test_different_keys_run_side_by_side():
    callers = Callers(SingleFlight(), Calls())
    async with anyio.create_task_group() as group:
        for name in ("a", "b"):
            group.start_soon(callers.run, name, name)
        await anyio.wait_all_tasks_blocked()
        assert len(callers.call.gates) == 2
        for gate in callers.call.gates:
            gate.set()
    assert sorted(callers.got.values()) == [(0, False), (1, False)]


async def test_after_landing_the_next_caller_calls_again():
    flights: SingleFlight[int] = SingleFlight()
    callers = Callers(flights, Calls())
    for turn in range(2):
        async with anyio.create_task_group() as group:
            group.start_soon(callers.run, f"caller {turn}")
            await anyio.wait_all_tasks_blocked()
            callers.call.gates[turn].set()
    assert callers.got == {"caller 0": (0, False), "caller 1": (1, False)}
    assert flights._flights == {}


async def test_a_none_is_shared_like_any_other_value():
    flights: SingleFlight[None] = SingleFlight()
    gate = anyio.Event()
    got: list[tuple[None, bool]] = []

    async def run() -> None:
        got.append(await flights.run("k", gate.wait))  # an event's wait gives None

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        group.start_soon(run)
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert sorted(shared for _, shared in got) == [False, True]


async def test_a_leader_that_is_cancelled_hands_over_to_exactly_one_follower():
    callers = Callers(SingleFlight(), Calls())
    async with anyio.create_task_group() as group:
        async with anyio.create_task_group() as leading:
            leading.start_soon(callers.run, "leader")
            await anyio.wait_all_tasks_blocked()
            for name in ("b", "c"):
                group.start_soon(callers.run, name)
            await anyio.wait_all_tasks_blocked()
            leading.cancel_scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert len(callers.call.gates) == 2
        callers.call.gates[1].set()
    assert sorted(callers.got) == ["b", "c"]
    assert sorted(callers.got.values()) == [(1, False), (1, True)]


async def test_a_follower_that_is_cancelled_disturbs_nobody():
    callers = Callers(SingleFlight(), Calls())
    async with anyio.create_task_group() as group:
        group.start_soon(callers.run, "leader")
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as following:
            following.start_soon(callers.run, "follower")
            await anyio.wait_all_tasks_blocked()
            following.cancel_scope.cancel()
        group.start_soon(callers.run, "late")
        await anyio.wait_all_tasks_blocked()
        callers.call.gates[0].set()
    assert callers.got == {"leader": (0, False), "late": (0, True)}


async def test_a_leader_that_fails_fails_alone():
    callers = Callers(SingleFlight(), Calls(0))
    async with anyio.create_task_group() as group:
        for name in ("a", "b"):
            group.start_soon(callers.run, name)
            await anyio.wait_all_tasks_blocked()
        callers.call.gates[0].set()
        await anyio.wait_all_tasks_blocked()
        callers.call.gates[1].set()
    assert callers.got == {"a": "failed 0", "b": (1, False)}


def test_every_event_loop_has_flights_of_its_own():
    """A loop cannot wait for another's; one engine may serve a server's loop and a filter's thread."""
    flights: SingleFlight[str] = SingleFlight()
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def lead(gate: asyncio.Event) -> str:
        await gate.wait()
        return "first"

    async def at_once() -> str:
        return "second"

    async def start() -> tuple[asyncio.Event, asyncio.Task[tuple[str, bool]]]:
        gate = asyncio.Event()
        task = asyncio.create_task(flights.run("k", lambda: lead(gate)))
        await asyncio.sleep(0)
        return gate, task

    try:
        gate, task = first.run_until_complete(start())
        assert second.run_until_complete(flights.run("k", at_once)) == ("second", False)
        first.call_soon(gate.set)
        assert first.run_until_complete(task) == ("first", False)
        assert flights._flights == {}
    finally:
        first.close()
        second.close()


async def _turns() -> None:
    """Let every task run until it waits for something that only the test can do."""
    for _ in range(12):
        await anyio.lowlevel.checkpoint()


@given(st.lists(st.sampled_from(["start", "cancel", "open"]), max_size=16), st.sets(st.integers(0, 8)))
def test_whatever_happens_nobody_hangs_and_one_call_runs_at_a_time(steps: list[str], fails: set[int]):
    async def play() -> None:
        flights: SingleFlight[int] = SingleFlight()
        callers = Callers(flights, Calls(*fails))
        scopes: list[anyio.CancelScope] = []
        cancelled = 0

        async def caller(name: str, scope: anyio.CancelScope) -> None:
            nonlocal cancelled
            with scope:
                await callers.run(name)
            cancelled += scope.cancelled_caught

        with anyio.fail_after(BOUND_S):
            async with anyio.create_task_group() as group:
                for step in steps:
                    if step == "start":
                        scopes.append(anyio.CancelScope())
                        group.start_soon(caller, f"caller {len(scopes)}", scopes[-1])
                    elif step == "cancel" and scopes:
                        scopes[len(scopes) // 2].cancel()
                    elif callers.call.gates:
                        callers.call.gates[-1].set()
                    await _turns()
                    assert callers.call.running == len(flights._flights) <= 1
                while flights._flights:
                    callers.call.gates[-1].set()
                    await _turns()
        assert len(callers.got) + cancelled == len(scopes)
        own = [got[0] for got in callers.got.values() if isinstance(got, tuple) and not got[1]]
        assert len(set(own)) == len(own)  # a call has one leader

    anyio.run(play)
