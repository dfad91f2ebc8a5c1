"""The twin of guardrail/frontends/loop_thread.py: a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from guardrail.frontends.loop_thread import Closing, LoopThread
from tests.processes import run_code
from tests.threads import threads


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    before = threads()
    own = LoopThread()
    yield own
    own.close()
    assert threads() <= before


async def thread_id() -> int:
    return threading.get_ident()


def test_all_callers_share_one_loop_that_is_not_theirs(loop: LoopThread):
    assert not loop.running
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: loop.call(thread_id), range(40)))
    assert len(ids) == 1
    assert threading.get_ident() not in ids
    assert loop.running


def test_an_error_is_the_caller_s(loop: LoopThread):
    async def fail() -> None:
        raise LookupError("here")

    with pytest.raises(LookupError, match="here"):
        loop.call(fail)
    assert loop.call(thread_id)


@pytest.mark.anyio
async def test_it_works_inside_a_running_loop(loop: LoopThread):
    assert loop.call(thread_id) != threading.get_ident()


def test_what_runs_may_end_before_it_closes(loop: LoopThread):
    begun, may_end = threading.Event(), threading.Event()

    async def slow() -> str:
        begun.set()
        await asyncio.to_thread(may_end.wait)
        return "done"

    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(loop.call, slow)
        begun.wait()
        closing = pool.submit(loop.close)
        may_end.set()
        closing.result()
        assert answer.result() == "done"


def test_a_call_after_the_end_begins_anew(loop: LoopThread):
    loop.call(thread_id)
    loop.close()
    assert not loop.running
    assert loop.call(partial(asyncio.sleep, 0, "again")) == "again"


class Guard(Closing):
    def __init__(self) -> None:
        super().__init__(self.closed)
        self.ended_in: list[int] = []

    async def closed(self) -> None:
        self.ended_in.append(threading.get_ident())

    def thread(self) -> int:
        return self._loop.call(thread_id)


def test_what_is_closed_as_a_context_ends_in_its_own_loop():
    before = threads()
    with Guard() as guard:
        own = guard.thread()
    assert guard.ended_in == [own] != [threading.get_ident()]
    assert threads() <= before


@pytest.mark.anyio
async def test_or_in_each_loop_in_which_it_was_used():
    async with Guard() as guard:
        own = guard.thread()
    assert guard.ended_in == [threading.get_ident(), own]
    async with Guard() as idle:
        pass
    assert idle.ended_in == [threading.get_ident()]


_INTERRUPTED = """
import asyncio, signal, sys, threading
from guardrail.frontends.loop_thread import LoopThread

loop, ended = LoopThread(), threading.Event()

async def forever():
    caller = threading.main_thread().ident
    before, same = None, 0  # it waits where it has stood for a while; just before, it may hold a lock
    try:
        while same < 20:
            frame = sys._current_frames()[caller]
            place = frame.f_code.co_name, frame.f_lasti
            same = same + 1 if place == before and place[0] == "wait" else 0
            before = place
            await asyncio.sleep(0.005)
        signal.pthread_kill(caller, signal.SIGINT)
        await asyncio.Event().wait()
    finally:
        ended.set()

try:
    loop.call(forever)
except KeyboardInterrupt:
    print("interrupted", ended.wait(20))
"""


def test_ctrl_c_cancels_the_call_and_an_open_loop_does_not_keep_the_process():
    done = run_code(_INTERRUPTED)
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted True\n", "", 0)


def test_what_ends_a_call_starts_nothing(loop: LoopThread):
    async def never() -> None:
        raise AssertionError("there is no loop to run in")

    loop.finish(never)
    with pytest.raises(RuntimeError, match="closed"):
        loop.resume(never)
    assert not loop.running


def test_what_ends_a_call_is_waited_for_but_not_in_such_a_thread(loop: LoopThread):
    told: list[str] = []

    async def end() -> None:
        await asyncio.sleep(0)
        told.append("ended")

    async def collect(other: LoopThread) -> int:
        other.finish(end)
        return len(told)

    second = LoopThread()
    loop.call(thread_id)
    second.call(thread_id)
    loop.finish(end)
    assert told == ["ended"]
    assert loop.call(partial(collect, loop)) == 1, "handed in"
    loop.call(partial(collect, second))
    second.close()
    loop.close()
    assert told == ["ended"] * 3, "the end waits for what was handed in"


def test_a_finaliser_may_run_where_the_loop_is_just_being_asked(loop: LoopThread):
    loop.call(thread_id)
    with loop._starting:
        loop.finish(partial(asyncio.sleep, 0))
        with ThreadPoolExecutor(1) as pool:
            pool.submit(loop.finish, partial(asyncio.sleep, 0)).result(20)


_FORKED = """
import os, threading
from guardrail.frontends.loop_thread import LoopThread

async def pid():
    return os.getpid()

loop = LoopThread()
parent = loop.call(pid)
held, go_on = threading.Event(), threading.Event()

def hold():
    with loop._starting:
        held.set()
        go_on.wait()

other = threading.Thread(target=hold)
other.start()
held.wait()
child = os.fork()
if child == 0:
    own = loop.call(pid) == os.getpid() != parent
    loop.close()
    os._exit(0 if own else 1)
print("child", os.waitpid(child, 0)[1])
go_on.set()
other.join()
print("parent", loop.call(pid) == parent)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_a_loop_of_its_own():
    done = run_code(_FORKED, "-W", "ignore::DeprecationWarning")
    assert (done.stdout, done.stderr, done.returncode) == ("child 0\nparent True\n", "", 0)
